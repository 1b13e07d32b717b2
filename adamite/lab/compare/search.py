"""Which settings are tried: points of a low-discrepancy sequence, which depend only on the seed and their number.

So neither cores, nor the order of arrival, nor an interruption changes anything, a larger budget continues where a
smaller one ended, and every optimizer is tried at the same relative points of its ranges.
"""

from __future__ import annotations

from collections.abc import Mapping

from scipy.stats import qmc

from adamite.lab.compare.entrants import Range


def settings(space: Mapping[str, Range], seed: int, number: int) -> dict[str, float]:
    """The settings of a trial: the point with this number of a scrambled Halton sequence, scaled to the ranges."""
    if not space:
        return {}
    sequence = qmc.Halton(len(space), scramble=True, rng=seed)
    sequence.fast_forward(number)
    (point,) = sequence.random(1)
    return {name: range_.at(share) for (name, range_), share in zip(space.items(), point.tolist(), strict=True)}
