"""Which kind of batch updates a parameter: here a kind for another device has its place."""

from __future__ import annotations

from torch import Tensor

from adamite.storage import Layout
from adamite.torch.arrays import ArrayBatch
from adamite.torch.batch import Batch
from adamite.torch.machine import MachineBatch

KINDS: tuple[type[Batch], ...] = (MachineBatch, ArrayBatch)  # the first that doesn't refuse a parameter takes it


def kind_for(parameter: Tensor, layout: Layout) -> type[Batch] | str:
    """The kind of batch for a parameter of this layout; if none takes it, what it is, that the first refuses it."""
    refusals = [kind.refuses(parameter, layout) for kind in KINDS]
    return next((kind for kind, why in zip(KINDS, refusals, strict=True) if why is None), refusals[0] or "")
