"""The coefficients that rows of a job read: evaluated in float64 once a step, rounded once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adamite.storage import Layout
from adamite.storage.random import mixed

if TYPE_CHECKING:
    from adamite.graph.nodes import Graph


class Coefficients:
    """A graph's coefficients where the machine code reads them, in the type that it computes in.

    Where a layout goes by blocks, a word follows from which the step's random bits are drawn.
    """

    def __init__(self, graph: Graph, layout: Layout) -> None:
        self.graph = graph
        kind = ctypes.c_float if layout.compute.itemsize == 4 else ctypes.c_double
        memory = (kind * (graph.coefficient_count + 1))()
        self.buffer = (kind * graph.coefficient_count).from_buffer(memory)
        self.address = ctypes.addressof(self.buffer)
        place = ctypes.c_uint32.from_buffer(memory, ctypes.sizeof(self.buffer))
        self.word = place if layout.blocks else None
        self.values: tuple[float, ...] = ()  # before they are rounded

    def evaluate(self, t: float, numbers: Sequence[float], scalars: Sequence[float]) -> tuple[float, ...]:
        """Evaluate them at step t; the new Scalar states are returned."""
        values = self.graph.evaluate(t, *numbers, *scalars)
        count = self.graph.coefficient_count
        self.buffer[:] = self.values = values[:count]
        if self.word is not None:
            self.word.value = mixed(int(t))
        return values[count:]
