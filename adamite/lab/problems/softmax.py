"""Softmax and cross-entropy, written out in NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def cross_entropy(scores: Array, labels: Array) -> tuple[float, Array]:
    """The mean cross-entropy over a batch, and its gradient with respect to the scores."""
    scores = scores - scores.max(axis=1, keepdims=True)  # exp can't overflow, and the softmax is the same
    exp = np.exp(scores)
    total = exp.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = float(np.mean(np.log(total[:, 0]) - scores[rows, labels]))
    gradient = exp / total  # softmax minus one-hot, averaged over the batch
    gradient[rows, labels] -= 1
    return loss, gradient / len(labels)
