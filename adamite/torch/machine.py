"""Tensors on the CPU, which one native call updates where they lie.

Tensors are looked at in bulk, in C: a loop of Python over their attributes would take longer than the step.
"""

from __future__ import annotations

from _thread import _count as other_threads
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from adamite.codegen.job import G, X
from adamite.engine import running
from adamite.engine.batch import ALL, Found
from adamite.engine.native import NativeBatch, NativeCall
from adamite.storage import COMPENSATION, Array, EightBit, Format, Layout
from adamite.torch import look
from adamite.torch.assigned import Compensated, alone
from adamite.torch.batch import Batch, Contents, SparseRefusal
from adamite.torch.tensors import alike, dense, elements, local, native, view

_C: Any = torch._C.TensorBase
_pointer: Callable[[Tensor], int] = _C.data_ptr
_contiguous: Callable[[Tensor], bool] = _C.is_contiguous
_negated: Callable[[Tensor], bool] = _C.is_neg
_stride: Callable[[Tensor], tuple[int, ...]] = _C.stride
_dtype, _bytes = attrgetter("dtype"), attrgetter("nbytes")

FORCE_ARRAYS = False  # for tests: array operations where machine code would run


class MachineBatch(NativeBatch, Batch):
    """Rows on the CPU, which one native call updates where they lie."""

    @classmethod
    def refuses(cls, p: Tensor, layout: Layout) -> str | None:
        part = local(p)
        if part is not p and any(isinstance(format, EightBit) for _, format in layout.states):
            return "sharded"
        if FORCE_ARRAYS or not native(part):
            return f"a {p.layout} tensor on {p.device}"
        return None if layout.native else f"computed in {layout.compute.name}"

    def __init__(self, contents: Contents) -> None:
        super().__init__(contents)
        layout, members = self.layout, self.members
        self._sizes = list(map(elements, self.tensors))
        self._call = NativeCall(self.update, layout, self._sizes, [m.stream for m in members])
        self._gradient_bytes = [size * layout.g.itemsize for size in self._sizes]
        columns = list(zip(*self.states, strict=True))
        self._flat = list(chain.from_iterable(columns))
        self._places, self._facts = list(map(_pointer, self.tensors)), self._facts_of_states()
        self._call.job.fill(X, self._places)
        self._call.point_states([list(map(_pointer, tensors)) for tensors in columns])
        if COMPENSATION in layout.more:
            rows = zip(self.parameters, self.tensors, self._places, (m.state[COMPENSATION] for m in members))
            self.compensated = [Compensated(*row) for row in rows if alone(row[1])]
        self._contiguous = all(map(_contiguous, self.tensors))
        # Where parameter and states lie differently, or with gaps, rows go through buffers.
        self._plain = [
            dense(x) and all(map(self._ordered, self._formats(), states, [x] * len(states)))
            for x, states in zip(self.tensors, self.states, strict=True)
        ]
        self._all_plain = all(self._plain)
        self._complex = [row for row, x in enumerate(self.tensors) if x.is_complex()]
        looks = self._all_plain and self._call.backend == "llvm" and not self.wrapped and self.given is None
        reads = looks and look.readable(self.tensors, self.states)
        self._reader = look.Look(self.tensors, self._types, self.states, self._call.job) if reads else None
        self._notices = False  # whether it notices other states in the optimizer's dicts
        self._large = sum(self._sizes) >= running.HOLD
        self._gradient_places: list[int] = []  # what the job says, as far as Python knows

    def _formats(self) -> list[Format]:
        """The formats of a row's states."""
        return [*self.layout.formats(self.graph.inputs[2:]).values()]

    @staticmethod
    def _ordered(format: Format, state: Tensor, x: Tensor) -> bool:
        """Whether a state's elements lie in the parameter's order; 8-bit ones lie in the order of indices."""
        return x.is_contiguous() and state.is_contiguous() if isinstance(format, EightBit) else alike(x, state)

    def point(self) -> None:
        super().point()
        self._call.point_coefficients(self.of)

    def keep(self, state: Any) -> None:
        super().keep(state)
        self._watch_dicts()

    def _watch_dicts(self) -> None:
        self._notices = self._reader is not None and self._reader.notice(self._dicts)

    def _lie_as_before(self, tensors: Sequence[Any]) -> bool:
        return (
            super()._lie_as_before(tensors)
            and list(map(_pointer, tensors)) == self._places
            and self._facts_of_states() == self._facts
        )

    def _facts_of_states(self) -> list[list[Any]]:
        """Where the states lie, and how."""
        return [list(map(read, self._flat)) for read in (_pointer, _stride, _bytes)]

    def look(self, sparse: SparseRefusal) -> Found | None:
        if self._reader is None:
            return super().look(sparse)
        if self._reader():
            if not ((self._notices or self.same_states()) and self.same_counts()):
                return None
            if self._large and other_threads():  # which may let gradients go while the call runs
                self.grads = self.gradients()
            self.found = ALL
            return ALL
        self._gradient_places = []  # the reader has written to the job
        found = super().look(sparse)
        if found is not None:
            self._watch_dicts()
        return found

    def _check(self, sparse: SparseRefusal) -> Found:
        grads, found = self.grads, ALL
        try:
            places = list(map(_pointer, grads))
            plain = (
                self._all_plain
                and list(map(_dtype, grads)) == self._types
                and list(map(_bytes, grads)) == self._gradient_bytes
                and (all(map(_contiguous, grads)) if self._contiguous else all(map(alike, grads, self.tensors)))
                and not any(map(_negated, grads))
                and not any(grads[row].is_conj() for row in self._complex)
                and (0 not in places or all(place or not size for place, size in zip(places, self._sizes, strict=True)))
            )
        except (TypeError, RuntimeError, NotImplementedError):  # None, or without memory of its own
            plain = False
        if not plain:
            found = self._check_each(sparse)
            places = [0 if g is None else g.data_ptr() for g in grads]
        if places != self._gradient_places:
            self._gradient_places = places
            self._call.job.fill(G, places)
        return found

    def _check_each(self, sparse: SparseRefusal) -> Found:
        missing, strided = list[int](), list[int]()
        for row, x in enumerate(self.tensors):
            g = self.grads[row] = self.admit(row, sparse)
            if g is None:
                missing.append(row)
            elif not self._plain[row] or not alike(x, g):
                strided.append(row)
        return Found(missing, strided)

    def nonfinite(self) -> Iterator[str]:
        grads = self.grads or self.gradients()
        for row in self._call.suspects(self):
            if not torch.isfinite(grads[row]).all():
                yield self.members[row].name

    def gradient(self, row: int) -> Array:
        return view(self.grads[row])

    def written(self, row: int) -> Sequence[Array]:
        return [view(self.tensors[row]), *map(view, self.states[row])]
