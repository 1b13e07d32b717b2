"""Averages of the weights, in the parameters' place for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from adamite.torch.assigned import Written


@contextmanager
def swapped_in(pairs: Sequence[tuple[Tensor, Tensor]], written: Written) -> Iterator[None]:
    """Let parameters hold other values inside of the block, and what they held again after it."""
    parameters = [p for p, _ in pairs]
    with torch.no_grad():
        before = [p.detach().clone() for p in parameters]
    unchanged = written.unassigned(parameters)
    try:
        with torch.no_grad():
            for p, average in pairs:
                p.copy_(average)
        yield
    finally:
        _put_back(parameters, before)
        written.remember(unchanged)


@_disable_dynamo
def _put_back(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad(), ExitStack() as all_of_them:  # one that fails doesn't keep the others
        for p, before in zip(parameters, values, strict=True):
            all_of_them.callback(p.copy_, before)
