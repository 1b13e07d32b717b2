"""A noisy quadratic bowl of any condition number.

Model: Zhang et al., "Which Algorithmic Choices Matter at Which Batch Sizes? Insights From a
Noisy Quadratic Model" (2019, arXiv 1907.04164): curvatures h_i, and a gradient whose noise has
the covariance of the curvature. Here h_i falls geometrically from 10 to 10/condition, and the
axes are turned by a fixed rotation: else a step size for each parameter would be all one needs.

Another bowl is a file of two lines, for ``--problem bowl.py:problem``::

    from adamite.lab.problems.quadratic import quadratic
    problem = quadratic(condition=1e6)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamite.lab.problem import Problem, Run
from adamite.lab.problem import problem as declare

Array = NDArray[Any]


def quadratic(condition: float = 1000, size: int = 50, noise: float = 0.3) -> Problem:
    """A bowl with this condition number, number of parameters and noise."""
    curvature = np.geomspace(10, 10 / condition, size)
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))[0]

    def begin(seed: int) -> Run:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=size)
        start = axes.T @ x

        def loss() -> tuple[float, Array]:
            along = axes.T @ x
            slope = noise * np.sqrt(curvature) * rng.normal(size=size)
            return float(along @ (curvature * along / 2 + slope)), axes @ (curvature * along + slope)

        def height() -> dict[str, float]:
            """The loss without noise, relative to the start's."""
            along = axes.T @ x
            return {"height": float(curvature @ along**2 / (curvature @ start**2))}

        return Run(x, loss, height)

    title = f"A quadratic of condition number {condition:g}, {size} parameters, noise {noise:g}"
    return declare(name="quadratic", title=title, source="Zhang et al. 2019", steps=1000, metric="height", target=0.01)(
        begin
    )


problem = quadratic()
