"""A step as array operations over all tensors at once: on devices where the machine code doesn't run.

Most graphs are `torch._foreach_*` operations on lists of tensors. torch has none that compares or selects, and none in
another type: such graphs are evaluated on one flat tensor. A fused reader for GPUs would take the place of `step`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from adamite.graph import Graph
from adamite.readers.arrays import Operations, compares, evaluate


def step(graph: Graph, inputs: Mapping[str, list[Tensor]], coefficients: Sequence[float], compute: torch.dtype) -> None:
    """Update `x` and the states in place, by the gradients under `g`."""
    if _compares(graph) or inputs["x"][0].dtype != compute:
        flat = {name: _flatten(tensors).to(compute) for name, tensors in inputs.items()}
        for name, value in evaluate(graph, flat, coefficients, _ON_TENSORS).items():
            if isinstance(value, float):
                value = torch.full_like(flat[name], value)
            torch._foreach_copy_(inputs[name], _unflatten(value, inputs[name]))
        return
    for name, values in evaluate(graph, inputs, coefficients, _ON_LISTS).items():
        if isinstance(values, float):
            torch._foreach_zero_(inputs[name])
            torch._foreach_add_(inputs[name], values)
        elif values is not inputs[name]:
            torch._foreach_copy_(inputs[name], values)


_flatten: Any = _flatten_dense_tensors
_unflatten: Any = _unflatten_dense_tensors
_compares = functools.cache(compares)


def _where(condition: Tensor, a: Any, b: Any) -> Tensor:
    return torch.where(condition, a, b)


_ON_TENSORS: Operations = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": torch.neg,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "not": lambda a: ~a if isinstance(a, Tensor) else not a,
    "where": _where,
}


def _turned(operation: Any) -> Any:
    """An operation whose order doesn't matter, with the list first."""
    return lambda a, b: operation(b, a) if isinstance(a, float) else operation(a, b)


def _sub(a: Any, b: Any) -> Any:
    return torch._foreach_add(torch._foreach_neg(b), a) if isinstance(a, float) else torch._foreach_sub(a, b)


def _div(a: Any, b: Any) -> Any:
    if not isinstance(a, float):
        return torch._foreach_div(a, b)
    inverse = torch._foreach_reciprocal(b)
    return inverse if a == 1.0 else torch._foreach_mul(inverse, a)


_ON_LISTS: Operations = {
    "add": _turned(torch._foreach_add),
    "sub": _sub,
    "mul": _turned(torch._foreach_mul),
    "div": _div,
    "neg": torch._foreach_neg,
    "sqrt": torch._foreach_sqrt,
    "abs": torch._foreach_abs,
}
