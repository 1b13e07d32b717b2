"""Parameters that are updated together: which tensors they are, their gradients, their cohorts.

A batch holds until a tensor or a state is another one, or lies elsewhere; then a new one is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from adamite.engine import batch
from adamite.engine.batch import Found
from adamite.engine.coefficients import CoefficientTable
from adamite.language.update import Update
from adamite.storage import Array, Layout
from adamite.torch.assigned import Compensated
from adamite.torch.settings import Resolved
from adamite.torch.tensors import gradient_type, local, native, of_rows, shard, view, with_gradient

SparseRefusal = Callable[[int], str | None]  # why a group refuses sparse gradients, if it does
Readings = Mapping[int, Resolved]  # of groups, by their numbers
_gradient, _dtype, _bytes = attrgetter("grad"), attrgetter("dtype"), attrgetter("nbytes")


class Member(NamedTuple):
    """A parameter that is optimized: its group's number, its name in messages, its states by torch's names."""

    parameter: Tensor
    group: int
    name: str
    state: dict[str, Any]
    stream: int = 0  # where its random bits begin


class Contents(NamedTuple):
    """What a batch is made of."""

    update: Update
    layout: Layout
    members: Sequence[Member]
    keys: Mapping[str, str]  # torch's names of the states, by the rule's
    readings: Readings
    table: CoefficientTable
    given: Sequence[Any] | None = None  # the gradients, where they don't lie beside the parameters


def _words(numbers: Array) -> memoryview:
    """The memory of an array, whose bits are compared."""
    return numbers.reshape(-1).data.cast("B").cast("Q" if numbers.itemsize == 8 else "I")


class Batch(batch.Batch):
    """Rows of one update and layout on one device. Each kind of batch updates them in its way."""

    compensated: Sequence[Compensated] = ()  # rows that keep what they couldn't hold
    densifies = False  # whether sparse gradients are made dense here; else they belong to another batch

    def __init__(self, contents: Contents) -> None:
        update, layout, members, keys, self.readings, table, self.given = contents
        super().__init__(update, layout, len(members), table)
        self.members = members
        self.names = [keys[name] for name in layout.formats(self.graph.inputs[2:])]
        self.parameters = [m.parameter for m in members]
        self.wrapped = any(local(p) is not p for p in self.parameters)
        self.tensors = [local(p) for p in self.parameters]
        self.states = [[local(m.state[name]) for name in self.names] for m in members]
        self.grads: list[Any] = []
        self.counts = np.zeros(len(members))  # step numbers
        self.scalars: Array | None = None  # Scalar states, a row a parameter
        self._history: list[tuple[memoryview, memoryview]] = []  # step numbers and scalars: now, and as the cohorts say
        self._dtypes = list(map(_dtype, self.tensors))
        self._bytes = list(map(_bytes, self.tensors))
        self._types = [gradient_type(x, layout) for x in self.tensors]  # of the gradients, as they are read

    @classmethod
    def refuses(cls, p: Tensor, layout: Layout) -> str | None:
        """Why a parameter of this layout can't be in such a batch, in words that follow "is"; None where it can."""
        raise NotImplementedError

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
        states: Any = map(self._getter, self._dicts)
        try:
            return all(map(is_, chain.from_iterable(states) if self._several else states, self._objects))
        except KeyError:
            return False

    def same_counts(self) -> bool:
        """Whether step numbers and scalars are in their places; share_memory_() moves them."""
        return all(array.data_ptr() == place for array, place in self._arrays)

    def same_places(self) -> bool:
        """Whether parameters and states are of the types they were, and in their places."""
        return self._lie_as_before(self._own())

    def _lie_as_before(self, tensors: Sequence[Any]) -> bool:
        return list(map(_dtype, tensors)) == self._dtypes and list(map(_bytes, tensors)) == self._bytes

    def _own(self) -> list[Any]:
        """What of the parameters lies in this process, now."""
        return [local(p) for p in self.parameters] if self.wrapped else self.tensors

    def gradients(self) -> list[Any]:
        """The gradients, or None, of all rows."""
        return list(map(_gradient, self.parameters)) if self.given is None else list(self.given)

    # ---- a step

    def look(self, sparse: SparseRefusal) -> Found | None:
        """Find the gradients and check them; None where the batch is no longer what the optimizer has.

        `sparse` says why a group refuses sparse gradients, if it does.
        """
        return self.find(sparse) if self.stands() else None

    def find(self, sparse: SparseRefusal) -> Found:
        """Find the gradients and check them, where the batch stands."""
        self.tensors = self._own()
        self.grads = self.gradients()
        if self.wrapped:
            self.grads = list(map(shard, self.grads, self.parameters))
        self.found = self._check(sparse)
        return self.found

    def _check(self, sparse: SparseRefusal) -> Found:
        """Make the gradients plain that aren't, or refuse them."""
        raise NotImplementedError

    def present(self) -> list[Tensor]:
        """The parameters that have a gradient."""
        missing = set(self.found.missing)
        return [p for row, p in enumerate(self.parameters) if row not in missing]

    def numbers(self, group: int) -> Callable[[str], Any]:
        return self.readings[group].numbers.__getitem__

    def prepare(self) -> None:
        if not self.cohorts or any(now != seen for now, seen in self._history):
            scalars = self.scalars.tolist() if self.scalars is not None else [()] * len(self.members)
            rows = zip(self.members, self.counts.tolist(), map(tuple, scalars), strict=True)
            self.divide([(m.group, t, states) for m, t, states in rows])
            self._remember()
        super().prepare()

    def point(self) -> None:
        for cohort in self.cohorts:
            cohort.index = np.array(cohort.rows) if len(self.cohorts) > 1 else slice(None)

    def _remember(self) -> None:
        """The cohorts say what the arrays say."""
        for now, seen in self._history:
            seen[:] = now

    def finish(self) -> None:
        super().finish()
        for cohort in self.active:
            self.counts[cohort.index] = cohort.t
            if self.scalars is not None:
                self.scalars[cohort.index] = cohort.scalars
        self._remember()

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
