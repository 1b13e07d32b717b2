"""Beale's function: a flat basin between walls as steep as the sixth power.

Source: Beale, "On an Iterative Method for Finding a Local Minimum of a Function of More than
One Variable" (1958); number 5 of Moré, Garbow and Hillstrom, "Testing Unconstrained
Optimization Software" (1981): the sum of (c_i - x (1 - y^i))² with c = 1.5, 2.25, 2.625, from
(1, 1), with the minimum (3, 0.5).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamite.lab.problem import Plane, Run
from adamite.lab.problem import problem as declare
from adamite.lab.problems.surface import near

START = 1.0, 1.0
TERMS = (1, 1.5), (2, 2.25), (3, 2.625)


def value(x: Any, y: Any) -> Any:
    return sum((c - x * (1 - y**i)) ** 2 for i, c in TERMS)


def gradient(x: float, y: float) -> NDArray[Any]:
    errors = [(i, c - x * (1 - y**i)) for i, c in TERMS]
    return np.array([sum(-2 * e * (1 - y**i) for i, e in errors), sum(2 * e * i * x * y ** (i - 1) for i, e in errors)])


@declare(
    name="beale",
    source="Beale 1958",
    steps=300,
    target=1e-3,
    plane=Plane(value, x=(-1, 4.5), y=(-1.5, 1.5), minimum=(3, 0.5)),
)
def problem(seed: int) -> Run:
    """Beale's flat basin between steep walls."""
    return near(START, seed, value, gradient)
