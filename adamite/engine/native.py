"""One native call: a kernel with its job, and buffers for tensors that don't lie as the kernel reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from adamite.codegen.job import CHUNK, COEFFICIENTS, STATES, G, Job
from adamite.engine import kernels, norms, running
from adamite.engine.batch import ALL, Batch, Found
from adamite.engine.coefficients import Cohort
from adamite.engine.memory import Array, address, pieces
from adamite.graph.lowering import lower
from adamite.language.update import Update
from adamite.storage import Layout


class NativeCall:
    """The kernel of an update, and a job of rows that hold so many elements.

    Whoever makes it points the columns of the parameters, gradients and states at the tensors.
    """

    def __init__(self, update: Update, layout: Layout, sizes: Sequence[int], streams: Sequence[int]) -> None:
        self.backend = kernels.default_backend()
        self.layout, self.sizes, self.streams = layout, sizes, streams
        self.kernel = kernels.step_kernel(update, layout, self.backend)
        columns = 2 + len(lower(update).inputs) + len(layout.more)
        self.job, self._piece = Job(len(sizes), columns), Job(1, columns)
        self._units = [layout.units(size) for size in sizes]
        if layout.blocks:  # in the last two columns
            self.job.fill(columns - 2, list(sizes))
            self.job.fill(columns - 1, list(streams))
        self._left_out: set[int] | None = None  # rows whose length in the job is 0
        self._whole = False  # whether it leaves nothing out
        self._pending: list[int] = []  # rows that are still to go through buffers

    def point_states(self, columns: Sequence[list[int]]) -> None:
        """Where the states lie."""
        for column, places in enumerate(columns, start=STATES):
            self.job.fill(column, places)

    def point_coefficients(self, cohorts: Sequence[Cohort]) -> None:
        """Let each row read the coefficients of its cohort."""
        self.job.fill(COEFFICIENTS, [cohort.address for cohort in cohorts])

    # ---- norms

    @cached_property
    def _squares(self) -> norms.Squares:
        return norms.Squares(self.layout.g, list(self.sizes), self.backend)

    @cached_property
    def _piece_squares(self) -> norms.Squares:
        return norms.Squares(self.layout.g, [CHUNK], self.backend)

    def square(self, tensors: NativeBatch, before: float, scale: float) -> float:
        """The sum of the gradients' squares, tensor after tensor, after what came before."""
        strided, places = tensors.found.strided, self.job.read(G)
        for row in strided:
            places[row] = 0
        self._squares.run(places, scale)
        if not strided:
            return self._squares.total(before)
        for row in range(len(places)):
            if row not in strided:
                before = self._squares.total(before, row)
                continue
            for size, (place,) in pieces([tensors.gradient(row)], [], CHUNK):
                before += float(self._piece_squares.run([place], scale, [size])[0])
        return before

    def suspects(self, tensors: NativeBatch) -> list[int]:
        """Rows whose gradient may hold NaN or infinity, after `square`: the squares of finite numbers may overflow."""
        missing, strided = tensors.found
        total = self._squares.total
        rows = [row for row in range(len(self.sizes)) if row not in missing]
        return [row for row in rows if row in strided or not math.isfinite(total(tensor=row))]

    # ---- the update

    def prepare(self, found: Found) -> None:
        """Leave out of the job what has no gradient or goes through buffers, and begin anew."""
        if found is not ALL or not self._whole:
            self._leave_out({*found.missing, *found.strided})
            self._pending = list(found.strided)
        self.job.rewind()

    def _leave_out(self, rows: set[int]) -> None:
        if rows != self._left_out:
            self.job.lengths([0 if row in rows else units for row, units in enumerate(self._units)])
            running.ready(self.kernel, self.job)
            self._left_out = rows
        self._whole = not rows

    def go(self, tensors: NativeBatch) -> None:
        """Update. May be interrupted and called again: nothing is done twice."""
        running.run(self.kernel, self.job)
        while self._pending:
            with running.uninterrupted():
                row = self._pending.pop()
                self._through_buffers(row, tensors.gradient(row), tensors.written(row))

    def _through_buffers(self, row: int, gradient: Array, written: Sequence[Array]) -> None:
        """Update one row piece by piece, each contiguous; by blocks all of it at once, as a copy."""
        self._piece.fill(COEFFICIENTS, [self.job.read(COEFFICIENTS)[row]])
        if not self.layout.blocks:
            for size, (g, x, *states) in pieces([gradient], written, CHUNK):
                self._run_piece(size, [x, g, *states])
            return
        copies = [np.array(array, order="C", subok=False) for array in (gradient, *written)]
        g, x, *states = map(address, copies)
        self._run_piece(self._units[row], [x, g, *states, self.sizes[row], self.streams[row]])
        for array, copy in zip(written, copies[1:], strict=True):
            array[...] = copy

    def _run_piece(self, units: int, cells: Sequence[int]) -> None:
        self._piece.only(units, cells)
        running.run(self.kernel, self._piece)


class NativeBatch(Batch):
    """A batch whose step is one native call. It gives arrays of the rows that go through buffers."""

    _call: NativeCall

    def gradient(self, row: int) -> Array:
        """The gradient of a row, as an array."""
        raise NotImplementedError

    def written(self, row: int) -> Sequence[Array]:
        """What the kernel writes of a row, as arrays: the parameter, then its states."""
        raise NotImplementedError

    def square(self, before: float, scale: float) -> float:
        return self._call.square(self, before, scale)

    def prepare(self) -> None:
        super().prepare()
        self._call.prepare(self.found)

    def go(self) -> None:
        self._call.go(self)
