"""Norms of gradients, with the same bits for any number of threads; clipping, and gradients that aren't finite."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from adamite.backends.backend import BackendName
from adamite.codegen.job import CHUNK, SCALE, Job
from adamite.engine import kernels
from adamite.engine.running import run
from adamite.errors import NonFiniteError
from adamite.storage import Format


class Squares:
    """The sums of squares of tensors, one reading pass, the same bits for any number of threads."""

    def __init__(self, format: Format, sizes: list[int], backend: BackendName) -> None:
        self.kernel = kernels.squares_kernel(format, backend)
        self.blocks = blocks = [-(-size // CHUNK) for size in sizes]
        self.starts = np.concatenate([[0], np.cumsum(blocks)]).astype(int)
        self.sums = np.zeros(int(self.starts[-1]))
        self._running = np.zeros_like(self.sums)
        self.job = Job(len(sizes), 4)
        self.job.lengths(blocks)
        self.job.fill(1, sizes)
        self.job.fill(3, [self.sums.ctypes.data + 8 * int(start) for start in self.starts[:-1]])

    def run(
        self, addresses: list[int], scale: float = 1.0, sizes: list[int] | None = None
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The blocks' sums of (scale * x)**2, tensor after tensor.

        An address of 0 leaves its tensor out; `sizes` may be given anew, within the blocks there are.
        """
        job = self.job
        if sizes is not None:
            job.fill(1, sizes)
        job.fill(2, addresses)
        job.lengths([n if a else 0 for n, a in zip(self.blocks, addresses, strict=True)])
        ctypes.c_double.from_address(job.address + 8 * SCALE).value = scale
        self.sums[...] = 0.0
        job.rewind()
        run(self.kernel, job)
        return self.sums

    def total(self, before: float = 0.0, tensor: int | None = None) -> float:
        """The sum over all tensors, or over one, after what came before."""
        part = slice(None) if tensor is None else slice(self.starts[tensor], self.starts[tensor + 1])
        running = self._running[part]
        running[...] = self.sums[part]
        return total(running, before)


def total(sums: np.ndarray[Any, np.dtype[np.float64]], before: float = 0.0) -> float:
    """The sum in index order, after what came before, so that it has the same bits everywhere."""
    if not sums.size:
        return before
    sums[0] += before
    return float(np.add.accumulate(sums, out=sums)[-1])


def clip_factor(norm: float, limit: float) -> float:
    """What gradients of this norm are multiplied by, so that their norm is at most the limit."""
    return 1.0 if norm <= limit else limit / norm


class Norm(NamedTuple):
    """The norm of all gradients, times `scale`, which keeps its square in range; `bad` ones hold NaN or infinity."""

    scaled: float
    scale: float
    bad: Sequence[str]

    @property
    def value(self) -> float:
        return self.scaled / self.scale

    def clip(self, limit: float | None) -> float:
        """What the gradients are multiplied by, so that their norm is at most the limit."""
        return 1.0 if limit is None else clip_factor(self.scaled, limit * self.scale)


def norm(square: Callable[[float], float], nonfinite: Callable[[], Sequence[str]]) -> Norm:
    """The norm of gradients of any size: `square` sums scaled squares, `nonfinite` names the bad ones."""
    total = square(1.0)
    bad: Sequence[str] = ()
    scale = 1.0
    if not math.isfinite(total):
        bad = nonfinite()
        scale = 1.0 if bad else 2.0**-600  # the squares overflow, the norm needn't
    elif total < 2.0**-900:
        scale = 2.0**600  # they may have vanished
    return Norm(math.sqrt(total if scale == 1.0 else square(scale)), scale, bad)


def refuse_nonfinite(
    step: int, bad: Sequence[str], then: str = 'Nothing was changed; lower lr or clip, or take nonfinite="skip"'
) -> NoReturn:
    """Raise what nonfinite="raise" promises."""
    shown = ", ".join(repr(n) for n in bad[:5]) + (f" and {len(bad) - 5} more" if bad[5:] else "")
    raise NonFiniteError(f"step {step}: the gradient of {shown} has NaN or infinity. {then}")
