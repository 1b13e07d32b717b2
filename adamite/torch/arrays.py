"""A step as array operations over all tensors at once: on devices where the machine code doesn't run.

Most graphs are `torch._foreach_*` operations on lists of tensors. torch has none that compares or selects, and none in
another type: such graphs are evaluated on one flat tensor. A fused reader for GPUs would take the place of `step`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from adamite.graph import Graph
from adamite.readers.arrays import Operations, Reading

Lists = Mapping[str, Sequence[Tensor]]

# About how many elements are updated at a time: the memory for what is computed on the way is a few times as much,
# however large the model is, and launching an operation on so many takes less time than the operation.
PIECE = 1 << 24


def step(graph: Graph, inputs: Lists, coefficients: Sequence[float], compute: torch.dtype) -> None:
    """Update `x` and the states in place, by the gradients under `g`."""
    reading = Reading(graph, coefficients)
    flat = inputs["x"][0].dtype != compute or not reading.operations <= _ON_LISTS.keys()
    for piece in _pieces(inputs):
        new = _on_one(reading, piece, compute) if flat else _on_lists(reading, piece)
        for name, values in new.items():
            torch._foreach_copy_(piece[name], values)


def _on_lists(reading: Reading, inputs: Lists) -> dict[str, Any]:
    new = reading.run(inputs, _ON_LISTS, _ON_OWN_LISTS)
    for name, values in new.items():
        if isinstance(values, float):
            new[name] = _filled(inputs[name], values)
        elif any(values is tensors for tensors in inputs.values()):  # and may be written before it is copied
            new[name] = torch._foreach_mul(values, 1.0)
    return new


def _on_one(reading: Reading, inputs: Lists, compute: torch.dtype) -> dict[str, Any]:
    flat = {name: _flatten(tensors).to(compute) for name, tensors in inputs.items()}
    new = reading.run(flat, _ON_TENSORS, _ON_OWN_TENSORS)
    for name, value in new.items():
        if isinstance(value, float):
            value = torch.full_like(flat[name], value)
        elif any(value is tensor for tensor in flat.values()):  # one tensor's flat view, or its memory
            value = value.clone()
        new[name] = _unflatten(value, inputs[name])
    return new


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
    """A parameter with its gradient and states, along the first axis if it is large: that's views, whatever the strides."""
    size, shape = row[0].numel(), row[0].shape
    if size <= PIECE:
        yield row
    else:
        yield from zip(*(tensor.split(max(1, shape[0] * PIECE // size)) for tensor in row))


# ---- lists of tensors -----------------------------------------------------------------------------


def _filled(like: Sequence[Tensor], value: float) -> Any:
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
