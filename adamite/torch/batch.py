"""Torch's tensors as rows of one call: where they lie, their coefficients, and a look at all before anything moves.

A batch holds until a tensor lies elsewhere; then a new one is made. Tensors are
looked at in bulk, in C: a loop of Python over their attributes would take longer than the step.
"""

from __future__ import annotations

import math
from _thread import _count as other_threads
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from adamite.codegen.job import CHUNK, COEFFICIENTS, STATES, G, Job, X
from adamite.engine import kernels, norms, running
from adamite.engine.coefficients import Coefficients
from adamite.engine.memory import pieces
from adamite.graph.lowering import lower
from adamite.language.update import Update
from adamite.storage import (
    COMPENSATION,
    EightBit,
    Format,
    Layout,
)
from adamite.torch import arrays, look
from adamite.torch.assigned import Compensated, alone
from adamite.torch.settings import Resolved
from adamite.torch.tensors import (
    DTYPES,
    alike,
    dense,
    elements,
    gradient_type,
    local,
    native,
    of_rows,
    shard,
    view,
    with_gradient,
)

_C: Any = torch._C.TensorBase
_pointer: Callable[[Tensor], int] = _C.data_ptr
_contiguous: Callable[[Tensor], bool] = _C.is_contiguous
_negated: Callable[[Tensor], bool] = _C.is_neg
_stride: Callable[[Tensor], tuple[int, ...]] = _C.stride
SparseRefusal = Callable[[int], str | None]
_NONE: list[int] = []
_gradient, _dtype, _bytes = attrgetter("grad"), attrgetter("dtype"), attrgetter("nbytes")


class Member(NamedTuple):
    """A parameter that is optimized: its group's number, its name in messages, its states by torch's names."""

    parameter: Tensor
    group: int
    name: str
    state: dict[str, Any]
    stream: int = 0  # where its random bits begin


def _words(numbers: np.ndarray[Any, Any]) -> memoryview:
    """The memory of an array, whose bits are compared."""
    return numbers.reshape(-1).data.cast("B").cast("Q" if numbers.itemsize == 8 else "I")


class Cohort:
    """Rows of one group and history, whose coefficients are equal."""

    def __init__(
        self, batch: Batch, readings: Mapping[int, Resolved], group: int, t: float, scalars: tuple[float, ...]
    ) -> None:
        graph = batch.graph
        self.names = graph.numbers[: len(graph.numbers) - len(graph.scalars)]
        self.clip = self.names.index("clip") if "clip" in self.names else None
        self.coefficients = Coefficients(graph, batch.layout)
        self.group, self.t, self.scalars = group, t, scalars
        self.next = t, scalars
        self.rows: list[int] = []
        self.where: Any  # the rows as an index
        self.read(readings)

    def read(self, readings: Mapping[int, Resolved]) -> None:
        """Take over the group's numbers."""
        numbers = readings[self.group].numbers
        self.numbers = [1.0 if name == "clip" else numbers[name] for name in self.names]

    def prepare(self, clip: float) -> None:
        if self.clip is not None:
            self.numbers[self.clip] = clip
        t = self.t + 1.0
        self.next = t, self.coefficients.evaluate(t, self.numbers, self.scalars)


class Batch:
    """Rows of one update and format on one device; `go` is what differs between machine code and array operations."""

    compensated: Sequence[Compensated] = ()  # rows that keep what they couldn't hold
    densifies = False  # whether sparse gradients are made dense here; else they belong to another batch

    def __init__(self, update: Update, layout: Layout, members: Sequence[Member], keys: Mapping[str, str]) -> None:
        self.update, self.layout, self.members = update, layout, members
        self.graph = lower(update)
        self.names = [keys[name] for name in layout.formats(self.graph.inputs[2:])]
        self.parameters = [m.parameter for m in members]
        self.wrapped = any(local(p) is not p for p in self.parameters)
        self.tensors = [local(p) for p in self.parameters]
        self.states = [[local(m.state[name]) for name in self.names] for m in members]
        self.grads: list[Any] = []
        self.missing: list[int] = []  # rows without a gradient
        self.counts = np.zeros(len(members))  # step numbers
        self.scalars: np.ndarray[Any, Any] | None = None  # Scalar states, a row a parameter
        self.cohorts: list[Cohort] = []
        self._history: list[tuple[memoryview, memoryview]] = []  # step numbers and scalars: now, and as the cohorts say
        self._known = False  # whether the cohorts say anything
        self._dtypes = list(map(_dtype, self.tensors))
        self._bytes = list(map(_bytes, self.tensors))
        self._types = [gradient_type(x, layout) for x in self.tensors]  # of the gradients, as they are read

    # ---- whether all is where it was

    def watch(self, keys: Sequence[str], steps: Tensor, scalars: Tensor | None) -> None:
        """Count in these arrays; remember which tensors lie under these keys of the states."""
        self._arrays = [(array, array.data_ptr()) for array in (steps, scalars) if array is not None]
        self.counts = view(steps)
        self.scalars = None if scalars is None else view(scalars)
        # Compared and copied in place: an allocation of this size may have to tidy up what torch's steps left behind.
        self._history = [(_words(now), _words(now.copy())) for now in (self.counts, self.scalars) if now is not None]
        self._getter = itemgetter(*keys) if keys else None
        self._dicts: list[dict[str, Any]] = []  # the optimizer's own, once it keeps the states
        self._several = len(keys) > 1
        self._objects = [m.state[key] for m in self.members for key in keys]

    def keep(self, state: Any) -> None:
        """Put the states that were made into the optimizer's."""
        for m in self.members:
            if m.state:
                state.setdefault(m.parameter, m.state).update(m.state)
        self._dicts = [state[m.parameter] for m in self.members] if self._getter is not None else []

    def stands(self) -> bool:
        """Whether parameters and states are those that the batch was made for, where they were."""
        return self.same_states() and self.same_counts() and self.same_places() and self.same_gradients()

    def same_gradients(self) -> bool:
        """Whether the gradients are of types and layouts that the batch was made for."""
        for g, dtype in zip(self.gradients(), self._types, strict=True):
            if g is not None and g.dtype is not dtype and with_gradient(self.layout, g) != self.layout:
                return False
            if of_rows(g) and not self.densifies:
                return False
        return True

    def same_states(self) -> bool:
        """Whether the optimizer's states are the tensors that they were."""
        if self._getter is None:
            return True
        found: Any = map(self._getter, self._dicts)
        try:
            return all(map(is_, chain.from_iterable(found) if self._several else found, self._objects))
        except KeyError:
            return False

    def same_counts(self) -> bool:
        """Whether step numbers and scalars are in their places; share_memory_() moves them."""
        return all(array.data_ptr() == place for array, place in self._arrays)

    def same_places(self) -> bool:
        """Whether parameters and states are of the types they were, and in their places."""
        if self.wrapped:
            self.tensors = [local(p) for p in self.parameters]
        return list(map(_dtype, self.tensors)) == self._dtypes and list(map(_bytes, self.tensors)) == self._bytes

    def active(self) -> list[Tensor]:
        """The parameters that have a gradient."""
        gone = set(self.missing)
        return [p for row, p in enumerate(self.parameters) if row not in gone]

    def gradients(self) -> list[Any]:
        """The gradients, or None, of all rows."""
        return list(map(_gradient, self.parameters))

    def find(self) -> None:
        """Read the gradients."""
        self.grads = self.gradients()
        if self.wrapped:
            self.grads = list(map(shard, self.grads, self.parameters))

    # ---- coefficients

    def _remember(self) -> None:
        for now, seen in self._history:
            seen[:] = now
        self._known = True

    def divide(self, readings: Mapping[int, Resolved]) -> None:
        """Make the cohorts of the rows' present step numbers."""
        scalars = self.scalars.tolist() if self.scalars is not None else [()] * len(self.members)
        found: dict[Any, Cohort] = {}
        for row, (m, t, own) in enumerate(zip(self.members, self.counts.tolist(), scalars, strict=True)):
            key = m.group, t, tuple(own)
            if key not in found:
                found[key] = Cohort(self, readings, *key)
            found[key].rows.append(row)
        self.cohorts = list(found.values())
        for cohort in self.cohorts:
            cohort.where = np.array(cohort.rows) if len(found) > 1 else slice(None)
        self._remember()

    def read(self, readings: Mapping[int, Resolved]) -> None:
        """Groups have other numbers than before."""
        for cohort in self.cohorts:
            cohort.read(readings)

    def prepare(self, readings: Mapping[int, Resolved], clip: float) -> None:
        """Evaluate the coefficients of the next update."""
        if not self._known or any(now != seen for now, seen in self._history):
            self.divide(readings)
        for cohort in self.cohorts:
            cohort.prepare(clip)

    def finish(self) -> None:
        """Count the step; harmless when repeated."""
        gone = set(self.missing)
        for cohort in self.cohorts:
            t, scalars = cohort.next
            where: Any = cohort.where
            if gone:
                where = [row for row in cohort.rows if row not in gone]
            else:
                cohort.t, cohort.scalars = t, scalars
            self.counts[where] = t
            if self.scalars is not None:
                self.scalars[where] = scalars
        self._known = False
        if not self.missing:
            self._remember()

    # ---- what the two kinds of batches do

    def look(self, sparse: SparseRefusal) -> None:
        """Find the gradients and check them; `sparse` says why a group refuses sparse ones, if it does."""
        raise NotImplementedError

    def square(self, before: float, scale: float) -> float:
        """The sum of the gradients' squares, after what came before."""
        raise NotImplementedError

    def nonfinite(self) -> Iterator[str]:
        """The parameters whose gradients hold NaN or infinity, after `square`."""
        raise NotImplementedError

    def go(self) -> None:
        """Update; may be interrupted and called again."""
        raise NotImplementedError

    def admit(self, row: int, sparse: SparseRefusal) -> Tensor | None:
        """A gradient that isn't simply of its parameter's type and layout: made plain, or refused."""
        g, x, name = self.grads[row], self.tensors[row], self.members[row].name
        if g is None:
            return None
        if g.layout is not torch.strided:
            if refusal := sparse(self.members[row].group):
                raise RuntimeError(refusal)
            g = g.to_dense()
        if is_traceable_wrapper_subclass(g) and not is_traceable_wrapper_subclass(x):
            raise TypeError(
                f"the gradient of {name} is a {type(g).__name__}, and the parameter a plain tensor; unwrap it"
            )
        if g.shape != x.shape:
            raise ValueError(f"the gradient of {name} has shape {tuple(g.shape)}, and the parameter {tuple(x.shape)}")
        if g.device != x.device:
            raise ValueError(f"the gradient of {name} is on {g.device}, and the parameter on {x.device}")
        if g.numel() and native(g) and not g.data_ptr():
            raise ValueError(f"the gradient of {name} has no memory; its storage was resized to nothing")
        if g.dtype != self._types[row]:
            g = g.detach().to(self._types[row])
        if g.is_neg() or g.is_conj():
            g = g.detach().resolve_conj().resolve_neg()
        plain: Tensor = g
        return plain


class MachineBatch(Batch):
    """Rows on the CPU, which one native call updates where they lie."""

    def __init__(self, update: Update, layout: Layout, members: Sequence[Member], keys: Mapping[str, str]) -> None:
        super().__init__(update, layout, members, keys)
        self.backend = kernels.default_backend()
        self.kernel = kernels.step_kernel(update, layout, self.backend)
        columns = 2 + len(self.graph.inputs) + len(layout.more)
        self.job, self.piece = Job(len(members), columns), Job(1, columns)
        self.sizes = list(map(elements, self.tensors))
        self._gradient_bytes = [size * layout.g.itemsize for size in self.sizes]
        self.units = list(map(layout.units, self.sizes))
        self.job.lengths(self.units)
        if layout.blocks:  # the last two columns
            self.job.fill(columns - 2, self.sizes)
            self.job.fill(columns - 1, [m.stream for m in members])
        columns_of_states = list(zip(*self.states, strict=True))
        self._flat = list(chain.from_iterable(columns_of_states))
        self._places, self._facts = list(map(_pointer, self.tensors)), self._facts_of_states()
        self.job.fill(X, self._places)
        for column, tensors in enumerate(columns_of_states, start=STATES):
            self.job.fill(column, list(map(_pointer, tensors)))
        if COMPENSATION in layout.more:
            kept = [m.state[COMPENSATION] for m in members]
            rows = map(Compensated, self.parameters, self.tensors, self._places, kept)
            self.compensated = [row for row in rows if alone(row.own)]
        self._contiguous = all(map(_contiguous, self.tensors))
        # Where parameter and states lie differently, or with gaps, rows go through buffers.
        self._plain = [
            dense(x) and all(map(self._ordered, self._formats(), states, [x] * len(states)))
            for x, states in zip(self.tensors, self.states, strict=True)
        ]
        self._all_plain = all(self._plain)
        self._complex = [row for row, x in enumerate(self.tensors) if x.is_complex()]
        looks = self._all_plain and self.backend == "llvm" and not self.wrapped
        reads = looks and look.readable(self.tensors, self.states)
        self._reader = look.Look(self.tensors, self._types, self.states, self.job) if reads else None
        self._read = False  # whether machine code has found the gradients of this step
        self._notices = False  # whether it notices other states in the optimizer's dicts
        self._large = sum(self.sizes) >= running.HOLD
        self._gradient_places: list[int] = []  # what the job says, as far as Python knows
        self._through_buffers: list[int] = []  # rows that aren't plain, or whose gradient isn't
        self._left_out: list[int] = []  # rows whose length in the job is 0
        self._pending: list[int] = []  # rows through buffers that this step hasn't come to yet

    def _formats(self) -> list[Format]:
        """The formats of a row's states."""
        return [*self.layout.formats(self.graph.inputs[2:]).values()]

    @staticmethod
    def _ordered(format: Format, state: Tensor, x: Tensor) -> bool:
        """Whether a state's elements lie in the parameter's order; 8-bit ones lie in the order of indices."""
        return x.is_contiguous() and state.is_contiguous() if isinstance(format, EightBit) else alike(x, state)

    @cached_property
    def squares(self) -> norms.Squares:
        return norms.Squares(self.layout.g, self.sizes, self.backend)

    @cached_property
    def piece_squares(self) -> norms.Squares:
        return norms.Squares(self.layout.g, [CHUNK], self.backend)

    def divide(self, readings: Mapping[int, Resolved]) -> None:
        super().divide(readings)
        self._coefficients = [0] * len(self.members)
        for cohort in self.cohorts:
            for row in cohort.rows:
                self._coefficients[row] = cohort.coefficients.address
        self.job.fill(COEFFICIENTS, self._coefficients)

    def keep(self, state: Any) -> None:
        super().keep(state)
        self._watch_dicts()

    def _watch_dicts(self) -> None:
        self._notices = self._reader is not None and self._reader.notice(self._dicts)

    def stands(self) -> bool:
        if self._reader is None:
            return super().stands()
        self._read = self._reader()
        if self._read:
            return (self._notices or self.same_states()) and self.same_counts()
        self._gradient_places = []  # the reader has written to the job
        stands = super().stands()
        if stands:
            self._watch_dicts()
        return stands

    def same_places(self) -> bool:
        return (
            super().same_places()
            and list(map(_pointer, self.tensors)) == self._places
            and self._facts_of_states() == self._facts
        )

    def _facts_of_states(self) -> list[list[Any]]:
        """Where the states lie, and how."""
        return [list(map(read, self._flat)) for read in (_pointer, _stride, _bytes)]

    def look(self, sparse: SparseRefusal) -> None:
        if self._read:
            self._read = False  # of one step
            self.missing = self._through_buffers = _NONE
            if self._large and other_threads():  # which may let gradients go while the call runs
                self.find()
            return
        self.find()
        grads = self.grads
        try:
            places = list(map(_pointer, grads))
            plain = (
                self._all_plain
                and list(map(_dtype, grads)) == self._types
                and list(map(_bytes, grads)) == self._gradient_bytes
                and (all(map(_contiguous, grads)) if self._contiguous else all(map(alike, grads, self.tensors)))
                and not any(map(_negated, grads))
                and not any(grads[row].is_conj() for row in self._complex)
                and (0 not in places or all(place or not size for place, size in zip(places, self.sizes, strict=True)))
            )
        except (TypeError, RuntimeError, NotImplementedError):  # None, or without memory of its own
            plain = False
        self.missing, self._through_buffers = [], []
        if not plain:
            places = self._look_closely(sparse)
        if places != self._gradient_places:
            self._gradient_places = places
            self.job.fill(G, places)

    def _look_closely(self, sparse: SparseRefusal) -> list[int]:
        for row, x in enumerate(self.tensors):
            g = self.grads[row] = self.admit(row, sparse)
            if g is None:
                self.missing.append(row)
            elif not self._plain[row] or not alike(x, g):
                self._through_buffers.append(row)
        return [0 if g is None else g.data_ptr() for g in self.grads]

    def square(self, before: float, scale: float) -> float:
        places = self.job.read(G)
        for row in self._through_buffers:
            places[row] = 0
        self.squares.run(places, scale)
        if not self._through_buffers:
            return self.squares.total(before)
        for row in range(len(self.members)):
            if row not in self._through_buffers:
                before = self.squares.total(before, row)
                continue
            for size, (place,) in pieces([view(self.grads[row])], [], CHUNK):
                before += float(self.piece_squares.run([place], scale, [size])[0])
        return before

    def nonfinite(self) -> Iterator[str]:
        if not self.grads:
            self.find()
        for row, g in enumerate(self.grads):
            if g is None or (row not in self._through_buffers and math.isfinite(self.squares.total(tensor=row))):
                continue
            if not torch.isfinite(g).all():  # the squares of float64 may overflow where the gradient is finite
                yield self.members[row].name

    def prepare(self, readings: Mapping[int, Resolved], clip: float) -> None:
        super().prepare(readings, clip)
        out = self.missing + self._through_buffers if self.missing or self._through_buffers else []
        if out != self._left_out:
            gone = set(out)
            self.job.lengths([0 if row in gone else units for row, units in enumerate(self.units)])
            self._left_out = out
            running.ready(self.kernel, self.job)
        self._pending = self._through_buffers.copy()
        self.job.rewind()

    def go(self) -> None:
        running.run(self.kernel, self.job)
        while self._pending:
            with running.uninterrupted():
                self._buffered(self._pending.pop())

    def _buffered(self, row: int) -> None:
        """Update one parameter piece by piece, each contiguous; by blocks all of it at once, as a copy."""
        self.piece.fill(COEFFICIENTS, [self._coefficients[row]])
        if self.layout.blocks:
            written = [self.tensors[row], *self.states[row]]
            copies = [t.detach().clone(memory_format=torch.contiguous_format) for t in (*written, self.grads[row])]
            x, *states, g = map(_pointer, copies)
            self._run_piece(self.units[row], [x, g, *states, self.sizes[row], self.members[row].stream])
            with torch.no_grad():
                for t, copy in zip(written, copies):
                    t.copy_(copy)
            return
        views = [view(t) for t in (self.tensors[row], *self.states[row])]
        for size, (g, x, *states) in pieces([view(self.grads[row])], views, CHUNK):
            self._run_piece(size, [x, g, *states])

    def _run_piece(self, units: int, cells: Sequence[int]) -> None:
        self.piece.only(units, cells)
        running.run(self.kernel, self.piece)


class ArrayBatch(Batch):
    """Rows elsewhere: the same graph, as array operations over all tensors at once."""

    def look(self, sparse: SparseRefusal) -> None:
        self.find()
        self.grads = [self.admit(row, sparse) for row in range(len(self.members))]
        self.missing = [row for row, g in enumerate(self.grads) if g is None]

    def _real(self, tensors: Sequence[Any]) -> list[Tensor]:
        return [torch.view_as_real(t) if t.is_complex() else t for t in tensors]

    def square(self, before: float, scale: float) -> float:
        grads = self._real([g for g in self.grads if g is not None])
        if not grads:
            return before
        norms = torch.stack(torch._foreach_norm(grads, 2, torch.float64)) * scale
        return before + float(norms.square().sum())

    def nonfinite(self) -> Iterator[str]:
        for row, g in enumerate(self.grads):
            if g is not None and not torch.isfinite(g).all():
                yield self.members[row].name

    def prepare(self, readings: Mapping[int, Resolved], clip: float) -> None:
        super().prepare(readings, clip)
        self._pending = list(self.cohorts)

    def go(self) -> None:
        compute = DTYPES[self.layout.compute]
        columns = [self.tensors, self.grads, *zip(*self.states, strict=True)]
        while self._pending:
            with running.uninterrupted(), torch.no_grad():
                cohort = self._pending.pop()
                rows = [row for row in cohort.rows if self.grads[row] is not None]
                if not rows:
                    continue
                inputs = {
                    name: self._real([column[row] for row in rows])
                    for name, column in zip(self.graph.inputs, columns, strict=True)
                }
                arrays.step(self.graph, inputs, list(cohort.coefficients.values), compute)
