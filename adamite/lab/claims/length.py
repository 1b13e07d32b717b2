"""How long testing a claim takes, so that users can decide whether to wait.

Counted for 10 settings and 5 seeds: the trainings that a claim needs, times the seconds that one takes on a core, over
two cores. Another machine may be several times as fast or as slow; the progress bar goes by what it measures.
"""

from __future__ import annotations

from collections.abc import Sequence

BUDGET, SEEDS = 10, 5
QUICK = 0.1  # the fraction of a training's steps in a quick look


def expected(slugs: Sequence[str], budget: int, seeds: int, quick: bool) -> list[float]:
    """About how many seconds each of these claims takes, in this order."""
    after_others = len(slugs) == len(SECONDS)
    share = (budget + seeds) / (BUDGET + SEEDS) * (QUICK if quick else 1)
    return [max(0.1, share * SECONDS[slug][after_others]) for slug in slugs]


# The seconds of a claim by itself, and after the claims above it, with which it shares trainings.
SECONDS: dict[str, tuple[int, int]] = {
    "sgd-slow": (64, 64),
    "adam-faster": (64, 32),
    "momentum-faster": (64, 1),
    "rmsprop-slower": (64, 32),
    "sgd-oscillates": (0, 0),
    "stability": (68, 4),
    "line": (0, 0),
    "cnn-98": (778, 755),
    "cnn-sgd": (778, 0),
    "large-faster": (778, 0),
    "sparse-smaller": (0, 0),
    "sgd-equally": (0, 0),
    "rmsprop-sparse": (2, 1),
    "adam-sparse": (2, 0),
    "combines": (0, 0),
    "weights": (0, 0),
    "variance": (0, 0),
    "larger-v": (0, 0),
    "biased": (0, 0),
    "bias-critical": (5, 2),
    "epsilon": (0, 0),
    "keras-epsilon": (0, 0),
    "defaults": (64, 30),
    "robust": (92, 12),
    "lr-simple": (18, 18),
    "lr-reduce": (1, 1),
    "beta1-noisy": (4, 4),
    "beta1-fast": (0, 0),
    "beta2-optimal": (10, 10),
    "beta2-fast": (0, 0),
    "schedule": (22, 11),
    "plateau": (0, 0),
    "adamw-is-l2": (0, 0),
    "adamw-overfitting": (0, 0),
    "adamw-than-l2": (0, 0),
    "adamw-numbers": (0, 0),
    "amsgrad-flaw": (38, 38),
    "amsgrad-rare": (46, 23),
    "adabelief-gan": (28, 17),
    "adabelief-novel": (0, 0),
    "default-choice": (172, 22),
    "sgd-small": (1, 0),
    "sgd-policy": (3, 1),
    "sgd-memory": (0, 0),
    "sgd-edge": (0, 0),
    "adam-memory": (0, 0),
    "efficient": (32, 0),
    "manual": (0, 0),
}
