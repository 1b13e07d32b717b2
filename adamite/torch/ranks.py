"""Sums over all processes of sharded parameters: a norm is that of all gradients, wherever they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from adamite.torch.batch import Batch


def square(batches: Sequence[Batch], scale: float) -> float:
    """The sum of the squares of all gradients, the same on every rank."""
    total = 0.0
    for batch in batches:
        if not batch.wrapped:
            total = batch.square(total, scale)
    for batch in batches:
        if batch.wrapped:
            total += _over_ranks(batch, batch.square(0.0, scale), "SUM")
    return total


def bad(batches: Sequence[Batch]) -> list[str]:
    """The parameters whose gradients hold NaN or infinity; every rank learns of every other's."""
    names = [name for batch in batches for name in batch.nonfinite()]
    for batch in batches:
        if batch.wrapped and _over_ranks(batch, float(bool(names)), "MAX") and not names:
            names = ["a shard on another rank"]
    return names


def _over_ranks(batch: Batch, value: float, how: str) -> float:
    """Reduce a number over the ranks that hold other shards of the batch's parameters."""
    import torch.distributed as dist

    p: Any = batch.parameters[0]
    on = torch.tensor(value, dtype=torch.float64, device=p.device)
    for dim, placement in enumerate(p.placements):
        if not placement.is_replicate():
            dist.all_reduce(on, getattr(dist.ReduceOp, how), group=p.device_mesh.get_group(dim))
    return float(on)
