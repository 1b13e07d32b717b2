"""A straight line through 100 noisy points, fitted by mean squared error.

Data: made here, as in the tutorial program that this library started from: y = 2x + 1 plus
standard normal noise from NumPy's seed 42. The noise moves the best line: least squares gives
w = 2.01379, b = 0.89615 and a loss of 0.81490, and that is what an optimizer should reach.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare

Array = NDArray[Any]

TRUE_LINE = np.array([2.0, 1.0])


@dataclass(frozen=True)
class Regression:
    """The points; the parameters are one array ``[w, b]``."""

    x: Array
    y: Array

    def start(self) -> Array:
        return np.zeros(2)

    def predict(self, params: Array) -> Array:
        w, b = params
        return np.asarray(w * self.x + b)

    def loss(self, params: Array) -> float:
        return float(np.mean((self.predict(params) - self.y) ** 2))

    def gradient(self, params: Array) -> Array:
        error = self.predict(params) - self.y
        return np.array([2 * np.mean(error * self.x), 2 * np.mean(error)])

    def solution(self) -> Array:
        """The least-squares line: no other has a lower loss."""
        columns = np.stack([self.x, np.ones_like(self.x)], axis=1)
        return np.asarray(np.linalg.lstsq(columns, self.y)[0])


def load() -> Regression:
    x = np.linspace(-5, 5, 100)
    w, b = TRUE_LINE
    # RandomState draws what np.random.seed(42) would, and leaves the global generator alone.
    return Regression(x, w * x + b + np.random.RandomState(42).normal(0, 1, size=x.shape))


@declare(name="regression", source="Adam Optimizer", steps=100, target=0.82)
def problem(seed: int) -> Run:
    """A straight line through 100 noisy points.

    The article's program, but from a start that is drawn near its (0, 0).
    """
    points = load()
    params = points.start() + np.random.default_rng(seed).normal(0, 0.1, 2)
    return Run(params, lambda: (points.loss(params), points.gradient(params)))
