"""The memory that a kernel reads: which tensors, their lengths and addresses, and how far the work has got.

A job is one block of 64-bit integers, in columns:

    rows | total | grain | counter | scale | column 0: the rows' lengths | column 1 | column 2 | ...

Threads claim the next `grain` units out of `total` by adding to `counter` until nothing is left. So any number of
threads may work on one job, and a call on a finished job does nothing. A unit is an element for the step (columns:
length, coefficients, x, g, states...) and a chunk of `CHUNK` elements for the sum of squares (columns: length
in chunks, elements, g, where the sums go).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

ROWS, TOTAL, GRAIN, COUNTER, SCALE, HEADER = range(6)
LENGTH, COEFFICIENTS, X, G, STATES = range(5)  # columns of a step
PARTIALS = 32  # sums that are kept side by side in a chunk
CHUNK = 8192  # elements that are summed together, or go through a buffer together

Call = Callable[[int], None]  # does what is left of the job at an address


class Job:
    """A table for one kernel."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.total = 0
        self.cells = (ctypes.c_int64 * (HEADER + rows * columns))()
        self.cells[ROWS] = rows
        self.address = ctypes.addressof(self.cells)

    def fill(self, column: int, values: list[int]) -> None:
        """Write one column, a value per row."""
        start = HEADER + column * self.rows
        cells: Any = self.cells
        cells[start : start + self.rows] = values

    def place(self, column: int) -> int:
        """Where a column lies."""
        return self.address + 8 * (HEADER + column * self.rows)

    def read(self, column: int) -> list[int]:
        """One column."""
        start = HEADER + column * self.rows
        return list(self.cells[start : start + self.rows])

    def rewind(self) -> None:
        """Start again: nothing of the job is done yet."""
        self.cells[COUNTER] = 0

    def only(self, units: int, cells: Sequence[int]) -> None:
        """Set the length of its only row, in units, and the cells after its coefficients."""
        self.lengths([units])
        for column, cell in enumerate(cells, start=X):
            self.fill(column, [cell])
        self.rewind()

    def lengths(self, values: list[int]) -> None:
        """Write the rows' lengths."""
        self.fill(LENGTH, values)
        self.cells[TOTAL] = self.total = sum(values)
