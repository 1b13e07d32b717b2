"""The arrays of one native call: parameters with their states, their coefficients, and a step in four parts."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from adamite.codegen.job import CHUNK, COEFFICIENTS, STATES, G, Job, X
from adamite.engine import kernels, norms, running
from adamite.engine.coefficients import Coefficients
from adamite.engine.memory import Array, Ranges, address, dense, overlaps_itself, pieces
from adamite.frontend.settings import Settings
from adamite.graph.lowering import lower
from adamite.language.update import Update
from adamite.numpy import look
from adamite.sparse.rows import Rows
from adamite.storage import FORMATS, EightBit, Format, Layout

if TYPE_CHECKING:
    from adamite.graph.nodes import Graph

Guard = Callable[[bool], Ranges]  # what must not be overlapped, read anew if the parameters have moved

_NONE: list[int] = []
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


class Cohort:
    """Parameters whose coefficients are equal: one group, one step number, one history."""

    def __init__(self, graph: Graph, slot: Slot, t: int, scalars: tuple[float, ...]) -> None:
        self.settings, self.t, self.scalars = slot.settings, t, scalars
        self.coefficients = Coefficients(graph, slot.layout)
        self.rows: set[int] = set()
        self.next = t, scalars  # after the step that is prepared
        self.names = graph.numbers[: len(graph.numbers) - len(graph.scalars)]
        self.clip = self.names.index("clip") if "clip" in self.names else None
        self.arguments: list[Any]
        self.scheduled: bool

    def read(self, step: int) -> None:
        """Read the hyperparameters as they are after so many steps."""
        own = [name for name in self.names if name != "clip"]
        self.scheduled = any(callable(self.settings.source(name)) for name in own)
        self.arguments = [1.0 if name == "clip" else self.settings.at(name, step) for name in self.names]

    def prepare(self, step: int, clip: float) -> None:
        """Evaluate the coefficients of the next update."""
        if self.scheduled:
            self.read(step)
        if self.clip is not None:
            self.arguments[self.clip] = clip
        self.next = self.t + 1, self.coefficients.evaluate(float(self.t + 1), self.arguments, self.scalars)


class Batch:
    """The parameters that one native call updates."""

    by_rows = False  # whether in some of their rows alone

    def __init__(
        self, update: Update, layout: Layout, slots: list[Slot], history: Mapping[str, tuple[int, Any]]
    ) -> None:
        self.backend = kernels.default_backend()
        self.graph, self.layout, self.slots = lower(update), layout, slots
        self.kernel = kernels.step_kernel(update, layout, self.backend)
        columns = 2 + len(self.graph.inputs) + len(layout.more)
        self.job, self.piece = Job(len(slots), columns), Job(1, columns)  # a piece is what needs buffers
        self.units = [layout.units(s.size) for s in slots]
        self.more = [[{"elements": s.size, "seed": s.stream}[name] for name in layout.more] for s in slots]
        for column, cells in enumerate(zip(*self.more, strict=True), start=2 + len(self.graph.inputs)):
            self.job.fill(column, list(cells))
        self.tensors = [[s.states[name] for name in self.graph.inputs[2:]] for s in slots]
        for column in range(len(self.graph.inputs) - 2):
            self.job.fill(STATES + column, [address(states[column]) for states in self.tensors])

        cohorts: dict[Any, Cohort] = {}
        self.of: list[Cohort] = []
        for row, slot in enumerate(slots):
            t, scalars = history[slot.name]
            key = (slot.settings, t, scalars)
            if key not in cohorts:
                cohorts[key] = Cohort(self.graph, slot, t, scalars)
            self.of.append(cohorts[key])
            cohorts[key].rows.add(row)
        self.cohorts = list(cohorts.values())
        self.active = self.cohorts

        # Strides of None never match: what isn't dense goes through buffers.
        self.rows = [(s.index, s.x, s.x.dtype, s.shape, s.dense_strides()) for s in slots]
        plain = all(strides is not None for *_, strides in self.rows) and self.backend == "llvm" and look.available()
        self.reader = look.Look([(s.index, s.x) for s in slots], self.job) if plain else None
        self.numbers = [s for s in slots if s.shape == ()]
        self.known = False  # whether the job points where things lie
        self.safe: set[tuple[int, int]] = set()  # rows and places of gradients that overlapped nothing
        self.found: list[Any] = []
        self.xs: list[int] = []
        self.gs: list[int] = []
        self.missing: list[int] = []
        self.odd: list[int] = []
        self._out: list[int] | None = None  # rows that the job leaves out
        self._left: list[int] = []  # rows that are still to be updated through buffers
        self._point()

    @cached_property
    def squares(self) -> norms.Squares:
        return norms.Squares(self.layout.x, [s.size for s in self.slots], self.backend)

    @cached_property
    def piece_squares(self) -> norms.Squares:
        return norms.Squares(self.layout.x, [CHUNK], self.backend)

    def _point(self) -> None:
        self.job.fill(COEFFICIENTS, [cohort.coefficients.address for cohort in self.of])

    # ---- a step, in four parts: only the last one changes anything

    def look(self, found: list[Any], guard: Guard) -> None:
        """Check the gradients, and read where everything lies."""
        self.found = found
        for slot in self.numbers:
            slot.box(found)
        if self.reader is not None:
            outcome = self.reader(found)
            if outcome == look.GRADIENTS_MOVED and self.known:
                self.gs = self.job.read(G)
                if self.safe.issuperset(enumerate(self.gs)):
                    outcome = look.SAME
            if outcome == look.SAME and self.known:
                self.missing = _NONE
                return
            self.known = False  # the reader has written to the job
            if outcome <= look.SAME:
                self.missing = _NONE
                self._moved(self.job.read(X), self.job.read(G), [], guard)
                return
        self._look_closely(found, guard)

    def _look_closely(self, found: list[Any], guard: Guard) -> None:
        """The same in Python: for any layout, with an error for what is wrong."""
        xs: list[int] = []
        gs: list[int] = []
        missing: list[int] = []
        odd: list[int] = []
        for index, x, dtype, shape, strides in self.rows:
            g = found[index]
            if type(g) is not _ndarray or g.dtype is not dtype or g.shape != shape:
                g = found[index] = self.slots[len(xs)].admit(g)
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
                odd.append(len(gs))
            try:
                gs.append(_addressof(_from_buffer(g)))
            except (TypeError, ValueError, BufferError):
                gs.append(address(g))
        self.missing = missing
        if not self.known or xs != self.xs or gs != self.gs or odd:
            self._moved(xs, gs, odd, guard)

    def _moved(self, xs: list[int], gs: list[int], odd: list[int], guard: Guard) -> None:
        """Something lies elsewhere than before: look for overlaps, and point the job at it."""
        ranges = guard(xs != self.xs)
        self.known = False
        if xs != self.xs or len(self.safe) > 2 * len(gs) + 100:
            self.safe.clear()
        for row, slot in enumerate(self.slots):
            g, place = self.found[slot.index], gs[row]
            if g is None or (place == xs[row] and g.strides == slot.x.strides):
                continue  # elementwise, a gradient may be the parameter itself
            if place % slot.format.itemsize and row not in odd:
                odd.append(row)
            if not odd and ranges.free(place, place + slot.nbytes):
                continue
            owner = ranges.clash(g)
            if owner is not None:
                raise ValueError(
                    f"the gradient of {slot.name!r} shares memory with {owner}, which the step writes; give a copy"
                )
        self.xs, self.gs, self.odd = xs, gs, odd
        self.known = not odd  # a gradient of another layout is looked at again, wherever it lies
        if self.known:
            self.safe.update(enumerate(gs))
        self.job.fill(X, xs)
        self.job.fill(G, gs)
        self._out = None

    def square(self, before: float, scale: float = 1.0) -> float:
        """The sum of the gradients' squares, tensor after tensor, after what came before."""
        plain = [0 if row in self.odd else place for row, place in enumerate(self.gs)]
        self.squares.run(plain, scale)
        if not self.odd:
            return self.squares.total(before)
        for row, slot in enumerate(self.slots):
            if row not in self.odd:
                before = self.squares.total(before, row)
                continue
            for size, (place,) in pieces([self.found[slot.index]], [], CHUNK):
                before += float(self.piece_squares.run([place], scale, [size])[0])
        return before

    def nonfinite(self) -> Iterator[str]:
        """The parameters whose gradients hold NaN or infinity, after `square`."""
        for row, slot in enumerate(self.slots):
            g = self.found[slot.index]
            if g is None or (row not in self.odd and math.isfinite(self.squares.total(tensor=row))):
                continue
            # The squares of float64 may overflow where the gradient is finite.
            parts = np.nditer(g, ["external_loop", "buffered", "zerosize_ok"])
            if not all(np.isfinite(part).all() for part in parts):
                yield slot.name

    def evaluate(self, step: int, clip: float) -> None:
        """Evaluate the coefficients."""
        if self.missing:
            self._part(step)
            self.active = [c for c in self.cohorts if c.rows.isdisjoint(self.missing)]
        else:
            self.active = self.cohorts
        for cohort in self.active:
            cohort.prepare(step, clip)

    def prepare(self, step: int, clip: float) -> None:
        """Make ready to go."""
        self.evaluate(step, clip)
        out = self.missing + self.odd if self.missing or self.odd else _NONE
        if out != self._out:
            self.job.lengths([0 if row in out else units for row, units in enumerate(self.units)])
            running.ready(self.kernel, self.job)
            self._out = out
        self._left = list(self.odd)
        self.job.rewind()

    def _part(self, step: int) -> None:
        """Parameters without a gradient stay behind: they part from the others of their cohort."""
        for cohort in list(self.cohorts):
            behind = cohort.rows.intersection(self.missing)
            if behind and behind != cohort.rows:
                other = Cohort(self.graph, self.slots[min(behind)], cohort.t, cohort.scalars)
                other.rows = behind
                other.read(step)
                cohort.rows = cohort.rows - behind
                for row in behind:
                    self.of[row] = other
                self.cohorts.append(other)
                self._point()

    def go(self) -> None:
        """Update. May be interrupted and called again: nothing is done twice."""
        running.run(self.kernel, self.job)
        while self._left:
            with running.uninterrupted():
                self._buffered(self._left.pop())
        self.count()

    def count(self) -> None:
        """The step is done; harmless when repeated."""
        for cohort in self.active:
            cohort.t, cohort.scalars = cohort.next

    # Nothing is behind, where gradients are dense.

    def flush(self, rows: Mapping[str, Any] | None = None) -> None:
        """Catch up the rows that are behind, all or those of some parameters."""

    def pending(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What copies of parameters need to go on, by name."""
        yield from ()

    def resume(self, pending: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on where another optimizer was."""

    def _buffered(self, row: int) -> None:
        """Update one parameter piece by piece, each contiguous; by blocks all of it at once, as a copy."""
        slot = self.slots[row]
        self.piece.fill(COEFFICIENTS, [self.of[row].coefficients.address])
        g, written = self.found[slot.index], [slot.x, *self.tensors[row]]
        if self.layout.blocks:
            copies = [np.array(a, order="C", subok=False) for a in (*written, g)]
            x, *states, gradient = map(address, copies)
            self._run_piece(self.units[row], [x, gradient, *states, *self.more[row]])
            for array, copy in zip(written, copies):
                array[...] = copy
            return
        for size, (gradient, x, *states) in pieces([g], written, CHUNK):
            self._run_piece(size, [x, gradient, *states])

    def _run_piece(self, units: int, cells: Sequence[int]) -> None:
        self.piece.only(units, cells)
        running.run(self.kernel, self.piece)

    def history(self) -> Iterator[tuple[str, tuple[int, tuple[float, ...]]]]:
        for slot, cohort in zip(self.slots, self.of, strict=True):
            yield slot.name, (cohort.t, cohort.scalars)
