"""A comparison's tables: one on the page, and two for other programs."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from adamite.errors import counted
from adamite.lab.bench import shown
from adamite.lab.compare import report_curves as curves
from adamite.lab.compare import report_figures as figures
from adamite.lab.compare.comparison import Comparison, Result
from adamite.lab.compare.statistics import Interval
from adamite.lab.compare.training import Trial


def ranking(comparison: Comparison) -> str:
    """A row for each optimizer that finished, best first, as HTML."""
    plan, ties = comparison.plan, comparison.ties() if comparison.ranked() else {}
    heads = ["", plan.problem.metric, "settings", "training loss"]  # the metric comes first, on a phone too
    if plan.problem.metric == "loss":
        heads.remove("training loss")
    if plan.goal is not None:
        heads += [f"steps to {plan.goal:g}", "time to it"]
    heads += ["time a step", "state", "diverged"]
    looks = {result.entrant.name: look for look, result in enumerate(comparison.results)}
    rows = []
    for place, result in enumerate(comparison.ranked()):
        name = result.entrant.name
        alike = "can't be told from the best" if place and ties[name] else ""
        alike = "ended exactly as the best" if place and result.costs() == comparison.ranked()[0].costs() else alike
        cells = [_two(f"{swatch(looks[name])}{escape(name)}", alike), _interval(result.final()), _settings(result)]
        if plan.problem.metric != "loss":
            cells.append(_interval(result.loss()))
        if plan.goal is not None:
            cells += _reach(result)
        cells += [escape(shown(result.step_seconds())), f"{result.entrant.state_bytes}&nbsp;B", _diverged(result)]
        rows.append(cells)
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>\n</table></div>'
    )


def swatch(look: int) -> str:
    """A sample of the optimizer's line in the figures."""
    line = f'<line x2="22" y1="5" y2="5" stroke="var({figures.colour(look)})" stroke-dasharray="{figures.dash(look)}"/>'
    return f'<svg class="swatch" viewBox="0 0 22 10" aria-hidden="true">{line}</svg>'


def _two(first: str, second: str) -> str:
    return f"{first}<small>{second}</small>" if second else first


def number(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else "diverged"


def _interval(it: Interval) -> str:
    return _two(number(it.median), f"{number(it.low)} – {number(it.high)}")


def _settings(result: Result) -> str:
    tuned = [f"{escape(name)}&nbsp;{value:.12g}" for name, value in (result.best() or {}).items()]
    fixed = [f"{escape(name)}&nbsp;{escape(str(value))}" for name, value in result.entrant.options.items()]
    return _two("<br>".join(tuned), "<br>".join(fixed))


def _reach(result: Result) -> list[str]:
    """Steps and seconds to the goal, or the best value."""
    there = sum(math.isfinite(result.to_goal(outcome)[0]) for outcome in result.outcomes)
    some = f"in {there} of {counted(len(result.outcomes), 'seed')}" if there < len(result.outcomes) else ""
    if math.isfinite(result.steps_to_goal()):
        return [_two(f"{result.steps_to_goal():.0f}", some), escape(shown(result.seconds_to_goal()))]
    values = [value for outcome in result.outcomes for value in curves.values(outcome, result.problem.metric)]
    values = [value for value in values if math.isfinite(value)]
    best = f"best {number(min(values, key=result.problem.cost))}" if values else ""
    return [_two("never" if not there else some, best), ""]


def _diverged(result: Result) -> str:
    lost = sum(outcome.diverged is not None for outcome in result.outcomes)
    return _two(
        f"{result.diverged} of {len(result.tuning)}",
        f"and {lost} of {counted(len(result.outcomes), 'seed')}" if lost else "",
    )


def results(comparison: Comparison, path: Path) -> None:
    """A row for each optimizer that finished, best first, as CSV."""
    names = tuned(comparison)
    heads = ["optimizer", *names, "seeds", "metric", "median", "low", "high", "final_loss", "final_loss_low"]
    heads += ["final_loss_high", "steps_to_target", "seconds_to_target", "step_seconds", "state_bytes", "tried"]
    heads += ["diverged", "seeds_diverged", "tied_with_best"]
    ties = comparison.ties() if comparison.ranked() else {}
    rows = []
    for result in comparison.ranked():
        best = result.best() or {}
        rows.append([
            result.entrant.name,
            *(best.get(name, "") for name in names),
            len(result.outcomes),
            comparison.plan.problem.metric,
            *result.final(),
            *result.loss(),
            *([result.steps_to_goal(), result.seconds_to_goal()] if result.goal is not None else ["", ""]),
            result.step_seconds(),
            result.entrant.state_bytes,
            len(result.tuning),
            result.diverged,
            sum(outcome.diverged is not None for outcome in result.outcomes),
            ties[result.entrant.name],
        ])  # fmt: skip
    _write(path, heads, rows)


def trainings(comparison: Comparison, path: Path) -> None:
    """A row for each training, as CSV: for tuning, and for the report."""
    names = tuned(comparison)
    done = [(trial, outcome) for result in comparison.results for trial, outcome in (*result.tuning, *result.reported)]
    measures = list(dict.fromkeys(name for _, outcome in done for name in outcome.measures))
    heads = ["optimizer", "purpose", "seed", *names, "steps", "final_loss", *(f"final {name}" for name in measures)]
    heads += ["diverged_at_step", "seconds", "step_seconds", "failure"]
    rows = []

    def begin(trial: Trial) -> list[Any]:
        settings = (trial.settings.get(name, "") for name in names)
        return [trial.entrant, "tuning" if trial.tuning else "report", trial.seed, *settings, trial.steps]

    for trial, outcome in done:
        last = [outcome.measures[name][-1] if outcome.measures.get(name) else "" for name in measures]
        lost = "" if outcome.diverged is None else outcome.diverged
        seconds = outcome.times[-1] if outcome.times else ""
        rows.append([*begin(trial), outcome.final_loss, *last, lost, seconds, outcome.step_seconds, ""])
    for result in comparison.results:
        blank = [""] * (len(measures) + 4)
        rows += [[*begin(trial), *blank, failure] for trial, failure in result.failures]
    _write(path, heads, rows)


def tuned(comparison: Comparison) -> list[str]:
    """The names of all tuned hyperparameters."""
    return list(dict.fromkeys(name for result in comparison.results for name in result.entrant.space))


def _write(path: Path, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        csv.writer(file).writerows([heads, *rows])
