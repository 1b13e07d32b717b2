"""Where the claims are put to the test: one study, so that no training is done twice, and one budget for all."""

from __future__ import annotations

import functools
import multiprocessing
import pickle
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamite.errors import listed
from adamite.lab import problem as problems
from adamite.lab.claims.claim import UNMEASURED, Claim, Finding, across
from adamite.lab.compare import comparison, entrants, statistics, workers
from adamite.lab.compare.comparison import Comparison, Plan, Pool, Progress, Result
from adamite.lab.compare.entrants import Entrant, Range
from adamite.lab.compare.statistics import Interval
from adamite.lab.compare.study import Study
from adamite.lab.compare.training import Trial
from adamite.lab.compare.workers import Done
from adamite.lab.fault import Fault
from adamite.lab.page import Table
from adamite.lab.problem import Problem
from adamite.lab.problems import PROBLEMS
from adamite.lab.where import NotFoundError
from adamite.rules import RULES

Array = NDArray[Any]
Tell = Callable[[str, float], None]  # what is trained, and what share of it is done

SLOW = "mnist", "characters", "gan", "cartpole", "reddi"  # worth processes of their own, which take seconds to begin
STEPS = {"mnist": 200}  # of a training, where not the problem's own
FEW = "adamite.lab.claims.few:problem"
ARTICLE = "adamite.lab.claims.article:problem"


@dataclass
class Lab:
    """Trains what a claim needs, or finds it in the study."""

    study: Study
    processes: int
    budget: int = 10
    seeds: int = 5
    quick: bool = False  # for a look, and for tests: shorter trainings, and verdicts that mean nothing
    tell: Tell = lambda what, share: None
    _opened: ProcessPoolExecutor | None = None

    def problem(self, where: str) -> Problem:
        return problems.find(where, PROBLEMS)

    def present(self, names: Iterable[str]) -> list[str]:
        """Those whose data are on this machine; quickly, those alone that take no time."""
        found = []
        for name in names:
            try:
                self.problem(name)
            except NotFoundError:
                continue
            found.append(name)
        if not found:
            raise NotFoundError(f"the data of {', '.join(names)} aren't on this machine")
        if self.quick:
            found = [name for name in found if name not in SLOW]
        if not found:
            raise NotFoundError(f"{', '.join(names)} takes longer than a quick look")
        return found

    def compare(
        self,
        where: str,
        who: Sequence[str | Entrant],
        *,
        ranges: dict[str, Range] | None = None,
        schedule: str = "constant",
        budget: int = 0,
        seeds: int = 0,
    ) -> Comparison:
        """Every optimizer tuned alike and trained from the same seeds; what has nothing to tune is only trained."""
        problem = self.problem(where)
        steps = self.steps(where)
        found = [entrants.find(each, ranges) if isinstance(each, str) else each for each in who]
        pool: Pool = here if not {where, problem.name} & {*SLOW, "article"} else self._pool
        whole = Plan(problem, found, budget or self.budget, seeds or self.seeds, steps=steps, schedule=schedule)
        results: dict[str, Result] = {}
        retried = 0
        for tuned in (True, False):
            part = [each for each in found if bool(each.space) is tuned]
            if part:
                plan = comparison.replace(whole, entrants=part, budget=whole.budget if tuned else 1)
                made = comparison.run(plan, self.study, pool, functools.partial(self._told, problem.name))
                results |= {result.entrant.name: result for result in made.results}
                retried += made.retried
        return Comparison(whole, [results[each.name] for each in found], retried)

    def steps(self, where: str) -> int:
        problem = self.problem(where)
        steps = STEPS.get(where, problem.steps)
        return max(20, steps // 10) if self.quick else steps

    def command(self, where: str, who: Sequence[str], more: str = "") -> str:
        """What a reader may type to see one of the comparisons."""
        steps = f" --steps {self.steps(where)}" if where in STEPS or self.quick else ""
        given = f"--budget {self.budget} --seeds {self.seeds}{steps}{more}"
        return f"adamite compare --problem {where} --optimizers {','.join(who)} {given}"

    def _pool(self, work: Any, jobs: Sequence[Trial]) -> Generator[Done[Trial]]:
        """As `workers.local`, with processes that stay: torch takes seconds to import, and there are many claims."""
        running, missing = {}, []
        with workers.starting():
            if self._opened is None:
                context = multiprocessing.get_context("spawn")
                self._opened = ProcessPoolExecutor(self.processes, context, workers.begin)
            for job in jobs:
                running[self._opened.submit(workers.guarded, pickle.dumps((work, job)))] = job
        for future in as_completed(running):
            try:
                yield Done(running[future], *future.result(), 1)
            except BrokenProcessPool:
                missing.append(running[future])
        if missing:  # one has died, and all with it: there each has a process of its own
            self.close()
            yield from workers.local(work, missing, self.processes)

    def close(self) -> None:
        """End the processes, at once."""
        if self._opened is not None:
            for child in list((self._opened._processes or {}).values()):
                child.kill()
            self._opened.shutdown(cancel_futures=True)
            self._opened = None

    def _told(self, name: str, progress: Progress) -> None:
        self.tell(name, progress.done / max(1, progress.total))


def here(work: Any, jobs: Sequence[Trial]) -> Generator[Done[Trial]]:
    """All jobs in this process: for trainings that end before another process has begun."""
    for job in jobs:
        result, failure = workers.guarded(pickle.dumps((work, job)))
        yield Done(job, result, failure, 1)


def run(claim: Claim, lab: Lab) -> Finding:
    """What the claim's experiment finds; where data are missing, or a training fails, it says so."""
    try:
        return claim.experiment(lab)
    except Fault as missing:
        return Finding(UNMEASURED, str(missing), Table((), []))


# ---- optimizers of one kind, differently set ------------------------------------------------------


def fixed(name: str, rule: str, **options: Any) -> Entrant:
    """An optimizer with nothing to tune."""
    return Entrant(name, RULES[rule], options)


def varied(name: str, rule: str, space: dict[str, Range] | None = None, **options: Any) -> Entrant:
    """An optimizer with its learning rate tuned as everywhere, and these options."""
    return Entrant(name, RULES[rule], options, {**entrants.find(rule).space, **(space or {})})


# ---- one against the other ------------------------------------------------------------------------


def costs(result: Result, seeds: int) -> list[float]:
    """The final metric of each seed, as something low; what never came to an end is the worst."""
    return result.costs() or [np.inf] * seeds


def steps_to_goal(result: Result, plan: Plan) -> list[float]:
    """Steps to the target from each seed; a training that never was there counts as its whole length."""
    found = [result.to_goal(outcome)[0] for outcome in result.outcomes] or [np.inf] * plan.seeds
    return [min(steps, plan.length) for steps in found]


def edges(made: Comparison) -> list[str]:
    """Whose best learning rate was the last one tried, so that a better one may lie beyond."""
    return [f"{result.entrant.name} on {made.plan.problem.name}" for result in made.results if result.at_edge]


def beyond(names: list[str]) -> str:
    return (
        f"The best lr tried was the last of its range, so that a better one may lie beyond: {listed(names)}."
        if names
        else ""
    )


def sign(interval: Interval, none: float) -> bool | None:
    """Whether all of it lies above what no difference would be, or below (False), or neither."""
    if interval.low > none:
        return True
    return False if interval.high < none else None


def shown(interval: Interval) -> str:
    return f"{interval.median:.3g} ({interval.low:.3g} to {interval.high:.3g})"


def faster(lab: Lab, first: str | Entrant, second: str | Entrant, names: Sequence[str], **how: Any) -> Finding:
    """Whether the first needs fewer steps to the problem's target than the second, by problem."""
    found: dict[str, bool | None] = {}
    rows, ratios, ends = [], [], []
    a, b = (each if isinstance(each, str) else each.name for each in (first, second))
    for name in lab.present(names):
        made = lab.compare(name, [first, second], **how)
        one, other = (steps_to_goal(result, made.plan) for result in made.results)
        ratio = statistics.contrast(other, one, "ratio")
        short = made.plan.problem.name
        # Two that never arrive needn't be equally slow, but nothing was seen of it.
        found[short] = sign(ratio, 1) if min(*one, *other) < made.plan.length else None
        goal = f"{made.plan.problem.metric} {made.plan.goal:g}"
        rows.append((short, goal, _steps(one, made.plan), _steps(other, made.plan), shown(ratio)))
        ratios.append(f"{short} {ratio.median:.2g}")
        ends += edges(made)
    verdict, condition = across(found)
    return Finding(
        verdict,
        f"steps of {b} over {a}'s: {', '.join(ratios)}",
        Table(("problem", "target", f"{a}, steps", f"{b}, steps", "ratio (95 %)"), rows),
        condition,
        beyond(ends),
        _command(lab, first, second, names),
    )


def better(lab: Lab, first: str | Entrant, second: str | Entrant, names: Sequence[str], **how: Any) -> Finding:
    """Whether the first ends better than the second, by problem."""
    found, table, figures, words = standing(lab, first, second, names, **how)
    verdict, condition = across(found)
    return Finding(verdict, figures, table, condition, words, _command(lab, first, second, names))


def standing(
    lab: Lab, first: str | Entrant, second: str | Entrant, names: Sequence[str], **how: Any
) -> tuple[dict[str, bool | None], Table, str, str]:
    """By problem, whether the first ends better; the figures as a table, and in one line; what should be known."""
    found: dict[str, bool | None] = {}
    rows, line, ends = [], [], []
    a, b = (each if isinstance(each, str) else each.name for each in (first, second))
    for name in lab.present(names):
        made = lab.compare(name, [first, second], **how)
        problem, (one, other) = made.plan.problem, made.results
        gain = statistics.contrast(costs(other, made.plan.seeds), costs(one, made.plan.seeds))
        found[problem.name] = sign(gain, 0)
        rows.append((problem.name, problem.metric, *(_ended(result) for result in (one, other)), shown(gain)))
        line.append(f"{problem.name} {_ended(one)} : {_ended(other)}")
        ends += edges(made)
    headers = "problem", "metric", a, b, f"{a} better by (95 %)"
    return found, Table(headers, rows), f"{a} : {b}: {', '.join(line)}", beyond(ends)


def _ended(result: Result) -> str:
    return f"{result.final().median:.4g}" if result.reported else "diverged"


def _steps(found: list[float], plan: Plan) -> str:
    middle = float(np.median(found))
    return f"{middle:.0f}" if middle < plan.length else f"≥ {plan.length}"


def _command(lab: Lab, first: str | Entrant, second: str | Entrant, names: Sequence[str]) -> str:
    if not (isinstance(first, str) and isinstance(second, str)):
        return ""
    return lab.command(names[0], [first, second])


# ---- exact facts ----------------------------------------------------------------------------------


def moves(make: Any, gradients: Sequence[Any], **options: Any) -> Array:
    """By how much each step of an optimizer of adamite's lowers parameters that begin at 0."""
    x = np.zeros_like(np.asarray(gradients[0], float))
    optimizer, found = make(x, **options), []
    for gradient in gradients:
        before = x.copy()
        optimizer.step(np.asarray(gradient, float))
        found.append(before - x)
    return np.array(found)


def states(make: Any, gradients: Sequence[Any], **options: Any) -> dict[str, Array]:
    """What the optimizer keeps for its parameter after these gradients."""
    x = np.zeros_like(np.asarray(gradients[0], float))
    optimizer = make(x, **options)
    for gradient in gradients:
        optimizer.step(np.asarray(gradient, float))
    (kept,) = optimizer.state_dict()["parameters"].values()
    return {name: np.asarray(value) for name, value in kept.items() if name != "step"}
