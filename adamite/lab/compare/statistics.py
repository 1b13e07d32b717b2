"""Statistics of few seeds: medians with bootstrap intervals, and whether a difference is significant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import comb
from scipy.stats import PermutationMethod, mannwhitneyu

LEVEL = 0.95
_RESAMPLES = 4000


class Interval(NamedTuple):
    """A median with its confidence interval."""

    median: float
    low: float
    high: float


def interval(values: Sequence[float], seed: int = 0) -> Interval:
    """The median with its percentile bootstrap interval (Efron 1979); NaN and infinities count as the worst."""
    sample = np.where(np.isnan(values), np.inf, values)
    drawn = np.random.default_rng(seed).choice(sample, (_RESAMPLES, len(sample)))
    ends = (1 - LEVEL) / 2
    medians = np.sort(np.median(drawn, axis=1))
    low, high = (medians[round(q * (_RESAMPLES - 1))] for q in (ends, 1 - ends))
    return Interval(float(np.median(sample)), float(low), float(high))


def contrast(
    first: Sequence[float],
    second: Sequence[float],
    how: Literal["difference", "ratio"] = "difference",
    of: Callable[..., Any] = np.median,
    seed: int = 0,
) -> Interval:
    """The first's median minus the second's, or divided by it, with its percentile bootstrap interval.

    NaN and infinities count as the worst; two of them are equal.

    Args:
        of: another statistic than the median: a function of an array and an axis, as in NumPy.
    """
    rng = np.random.default_rng(seed)
    apart, same = (np.subtract, 0.0) if how == "difference" else (np.divide, 1.0)
    ends = (1 - LEVEL) / 2
    samples = [np.where(np.isnan(values), np.inf, values) for values in (first, second)]
    drawn = [rng.choice(sample, (_RESAMPLES, len(sample))) for sample in samples]
    with np.errstate(all="ignore"):
        whole = apart(*(of(sample[None], axis=1) for sample in samples))
        parts = apart(*(of(draw, axis=1) for draw in drawn))
    whole, parts = (np.where(np.isnan(values), same, values) for values in (whole, parts))
    low, high = (np.sort(parts)[round(q * (_RESAMPLES - 1))] for q in (ends, 1 - ends))
    return Interval(float(whole[0]), float(low), float(high))


def ties(costs: Mapping[str, Sequence[float]]) -> dict[str, bool]:
    """For each name, whether it can't be distinguished from the one with the lowest median.

    Mann and Whitney's test (1947) of each against the best, two-sided, corrected for their number by Holm (1979).
    """
    if min(map(len, costs.values())) < 2:
        return dict.fromkeys(costs, True)
    best = min(costs, key=lambda name: interval(costs[name]).median)
    others = [name for name in costs if name != best]
    chances = {name: _chance(costs[best], costs[name]) for name in others}
    told: dict[str, bool] = {best: True}
    still = True
    for rank, name in enumerate(sorted(others, key=lambda name: chances[name])):
        still = still and chances[name] * (len(others) - rank) <= 1 - LEVEL
        told[name] = not still
    return told


def can_tell(seeds: int, others: int) -> bool:
    """Whether this number of seeds could show that one is better than so many others, if all its values were."""
    return bool(others * 2 / comb(2 * seeds, seeds) <= 1 - LEVEL)


def _chance(first: Sequence[float], second: Sequence[float]) -> float:
    """The p-value: how often two samples of one distribution would differ as much."""
    a, b = (np.where(np.isnan(v), np.inf, v) for v in (first, second))
    ranks = {value: k for k, value in enumerate(np.unique([*a, *b]))}  # infinities have ranks too
    method = PermutationMethod(n_resamples=9999, rng=np.random.default_rng(0))  # all of them up to seven seeds
    return float(mannwhitneyu([ranks[v] for v in a], [ranks[v] for v in b], method=method).pvalue)
