"""Where claims are tested: one study, so that no training runs twice, and one budget for all of them."""

from __future__ import annotations

import functools
import multiprocessing
import pickle
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from adamite.lab import problem as problems
from adamite.lab.compare import comparison, entrants, workers
from adamite.lab.compare.comparison import Comparison, Plan, Pool, Progress, Result
from adamite.lab.compare.entrants import Entrant, Range
from adamite.lab.compare.study import Study
from adamite.lab.compare.training import Trial
from adamite.lab.compare.workers import Done
from adamite.lab.problem import Problem
from adamite.lab.problems import PROBLEMS
from adamite.lab.where import NotFoundError
from adamite.rules import RULES

Tell = Callable[[str, float], None]  # called with what is being trained and the fraction done

SLOW = (
    "mnist",
    "characters",
    "gan",
    "cartpole",
    "reddi",
)  # slow enough to be worth starting processes, which takes seconds
STEPS = {"mnist": 200}  # a training's length, where it isn't the problem's own
FEW = "adamite.lab.claims.few:problem"
ARTICLE = "adamite.lab.claims.article:problem"


@dataclass
class Lab:
    """Trains what a claim needs, or finds it in the study."""

    study: Study
    processes: int
    budget: int = 10
    seeds: int = 5
    quick: bool = False  # shorter trainings, for a look and for tests; the verdicts mean nothing
    tell: Tell = lambda what, share: None
    _opened: ProcessPoolExecutor | None = None

    def problem(self, where: str) -> Problem:
        return problems.find(where, PROBLEMS)

    def present(self, names: Iterable[str]) -> list[str]:
        """The problems whose data are on this machine; in a quick look, only the fast ones."""
        available = []
        for name in names:
            try:
                self.problem(name)
            except NotFoundError:
                continue
            available.append(name)
        if not available:
            raise NotFoundError(f"the data of {', '.join(names)} aren't on this machine")
        if self.quick:
            available = [name for name in available if name not in SLOW]
        if not available:
            raise NotFoundError(f"{', '.join(names)} takes longer than a quick look")
        return available

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
        """Tune every optimizer with the same budget and train it from the same seeds.

        What has nothing to tune is only trained.
        """
        problem = self.problem(where)
        steps = self.steps(where)
        compared = [entrants.find(each, ranges) if isinstance(each, str) else each for each in who]
        pool: Pool = here if not {where, problem.name} & {*SLOW, "article"} else self._pool
        whole = Plan(problem, compared, budget or self.budget, seeds or self.seeds, steps=steps, schedule=schedule)
        results: dict[str, Result] = {}
        retried = 0
        for tuned in (True, False):
            part = [each for each in compared if bool(each.space) is tuned]
            if part:
                plan = comparison.replace(whole, entrants=part, budget=whole.budget if tuned else 1)
                compared_part = comparison.run(plan, self.study, pool, functools.partial(self._told, problem.name))
                results |= {result.entrant.name: result for result in compared_part.results}
                retried += compared_part.retried
        return Comparison(whole, [results[each.name] for each in compared], retried)

    def steps(self, where: str) -> int:
        problem = self.problem(where)
        steps = STEPS.get(where, problem.steps)
        return max(20, steps // 10) if self.quick else steps

    def command(self, where: str, who: Sequence[str], more: str = "") -> str:
        """The command with which a reader repeats one of the comparisons."""
        steps = f" --steps {self.steps(where)}" if where in STEPS or self.quick else ""
        options = f"--budget {self.budget} --seeds {self.seeds}{steps}{more}"
        return f"adamite compare --problem {where} --optimizers {','.join(who)} {options}"

    def _pool(self, work: Any, jobs: Sequence[Trial]) -> Generator[Done[Trial]]:
        """Like `workers.local`, but its processes stay alive: importing torch takes seconds, and claims are many."""
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
        if missing:  # a process died and broke the pool; `workers.local` gives each job a pool of its own
            self.close()
            yield from workers.local(work, missing, self.processes)

    def close(self) -> None:
        """Kill the processes."""
        if self._opened is not None:
            for child in list((self._opened._processes or {}).values()):
                child.kill()
            self._opened.shutdown(cancel_futures=True)
            self._opened = None

    def _told(self, name: str, progress: Progress) -> None:
        self.tell(name, progress.done / max(1, progress.total))


def here(work: Any, jobs: Sequence[Trial]) -> Generator[Done[Trial]]:
    """Run all jobs in this process: for trainings that take less time than starting another."""
    for job in jobs:
        result, failure = workers.guarded(pickle.dumps((work, job)))
        yield Done(job, result, failure, 1)


# ---- one optimizer with different settings --------------------------------------------------------


def fixed(name: str, rule: str, **options: Any) -> Entrant:
    """An optimizer with nothing to tune."""
    return Entrant(name, RULES[rule], options)


def varied(name: str, rule: str, space: dict[str, Range] | None = None, **options: Any) -> Entrant:
    """An optimizer with these options, and its learning rate tuned as in every comparison."""
    return Entrant(name, RULES[rule], options, {**entrants.find(rule).space, **(space or {})})
