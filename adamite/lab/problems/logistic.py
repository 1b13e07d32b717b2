"""Logistic regression: convex, so the distance from the minimum is known.

Data: the 569 tumours with 30 measurements that come with scikit-learn (``load_breast_cancer``):
the UCI set "Breast Cancer Wisconsin (Diagnostic)" (Wolberg, Street and Mangasarian, 1995).
Each measurement is shifted and scaled to mean 0 and deviation 1; they depend on one another, so
that the curvatures of the loss still lie far apart.

Loss: the mean log-loss, and 0.001/2 of the weights' squares, with which there is one minimum.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer

from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare

Array = NDArray[Any]

L2, BATCH = 1e-3, 32


@functools.cache
def load() -> tuple[Array, Array]:
    """Measurements, with a last column of ones for the intercept, and +1 or -1."""
    x, benign = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return np.column_stack([x, np.ones(len(x))]), 2.0 * benign - 1


def loss_and_gradient(w: Array, x: Array, y: Array) -> tuple[float, Array]:
    margin = y * (x @ w)
    wrong = 1 / (1 + np.exp(np.minimum(margin, 500)))  # the probability of the other class
    loss = np.mean(np.logaddexp(0, -margin)) + L2 / 2 * (w @ w)
    return float(loss), L2 * w - x.T @ (y * wrong) / len(y)


@functools.cache
def lowest() -> float:
    """The minimum of the loss."""
    x, y = load()
    w = np.zeros(x.shape[1])
    options = {"maxiter": 10_000, "ftol": 1e-15, "gtol": 1e-10}
    solution = minimize(loss_and_gradient, w, (x, y), jac=True, method="L-BFGS-B", options=options)
    return float(solution.fun)


@declare(name="logistic", source="Wolberg et al. 1995", steps=1000, metric="excess loss", target=0.002)
def problem(seed: int) -> Run:
    """Logistic regression on 569 tumours, which is convex."""
    x, y = load()
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 0.1, x[0].shape)

    def loss() -> tuple[float, Array]:
        rows = rng.integers(len(y), size=BATCH)
        return loss_and_gradient(w, x[rows], y[rows])

    return Run(w, loss, lambda: {"excess loss": loss_and_gradient(w, x, y)[0] - lowest()})
