"""Ours beside torch's, on the same parameters and gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import adamite.torch as ours
from adamite.frontend.catalogue import TORCH

EVERY = [*TORCH]
NAMES = [name for name, spelling in TORCH.items() if not spelling.ours]  # torch's
Shapes = Sequence[tuple[int, ...]]
SHAPES: Shapes = ((3, 4), (), (7,), (0,), (2, 1, 3), (5, 5))


def parameters(shapes: Shapes = SHAPES, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def gradient(p: Tensor, step: int, index: int = 0, scale: float = 1.0) -> Tensor:
    """The same for every copy of a parameter."""
    generator = torch.Generator().manual_seed(1000 * step + index)
    return scale * torch.randn(p.shape, generator=generator, dtype=p.dtype)


def give(params: Sequence[Tensor], step: int) -> None:
    for index, p in enumerate(params):
        p.grad = gradient(p, step, index)


def pair(name: str, params: Sequence[Tensor], **options: Any) -> tuple[Any, Any]:
    """Torch's optimizer of these parameters, and ours of copies."""
    theirs = getattr(torch.optim, name)(list(params), **options)
    mine = getattr(ours, name)([copied(p) for p in params], **options)
    return theirs, mine


def copied(p: Tensor) -> Tensor:
    """A parameter of the same values, types and strides."""
    return torch.nn.Parameter(p.detach().clone(memory_format=torch.preserve_format), p.requires_grad)


def params_of(optimizer: Any) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def run(optimizer: Any, steps: range, give: Callable[[Sequence[Tensor], int], None] = give) -> None:
    for step in steps:
        give(params_of(optimizer), step)
        optimizer.step()


def distance(mine: Any, theirs: Any, start: Sequence[Tensor]) -> float:
    """The largest difference of parameters, each as a part of its displacement, and of states."""
    worst = 0.0
    for a, b, s in zip(params_of(mine), params_of(theirs), start, strict=True):
        if a.numel():
            worst = max(worst, relative(a, b, (b.detach() - s).abs().max().item()))
    kept, expected = mine.state_dict()["state"], theirs.state_dict()["state"]
    assert kept.keys() == expected.keys()
    for key in kept:
        assert set(kept[key]) == set(expected[key])
        for name, value in expected[key].items():
            if value.numel():
                worst = max(worst, relative(kept[key][name], value, value.abs().max().item()))
    return worst


def relative(a: Tensor, b: Tensor, size: float) -> float:
    difference = (a.detach() - b.detach()).abs().max().item()
    return difference / size if difference else 0.0


def starts(optimizer: Any) -> list[Tensor]:
    return [p.detach().clone() for p in params_of(optimizer)]


def snapshot(optimizer: Any) -> Any:
    """Everything that a step may change."""
    return copy.deepcopy(([p.detach() for p in params_of(optimizer)], optimizer.state_dict()))


def same(a: Any, b: Any) -> bool:
    """Whether two nestings hold the same tensors, bit for bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
