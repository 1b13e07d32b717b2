"""The numbers behind a comparison's figures: bands over the seeds, tried learning rates, trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamite.lab.compare.comparison import Comparison
from adamite.lab.compare.training import Outcome
from adamite.lab.plots import Band, Ground, Tried
from adamite.lab.problem import Plane

Array = NDArray[Any]
WORST = 1e300  # replaces missing values, so that quantiles can be interpolated
GRID = 120  # points along each side of the plane
REACH = 3.0  # widths of the plane beyond which a trajectory isn't drawn: drawing programs fail on 1e200
FINENESS = 1 / 400  # of the plane's width: points nearer to the previous one are left out


@dataclass(frozen=True)
class Curve:
    """A band, and the seconds at its points."""

    band: Band
    seconds: Array


def curves(comparison: Comparison, measure: str) -> list[tuple[str, int, Curve]]:
    """Each optimizer's band of a measure, with the number of its line style: its place in the plan."""
    higher = comparison.plan.problem.higher and measure == comparison.plan.problem.metric
    made = ((r.entrant.label, look, curve(r.outcomes, measure, higher)) for look, r in enumerate(comparison.results))
    return [(name, look, it) for name, look, it in made if it is not None]


def values(outcome: Outcome, measure: str) -> Sequence[float]:
    """The curve of a measure; empty if the training diverged before the first point."""
    if measure == "loss" and "loss" not in outcome.measures:
        return outcome.losses
    return outcome.measures.get(measure, [])


def curve(outcomes: Sequence[Outcome], measure: str, higher: bool) -> Curve | None:
    """The band of the middle half; a diverged training continues as the worst. None if there is no point."""
    if not outcomes:
        return None
    steps = max((outcome.steps for outcome in outcomes), key=len)
    worst = -WORST if higher else WORST
    rows = _rectangle([values(outcome, measure) for outcome in outcomes], len(steps), worst)
    rows[~np.isfinite(rows)] = worst
    low, middle, high = np.quantile(rows, (0.25, 0.5, 0.75), axis=0)
    for line in (low, middle, high):
        line[abs(line) > WORST / 1e6] = np.nan
    if np.isnan(middle).all():
        return None
    seconds = np.nanmedian(_rectangle([outcome.times for outcome in outcomes], len(steps), np.nan), axis=0)
    return Curve(Band(np.array(steps), low, middle, high), seconds)


def _rectangle(rows: Sequence[Sequence[float]], width: int, fill: float) -> Array:
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows], dtype=float).reshape(len(rows), width)


def tried(comparison: Comparison) -> list[tuple[str, int, Tried]]:
    """The learning rates tried for each optimizer that has one."""
    measure = comparison.plan.problem.tuned or comparison.plan.problem.metric
    made = []
    for look, result in enumerate(comparison.results):
        points = [(trial.settings.get("lr", 0.0), outcome.value(measure)) for trial, outcome in result.tuning]
        points = sorted(point for point in points if point[0] > 0)  # the axis is logarithmic
        if not points:
            continue
        rates, finals = np.array(points, dtype=float).T
        finals[~np.isfinite(finals)] = np.nan
        default = result.entrant.rule.numbers["lr"].default if "lr" in result.entrant.rule.numbers else None
        best = (result.best() or {}).get("lr", np.nan)
        default_rate = float(default) if isinstance(default, (int, float)) and default > 0 else None
        made.append(
            (result.entrant.label, look, Tried(rates, finals, best, default_rate, len(result.entrant.space) == 1))
        )
    return made


def ground(plane: Plane) -> Ground | None:
    """The logarithm of the loss above its minimum, so that a valley's floor has contours as well as its sides.

    None if the loss is nowhere finite.
    """
    x, y = (np.linspace(*ends, GRID) for ends in (plane.x, plane.y))
    with np.errstate(all="ignore"):
        loss = np.broadcast_to(np.asarray(plane.loss(*np.meshgrid(x, y)), dtype=float), (GRID, GRID)).copy()
    loss[~np.isfinite(loss)] = np.nan
    if np.isnan(loss).all():
        return None
    above = loss - np.nanmin(loss)
    return Ground(x, y, np.log10(above + 1e-6 * (np.nanmax(above) or 1.0)), plane.minimum)


def ways(comparison: Comparison, plane: Plane) -> list[tuple[str, int, Array]]:
    """Each optimizer's trajectory from the first seed."""
    made = []
    for look, result in enumerate(comparison.results):
        path = next((outcome.path for outcome in result.outcomes if outcome.path), None)
        way = _thinned(np.array(path or np.empty((0, 2)), dtype=float), plane)
        if len(way):
            made.append((result.entrant.label, look, way))
    return made


def _thinned(path: Array, plane: Plane) -> Array:
    """The points of a trajectory until it leaves the plane, without those too close to be distinguished."""
    low, high = np.array([plane.x, plane.y]).T
    size = high - low
    near = (np.abs(path - (low + high) / 2) <= REACH * size).all(axis=1)  # false for NaN
    path = path[np.logical_and.accumulate(near)]
    if not len(path):
        return path
    thinned = [path[0]]
    for point in path[1:-1]:
        if (np.abs(point - thinned[-1]) > FINENESS * size).any():
            thinned.append(point)
    return np.array([*thinned, path[-1]])
