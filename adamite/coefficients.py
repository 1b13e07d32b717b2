"""The coefficients that rows of a job read: evaluated in float64 once a step, rounded once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from adamite.graph import Graph
from adamite.storage import Format


class Coefficients:
    """A graph's coefficients where the machine code reads them, in the type that it computes in."""

    def __init__(self, graph: Graph, format: Format) -> None:
        self.graph = graph
        kind = ctypes.c_float if format.itemsize == 4 else ctypes.c_double
        self.buffer = (kind * graph.coefficient_count)()
        self.address = ctypes.addressof(self.buffer)
        self.values: tuple[float, ...] = ()  # before they are rounded

    def evaluate(self, t: float, numbers: Sequence[float], scalars: Sequence[float]) -> tuple[float, ...]:
        """Evaluate them at step t; the new Scalar states are returned."""
        values = self.graph.evaluate(t, *numbers, *scalars)
        count = self.graph.coefficient_count
        self.buffer[:] = self.values = values[:count]
        return values[count:]
