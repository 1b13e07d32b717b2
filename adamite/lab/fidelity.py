"""Whether low-precision states train as well as float32 ones: on digits, MNIST and characters, in every tensor.

Small tensors keep float32 states otherwise, and these networks have little else; here nothing is spared. bitsandbytes'
8-bit AdamW takes part where it is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

import adamite.torch as ours
from adamite.lab.page import Table
from adamite.lab.problem import find
from adamite.lab.problems import PROBLEMS
from adamite.lab.where import NotFoundError
from adamite.storage import EIGHT_BIT_UNSIGNED, choice

LEARNING_RATES = {"digits": 3e-3, "mnist": 1e-3, "characters": 3e-3}
OURS = ("float32", "bfloat16", "8bit")
PEER = "bitsandbytes"
LARGEST = 1.5  # the largest step, relative to float32's
JUDGED = 5  # seeds; fewer say little about a spread

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Training:
    """Held-out losses of a problem with one format, one per seed, and float32's from the same seeds."""

    problem: str
    format: str
    losses: tuple[float, ...]
    plain: tuple[float, ...]

    @property
    def differences(self) -> list[float]:
        return [a - b for a, b in zip(self.losses, self.plain, strict=True)]

    @property
    def spread(self) -> float:
        """The standard deviation of float32's losses over the seeds."""
        return statistics.stdev(self.plain)

    @property
    def within(self) -> bool:
        return abs(statistics.mean(self.differences)) <= self.spread


@dataclass(frozen=True)
class Replay:
    """A format's steps on recorded gradients: the largest |step / lr|, and the error against float32's."""

    problem: str
    format: str
    largest: float
    plain: float  # float32's largest
    error: float

    @property
    def ratio(self) -> float:
        return self.largest / self.plain


@dataclass
class Report:
    """The results of all experiments."""

    trainings: list[Training] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    quiet: dict[str, float] = field(default_factory=dict)  # v after zero gradients, over float32's, by format
    moved: dict[str, float] = field(default_factory=dict)  # weights of 1.0, by format
    missing: list[str] = field(default_factory=list)  # what was left out, and why

    @property
    def failures(self) -> list[str]:
        """The promises that aren't kept; there are none about the peer, nor for a few seeds."""
        reasons = [
            f"{t.problem}, {t.format}: the loss differs from float32's by more than the seeds' spread"
            for t in self.trainings
            if t.format in OURS and len(t.losses) >= JUDGED and not t.within
        ]
        reasons += [
            f"{r.problem}, {r.format}: the largest step is {r.ratio:.2f} times float32's, more than {LARGEST:g}"
            for r in self.replays
            if r.format in OURS and not r.ratio <= LARGEST
        ]
        plain = self.moved["float32"]
        reasons += [
            f"{name}: weights of 1.0 moved by {moved:.5f} on average, float32's by {plain:.5f}"
            for name, moved in self.moved.items()
            if "nearest" not in name and not abs(moved - plain) <= 0.05 * plain
        ]
        return reasons


def verify(quick: bool = False, progress: Progress = lambda done, total, what: None) -> Report:
    """Run all experiments, on one thread, since these networks are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _verify(quick, progress)
    finally:
        torch.set_num_threads(threads)


def _verify(quick: bool, progress: Progress) -> Report:
    seeds, share = (2, 0.12) if quick else (JUDGED, 1.0)
    formats, report, problems = kinds(), Report(), {}
    for name in LEARNING_RATES:
        try:
            problems[name] = find(name, PROBLEMS)
        except NotFoundError as error:
            report.missing.append(f"{name} is left out: {error}")
    done, total = 0, len(problems) * (seeds * len(formats) + 1) + 2

    def next_is(what: str) -> None:
        nonlocal done
        progress(done, total, what)
        done += 1

    for name, problem in problems.items():
        lr, steps = LEARNING_RATES[name], round(share * problem.steps)
        losses: dict[str, list[float]] = {kind: [] for kind in formats}
        for seed in range(seeds):
            for kind in formats:
                next_is(f"{name}, {kind}, seed {seed}")
                losses[kind].append(train(name, kind, lr, seed, steps))
        report.trainings += [Training(name, k, tuple(losses[k]), tuple(losses["float32"])) for k in formats]
        next_is(f"{name}: replaying gradients")
        report.replays += replays(name, lr, formats, steps)
    next_is("zero gradients")
    report.quiet = {kind: after_silence(kind, 400 if quick else 2000) for kind in formats}
    next_is("weights of 1.0")
    report.moved = moves(200)
    return report


def kinds() -> tuple[str, ...]:
    """The formats to compare."""
    return (*OURS, PEER) if importlib.util.find_spec(PEER) else OURS


@contextmanager
def sparing_none() -> Iterator[None]:
    """Inside, small tensors get low-precision states too."""
    before = choice.SMALLEST
    choice.SMALLEST = 1
    try:
        yield
    finally:
        choice.SMALLEST = before


def adamw(kind: str, params: Sequence[Tensor], lr: float) -> torch.optim.Optimizer:
    """AdamW without decay, with states of this format."""
    if kind != PEER:
        return ours.AdamW(params, lr=lr, weight_decay=0.0, state=kind)  # type: ignore[arg-type]
    logging.disable(logging.WARNING)  # it warns about missing kernels that aren't needed here
    peer: Any = importlib.import_module(f"{PEER}.optim")
    logging.disable(logging.NOTSET)
    made: torch.optim.Optimizer = peer.AdamW8bit(params, lr=lr, weight_decay=0.0, min_8bit_size=1)
    return made


# ---- training


class Start(NamedTuple):
    """A training before its first step; `backward` leaves the next batch's gradients in the tensors."""

    tensors: list[Tensor]
    backward: Callable[[], None]
    measure: Callable[[], Mapping[str, float]]


def begin(name: str, seed: int) -> Start:
    """A problem's start as torch tensors, which share memory with its NumPy arrays."""
    run: Any = find(name, PROBLEMS).begin(seed)
    if isinstance(run.params, dict):
        arrays = {key: torch.from_numpy(array) for key, array in run.params.items()}

        def assign() -> None:
            for key, g in run.loss()[1].items():
                arrays[key].grad = torch.from_numpy(g)

        return Start(list(arrays.values()), assign, run.evaluate)
    tensors = list(run.params.parameters() if isinstance(run.params, torch.nn.Module) else run.params)

    def backward() -> None:
        for p in tensors:
            p.grad = None
        run.loss().backward()

    return Start(tensors, backward, run.evaluate)


def train(name: str, kind: str, lr: float, seed: int, steps: int) -> float:
    """The held-out loss after this number of steps."""
    start = begin(name, seed)
    with sparing_none():
        optimizer = adamw(kind, start.tensors, lr)
        for _ in range(steps):
            start.backward()
            optimizer.step()
    return start.measure()["validation loss"]


# ---- the same gradients for all formats


def replays(name: str, lr: float, formats: Sequence[str], steps: int) -> list[Replay]:
    """Record the gradients of a training with float32 states, and replay them with each format."""
    start = begin(name, 0)
    optimizer = adamw("float32", start.tensors, lr)
    recorded: list[list[Tensor]] = []
    for _ in range(steps):
        start.backward()
        recorded.append([p.grad.clone() for p in start.tensors if p.grad is not None])
        optimizer.step()
    runs = [directions(kind, recorded) for kind in formats]
    largest, errors, size = [0.0] * len(formats), [0.0] * len(formats), 0.0
    for steps_of_all in zip(*runs, strict=True):
        plain = steps_of_all[0]
        size += plain.square().sum().item()
        for k, u in enumerate(steps_of_all):
            largest[k] = max(largest[k], u.abs().max().item())
            errors[k] += (u - plain).square().sum().item()
    return [
        Replay(name, kind, big, largest[0], math.sqrt(error / size))
        for kind, big, error in zip(formats, largest, errors, strict=True)
    ]


def directions(kind: str, gradients: Sequence[Sequence[Tensor]]) -> Iterator[Tensor]:
    """Each step divided by lr; parameters are zero before it, so nothing is lost to rounding."""
    with sparing_none():
        params = [torch.zeros_like(g) for g in gradients[0]]
        optimizer = adamw(kind, params, 1.0)
    for grads in gradients:
        for p, g in zip(params, grads, strict=True):
            p.zero_()
            p.grad = g.clone()
        with sparing_none():
            optimizer.step()
        yield torch.cat([-p.flatten() for p in params]).double()


# ---- risks of low precision


def after_silence(kind: str, steps: int) -> float:
    """The second moment, over float32's, of elements whose gradients become zero while their neighbours' don't."""
    size, half = 8192, slice(None, None, 2)
    generator = torch.Generator().manual_seed(0)
    means = []
    gradients = [torch.randn(size, generator=generator) for _ in range(100)]
    for each in ("float32", kind):
        p = torch.zeros(size)
        optimizer = adamw(each, [p], 1e-3)
        for step in range(100 + steps):
            p.grad = gradients[step % 100].clone()
            if step >= 100:
                p.grad[half] = 0.0
            optimizer.step()
        means.append(second_moment(optimizer.state[p], size)[half].mean().item())
    return means[1] / means[0]


def second_moment(state: Mapping[str, Any], size: int) -> Tensor:
    """v decoded, whatever its format."""
    if "state2" in state:
        peer: Any = importlib.import_module(f"{PEER}.functional")
        v: Tensor = peer.dequantize_blockwise(
            state["state2"], absmax=state["absmax2"], code=state["qmap2"], blocksize=256
        )
        return v
    v = state["exp_avg_sq"]
    if v.dtype is torch.uint8:
        return torch.from_numpy(EIGHT_BIT_UNSIGNED.decode(v.numpy(), size))
    return v.float()


def moves(steps: int) -> dict[str, float]:
    """How far bfloat16 weights of 1.0 move on average at lr 1e-4, and float32 ones with the same gradients."""
    moved = {}
    narrow: list[tuple[Literal["nearest", "stochastic", "kahan"], Literal["float32", "bfloat16", "8bit"]]] = [
        ("nearest", "float32"),
        ("stochastic", "float32"),
        ("stochastic", "bfloat16"),
        ("stochastic", "8bit"),
        ("kahan", "float32"),
        ("kahan", "8bit"),
    ]
    for rounding, state in [(None, "float32"), *narrow]:
        generator = torch.Generator().manual_seed(0)
        p = torch.ones(65_536, dtype=torch.float32 if rounding is None else torch.bfloat16)
        optimizer = ours.AdamW([p], lr=1e-4, state=state, rounding=rounding or "nearest")
        for _ in range(steps):
            p.grad = (0.5 + torch.randn(p.shape, generator=generator)).bfloat16().to(p.dtype)
            optimizer.step()
        compensation = optimizer.state[p].get("compensation")
        weights = p.double() if compensation is None else p.double() + compensation.double()
        moved["float32" if rounding is None else f"{rounding}, {state} states"] = 1 - weights.mean().item()
    return moved


# ---- tables


def _signed(value: float) -> str:
    return f"{round(value, 4) + 0.0:+.4f}"  # no negative zero


def tables(report: Report) -> list[tuple[str, Table, str]]:
    """Headings, tables, and the meanings of their columns."""
    plain = {t.problem: t for t in report.trainings if t.format == "float32"}
    seeds = len(report.trainings[0].losses)
    trained = [
        (
            t.problem,
            t.format,
            f"{statistics.mean(t.losses):.4f}",
            *(
                ("", f"{t.spread:.4f}", "")
                if t is plain[t.problem]
                else (
                    f"{_signed(statistics.mean(t.differences))} ± {statistics.stdev(t.differences):.4f}",
                    f"{t.spread:.4f}",
                    "yes" if t.within else "no",
                )
            ),
        )
        for t in report.trainings
    ]
    replayed = [(r.problem, r.format, f"{r.largest:.3g}", f"{r.ratio:.2f}", f"{r.error:.3f}") for r in report.replays]
    moved = [(name, f"{value:.5f}", f"{value / report.moved['float32']:.3f}") for name, value in report.moved.items()]
    return [
        (
            f"Training from {seeds} seeds",
            Table(("problem", "states", "loss", "minus float32's", "seeds' sd", "within"), trained),
            "loss: on held-out data at the end, the mean over seeds; minus float32's: mean and standard deviation of "
            "the differences, seed by seed; seeds' sd: float32's own over its seeds.",
        ),
        (
            "The same gradients for all",
            Table(("problem", "states", "largest step", "ratio", "error"), replayed),
            "Recorded in a training with float32 states. largest step: |step / lr| of any element at any step; ratio: "
            "to float32's; error: of the steps, in units of their size.",
        ),
        (
            "After silence",
            Table(("states", "v / float32's"), [(k, f"{v:.2f}") for k, v in report.quiet.items()]),
            "v of elements whose gradients have become zero, while their neighbours' go on.",
        ),
        (
            "bfloat16 weights of 1.0 at lr 1e-4",
            Table(("rounding", "moved", "ratio"), moved),
            "moved: on average, in 200 steps by the same gradients; float32: weights and states.",
        ),
    ]
