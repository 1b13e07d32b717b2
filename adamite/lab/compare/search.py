"""Which settings are tried: points of a low-discrepancy sequence, which depend on the seed and their number alone.

So cores, the order of arrival and a stop change nothing, a larger budget goes on where a smaller one ended, and every
optimizer is tried at the same relative places of its ranges.
"""

from __future__ import annotations

from collections.abc import Mapping

from scipy.stats import qmc

from adamite.lab.compare.entrants import Range


def settings(space: Mapping[str, Range], seed: int, number: int) -> dict[str, float]:
    """The settings of a trial: the point of that number of a scrambled Halton sequence, in these ranges."""
    if not space:
        return {}
    sequence = qmc.Halton(len(space), scramble=True, rng=seed)
    sequence.fast_forward(number)
    (point,) = sequence.random(1)
    return {name: range_.at(share) for (name, range_), share in zip(space.items(), point.tolist(), strict=True)}
