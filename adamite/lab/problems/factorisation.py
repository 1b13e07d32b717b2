"""Missing ratings, predicted by the product of two thin matrices.

Model: Koren, Bell and Volinsky, "Matrix Factorization Techniques for Recommender Systems"
(IEEE Computer, 2009): a rating is a bias of the user, a bias of the item, and the product of
their vectors. The loss of a batch is a sum, as in the paper: of the squared errors, and 0.02 of
the squares of what each rating used.

Data: made here, from NumPy's seed 0, by such a model: 300 users, 200 items, biases of deviation
0.5, vectors of 3 numbers whose product has deviation 1, and noise of deviation 0.3, which no
prediction can be better than. A fifth of the 60,000 ratings are known: 80 % of those are
trained on, 10 % choose the settings, 10 % test.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare

Array = NDArray[Any]
Params = dict[str, Array]

USERS, ITEMS, TRUE_RANK, RANK = 300, 200, 3, 5
NOISE, L2, BATCH = 0.3, 0.02, 128


class Ratings(NamedTuple):
    """Users, items and ratings."""

    user: Array
    item: Array
    rating: Array

    def at(self, rows: Any) -> "Ratings":
        return Ratings(*(column[rows] for column in self))


@functools.cache
def load() -> tuple[Ratings, Ratings, Ratings]:
    """Ratings to train on, to choose settings by, and to test on."""
    rng = np.random.default_rng(0)
    side = TRUE_RANK**-0.25  # of both sides, so that the product's deviation is 1
    truth = rng.normal(0, side, (USERS, TRUE_RANK)) @ rng.normal(0, side, (TRUE_RANK, ITEMS))
    truth += rng.normal(0, 0.5, (USERS, 1)) + rng.normal(0, 0.5, (1, ITEMS))
    truth += rng.normal(0, NOISE, truth.shape)
    observed = rng.permutation(truth.size)[: truth.size // 5]
    every = Ratings(observed // ITEMS, observed % ITEMS, truth.ravel()[observed])
    tenth = len(observed) // 10
    return every.at(slice(2 * tenth, None)), every.at(slice(tenth, 2 * tenth)), every.at(slice(tenth))


def errors(params: Params, at: Ratings) -> Array:
    product = np.sum(params["users"][at.user] * params["items"][at.item], axis=1)
    return np.asarray(product + params["user bias"][at.user] + params["item bias"][at.item] - at.rating)


def loss_and_gradient(params: Params, at: Ratings) -> tuple[float, Params]:
    error = errors(params, at)
    loss, gradient = np.sum(error**2), {name: np.zeros_like(array) for name, array in params.items()}
    for side, other, mine, theirs in (("user", "item", at.user, at.item), ("item", "user", at.item, at.user)):
        vectors, bias = params[f"{side}s"][mine], params[f"{side} bias"][mine]
        loss += L2 * (np.sum(vectors**2) + np.sum(bias**2))
        slope = error[:, None] * params[f"{other}s"][theirs] + L2 * vectors
        np.add.at(gradient[f"{side}s"], mine, 2 * slope)
        np.add.at(gradient[f"{side} bias"], mine, 2 * (error + L2 * bias))
    return float(loss), gradient


@declare(
    name="factorisation",
    source="Koren et al. 2009",
    steps=2000,
    metric="test error",
    tuned="validation error",
    target=0.4,
)
def problem(seed: int) -> Run:
    """Missing ratings, by matrix factorisation."""
    train, valid, test = load()
    rng = np.random.default_rng(seed)
    params = {
        "users": rng.normal(0, 0.1, (USERS, RANK)),
        "items": rng.normal(0, 0.1, (ITEMS, RANK)),
        "user bias": np.zeros(USERS),
        "item bias": np.zeros(ITEMS),
    }

    def loss() -> tuple[float, Params]:
        return loss_and_gradient(params, train.at(rng.integers(len(train.rating), size=BATCH)))

    def measure() -> dict[str, float]:
        parts = {"test error": test, "validation error": valid}
        return {name: float(np.sqrt(np.mean(errors(params, part) ** 2))) for name, part in parts.items()}

    return Run(params, loss, measure)
