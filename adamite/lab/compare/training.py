"""One training of a problem by an optimizer, and what was seen of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

import adamite
from adamite import schedules
from adamite.lab.compare.entrants import Entrant
from adamite.lab.problem import Problem, Run

POINTS = 25  # of a curve
HUGE = 1e30  # a loss above has diverged, as one that is no number
TAIL = 0.1  # the last share of the steps, whose mean loss is the final one
SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda lr, steps: lr,
    "cosine": schedules.cosine,
    "linear": lambda lr, steps: schedules.polynomial(lr, 0.0, steps),
    "warmup-cosine": lambda lr, steps: schedules.warmup(
        schedules.cosine(lr, max(1, steps - steps // 10)), steps // 10 or 1
    ),
}


@dataclass(frozen=True)
class Trial:
    """What a training is determined by."""

    problem: str  # as `problem.find` takes it
    entrant: str
    settings: Mapping[str, float]
    seed: int
    steps: int
    schedule: str = "constant"
    tuning: bool = False
    number: int = 0  # among those that tune this entrant

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Outcome:
    """What was seen of a training."""

    steps: list[int] = field(default_factory=list)  # of the points of the curves
    losses: list[float] = field(default_factory=list)  # the training loss, its mean since the last point
    measures: dict[str, list[float]] = field(default_factory=dict)  # what evaluate() gave there
    times: list[float] = field(default_factory=list)  # seconds of training until there
    step_seconds: float = 0.0  # of the optimizer's step alone
    final_loss: float = math.inf
    diverged: int | None = None  # the step at which the loss was no number any more, or huge
    path: list[list[float]] | None = None  # where a problem of two parameters went

    def value(self, metric: str) -> float:
        """The final value of a measure; infinite for a training that diverged."""
        if self.diverged is not None:
            return math.nan
        return self.final_loss if metric == "loss" and "loss" not in self.measures else self.measures[metric][-1]

    def curve(self, metric: str) -> list[float]:
        """A measure at each of the points; what diverged before the first has none."""
        return self.losses if metric == "loss" and "loss" not in self.measures else self.measures.get(metric, [])


def train(problem: Problem, entrant: Entrant, trial: Trial) -> Outcome:
    """Train from the trial's seed, with the trial's settings."""
    run = problem.begin(trial.seed)
    steps = trial.steps
    lr = SCHEDULES[trial.schedule](trial.settings["lr"], steps) if "lr" in trial.settings else None
    forward, move = stepper(problem, run, entrant, lr, {k: v for k, v in trial.settings.items() if k != "lr"})
    seen, stepping, spent = Outcome(), [], 0.0
    marks = set(np.linspace(0, steps, min(POINTS, steps) + 1).astype(int)[1:].tolist())
    since: list[float] = []
    tail: list[float] = []
    pair = _pair(run.params)
    seen.path = None if pair is None else [pair.tolist()]
    for step in range(1, steps + 1):
        begin = time.perf_counter()
        with np.errstate(all="ignore"):
            loss = forward()
            middle = time.perf_counter()
            move(step - 1)
        end = time.perf_counter()
        spent += end - begin
        stepping.append(end - middle)
        if not abs(loss) < HUGE:
            seen.diverged = step
            break
        since.append(loss)
        if step > steps * (1 - TAIL):
            tail.append(loss)
        if pair is not None and seen.path is not None:
            seen.path.append(pair.tolist())
        if step in marks:
            seen.steps.append(step)
            seen.losses.append(float(np.mean(since)))
            seen.times.append(spent)
            since.clear()
            measured = {} if run.evaluate is None else _measured(run.evaluate)
            for wanted in {problem.metric, problem.tuned} - {"loss", "", *measured}:
                gave = ", ".join(measured) or "nothing"
                raise ValueError(f"evaluate() must give {wanted!r}, by which the problem is judged; it gave {gave}")
            for name, value in measured.items():
                seen.measures.setdefault(name, []).append(value)
            if not all(abs(value) < HUGE for value in measured.values()):
                seen.diverged = step
                break
    seen.step_seconds = float(np.median(stepping))
    seen.final_loss = float(np.mean(tail)) if tail and seen.diverged is None else math.inf
    return seen


Stepper = tuple[Callable[[], float], Callable[[int], None]]


def stepper(problem: Problem, run: Run, entrant: Entrant, lr: Any, settings: Mapping[str, float]) -> Stepper:
    """What gives the next loss, and what moves by its gradient after so many moves."""
    given = {name: v for name, v in problem.options.items() if name in entrant.rule.numbers}
    make = _numpy if _is_arrays(run.params) else _torch
    if make is _torch and not all(hasattr(p, "requires_grad") for p in _tensors(run.params)):
        raise TypeError(
            "parameters must be NumPy arrays in any nesting, or a module of torch or a list of its parameters; "
            f"got {run.params!r:.80}"
        )
    return make(run, entrant, lr, {**given, **entrant.options, **settings})


def _numpy(run: Run, entrant: Entrant, lr: Any, options: Mapping[str, Any]) -> Stepper:
    given = dict(options) if lr is None else {"lr": lr, **options}
    optimizer: Any = adamite.optimizer(entrant.rule)(run.params, **given)
    gradient: list[Any] = [None]

    def forward() -> float:
        found = run.loss()
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(f"with NumPy's arrays loss() must return (loss, gradient); it returned {found!r:.80}")
        loss, gradient[0] = found
        return float(loss)

    return forward, lambda done: optimizer.step(gradient[0])


def _torch(run: Run, entrant: Entrant, lr: Any, options: Mapping[str, Any]) -> Stepper:
    import adamite.torch

    params = _tensors(run.params)
    given = dict(options) if lr is None else {"lr": lr(0) if callable(lr) else lr, **options}
    optimizer: Any = adamite.torch.optimizer(entrant.rule)(params, **given)

    def forward() -> float:
        optimizer.zero_grad()
        loss = run.loss()
        loss.backward()
        return float(loss.detach())

    def move(done: int) -> None:
        if callable(lr):
            for group in optimizer.param_groups:
                group["lr"] = lr(done)
        optimizer.step()

    return forward, move


def _is_arrays(params: Any) -> bool:
    if isinstance(params, Mapping):
        return all(map(_is_arrays, params.values()))
    if isinstance(params, (list, tuple)):
        return all(map(_is_arrays, params))
    return isinstance(params, np.ndarray)


def _tensors(params: Any) -> list[Any]:
    found = params.parameters() if hasattr(params, "parameters") else params
    return list(found) if isinstance(found, Iterable) else [found]


def _pair(params: Any) -> np.ndarray[Any, Any] | None:
    """The parameters, if they are two numbers whose way can be drawn."""
    return params if isinstance(params, np.ndarray) and params.shape == (2,) else None


def _measured(evaluate: Callable[[], Any]) -> dict[str, float]:
    found = evaluate()
    if not isinstance(found, Mapping):
        found = {"score": found}
    return {str(name): float(value) for name, value in found.items()}
