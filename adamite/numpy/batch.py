"""The arrays of one native call: parameters with their states, their coefficients, and a step in four parts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from adamite.codegen.job import G, X
from adamite.engine import batch
from adamite.engine.batch import ALL, Found
from adamite.engine.coefficients import Cohort, Table
from adamite.engine.memory import Array, Ranges, address, dense, overlaps_itself
from adamite.engine.native import NativeCall
from adamite.frontend.settings import Settings
from adamite.language.update import Update
from adamite.numpy import look
from adamite.numpy.hyperparameters import Hyperparameters
from adamite.sparse.rows import Rows
from adamite.storage import FORMATS, EightBit, Format, Layout

History = tuple[int, tuple[float, ...]]  # step number and Scalar states
Guard = Callable[[bool], Ranges]  # what must not be overlapped, read anew if the parameters have moved

_ndarray = np.ndarray
_from_buffer: Callable[[Any], Any] = ctypes.c_char.from_buffer
_addressof = ctypes.addressof


class RowsGiven(Exception):
    """A parameter's gradient is of rows, and its last one was dense."""


def _elsewhere(x: Any) -> str:
    """What to do with a parameter that isn't NumPy's."""
    if type(x).__module__.partition(".")[0] == "torch":
        return "torch's parameters are for the classes in adamite.torch"
    if hasattr(x, "__next__"):
        return "Give a list or a dict; model.parameters() of torch is for the classes in adamite.torch"
    return "Write np.array(...) around it"


class Slot:
    """One parameter with its states."""

    def __init__(self, index: int, name: str, x: Any) -> None:
        if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray):
            raise TypeError(
                f"parameter {name!r} must be a NumPy array, which can be updated in place; got "
                f"{type(x).__name__}. {_elsewhere(x)}"
            )
        if x.dtype not in FORMATS:
            raise TypeError(
                f"parameter {name!r} must be float32 or float64, got {x.dtype}; convert it with .astype(np.float32)"
            )
        if not x.flags.writeable:
            raise ValueError(f"parameter {name!r} is read-only, and a step works in place; give a copy")
        if overlaps_itself(x):
            raise ValueError(f"parameter {name!r} holds elements that share memory (a broadcast?); give a copy")
        self.index, self.name, self.x = index, name, x
        self.format: Format = FORMATS[x.dtype]
        self.dtype, self.shape, self.size, self.nbytes = self.format.dtype, x.shape, x.size, x.nbytes
        self.strides = x.strides
        self.boxed = np.zeros((), self.dtype)
        self.states: dict[str, Array] = {}
        self.layout: Layout
        self.stream = 0  # where its random bits begin
        self.settings: Settings
        self.absent: frozenset[str]
        self.by_rows = False  # whether its last gradient was of rows

    def box(self, found: list[Any]) -> None:
        """NumPy makes numbers of 0-d arrays: put such a gradient into an array."""
        g = found[self.index]
        if type(g) is self.dtype.type or type(g) is float:
            self.boxed[()] = g
            found[self.index] = self.boxed

    def dense_strides(self) -> tuple[int, ...] | None:
        """The strides of the parameter, where it and its states lie alike and without gaps."""
        self.strides = strides = self.x.strides
        plain = dense(self.x) and all(self._alike(name, a) for name, a in self.states.items())
        return strides if plain else None

    def _alike(self, name: str, state: Array) -> bool:
        """Whether a state's elements lie in the parameter's order. 8-bit ones are a list, in the order of indices."""
        if isinstance(self.layout.of(name), EightBit):
            return self.x.flags.c_contiguous
        return state.flags.aligned and all(
            theirs * self.x.itemsize == ours * state.itemsize
            for theirs, ours in zip(state.strides, self.x.strides, strict=True)
        )

    def refuse_change(self) -> NoReturn:
        raise ValueError(
            f"parameter {self.name!r} was {self.dtype} of shape {self.shape} and strides {self.strides} when the "
            f"optimizer was made, and is {self.x.dtype} of {self.x.shape} and {self.x.strides} now; make a new one"
        )

    def refuse_rows(self) -> NoReturn:
        raise TypeError(
            f"the gradient of {self.name!r} is sparse (adamite.Rows); say what becomes of the other rows when you make "
            'the optimizer: sparse="lazy" (they stay as they are) or sparse="exact" (they end up where dense gradients '
            "would have taken them)"
        )

    def place(self) -> int:
        """Where a parameter lies that isn't plainly contiguous."""
        if not self.x.flags.writeable:
            raise ValueError(
                f"parameter {self.name!r} has become read-only, and a step works in place; set flags.writeable = True"
            )
        return address(self.x)

    def admit(self, g: Any) -> Array | None:
        """A gradient that isn't simply an array of this shape and type: converted, or refused."""
        if g is None:
            return None
        if isinstance(g, Rows):
            raise RowsGiven
        if isinstance(g, np.generic):
            g = np.asarray(g)
        if not isinstance(g, np.ndarray) or isinstance(g, np.ma.MaskedArray):
            raise TypeError(
                f"the gradient of {self.name!r} must be a NumPy array, got {type(g).__name__}; np.asarray makes one"
            )
        if g.shape != self.shape:
            raise ValueError(
                f"the gradient of {self.name!r} must have the parameter's shape {self.shape}, got {g.shape}"
            )
        if g.dtype != self.dtype:
            raise TypeError(
                f"the gradient of {self.name!r} must be {self.dtype}, as its parameter is, got {g.dtype}; "
                f"convert it with .astype(np.{self.dtype})"
            )
        return g.view(np.ndarray)


class Batch(batch.Batch):
    """Parameters that are updated together."""

    by_rows = False  # whether in some of their rows alone

    def __init__(self, update: Update, layout: Layout, slots: list[Slot], hyper: Hyperparameters, table: Table) -> None:
        super().__init__(update, layout, len(slots), table)
        self.slots, self._hyper = slots, hyper
        self.gradients: list[Any] = []  # of all parameters of the optimizer

    def look(self, gradients: list[Any], guard: Guard) -> Found:
        """Check the gradients, and read where everything lies."""
        raise NotImplementedError

    def numbers(self, settings: Settings) -> Callable[[str], Any]:
        return partial(settings.at, step=self._hyper.steps)

    def start(self, history: Mapping[str, History]) -> None:
        """Go on from these step numbers and Scalar states, by the parameters' names."""
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
        """What copies of parameters need to go on, by name."""
        yield from ()

    def resume(self, pending: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on where another optimizer was."""


class MachineBatch(Batch):
    """Parameters that one native call updates where they lie."""

    def __init__(self, update: Update, layout: Layout, slots: list[Slot], hyper: Hyperparameters, table: Table) -> None:
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

    def square(self, before: float, scale: float = 1.0) -> float:
        return self._call.square(self, before, scale)

    def nonfinite(self) -> Iterator[str]:
        for row in self._call.suspects(self):
            parts = np.nditer(self.gradient(row), ["external_loop", "buffered", "zerosize_ok"])
            if not all(np.isfinite(part).all() for part in parts):
                yield self.slots[row].name

    def prepare(self) -> None:
        super().prepare()
        self._call.prepare(self.found)

    def go(self) -> None:
        self._call.go(self)

    def gradient(self, row: int) -> Array:
        gradient: Array = self.gradients[self.slots[row].index]
        return gradient

    def written(self, row: int) -> Sequence[Array]:
        return [self.slots[row].x, *self._states[row]]
