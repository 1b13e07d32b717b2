"""Parameters whose gradients are sparse: a batch that steps on their rows, and what the other rows have missed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adamite.engine import kernels
from adamite.engine.batch import Found
from adamite.graph.idle import still
from adamite.graph.lowering import lower
from adamite.language.update import Update
from adamite.sparse.rows import Indices, Sparse, checked, distinct
from adamite.sparse.tables import Behind, CatchUp, Gradient, Memory, Steps, Touched, refuse_inexact
from adamite.storage import Format, Layout
from adamite.torch.batch import Batch, Contents, Member, SparseRefusal
from adamite.torch.machine import MachineBatch
from adamite.torch.settings import GroupSettings
from adamite.torch.tensors import local, of_rows, view, with_gradient


class SparseTable:
    """What the rows of one parameter have missed."""

    def __init__(self, p: Tensor, states: Sequence[Tensor], update: Update, format: Format, fresh: bool) -> None:
        self.parameter, self.states, self.update = p, states, update
        self.kind = p.dtype, p.shape
        self.behind = Behind(update, format, len(p), fresh)
        self.late = CatchUp(update, format, kernels.default_backend())
        self.version = p._version  # as our last write left it

    def belongs(self, update: Update, states: Sequence[Tensor]) -> bool:
        """Whether these are still the states, and the update."""
        return self.update is update and all(a is b for a, b in zip(self.states, states, strict=True))

    def flush(self, indices: Indices | None = None) -> None:
        """Catch up all rows, or some; of a parameter that has become another there is nothing to catch up."""
        if (self.parameter.dtype, self.parameter.shape) == self.kind:
            torch.autograd.graph.increment_version([self.parameter])
            self.late.flush(memory(self.parameter, self.states), self.behind, indices)
            self.version = self.parameter._version

    def notice(self) -> None:
        """Rows that somebody has assigned to since the last step continue from there."""
        if self.parameter._version != self.version:
            self.flush(self.behind.changed(memory(self.parameter, self.states)))


class Tables:
    """The parameters that have had gradients of rows, and what their rows have missed, whichever plan steps on them."""

    def __init__(self, owner: str, mode: Sparse | None) -> None:
        self.owner, self.mode = owner, mode
        self.tables: dict[int, SparseTable] = {}

    def take(self, name: str, p: Tensor, update: Update, layout: Layout) -> bool:
        """Whether a parameter with a sparse gradient is stepped on by rows.

        Raises:
            RuntimeError: where somebody asked for that, and it can't be.
        """
        if self.mode is None:
            plain = RowsBatch.refuses(p, layout) is None and of_whole_rows(p.grad) and p.dim() > 0
            return plain and p[:1].is_contiguous() and still(lower(update))
        if RowsBatch.refuses(p, layout.with_gradient(layout.x)):  # whatever its gradient is
            raise RuntimeError(
                f"{self.owner}: sparse={self.mode!r} is for whole tensors on the CPU, and a sparse "
                f"gradient is on {p.device}; leave sparse= out, or make the gradient dense (sparse=False)"
            )
        if not layout.native:
            raise RuntimeError(
                f"{self.owner}: sparse={self.mode!r} is for gradients that are computed in "
                f"{layout.x.compute.name}, as {name} is, and its gradient is of {layout.g.name}; convert it"
            )
        return True

    def settle(self, p: Tensor) -> None:
        """All rows of a parameter have a gradient now."""
        table = self.tables.pop(id(p), None)
        if table is not None:
            table.flush()

    def behind(self, m: Member, states: Sequence[Tensor], update: Update, format: Format, fresh: bool) -> Behind | None:
        """What the rows of a parameter have missed; None where that isn't kept."""
        if self.mode != "exact":
            return None
        p = m.parameter
        if id(p) in self.tables and not self.tables[id(p)].belongs(update, states):
            self.settle(p)
            fresh = False
        if id(p) not in self.tables:
            self.tables[id(p)] = SparseTable(p, states, update, format, fresh)
        self.tables[id(p)].notice()
        return self.tables[id(p)].behind

    def pending(self) -> list[tuple[Tensor, dict[str, Any]]]:
        """What copies need to continue."""
        return [(table.parameter, table.behind.pending()) for table in self.tables.values()]

    def resume(
        self, p: Tensor, states: Sequence[Tensor], update: Update, format: Format, pending: Mapping[str, Any]
    ) -> None:
        """Go on with a parameter where another optimizer was."""
        table = self.tables[id(p)] = SparseTable(p, states, update, format, fresh=False)
        table.behind.resume(pending)

    def flush(self, p: Tensor | None = None, indices: Any = None) -> None:
        """Catch up the rows of all parameters, or all or some of one."""
        if p is None:
            for table in self.tables.values():
                table.flush()
            return
        rows = None if indices is None else indices_of(p, indices)
        if id(p) in self.tables:
            self.tables[id(p)].flush(rows)


def refusal(settings: GroupSettings, mode: Sparse | None, group: Mapping[str, Any]) -> str | None:
    """Why a group refuses sparse gradients that aren't stepped on by rows; None where they are made dense."""
    owner = settings.owner
    if mode is not None:
        return f"{owner}: sparse={mode!r} takes sparse gradients of the layout torch.sparse_coo"
    if not settings.spelling.sparse:
        return (
            f'{owner} does not support sparse gradients; make it with sparse="lazy" (rows without a gradient stay '
            'as they are) or sparse="exact" (they end up where dense gradients would have taken them)'
        )
    if owner == "Adagrad" and group["weight_decay"] != 0:
        return "weight_decay option is not compatible with sparse gradients"
    return None


class RowsBatch(Batch):
    """Rows of tables on the CPU, which one native call updates where they lie. `grads` are of rows."""

    @classmethod
    def refuses(cls, p: Tensor, layout: Layout) -> str | None:
        if local(p) is not p:
            return "sharded"
        return MachineBatch.refuses(p, layout) or ("stored block by block" if layout.blocks else None)

    def __init__(self, contents: Contents, tables: Tables) -> None:
        super().__init__(contents)
        self.tables = tables
        if tables.mode == "exact":
            refuse_inexact(tables.owner, self.graph)
        for m, x, states in zip(self.members, self.tensors, self.states, strict=True):
            refuse_scattered(m.name, [x, *states])

    @cached_property
    def steps(self) -> Steps:
        return Steps(self.update, self.layout, kernels.default_backend())

    def same_gradients(self) -> bool:
        return all(
            g is None or (of_whole_rows(g) and with_gradient(self.layout, g) == self.layout) for g in self.gradients()
        )

    def _check(self, sparse: SparseRefusal) -> Found:
        rows = zip(self.grads, self.parameters, self._types, self.members, strict=True)
        self.grads = [None if g is None else admitted(m.name, p, g.detach(), dtype) for g, p, dtype, m in rows]
        return Found([row for row, g in enumerate(self.grads) if g is None])

    def square(self, before: float, scale: float) -> float:
        return self.steps.square(self.grads, before, scale)

    def nonfinite(self) -> Iterator[str]:
        return (self.members[row].name for row in self.steps.nonfinite(self.grads))

    def prepare(self) -> None:
        super().prepare()
        touched = []
        for m, x, states, g, cohort in zip(self.members, self.tensors, self.states, self.grads, self.of, strict=True):
            if g is not None:
                behind = self.tables.behind(m, states, self.update, self.layout.x, fresh=cohort.t == 0)
                touched.append(Touched(memory(x, states), g, cohort.address, behind))
        self.steps.prepare(touched)

    def go(self) -> None:
        self.steps.go()
        for p in self.parameters:
            if id(p) in self.tables.tables:
                self.tables.tables[id(p)].version = p._version


def of_whole_rows(g: Any) -> bool:
    """Whether a gradient is of rows that have all of their elements."""
    return of_rows(g) and g.sparse_dim() == 1


def refuse_scattered(name: str, tensors: Sequence[Tensor]) -> None:
    """Raise if the rows of a table aren't stretches of memory."""
    for t in tensors:
        if t.dim() == 0:
            raise ValueError(f"{name} is a number, which has no rows; make its gradient dense")
        if not t[:1].is_contiguous():
            raise ValueError(
                f"{name} of strides {tuple(t.stride())} has rows that aren't contiguous, and a step on some rows works "
                "where they lie; make the table with .contiguous()"
            )


def memory(x: Tensor, states: Sequence[Tensor]) -> Memory:
    """Where the rows lie."""
    tensors = [x, *states]
    width = x[:1].numel() * (2 if x.is_complex() else 1)
    return Memory([t.data_ptr() for t in tensors], [t.stride(0) * t.element_size() for t in tensors], width)


def admitted(name: str, p: Tensor, g: Tensor, dtype: torch.dtype) -> Gradient:
    """A sparse gradient's rows, each once, and what they have in this type; or refused."""
    if g.shape != p.shape or g.sparse_dim() != 1:
        raise ValueError(
            f"the sparse gradient of {name} must be of whole rows: of shape {tuple(p.shape)} with 1 sparse dimension, "
            f"as torch.nn.Embedding(sparse=True) makes it; got {tuple(g.shape)} with {g.sparse_dim()}"
        )
    if g.device != p.device:
        raise ValueError(f"the gradient of {name} is on {g.device}, and the parameter on {p.device}")
    indices, values = g._indices()[0], g._values()
    if values.shape != (len(indices), *p.shape[1:]):
        raise ValueError(
            f"the sparse gradient of {name} must have values of shape {(len(indices), *p.shape[1:])}, a row for each "
            f"index, got {tuple(values.shape)}"
        )
    numbers = checked(indices.clone().numpy(), len(p), f" of {name}")
    if not distinct(numbers):
        g = torch.sparse_coo_tensor(g._indices(), values, g.shape, check_invariants=False).coalesce()
        numbers, values = g._indices()[0].numpy(), g._values()
    if values.dtype is not dtype or values.is_conj() or values.is_neg() or not values.is_contiguous():
        values = values.to(dtype).resolve_conj().resolve_neg().contiguous()
    return Gradient(numbers, view(values), values)


def indices_of(p: Tensor, given: Any) -> Indices:
    """The rows' numbers that somebody gives, each once."""
    # A clone: the storage of what `numpy` is called on can't be resized any more.
    plain = given.detach().cpu().clone().numpy() if isinstance(given, Tensor) else np.asarray(given)
    return np.unique(checked(plain.reshape(-1), len(p)))
