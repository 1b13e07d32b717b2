"""A step as array operations over all tensors at once: on devices where the machine code doesn't run.

Most graphs are `torch._foreach_*` operations on lists of tensors. torch has none that compares or selects, but for
maxima and minima, and none that computes in another type: such graphs are evaluated on one flat tensor. A fused backend
for GPUs will be a kind of batch of its own.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from adamite.backends.arrays import OPERATORS, Evaluation, Operations
from adamite.engine import running
from adamite.engine.batch import Found
from adamite.graph.nodes import Graph
from adamite.storage import Layout
from adamite.torch.batch import Batch, SparseRefusal
from adamite.torch.tensors import TYPES

Lists = Mapping[str, list[Tensor]]

# About how many elements are updated at a time: the memory for what is computed on the way is a few times as much,
# however large the model is, and launching an operation on so many takes less time than the operation.
PIECE = 1 << 24


class ArrayBatch(Batch):
    """Tensors that machine code doesn't update: the same graph, as array operations on all of them at once."""

    @classmethod
    def refuses(cls, p: Tensor, layout: Layout) -> str | None:
        return "stored block by block" if layout.blocks else None

    def _check(self, sparse: SparseRefusal) -> Found:
        self.grads = [self.admit(row, sparse) for row in range(len(self.members))]
        return Found([row for row, g in enumerate(self.grads) if g is None])

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

    def prepare(self) -> None:
        super().prepare()
        self._pending = list(self.active)

    def go(self) -> None:
        compute = TYPES[self.layout.compute]
        columns = [self.tensors, self.grads, *zip(*self.states, strict=True)]
        while self._pending:
            with running.uninterrupted(), torch.no_grad():
                cohort = self._pending.pop()
                inputs = {
                    name: self._real([column[row] for row in cohort.rows])
                    for name, column in zip(self.graph.inputs, columns, strict=True)
                }
                step(self.graph, inputs, list(cohort.values), compute)


def step(graph: Graph, inputs: Lists, coefficients: Sequence[float], compute: torch.dtype) -> None:
    """Update `x` and the states in place, by the gradients under `g`."""
    reading = Evaluation(graph, coefficients)
    flat = any(tensors[0].dtype != compute for tensors in inputs.values()) or not reading.operations <= _ON_LISTS.keys()
    for piece in _pieces(inputs):
        new = _on_one(reading, piece, compute) if flat else _on_lists(reading, piece)
        for name, values in new.items():
            torch._foreach_copy_(piece[name], values)


def _on_lists(reading: Evaluation, inputs: Lists) -> dict[str, Any]:
    new = {}
    for name, values in reading.run(inputs, _ON_LISTS, _ON_OWN_LISTS).items():
        if isinstance(values, float):
            new[name] = _filled(inputs[name], values)
        elif values is not inputs[name]:
            new[name] = torch._foreach_mul(values, 1.0) if _among(values, inputs) else values
    return new


def _on_one(reading: Evaluation, inputs: Lists, compute: torch.dtype) -> dict[str, Any]:
    flat = {name: _flatten(tensors).to(compute) for name, tensors in inputs.items()}
    operations: Operations = {**_ON_TENSORS, "where": functools.partial(_where, compute)}
    new = {}
    for name, value in reading.run(flat, operations, _ON_OWN_TENSORS).items():
        if isinstance(value, float):
            new[name] = _unflatten(torch.full_like(flat[name], value), inputs[name])
        elif value is not flat[name]:  # one tensor's flat view is its own memory
            new[name] = _unflatten(value.clone() if _among(value, flat) else value, inputs[name])
    return new


def _among(value: Any, inputs: Mapping[str, Any]) -> bool:
    """Whether what is to be stored is an input, which may be written before it is copied."""
    return any(value is given for given in inputs.values())


_flatten: Any = _flatten_dense_tensors
_unflatten: Any = _unflatten_dense_tensors


def _pieces(inputs: Lists) -> Iterator[Lists]:
    """The tensors in parts of about PIECE elements."""
    part: list[Sequence[Tensor]] = []
    size = 0
    for row in zip(*inputs.values(), strict=True):
        for tensors in _cut(row):
            if part and size + tensors[0].numel() > PIECE:
                yield dict(zip(inputs, map(list, zip(*part))))
                part, size = [], 0
            part.append(tensors)
            size += tensors[0].numel()
    yield dict(zip(inputs, map(list, zip(*part))))


def _cut(row: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """A parameter with its gradient and states, cut along the first axis if large: views, whatever the strides."""
    size, shape = row[0].numel(), row[0].shape
    if size <= PIECE:
        yield row
    else:
        yield from zip(*(torch.split(tensor, max(1, shape[0] * PIECE // size)) for tensor in row))


# ---- lists of tensors -----------------------------------------------------------------------------


def _filled(like: Any, value: float) -> Any:
    """Tensors of one number."""
    filled = torch._foreach_mul(like, 0.0)
    torch._foreach_zero_(filled)
    torch._foreach_add_(filled, value)
    return filled


def _sub(a: Any, b: Any) -> Any:
    return torch._foreach_add(torch._foreach_neg(b), a) if isinstance(a, float) else torch._foreach_sub(a, b)


def _div(a: Any, b: Any) -> Any:
    return torch._foreach_div(_filled(b, a) if isinstance(a, float) else a, b)


def _own(operation: Any) -> Any:
    """An operation that writes over its first operand, as a function of its value."""

    def function(a: Any, *b: Any) -> Any:
        operation(a, *b)
        return a

    return function


_ON_LISTS: Operations = {
    "add": torch._foreach_add,
    "sub": _sub,
    "mul": torch._foreach_mul,
    "div": _div,
    "neg": torch._foreach_neg,
    "sqrt": torch._foreach_sqrt,
    "abs": torch._foreach_abs,
    "maximum": torch._foreach_maximum,
    "minimum": torch._foreach_minimum,
}
_ON_OWN_LISTS: Operations = {name: _own(getattr(torch, f"_foreach_{name}_")) for name in _ON_LISTS}


# ---- one tensor -----------------------------------------------------------------------------------


def _where(compute: torch.dtype, condition: Tensor, a: Any, b: Any) -> Tensor:
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):  # torch would make it of the default type
        a = torch.full_like(condition, a, dtype=compute)
    return torch.where(condition, a, b)


def _extremum(operation: Any, clamp: Any) -> Any:
    return lambda a, b: operation(a, b) if isinstance(b, Tensor) else clamp(a, b)


_ON_TENSORS: Operations = {
    **OPERATORS,
    "sqrt": torch.sqrt,
    "maximum": _extremum(torch.maximum, torch.clamp_min),
    "minimum": _extremum(torch.minimum, torch.clamp_max),
    "and": operator.and_,
    "or": operator.or_,
    "not": torch.logical_not,
}
_ON_OWN_TENSORS: Operations = {
    name: getattr(Tensor, f"{name}_") for name in ("add", "sub", "mul", "div", "neg", "sqrt", "abs")
}
