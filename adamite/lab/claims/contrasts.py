"""One optimizer against another: who ends better, and who needs fewer steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adamite.errors import listed
from adamite.lab.claims.claim import Finding, across
from adamite.lab.claims.lab import Lab
from adamite.lab.compare import statistics
from adamite.lab.compare.comparison import Comparison, Plan, Result
from adamite.lab.compare.entrants import Entrant
from adamite.lab.compare.statistics import Interval
from adamite.lab.page import Table


def costs(result: Result, seeds: int) -> list[float]:
    """The final metric of each seed, lower is better; infinity if no training came to an end."""
    return result.costs() or [np.inf] * seeds


def steps_to_goal(result: Result, plan: Plan) -> list[float]:
    """Steps to the target from each seed; a training that never reaches it counts with its whole length."""
    taken = [result.to_goal(outcome)[0] for outcome in result.outcomes] or [np.inf] * plan.seeds
    return [min(steps, plan.length) for steps in taken]


def edges(comparison: Comparison) -> list[str]:
    """The optimizers whose best learning rate lies at the edge of the search range."""
    problem = comparison.plan.problem.name
    return [f"{result.entrant.name} on {problem}" for result in comparison.results if result.at_edge]


def beyond(names: list[str]) -> str:
    """A remark on optimizers whose best learning rate lies at the edge of the search range."""
    return (
        f"The best lr lies at the edge of the search range, so a better one may lie beyond: {listed(names)}."
        if names
        else ""
    )


def sign(interval: Interval, none: float) -> bool | None:
    """True if the whole interval lies above `none` (no difference), False if below, None if it contains it."""
    if interval.low > none:
        return True
    return False if interval.high < none else None


def shown(interval: Interval) -> str:
    return f"{interval.median:.3g} ({interval.low:.3g} to {interval.high:.3g})"


def shown_end(result: Result) -> str:
    """The median of the final metric."""
    return f"{result.final().median:.4g}" if result.reported else "diverged"


def shown_steps(taken: list[float], plan: Plan) -> str:
    """The median number of steps to the target."""
    median = float(np.median(taken))
    return f"{median:.0f}" if median < plan.length else f"≥ {plan.length}"


def command(lab: Lab, first: str | Entrant, second: str | Entrant, names: Sequence[str]) -> str:
    """The command that repeats the first comparison; "" for optimizers that the command line can't name."""
    if not (isinstance(first, str) and isinstance(second, str)):
        return ""
    return lab.command(names[0], [first, second])


def faster(lab: Lab, first: str | Entrant, second: str | Entrant, names: Sequence[str], **how: Any) -> Finding:
    """Whether the first needs fewer steps to the problem's target than the second, by problem."""
    cases: dict[str, bool | None] = {}
    rows, ratios, at_edge = [], [], []
    a, b = (each if isinstance(each, str) else each.name for each in (first, second))
    for name in lab.present(names):
        compared = lab.compare(name, [first, second], **how)
        plan = compared.plan
        one, other = (steps_to_goal(result, plan) for result in compared.results)
        ratio = statistics.contrast(other, one, "ratio")
        # If neither ever reaches the target, nothing is known about which is faster.
        cases[plan.problem.name] = sign(ratio, 1) if min(*one, *other) < plan.length else None
        goal = f"{plan.problem.metric} {plan.goal:g}"
        rows.append((plan.problem.name, goal, shown_steps(one, plan), shown_steps(other, plan), shown(ratio)))
        ratios.append(f"{plan.problem.name} {ratio.median:.2g}")
        at_edge += edges(compared)
    verdict, condition = across(cases)
    return Finding(
        verdict,
        f"steps of {b} over {a}'s: {', '.join(ratios)}",
        Table(("problem", "target", f"{a}, steps", f"{b}, steps", "ratio (95 %)"), rows),
        condition,
        beyond(at_edge),
        command(lab, first, second, names),
    )


def better(lab: Lab, first: str | Entrant, second: str | Entrant, names: Sequence[str], **how: Any) -> Finding:
    """Whether the first ends better than the second, by problem."""
    cases, table, figures, words = standing(lab, first, second, names, **how)
    verdict, condition = across(cases)
    return Finding(verdict, figures, table, condition, words, command(lab, first, second, names))


def standing(
    lab: Lab, first: str | Entrant, second: str | Entrant, names: Sequence[str], **how: Any
) -> tuple[dict[str, bool | None], Table, str, str]:
    """By problem, whether the first ends better; the figures as a table and in one line; a remark."""
    cases: dict[str, bool | None] = {}
    rows, figures, at_edge = [], [], []
    a, b = (each if isinstance(each, str) else each.name for each in (first, second))
    for name in lab.present(names):
        compared = lab.compare(name, [first, second], **how)
        problem, (one, other) = compared.plan.problem, compared.results
        gain = statistics.contrast(costs(other, compared.plan.seeds), costs(one, compared.plan.seeds))
        cases[problem.name] = sign(gain, 0)
        rows.append((problem.name, problem.metric, shown_end(one), shown_end(other), shown(gain)))
        figures.append(f"{problem.name} {shown_end(one)} : {shown_end(other)}")
        at_edge += edges(compared)
    headers = "problem", "metric", a, b, f"{a} better by (95 %)"
    return cases, Table(headers, rows), f"{a} : {b}: {', '.join(figures)}", beyond(at_edge)
