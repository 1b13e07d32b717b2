"""Tunes every optimizer with the same budget, trains it from the same seeds, and ranks the results."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import adamite
from adamite.errors import counted, listed
from adamite.lab import fault
from adamite.lab import problem as problems
from adamite.lab.compare import entrants, search, statistics, training
from adamite.lab.compare.entrants import Entrant, Range
from adamite.lab.compare.statistics import Interval
from adamite.lab.compare.study import Study, key
from adamite.lab.compare.training import Outcome, Trial
from adamite.lab.compare.workers import Done
from adamite.lab.fault import Fault
from adamite.lab.problem import Problem
from adamite.lab.problems import PROBLEMS

TUNING_SEED = 1_000_000  # added to the seed, so that tuning and the report use different seeds
FAR = 100.0  # times the loss that trainings start with; a training that ends above it has diverged

Work = Callable[[Trial], Outcome]
Pool = Callable[[Work, Sequence[Trial]], Generator[Done[Trial]]]
Tell = Callable[["Progress"], None]


@dataclass(frozen=True)
class Plan:
    """What is compared, and how."""

    problem: Problem
    entrants: Sequence[Entrant]
    budget: int = 12  # settings tried for each entrant
    seeds: int = 5
    seed: int = 0
    steps: int = 0  # of a training; 0 for the problem's own number
    schedule: str = "constant"
    target: float | None = None  # of the metric; None for the problem's own

    @property
    def length(self) -> int:
        return self.steps or self.problem.steps

    @property
    def goal(self) -> float | None:
        return self.problem.target if self.target is None else self.target

    @property
    def total(self) -> int:
        return len(self.entrants) * (self.budget + self.seeds)

    def trial(self, entrant: Entrant, settings: Mapping[str, float], seed: int, **more: Any) -> Trial:
        return Trial(self.problem.where, entrant.name, settings, seed, self.length, self.schedule, **more)

    def tuning(self, entrant: Entrant) -> list[Trial]:
        """The trainings that choose an entrant's settings."""
        return [
            self.trial(
                entrant,
                search.settings(entrant.space, self.seed, number),
                self.seed + TUNING_SEED,
                tuning=True,
                number=number,
            )
            for number in range(self.budget)
        ]

    def reporting(self, entrant: Entrant, settings: Mapping[str, float]) -> list[Trial]:
        return [self.trial(entrant, settings, self.seed + k) for k in range(self.seeds)]

    def key(self, trial: Trial) -> str:
        (entrant,) = (e for e in self.entrants if e.name == trial.entrant)
        return key(trial, self.problem.mark, entrant.mark, dict(entrant.options), adamite.__version__)


@dataclass
class Progress:
    """How many trainings are done, and the results so far."""

    total: int
    done: int = 0
    reused: int = 0  # found in the study
    retried: int = 0
    results: dict[str, Result] = field(default_factory=dict)


@dataclass
class Result:
    """The trainings of one entrant."""

    entrant: Entrant
    problem: Problem
    goal: float | None
    tuning: list[tuple[Trial, Outcome]] = field(default_factory=list)
    reported: list[tuple[Trial, Outcome]] = field(default_factory=list)
    failures: list[tuple[Trial, str]] = field(default_factory=list)

    def add(self, trial: Trial, outcome: Outcome | str) -> None:
        """Add a training's outcome, or the message of its failure."""
        if isinstance(outcome, str):
            self.failures.append((trial, outcome))
        else:
            (self.tuning if trial.tuning else self.reported).append((trial, outcome))

    def best(self) -> Mapping[str, float] | None:
        """The settings of the best training; the first, if several are equal."""
        measure = self.problem.tuned or self.problem.metric
        costs = [self.problem.cost(outcome.value(measure), measure) for _, outcome in self.tuning]
        if not costs or min(costs) == math.inf:
            return None
        return self.tuning[costs.index(min(costs))][0].settings

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for _, outcome in self.reported]

    def costs(self) -> list[float]:
        return [self.problem.cost(outcome.value(self.problem.metric)) for outcome in self.outcomes]

    def final(self) -> Interval:
        """The metric's final value over the seeds."""
        low = statistics.interval(self.costs())
        if not self.problem.higher:
            return low
        return Interval(-low.median, -low.high, -low.low)

    def loss(self) -> Interval:
        return statistics.interval([outcome.final_loss for outcome in self.outcomes])

    @property
    def diverged(self) -> int:
        """The number of tuning trainings that diverged."""
        return sum(outcome.diverged is not None for _, outcome in self.tuning)

    @property
    def at_edge(self) -> list[str]:
        """The settings whose best value lies at the edge of the search range, so that a better one may lie beyond."""
        best = self.best()
        if best is None or len(self.tuning) < 3:
            return []
        near = []
        for name in self.entrant.space:
            tried = sorted(trial.settings[name] for trial, _ in self.tuning)
            if best[name] in (tried[0], tried[-1]):
                near.append(name)
        return near

    def to_goal(self, outcome: Outcome) -> tuple[float, float]:
        """Steps and seconds until the metric reached the goal; infinite if it never did."""
        if self.goal is not None:
            for step, value, seconds in zip(outcome.steps, outcome.curve(self.problem.metric), outcome.times):
                if self.problem.cost(value) <= self.problem.cost(self.goal):
                    return step, seconds
        return math.inf, math.inf

    def steps_to_goal(self) -> float:
        return float(np.median([self.to_goal(outcome)[0] for outcome in self.outcomes]))

    def seconds_to_goal(self) -> float:
        return float(np.median([self.to_goal(outcome)[1] for outcome in self.outcomes]))

    def step_seconds(self) -> float:
        return float(np.median([outcome.step_seconds for outcome in self.outcomes]))


@dataclass(frozen=True)
class Comparison:
    """A plan and its results, best first."""

    plan: Plan
    results: Sequence[Result]
    retried: int = 0  # trainings that were retried because their process died
    reused: int = 0  # trainings that were found in the study

    def ranked(self) -> list[Result]:
        """The results that have finished trainings, best first; equal ones in the plan's order."""
        ended = [result for result in self.results if result.reported]
        return sorted(ended, key=lambda result: statistics.interval(result.costs()).median)

    def ties(self) -> dict[str, bool]:
        """By name, whether an entrant can't be distinguished from the best."""
        return statistics.ties({result.entrant.name: result.costs() for result in self.ranked()})

    def chance(self) -> str:
        """A warning if the problem isn't determined by its seed; else ""."""
        return training.chance([outcome.first for result in self.results for _, outcome in result.tuning])

    def verdict(self) -> str:
        """Which optimizer is best, and whether the difference is significant."""
        ranked = self.ranked()
        if not ranked:
            return "No optimizer finished a training."
        best, ties = ranked[0], self.ties()
        if statistics.interval(best.costs()).median == math.inf:
            return "No optimizer has a median: more than half of all trainings diverged."
        alike = [result.entrant.name for result in ranked[1:] if ties[result.entrant.name]]
        worse = [result.entrant.name for result in ranked[1:] if not ties[result.entrant.name]]
        named = best.entrant.name + (f" ({as_words(best.best() or {})})" if best.best() else "")
        seeds = counted(self.plan.seeds, "seed")
        if not ranked[1:]:
            return f"{named} was alone."
        exact = [result.entrant.name for result in ranked[1:] if result.costs() == best.costs()]
        if len(exact) == len(ranked) - 1:
            return f"{named} and {listed(exact)} ended exactly alike, from every seed: a tie."
        if self.plan.seeds > 1 and all(len(set(result.costs())) == 1 for result in ranked):
            first = (
                f"{named} and {listed(exact)} ended exactly alike, before all others"
                if exact
                else f"{named} ended best"
            )
            return (
                f"{first}, and every seed gave the same numbers: this problem draws nothing from its seed, so that "
                "there is no luck to be told from."
            )
        equal = [r.entrant.name for r in ranked[1:] if r.final().median == best.final().median and ties[r.entrant.name]]
        lead = f"{named} and {listed(equal)} share the best median" if equal else f"{named} has the best median"
        if not statistics.can_tell(self.plan.seeds, len(ranked) - 1):
            return (
                f"{lead}, but {seeds} can't tell {len(ranked)} optimizers apart however they come out: give more seeds."
            )
        lost = [result.entrant.name for result in ranked if statistics.interval(result.costs()).median == math.inf]
        fate = f" {listed(lost)} diverged from other seeds than the one that chose the settings." if lost else ""
        if not alike:
            return f"{named} is best: every other is worse by more than luck ({seeds}, p < 0.05 each, corrected).{fate}"
        others = [name for name in alike if name not in equal]
        them = "them" if equal else "it"
        parts = (
            f"{lead}, but {listed(others)} can't be told from {them} with {seeds}" if others else f"{lead} with {seeds}"
        )
        if worse:
            return f"{parts}; {listed(worse)} {'is' if len(worse) == 1 else 'are'} worse by more than luck.{fate}"
        return f"{parts}: no difference here is more than luck may be."


def as_words(settings: Mapping[str, float]) -> str:
    """Names and values, with all digits that `Range.at` leaves."""
    return ", ".join(f"{name} {value:.12g}" for name, value in settings.items())


def run(plan: Plan, study: Study, pool: Pool, tell: Tell = lambda progress: None) -> Comparison:
    """Run the trainings that the study doesn't have yet.

    Raises:
        Fault: the first training of an optimizer fails, since all others would too; or no training changed the loss.
    """
    results = {e.name: Result(e, plan.problem, plan.goal) for e in plan.entrants}
    progress = Progress(plan.total, results=results)
    work = functools.partial(train, {e.name: e for e in plan.entrants})

    def do(trials: Sequence[Trial]) -> None:
        missing = []
        for trial in trials:
            old = study.find(plan.key(trial))
            if old is None:
                missing.append(trial)
            else:
                results[trial.entrant].add(trial, old)
                progress.reused += 1
        progress.done += len(trials) - len(missing)
        tell(progress)
        with contextlib.closing(pool(work, missing)) as coming:
            for done in coming:
                outcome = done.result if done.failure is None else done.failure
                study.keep(plan.key(done.job), done.job, outcome, done.attempts)
                if isinstance(outcome, str) and done.job.tuning and not done.job.number:
                    raise Fault(f"the first training of {_training(done.job)} failed: {outcome}")
                results[done.job.entrant].add(done.job, outcome)
                progress.done += 1
                progress.retried += done.attempts - 1
                tell(progress)
        for result in results.values():  # they arrive in any order
            result.tuning.sort(key=lambda each: each[0].number)
            result.reported.sort(key=lambda each: each[0].seed)

    # Interleaved, so that a slow moment of the machine affects all optimizers.
    tuning = [plan.tuning(entrant) for entrant in plan.entrants]
    do([trial for alike in zip(*tuning, strict=True) for trial in alike])
    if still([each for result in results.values() for each in result.tuning]):
        raise fault.about(plan.problem.start, fault.STILL)
    high = FAR * begun([outcome for result in results.values() for _, outcome in result.tuning])
    _diverge(results.values(), high)
    best = [(result.entrant, result.best()) for result in results.values()]
    reporting = [plan.reporting(entrant, settings) for entrant, settings in best if settings is not None]
    progress.total -= plan.seeds * (len(best) - len(reporting))
    do([trial for alike in zip(*reporting, strict=True) for trial in alike])
    _diverge(results.values(), high)
    return Comparison(plan, list(results.values()), progress.retried, progress.reused)


def _training(trial: Trial) -> str:
    """A training's optimizer, settings and seed, for messages."""
    return f"{trial.entrant} ({', '.join(filter(None, [as_words(trial.settings), f'seed {trial.seed}']))})"


def still(tuning: Sequence[tuple[Trial, Outcome]]) -> bool:
    """Whether no training changed the loss: all had the same losses, as far as each went, whatever their settings.

    With a single setting, the only sign is a loss that is always the same.
    """
    if any(outcome.broke for _, outcome in tuning):
        return False
    curves = sorted((outcome.losses for _, outcome in tuning if outcome.steps[-1:] > [1]), key=len)  # after a step
    ways = {(trial.entrant, tuple(trial.settings.items())) for trial, _ in tuning}
    if len(ways) == 1:
        return any(len(curve) > 1 and len(set(curve)) == 1 for curve in curves[-1:])
    return len(curves) > 1 and all(curve == curves[-1][: len(curve)] for curve in curves)


def begun(tuning: Sequence[Outcome]) -> float:
    """The loss that trainings start with: the lower quartile of their first losses' magnitudes, or infinity.

    A single training isn't enough: its first loss may be near zero by chance, or high already.
    """
    first = [abs(outcome.losses[0]) for outcome in tuning if outcome.losses]
    return float(np.quantile(first, 0.25)) or math.inf if first else math.inf


def _diverge(results: Iterable[Result], high: float) -> None:
    """Mark trainings that ended with a higher loss as diverged."""
    for result in results:
        for _, outcome in (*result.tuning, *result.reported):
            if outcome.diverged is None and outcome.final_loss > high:
                outcome.diverge(outcome.steps[-1])


def train(by_name: Mapping[str, Entrant], trial: Trial) -> Outcome:
    """Run one training, in a process that may not have loaded the problem yet."""
    return training.train(_problem(trial.problem, Path.cwd()), by_name[trial.entrant], trial)


@functools.cache
def _problem(where: str, folder: Path) -> Problem:
    """The problem of this name, seen from this folder."""
    return problems.find(where, PROBLEMS)


__all__ = ["Comparison", "Plan", "Progress", "Range", "Result", "entrants", "replace", "run"]
