"""Coefficients: evaluated in float64 once a step, rounded once, and kept in one table for all kernels of the step.

A row of a job holds the address of its coefficients in that table. So a device needs one upload a step.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from adamite.storage import Layout
from adamite.storage.random import mixed

if TYPE_CHECKING:
    from adamite.graph.nodes import Graph


class CoefficientTable:
    """The memory for the coefficients of a step, one cohort behind the other; the first `used` bytes hold some."""

    def __init__(self) -> None:
        self._room = 0
        self.used = 0

    def reserve(self, size: int) -> None:
        """Have room for so many bytes more. Only before something is taken: nothing moves later."""
        self._room += size

    @cached_property
    def memory(self) -> Any:
        return (ctypes.c_char * self._room)()

    def take(self, size: int) -> int:
        """The offset of so many bytes that nobody has."""
        offset, self.used = self.used, self.used + size
        return offset


class Cohort:
    """Rows whose coefficients are equal: one group, one step number, one history of Scalar states.

    Where a layout goes by blocks, a word follows the coefficients; the step's random bits are drawn from it.
    """

    numbers: list[float]  # what the graph's program takes between t and the Scalar states
    index: Any  # its rows as an index, for those who keep step numbers in arrays
    scheduled = False  # whether its numbers are read anew at every step

    def __init__(
        self, graph: Graph, layout: Layout, table: CoefficientTable, offset: int, key: Key, rows: Sequence[int]
    ) -> None:
        self.group, self.t, self.scalars = key
        self.rows = rows
        self.after: tuple[float, tuple[float, ...]] = self.t, self.scalars  # t and scalars, once the step is done
        self.names = graph.numbers[: len(graph.numbers) - len(graph.scalars)]
        self._evaluate, self._count = graph.evaluate, graph.coefficient_count
        # The factor of the gradients is a coefficient as it is, so it can be written when the others are evaluated.
        self._clip = graph.program.results.index("n_clip") if "clip" in self.names else None
        kind = ctypes.c_float if layout.compute.itemsize == 4 else ctypes.c_double
        self._buffer = (kind * self._count).from_buffer(table.memory, offset)
        self.address = ctypes.addressof(self._buffer)
        word = ctypes.c_uint32.from_buffer(table.memory, offset + ctypes.sizeof(self._buffer))
        self._word = word if layout.blocks else None
        self.values: tuple[float, ...] = ()  # the coefficients before they are rounded

    def read(self, number: Callable[[str], Any]) -> None:
        """Take over the group's numbers."""
        self.numbers = [1.0 if name == "clip" else number(name) for name in self.names]

    def prepare(self) -> None:
        """Evaluate the coefficients of the next update, which doesn't clip."""
        t = self.t + 1
        values = self._evaluate(float(t), *self.numbers, *self.scalars)
        self._buffer[:] = self.values = values[: self._count]
        if self._word is not None:
            self._word.value = mixed(int(t))
        self.after = t, values[self._count :]

    def clip(self, factor: float) -> None:
        """Multiply the gradients by this in the update that is prepared."""
        if self._clip is not None:
            self._buffer[self._clip] = factor
            self.values = (*self.values[: self._clip], factor, *self.values[self._clip + 1 :])

    def count(self) -> None:
        """The update is done; harmless when repeated."""
        self.t, self.scalars = self.after


Key = tuple[Any, float, tuple[float, ...]]  # what rows of a cohort have in common: group, step number, Scalar states


def size(graph: Graph, layout: Layout) -> int:
    """The bytes of a cohort's coefficients in the table, in whole words of 8."""
    return -(-(graph.coefficient_count * layout.compute.itemsize + 4) // 8) * 8
