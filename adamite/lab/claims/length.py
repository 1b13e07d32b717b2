"""How long it takes to put claims to the test, for those who decide whether to wait.

Counted once, with 10 settings and 5 seeds: the trainings that a claim needs, times a training's seconds on a core of an
AMD EPYC, over two. Another machine is another number of times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence

BUDGET, SEEDS = 10, 5
QUICK = 0.1  # of a training's steps


def expected(slugs: Sequence[str], budget: int, seeds: int, quick: bool) -> list[float]:
    """About the seconds that each of these claims takes, in this order."""
    every = len(slugs) == len(SECONDS)
    share = (budget + seeds) / (BUDGET + SEEDS) * (QUICK if quick else 1)
    return [max(0.1, share * SECONDS[slug][every]) for slug in slugs]


# By itself, and after those above it, with which it shares trainings.
SECONDS: dict[str, tuple[float, float]] = {}
