"""Sums over all processes of sharded parameters: a norm is that of all gradients, wherever they lie.

All ranks must come to the same decisions, or they would wait for each other: so what one rank finds, all agree on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from adamite.torch.batch import Batch


def square(batches: Sequence[Batch], scale: float) -> float:
    """The sum of the squares of all gradients, the same on every rank; infinite where it isn't finite on one."""
    total = 0.0
    for batch in batches:
        if not batch.wrapped:
            total = batch.square(total, scale)
    for batch in batches:
        if batch.wrapped:
            total += _over_shards(batch, batch.square(0.0, scale))
    return _agreed(batches, total if math.isfinite(total) else math.inf)


def bad(batches: Sequence[Batch]) -> list[str]:
    """The parameters whose gradients hold NaN or infinity; every rank learns of every other's."""
    names = [name for batch in batches for name in batch.nonfinite()]
    elsewhere = _agreed(batches, float(bool(names)))  # every rank must ask
    return names or ["a parameter on another rank"] * int(elsewhere)


def _over_shards(batch: Batch, value: float) -> float:
    """The sum over the ranks that hold other shards of the batch's parameters."""
    p: Any = batch.parameters[0]
    for dim, placement in enumerate(p.placements):
        if not placement.is_replicate():
            value = _reduced(p, dim, value, "SUM")
    return value


def _agreed(batches: Sequence[Batch], value: float) -> float:
    """The largest that any rank has."""
    meshes = {p.device_mesh: p for batch in batches if batch.wrapped for p in batch.parameters[:1]}  # type: ignore[attr-defined]
    for mesh, p in meshes.items():
        for dim in range(mesh.ndim):
            value = _reduced(p, dim, value, "MAX")
    return value


def _reduced(p: Any, dim: int, value: float, how: str) -> float:
    import torch.distributed as dist

    on = torch.tensor(value, dtype=torch.float64, device=p.device)
    dist.all_reduce(on, getattr(dist.ReduceOp, how), group=p.device_mesh.get_group(dim))
    return float(on)
