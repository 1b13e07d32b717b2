"""Rosenbrock's banana: a curved valley, steep across and nearly flat along.

Source: Rosenbrock, "An Automatic Method for Finding the Greatest or Least Value of a Function"
(The Computer Journal, 1960): 100 (y - x²)² + (1 - x)², from (-1.2, 1), with the minimum (1, 1).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamite.lab.problem import Plane, Run
from adamite.lab.problem import problem as declare
from adamite.lab.problems.surface import near

START = -1.2, 1.0


def value(x: Any, y: Any) -> Any:
    return 100 * (y - x**2) ** 2 + (1 - x) ** 2


def gradient(x: float, y: float) -> NDArray[Any]:
    return np.array([-400 * x * (y - x**2) - 2 * (1 - x), 200 * (y - x**2)])


@declare(
    name="rosenbrock",
    source="Rosenbrock 1960",
    steps=2000,
    target=1e-3,
    plane=Plane(value, x=(-2, 2), y=(-1, 3), minimum=(1, 1)),
)
def problem(seed: int) -> Run:
    """Rosenbrock's curved, narrow valley."""
    return near(START, seed, value, gradient)
