"""Where Adam goes to the worst point: Reddi, Kale and Kumar's counter-example.

Source: "On the Convergence of Adam and Beyond" (ICLR 2018, arXiv 1904.09237), sections 3 and 5:
the loss is 1010 x with probability 0.01, else -10 x, on [-1, 1]. On average it is 0.2 x, so -1
is best and 1 is worst. The rare large gradient is forgotten before the next one comes, so Adam
divides it by more than the small ones, and follows those to 1. AMSGrad doesn't forget.

The paper runs one x through 10 million steps. Here 256 run side by side, each from a start and
with draws of its own, so that their mean shows the drift in fewer. beta1 and beta2 are the
paper's, 0.9 and 0.99.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare

Array = NDArray[Any]

COPIES, CHANCE, LARGE, SMALL = 256, 0.01, 1010.0, -10.0
BETAS = {"beta1": 0.9, "beta2": 0.99, "rho": 0.99}


@declare(name="reddi", source="Reddi et al. 2018", steps=200_000, metric="distance", target=0.8, options=BETAS)
def problem(seed: int) -> Run:
    """Reddi's counter-example, where Adam goes to the worst point."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, COPIES)

    def loss() -> tuple[float, Array]:
        np.clip(x, -1, 1, out=x)  # the projection that follows each step in the paper
        slope = np.where(rng.random(COPIES) < CHANCE, LARGE, SMALL)
        return float(slope @ x), slope

    return Run(x, loss, lambda: {"distance": float(np.mean(np.clip(x, -1, 1) + 1))})
