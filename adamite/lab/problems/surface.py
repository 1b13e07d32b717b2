"""A function of two parameters, minimized from near a point."""

from collections.abc import Callable
from typing import Any

import numpy as np

from adamite.lab.problem import Run


def near(
    start: tuple[float, float], seed: int, value: Callable[[Any, Any], Any], gradient: Callable[[float, float], Any]
) -> Run:
    """A training without noise, from a random point near `start`."""
    at = np.array(start) + np.random.default_rng(seed).normal(0, 0.1, 2)
    return Run(at, lambda: (float(value(*at)), gradient(*at)))
