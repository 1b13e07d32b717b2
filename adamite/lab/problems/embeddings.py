"""A text's topic, from the sum of its words' vectors: most words are rare, and so are their gradients.

Model: a bag of embeddings, as in Joulin et al., "Bag of Tricks for Efficient Text
Classification" (2016, arXiv 1607.01759): 5,000 words with a vector of 16 numbers each, their
sum, four scores. 80,068 parameters in NumPy.

Data: made here, from NumPy's seed 0. A text has 20 words. The k-th most frequent word has a
frequency proportional to 1/k (Zipf, 1935), and says nothing, except for 4 x 200 words from all
but the 100 most frequent: those belong to a topic, and a sixth of a text's words are drawn from
its topic's 200. So what a topic is known by is seen seldom: a batch has some hundred different
words, and all other rows of the gradient are zero. 5,000 texts are trained on, 1,000 choose the
settings, 2,000 test.
"""

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare
from adamite.lab.problems.softmax import cross_entropy

Array = NDArray[Any]
Params = dict[str, Array]

WORDS, COMMON, LENGTH, TOPICS, OWN, SHARE = 5000, 100, 20, 4, 200, 1 / 6
WIDTH, BATCH = 16, 32
TRAIN, VALID, TEST = 5000, 1000, 2000


class Texts(NamedTuple):
    """A row of word numbers for each text, and its topic."""

    words: Array
    topics: Array


@functools.cache
def load() -> tuple[Texts, Texts, Texts]:
    """Texts to train on, to choose settings by, and to test on."""
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, WORDS + 1)
    topic_words = COMMON + rng.permutation(WORDS - COMMON)[: TOPICS * OWN].reshape(TOPICS, OWN)
    neutral = np.setdiff1d(np.arange(WORDS), topic_words)

    def drawn(among: Array, shape: tuple[int, ...]) -> Array:
        return rng.choice(among, shape, p=frequency[among] / frequency[among].sum())

    count = TRAIN + VALID + TEST
    topics = rng.integers(TOPICS, size=count)
    words = drawn(neutral, (count, LENGTH))
    telling = rng.random(words.shape) < SHARE
    for topic in range(TOPICS):
        places = telling & (topics == topic)[:, None]
        words[places] = drawn(topic_words[topic], (int(places.sum()),))
    ends = 0, TRAIN, TRAIN + VALID, count
    train, valid, test = (Texts(words[a:b], topics[a:b]) for a, b in itertools.pairwise(ends))
    return train, valid, test


def scores(params: Params, words: Array) -> tuple[Array, Array]:
    """The sum of the vectors, and the score of each topic."""
    total = params["vectors"][words].sum(axis=1)
    return total, total @ params["weights"] + params["bias"]


def loss_and_gradient(params: Params, texts: Texts) -> tuple[float, Params]:
    vector, score = scores(params, texts.words)
    loss, d_score = cross_entropy(score, texts.topics)
    d_word = np.repeat(d_score @ params["weights"].T, texts.words.shape[1], axis=0)
    d_vectors = np.zeros_like(params["vectors"])
    np.add.at(d_vectors, texts.words.ravel(), d_word)  # a word may occur in a batch more than once
    return loss, {"vectors": d_vectors, "weights": vector.T @ d_score, "bias": d_score.sum(axis=0)}


def start(rng: np.random.Generator) -> Params:
    return {
        "vectors": rng.normal(0, 0.1, (WORDS, WIDTH)),
        "weights": rng.normal(0, WIDTH**-0.5, (WIDTH, TOPICS)),
        "bias": np.zeros(TOPICS),
    }


@declare(
    name="embeddings",
    source="Joulin et al. 2016",
    steps=800,
    metric="accuracy",
    higher=True,
    tuned="validation loss",
    target=0.93,
)
def problem(seed: int) -> Run:
    """Topics of texts by vectors of words, with sparse gradients."""
    train, valid, test = load()
    rng = np.random.default_rng(seed)
    params = start(rng)

    def loss() -> tuple[float, Params]:
        rows = rng.integers(TRAIN, size=BATCH)
        return loss_and_gradient(params, Texts(train.words[rows], train.topics[rows]))

    def measure() -> dict[str, float]:
        return {
            "accuracy": float(np.mean(scores(params, test.words)[1].argmax(axis=1) == test.topics)),
            "validation loss": loss_and_gradient(params, valid)[0],
        }

    return Run(params, loss, measure)
