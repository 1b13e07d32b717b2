"""adamite.torch against torch.optim on this machine: torch's own test inputs, its numbers, its errors."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import adamite.torch as ours
from adamite.frontend.catalogue import TORCH

NAMES = tuple(name for name, spelling in TORCH.items() if not spelling.ours)
STEPS = 100
LIMIT = 1e-12  # of the displacement, in float64
NEAR = 1.05  # times torch's median distance from a float64 run, in other types
_SHAPES = ((3, 4), (), (7,), (0,), (2, 1, 3))
_MANY = ((4_000,), (60, 100))  # elements, so that a median is known to a percent or two


KINDS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Distance:
    """How far runs in one type end from a float64 run, in units of the last place: ours, and torch's."""

    median: float
    median_torch: float
    largest: float
    largest_torch: float


@dataclass(frozen=True)
class Report:
    """One class."""

    name: str
    inputs: int  # of torch's own, that were run
    displacement64: float  # max |difference| / max |displacement| in float64, over all of them
    refused: int  # of torch's error inputs
    failures: tuple[str, ...]
    distances: dict[torch.dtype, Distance]

    @property
    def reasons(self) -> list[str]:
        """What doesn't hold."""
        unmet = list(self.failures)
        if not self.displacement64 <= LIMIT:
            unmet.append(f"float64 error {self.displacement64:.1e}, more than {LIMIT:g}")
        for kind, d in self.distances.items():
            if not d.median <= NEAR * d.median_torch:
                name = str(kind).removeprefix("torch.")
                unmet.append(f"{name} median {d.median:.2f}, more than {NEAR:g} times torch's {d.median_torch:.2f}")
        return unmet

    @property
    def passed(self) -> bool:
        return not self.reasons


def inputs() -> dict[str, Any]:
    """Torch's own inputs for its optimizers' tests.

    Raises:
        ModuleNotFoundError: where `expecttest`, which they need, isn't installed.
    """
    from torch.testing._internal import common_optimizers

    return {info.name: info for info in common_optimizers.optim_db}


def verify() -> Iterator[Report]:
    """Check class after class."""
    for name in NAMES:
        yield report(name)


def report(name: str) -> Report:
    """Hold one class against torch's."""
    info = inputs()[name]
    valid = [case.kwargs for case in info.optim_inputs_func(device=torch.device("cpu"))]
    wrong = info.optim_error_inputs_func(device="cpu", dtype=torch.float32)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # torch keeps its step numbers in this type
    try:
        worst = max(_displacement(name, options) for options in valid)
    finally:
        torch.set_default_dtype(before)
    failures = [problem for case in wrong if (problem := _refusal(name, case))]
    distances = {kind: _distance(name, kind) for kind in KINDS}
    return Report(name, len(valid), worst, len(wrong) - len(failures), tuple(failures), distances)


def _run(library: Any, name: str, start: list[Tensor], kind: torch.dtype, options: dict[str, Any], steps: int) -> Any:
    params = [nn.Parameter(p.to(kind, copy=True)) for p in start]
    optimizer = getattr(library, name)(params, **options)
    for step in range(steps):
        for index, p in enumerate(params):
            generator = torch.Generator().manual_seed(1000 * step + index)
            drawn = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            p.grad = drawn.to(start[0].dtype).to(kind)
        optimizer.step()
    return [p.detach() for p in params]


def _start(shapes: Any, kind: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(kind) for shape in shapes]


def _displacement(name: str, options: dict[str, Any]) -> float:
    start = _start(_SHAPES, torch.float64)
    runs = [_run(library, name, start, torch.float64, options, STEPS) for library in (ours, torch.optim)]
    return max(
        ((a - b).abs().max() / (b - s).abs().max()).item() if not torch.equal(a, b) else 0.0
        for a, b, s in zip(*runs, start, strict=True)
    )


def _distance(name: str, kind: torch.dtype) -> Distance:
    """After a hundred steps; in low precision with a rate that moves the weights."""
    start = _start(_MANY, kind)
    options = {} if kind is torch.float32 else {"lr": 0.01}
    exact = _run(ours, name, start, torch.float64, options, STEPS)
    unit = torch.finfo(kind).eps
    distances = []
    for library in (ours, torch.optim):
        run = _run(library, name, start, kind, options, STEPS)
        parts = [((a.double() - e) / (e * unit)).abs().flatten() for a, e in zip(run, exact, strict=True)]
        distances.append(torch.cat(parts).nan_to_num(math.inf, math.inf))  # torch's own float16 may come to NaN
    mine, theirs = distances
    return Distance(mine.median().item(), theirs.median().item(), mine.max().item(), theirs.max().item())


def _refusal(name: str, case: Any) -> str:
    """What is wrong with the reaction to an error input; "" if it is refused as torch refuses it."""
    given = case.optimizer_error_input
    params = given.params if given.params is not None else [nn.Parameter(torch.ones(2))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            getattr(ours, name)(params, **given.kwargs)
    except Exception as error:
        if isinstance(error, case.error_type) and re.search(case.error_regex, str(error)):
            return ""
        return f"{given.desc}: {type(error).__name__}: {error}"
    return f"{given.desc}: not refused"
