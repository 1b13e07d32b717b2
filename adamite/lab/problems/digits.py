"""Handwritten digits, read by a small neural network written out in NumPy.

Data: the 1,797 scans of 8 x 8 pixels that come with scikit-learn (``load_digits``): the test
part of the UCI "Optical Recognition of Handwritten Digits" set (Alpaydin and Kaynak, 1998).
A fixed shuffle keeps 1,437 of them for training and 360 for testing.

Network: 64 pixels, 32 ReLU units, 10 scores; softmax cross-entropy. 2,410 parameters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.datasets import load_digits

from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare
from adamite.lab.problems.softmax import cross_entropy

Array = NDArray[Any]
Params = dict[str, Array]

PIXELS, HIDDEN, CLASSES = 64, 32, 10
TEST_SCANS = 360


@dataclass(frozen=True)
class Digits:
    """Scans as rows of 64 pixels from 0 to 1, and the digit that each shows."""

    train_scans: Array
    train_digits: Array
    test_scans: Array
    test_digits: Array

    def batches(self, size: int, seed: int) -> Iterator[tuple[Array, Array]]:
        """Mini-batches without end: a new shuffle each epoch, without its incomplete last batch."""
        rng = np.random.default_rng(seed)
        while True:
            order = rng.permutation(len(self.train_scans))
            for i in range(0, len(order) - size + 1, size):
                rows = order[i : i + size]
                yield self.train_scans[rows], self.train_digits[rows]


def load(dtype: DTypeLike = np.float32) -> Digits:
    scans, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(scans))
    scans, digits = (scans[order] / 16).astype(dtype), digits[order]
    return Digits(scans[:-TEST_SCANS], digits[:-TEST_SCANS], scans[-TEST_SCANS:], digits[-TEST_SCANS:])


def start(seed: int, dtype: DTypeLike = np.float32) -> Params:
    """Weights as He et al. (2015) draw them for ReLU, so that activations keep their scale."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, np.sqrt(2 / PIXELS), (PIXELS, HIDDEN)),
        "b1": np.zeros(HIDDEN),
        "w2": rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, CLASSES)),
        "b2": np.zeros(CLASSES),
    }
    return {name: weight.astype(dtype) for name, weight in weights.items()}


def scores(params: Params, scans: Array) -> tuple[Array, Array]:
    """The hidden layer and the score of each class."""
    hidden = np.maximum(scans @ params["w1"] + params["b1"], 0)
    return hidden, hidden @ params["w2"] + params["b2"]


def read(params: Params, scans: Array) -> Array:
    """The digit that the network sees in each scan."""
    return np.asarray(scores(params, scans)[1].argmax(axis=1))


def accuracy(params: Params, scans: Array, digits: Array) -> float:
    return float(np.mean(read(params, scans) == digits))


def loss_and_gradient(params: Params, scans: Array, digits: Array) -> tuple[float, Params]:
    """Mean cross-entropy over the batch, and its gradient by the chain rule, last layer first."""
    hidden, score = scores(params, scans)
    loss, d_score = cross_entropy(score, digits)
    d_hidden = (d_score @ params["w2"].T) * (hidden > 0)
    gradient = {
        "w1": scans.T @ d_hidden,
        "b1": d_hidden.sum(axis=0),
        "w2": hidden.T @ d_score,
        "b2": d_score.sum(axis=0),
    }
    return loss, gradient


@declare(
    name="digits",
    source="Alpaydin, Kaynak 1998",
    steps=600,
    metric="accuracy",
    higher=True,
    tuned="validation loss",
    target=0.95,
)
def problem(seed: int) -> Run:
    """Handwritten digits, a network of 2,410 parameters."""
    data, params = load(), start(seed)
    held_out = len(data.train_scans) // 5  # the validation set, which isn't trained on
    part = Digits(data.train_scans[held_out:], data.train_digits[held_out:], data.test_scans, data.test_digits)
    batches = part.batches(32, seed)

    def measure() -> dict[str, float]:
        return {
            "accuracy": accuracy(params, data.test_scans, data.test_digits),
            "validation loss": loss_and_gradient(params, data.train_scans[:held_out], data.train_digits[:held_out])[0],
        }

    return Run(params, lambda: loss_and_gradient(params, *next(batches)), measure)
