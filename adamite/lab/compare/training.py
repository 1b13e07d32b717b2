"""One training of a problem by an optimizer, and its outcome."""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

import adamite
from adamite import schedules
from adamite.lab import fault
from adamite.lab.compare.entrants import Entrant
from adamite.lab.problem import Problem, Run
from adamite.numpy.tree import Tree
from adamite.sparse.rows import Rows

POINTS = 25  # of a curve
HUGE = 1e30  # a training with a larger loss, or NaN, has diverged
TAIL = 0.1  # the final loss is the mean over this last fraction of the steps
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
    """Everything that determines a training."""

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
    """What a training recorded."""

    steps: list[int] = field(default_factory=list)  # at the points of the curves
    losses: list[float] = field(default_factory=list)  # the mean training loss since the previous point
    measures: dict[str, list[float]] = field(default_factory=dict)  # what evaluate() returned there
    times: list[float] = field(default_factory=list)  # seconds of training up to there
    step_seconds: float = 0.0  # the optimizer's step alone
    final_loss: float = math.inf
    diverged: int | None = None  # the step at which the loss was NaN, huge, or far above the start
    path: list[list[float]] | None = None  # the trajectory, if the problem has two parameters
    first: float | None = None  # the loss before the first step, which depends only on the seed

    def diverge(self, step: int) -> None:
        """Mark it as diverged."""
        self.diverged, self.final_loss = step, math.inf

    @property
    def broke(self) -> bool:
        """Whether the loss diverged before the end, at a step between two points."""
        return self.diverged is not None and self.diverged > (self.steps[-1] if self.steps else 0)

    def value(self, metric: str) -> float:
        """The final value of a measure; NaN for a training that diverged."""
        if self.diverged is not None:
            return math.nan
        return self.final_loss if metric == "loss" and "loss" not in self.measures else self.measures[metric][-1]

    def curve(self, metric: str) -> list[float]:
        """A measure at each point; empty if the training diverged before the first."""
        return self.losses if metric == "loss" and "loss" not in self.measures else self.measures.get(metric, [])


def train(problem: Problem, entrant: Entrant, trial: Trial) -> Outcome:
    """Train from the trial's seed, with the trial's settings.

    Raises:
        Fault: the problem's code fails, or returns something invalid.
    """
    run = problem.begin(trial.seed)
    steps = trial.steps
    lr = SCHEDULES[trial.schedule](trial.settings["lr"], steps) if "lr" in trial.settings else None
    forward, move = stepper(problem, run, entrant, lr, {k: v for k, v in trial.settings.items() if k != "lr"})
    with fault.blamed_on(run.loss):
        return _trained(problem, run, steps, forward, move)


def _trained(
    problem: Problem, run: Run, steps: int, forward: Callable[[], float], move: Callable[[int], None]
) -> Outcome:
    outcome, stepping, spent, step = Outcome(), [], 0.0, 0
    marks = set(np.linspace(0, steps, min(POINTS, steps) + 1).astype(int)[1:].tolist())
    since: list[float] = []
    tail: list[float] = []
    pair = _pair(run.params)
    outcome.path = None if pair is None else [pair.tolist()]
    try:
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
                if step == 1:
                    raise bad_start(run, f"{loss:g}")
                outcome.diverge(step)
                break
            if step == 1:
                outcome.first = loss
            since.append(loss)
            if step > steps * (1 - TAIL):
                tail.append(loss)
            if pair is not None and outcome.path is not None:
                outcome.path.append(pair.tolist())
            if step in marks:
                outcome.steps.append(step)
                outcome.losses.append(float(np.mean(since)))
                outcome.times.append(spent)
                since.clear()
                for name, value in _measured(problem, run).items():
                    outcome.measures.setdefault(name, []).append(value)
                    if not abs(value) < HUGE:
                        outcome.diverge(step)
                if outcome.diverged is not None:
                    break
    except Exception:
        if step <= 1 or _finite(_leaves(run.params)):
            raise
        outcome.diverge(step)  # many functions raise errors for NaN
    outcome.step_seconds = float(np.median(stepping))
    if outcome.diverged is None:
        outcome.final_loss = float(np.mean(tail))
    return outcome


Stepper = tuple[Callable[[], float], Callable[[int], None]]


def stepper(problem: Problem, run: Run, entrant: Entrant, lr: Any, settings: Mapping[str, float]) -> Stepper:
    """Two functions: one computes the next loss, one makes a step, given the number of steps done."""
    problems_options = {name: v for name, v in problem.options.items() if name in entrant.rule.numbers}
    make = _numpy if _is_arrays(run.params) else _torch
    if make is _torch and not all(hasattr(p, "requires_grad") for p in _tensors(run.params)):
        raise fault.about(
            problem.start,
            "parameters must be NumPy arrays in any nesting, or a module of torch or its parameters; "
            f"got {run.params!r:.80}",
        )
    return make(problem, run, entrant, lr, {**problems_options, **entrant.options, **settings})


def _numpy(problem: Problem, run: Run, entrant: Entrant, lr: Any, options: Mapping[str, Any]) -> Stepper:
    arguments = dict(options) if lr is None else {"lr": lr, **options}
    make: Any = adamite.optimizer(entrant.rule)
    with fault.blamed_on(problem.start):  # settings are in their ranges, so an error is the problem's
        optimizer = make(run.params, **arguments)
    gradient: list[Any] = [None]

    def forward() -> float:
        returned = run.loss()
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise fault.about(
                run.loss, f"with NumPy's arrays loss() must return (loss, gradient); it returned {returned!r:.80}"
            )
        loss, gradient[0] = returned
        return _number(loss, "the loss", run.loss)

    def move(done: int) -> None:
        optimizer.step(gradient[0])
        if not done:
            _check_gradient(run, Tree(gradient[0]).leaves)

    return forward, move


def _torch(problem: Problem, run: Run, entrant: Entrant, lr: Any, options: Mapping[str, Any]) -> Stepper:
    import adamite.torch

    params = _tensors(run.params)
    arguments = dict(options) if lr is None else {"lr": lr(0) if callable(lr) else lr, **options}
    make: Any = adamite.torch.optimizer(entrant.rule)
    with fault.blamed_on(problem.start):
        optimizer = make(params, **arguments)

    def forward() -> float:
        optimizer.zero_grad()
        loss = run.loss()
        if not hasattr(loss, "backward"):
            message = f"with torch's parameters loss() must return the loss alone, a tensor; it returned {loss!r:.80}"
            raise fault.about(run.loss, message)
        value = _number(loss.detach(), "the loss", run.loss)
        if not loss.requires_grad:
            raise fault.about(run.loss, "the loss doesn't depend on parameters that require a gradient")
        loss.backward()
        return value

    def move(done: int) -> None:
        if callable(lr):
            for group in optimizer.param_groups:
                group["lr"] = lr(done)
        optimizer.step()
        if not done:
            _check_gradient(run, [p.grad for p in params if p.grad is not None])

    return forward, move


def _is_arrays(params: Any) -> bool:
    if isinstance(params, Mapping):
        return all(map(_is_arrays, params.values()))
    if isinstance(params, (list, tuple)):
        return all(map(_is_arrays, params))
    return isinstance(params, np.ndarray)


def _tensors(params: Any) -> list[Any]:
    tensors = params.parameters() if hasattr(params, "parameters") else params
    return list(tensors) if isinstance(tensors, Iterable) else [tensors]


def chance(first: Sequence[float | None]) -> str:
    """A warning if trainings from one seed don't start with the same loss; "" if they do.

    Losses may differ by rounding, since a graphics card may sum in any order.
    """
    losses = [loss for loss in first if loss is not None]
    if not losses or math.isclose(min(losses), max(losses), rel_tol=1e-3):
        return ""
    return (
        "The problem isn't determined by its seed, so that luck has a part in this: from one seed the first loss was "
        f"{min(losses):.4g} and {max(losses):.4g}. Draw everything from it, as from numpy.random.default_rng(seed)."
    )


def _pair(params: Any) -> np.ndarray[Any, Any] | None:
    """The parameters, if they are two numbers, whose trajectory can be drawn."""
    return params if isinstance(params, np.ndarray) and params.shape == (2,) else None


def _measured(problem: Problem, run: Run) -> dict[str, float]:
    """What evaluate() returns; it must have every measure that the problem is judged by."""
    measures: Any = {} if run.evaluate is None else run.evaluate()
    if not isinstance(measures, Mapping):
        measures = {"score": measures}
    for wanted in {problem.metric, problem.tuned} - {"loss", "", *measures}:
        by = f"evaluate() must give {wanted!r}, by which the problem is judged"
        if run.evaluate is None:
            raise fault.about(problem.start, f"{by}; return (params, loss, evaluate)")
        raise fault.about(run.evaluate, f"{by}; it gave {', '.join(map(str, measures)) or 'nothing'}")
    return {str(name): _number(value, f"evaluate()'s {name}", run.evaluate) for name, value in measures.items()}


def _number(value: Any, what: str, function: Any) -> float:
    """The result of a user's function as a float: a Python number, or an array or tensor without dimensions."""
    shape = getattr(value, "shape", ())
    if tuple(shape):
        raise fault.about(function, f"{what} must be one number; it has the shape {tuple(shape)}")
    if not isinstance(value, numbers.Real) and not (hasattr(value, "shape") and hasattr(value, "__float__")):
        raise fault.about(function, f"{what} must be a number; got {value!r:.80}")
    return float(value)


def bad_start(run: Run, given: str) -> fault.Fault:
    """The error for a first loss or gradient that isn't finite: the learning rate can't be the cause."""
    return fault.about(run.loss, f"loss() gave {given} at the first step, before anything had moved")


def _check_gradient(run: Run, gradient: Sequence[Any]) -> None:
    """Refuse a first gradient that isn't finite; with later ones, the learning rate may be the cause."""
    if not _finite(gradient):
        raise bad_start(run, "a gradient with NaN or infinity")


def _leaves(params: Any) -> list[Any]:
    return Tree(params).leaves if _is_arrays(params) else _tensors(params)


def _finite(leaves: Sequence[Any]) -> bool:
    """Whether all parameters, or their gradients, are finite."""
    return all(bool(_numbers(leaf).all()) for leaf in leaves)


def _numbers(leaf: Any) -> Any:
    """Where an array or a tensor is finite; for sparse ones, where the rows are."""
    if hasattr(leaf, "isfinite"):
        return (leaf.coalesce().values() if leaf.is_sparse else leaf).isfinite()
    return np.isfinite(leaf.values if isinstance(leaf, Rows) else leaf)
