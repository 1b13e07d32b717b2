"""Parameters that are updated together, and their step: look, square, prepare, go. Only the last changes anything."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from adamite.codegen.job import G, X
from adamite.engine import batch
from adamite.engine.batch import ALL, Found
from adamite.engine.coefficients import CoefficientTable, Cohort
from adamite.engine.memory import Array, Ranges, address
from adamite.engine.native import NativeBatch, NativeCall
from adamite.frontend.settings import Settings
from adamite.language.update import Update
from adamite.numpy import look
from adamite.numpy.hyperparameters import Hyperparameters
from adamite.numpy.slots import Slot
from adamite.storage import Layout

History = tuple[int, tuple[float, ...]]  # step number and Scalar states
Guard = Callable[[bool], Ranges]  # what must not be overlapped, read anew if the parameters have moved

_ndarray = np.ndarray
_from_buffer: Callable[[Any], Any] = ctypes.c_char.from_buffer
_addressof = ctypes.addressof


class Batch(batch.Batch):
    """Parameters that are updated together."""

    by_rows = False  # whether in some of their rows alone

    def __init__(
        self, update: Update, layout: Layout, slots: list[Slot], hyper: Hyperparameters, table: CoefficientTable
    ) -> None:
        super().__init__(update, layout, len(slots), table)
        self.slots, self._hyper = slots, hyper
        self.gradients: list[Any] = []  # of all parameters of the optimizer

    def look(self, gradients: list[Any], guard: Guard) -> Found:
        """Check the gradients, and read where everything lies."""
        raise NotImplementedError

    def numbers(self, settings: Settings) -> Callable[[str], Any]:
        return partial(settings.at, step=self._hyper.steps)

    def start(self, history: Mapping[str, History]) -> None:
        """Continue from these step numbers and Scalar states, by the parameters' names."""
        self.divide([(slot.settings, *history[slot.name]) for slot in self.slots])

    def history(self) -> Iterator[tuple[str, History]]:
        """The step number and the Scalar states of each parameter."""
        for slot, cohort in zip(self.slots, self.of, strict=True):
            yield slot.name, (int(cohort.t), cohort.scalars)

    def scheduled(self, cohort: Cohort) -> bool:
        return any(callable(cohort.group.source(name)) for name in cohort.names if name != "clip")

    def forget_places(self) -> None:
        """Let the next step read anew where everything lies."""

    def forget_safe(self) -> None:
        """Look anew for overlaps of gradients that overlapped nothing."""

    # Nothing is behind, where gradients are dense.

    def flush(self, rows: Mapping[str, Any] | None = None) -> None:
        """Catch up the rows that are behind, all or those of some parameters."""

    def pending(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What copies of parameters need to continue, by name."""
        yield from ()

    def resume(self, pending: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on where another optimizer was."""


class MachineBatch(NativeBatch, Batch):
    """Parameters that one native call updates where they lie."""

    def __init__(
        self, update: Update, layout: Layout, slots: list[Slot], hyper: Hyperparameters, table: CoefficientTable
    ) -> None:
        super().__init__(update, layout, slots, hyper, table)
        self._call = NativeCall(update, layout, [s.size for s in slots], [s.stream for s in slots])
        self._states = [[s.states[name] for name in self.graph.inputs[2:]] for s in slots]
        self._call.point_states([list(map(address, arrays)) for arrays in zip(*self._states, strict=True)])
        # Strides of None never match: what isn't dense goes through buffers.
        self._rows = [(s.index, s.x, s.x.dtype, s.shape, s.dense_strides()) for s in slots]
        plain = all(strides is not None for *_, strides in self._rows)
        reads = plain and self._call.backend == "llvm" and look.available()
        self._reader = look.Look([(s.index, s.x) for s in slots], self._call.job) if reads else None
        self._without_axes = [s for s in slots if s.shape == ()]
        self._known = False  # whether the job points where things lie
        self._safe: set[tuple[int, int]] = set()  # rows and places of gradients that overlapped nothing
        self._xs: list[int] = []
        self._gs: list[int] = []

    def point(self) -> None:
        self._call.point_coefficients(self.of)

    def forget_places(self) -> None:
        self._known = False

    def forget_safe(self) -> None:
        self._safe.clear()

    def look(self, gradients: list[Any], guard: Guard) -> Found:
        self.gradients = gradients
        for slot in self._without_axes:
            slot.box(gradients)
        if self._reader is not None:
            outcome = self._reader(gradients)
            if outcome == look.GRADIENTS_MOVED and self._known:
                self._gs = self._call.job.read(G)
                if self._safe.issuperset(enumerate(self._gs)):
                    outcome = look.SAME
            if outcome == look.SAME and self._known:
                self.found = ALL
                return ALL
            self._known = False  # the reader has written to the job
            if outcome <= look.SAME:
                strided = self._point_at(self._call.job.read(X), self._call.job.read(G), [], guard)
                self.found = Found((), strided)
                return self.found
        self.found = self._look_closely(gradients, guard)
        return self.found

    def _look_closely(self, gradients: list[Any], guard: Guard) -> Found:
        """The same in Python: for any layout, with an error for what is wrong."""
        xs: list[int] = []
        gs: list[int] = []
        missing: list[int] = []
        strided: list[int] = []
        for index, x, dtype, shape, strides in self._rows:
            g = gradients[index]
            if type(g) is not _ndarray or g.dtype is not dtype or g.shape != shape:
                g = gradients[index] = self.slots[len(xs)].admit(g)
            if x.shape != shape or x.dtype is not dtype or x.strides != self.slots[len(xs)].strides:
                self.slots[len(xs)].refuse_change()
            try:
                xs.append(_addressof(_from_buffer(x)))
            except (TypeError, ValueError, BufferError):
                xs.append(self.slots[len(xs)].place())
            if g is None:
                missing.append(len(gs))
                gs.append(0)
                continue
            if g.strides != strides:
                strided.append(len(gs))
            try:
                gs.append(_addressof(_from_buffer(g)))
            except (TypeError, ValueError, BufferError):
                gs.append(address(g))
        if not self._known or xs != self._xs or gs != self._gs or strided:
            strided = self._point_at(xs, gs, strided, guard)
        return Found(missing, strided)

    def _point_at(self, xs: list[int], gs: list[int], strided: list[int], guard: Guard) -> list[int]:
        """Something lies elsewhere than before: look for overlaps, point the job at it, add what isn't aligned."""
        ranges = guard(xs != self._xs)
        self._known = False
        if xs != self._xs or len(self._safe) > 2 * len(gs) + 100:
            self._safe.clear()
        for row, slot in enumerate(self.slots):
            g, place = self.gradients[slot.index], gs[row]
            if g is None or (place == xs[row] and g.strides == slot.x.strides):
                continue  # elementwise, a gradient may be the parameter itself
            if place % slot.format.itemsize and row not in strided:
                strided.append(row)
            if not strided and ranges.free(place, place + slot.nbytes):
                continue
            owner = ranges.clash(g)
            if owner is not None:
                raise ValueError(
                    f"the gradient of {slot.name!r} shares memory with {owner}, which the step writes; give a copy"
                )
        self._xs, self._gs = xs, gs
        self._known = not strided  # a gradient of another layout is looked at again, wherever it lies
        if self._known:
            self._safe.update(enumerate(gs))
        self._call.job.fill(X, xs)
        self._call.job.fill(G, gs)
        return strided

    def nonfinite(self) -> Iterator[str]:
        for row in self._call.suspects(self):
            parts = np.nditer(self.gradient(row), ["external_loop", "buffered", "zerosize_ok"])
            if not all(np.isfinite(part).all() for part in parts):
                yield self.slots[row].name

    def gradient(self, row: int) -> Array:
        gradient: Array = self.gradients[self.slots[row].index]
        return gradient

    def written(self, row: int) -> Sequence[Array]:
        return [self.slots[row].x, *self._states[row]]
