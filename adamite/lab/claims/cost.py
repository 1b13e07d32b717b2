"""Memory and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import adamite
from adamite.errors import listed
from adamite.lab.claims.claim import HOLDS, NOT, WHEN, Claim, Finding, across, plainly
from adamite.lab.claims.contrasts import shown, sign
from adamite.lab.claims.exact import Array
from adamite.lab.claims.lab import Lab
from adamite.lab.compare import statistics
from adamite.lab.compare.entrants import find
from adamite.lab.page import Table

SLIGHTLY = 0.1  # the fraction of all memory that "slightly" means


def _states() -> Table:
    rows = [(name, str(find(name).state_bytes)) for name in ("sgd", "momentum", "rmsprop", "adam", "adamw", "amsgrad")]
    return Table(("optimizer", "bytes of state a float32 weight"), rows)


def low(lab: Lab) -> Finding:
    state_bytes = {name: find(name).state_bytes for name in ("sgd", "momentum", "adam")}
    figures = "bytes of state a float32 weight: " + ", ".join(f"{name} {count}" for name, count in state_bytes.items())
    return Finding(plainly(state_bytes["sgd"] == 0 < state_bytes["adam"]), figures, _states())


def slightly(lab: Lab) -> Finding:
    """Compares Adam's state with weights, gradients, and the activations that the backward pass of one batch needs."""
    state, rows, share = find("adam").state_bytes, [], {}
    for name, (weights, activations) in _networks().items():
        without = 8 * weights + activations
        share[name] = state * weights / without
        rows.append((name, f"{weights:,}", f"{without / 1e6:.3g} MB", f"{share[name]:.0%}"))
    slight = [name for name, more in share.items() if more <= SLIGHTLY]
    verdict = HOLDS if len(slight) == len(share) else WHEN if slight else NOT
    condition = f"activations outweigh the weights, as in {listed(slight)}" if verdict == WHEN else ""
    figures = "more memory than SGD: " + ", ".join(f"{name} {more:.0%}" for name, more in share.items())
    words = "Without activations Adam's 8 bytes of state a weight double what weights and gradients take."
    headers = "training", "weights", "memory with SGD", "more with Adam"
    return Finding(verdict, figures, Table(headers, rows), condition, words)


def _networks() -> dict[str, tuple[int, int]]:
    """By network, the number of weights and the bytes that torch saves for the backward pass."""
    import torch
    from torch.nn import functional

    from adamite.lab.problems import mnist

    def measured(params: list[Any], run: Callable[[], Any]) -> tuple[int, int]:
        sizes: dict[int, int] = {}

        def record(tensor: Any) -> Any:
            address = tensor.untyped_storage().data_ptr()
            if address not in {p.untyped_storage().data_ptr() for p in params}:
                sizes[address] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
            loss = run()
        assert loss is not None
        return sum(p.numel() for p in params), sum(sizes.values())

    network, images = mnist.start(0), torch.zeros(64, 1, 28, 28)
    words = [torch.zeros(5000, 16, requires_grad=True), torch.zeros(4, 16, requires_grad=True)]
    texts = torch.zeros(32, 20, dtype=torch.long)
    labels = torch.zeros(64, dtype=torch.long)

    def network_loss() -> Any:
        return functional.cross_entropy(mnist.scores(network, images), labels)

    def words_loss() -> Any:
        return functional.linear(words[0][texts].sum(1), words[1]).logsumexp(1).sum()

    return {"the article's network": measured(network, network_loss), "words' vectors": measured(words, words_loss)}


def efficient(lab: Lab) -> Finding:
    """From the times recorded during the trainings."""
    cases, rows, figures = {}, [], []
    for name in lab.present(("digits", "mnist", "characters")):
        compared = lab.compare(name, ["adam"])
        shares = [o.step_seconds * o.steps[-1] / o.times[-1] for o in compared.results[0].outcomes]
        share = statistics.interval(shares)
        cases[name] = sign(share, 0.25) is False
        rows.append((name, f"{share.median:.0%} ({share.low:.0%} to {share.high:.0%})"))
        figures.append(f"{name} {share.median:.0%}")
    verdict, condition = across(cases)
    words = "Digits is a network of 2,410 weights, so nothing in it takes long."
    return Finding(
        verdict,
        f"of a training step Adam's takes: {', '.join(figures)}",
        Table(("problem", "share"), rows),
        condition,
        words,
    )


class ArticlesAdam:
    """The article's class with its equations and default hyperparameters."""

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
        self.lr, self.beta1, self.beta2, self.epsilon = lr, beta1, beta2, epsilon
        self.m: Any = None
        self.v: Any = None
        self.t = 0

    def update(self, params: Array, grad: Array) -> Array:
        if self.m is None:
            self.m = np.zeros_like(params)
            self.v = np.zeros_like(params)
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * grad
        self.v = self.beta2 * self.v + (1 - self.beta2) * (grad**2)
        m_hat = self.m / (1 - self.beta1**self.t)
        v_hat = self.v / (1 - self.beta2**self.t)
        updated: Array = params - self.lr * (m_hat / (np.sqrt(v_hat) + self.epsilon))
        return updated


def manual(lab: Lab) -> Finding:
    """Interleaved steps of both, in this process."""
    cases: dict[str, bool | None] = {}
    rows, figures = [], []
    for size, repeat in ((2, 300), (10_000, 100), (100_000, 10), (2_000_000, 1)):
        times = _race(size, 1 if lab.quick and size > 10_000 else repeat, 5 if lab.quick else 15)
        ratio = statistics.contrast(*times, "ratio")
        name = f"{size:,} weights"
        cases[name] = sign(ratio, 1)
        rows.append((name, *(f"{np.median(t) * 1e6:.3g} µs" for t in times), shown(ratio)))
        figures.append(f"{size:,}: {ratio.median:.2g}")
    verdict, condition = across(cases)
    headers = "", "the article's class", "adamite.Adam", "ratio (95 %)"
    return Finding(
        verdict, f"the class over adamite, by weights: {'; '.join(figures)}", Table(headers, rows), condition
    )


def _race(size: int, repeat: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds a step of the article's class and of adamite's, by round."""
    g = np.random.default_rng(0).normal(size=size)
    articles, params, x = ArticlesAdam(), np.zeros(size), np.zeros(size)
    optimizer = adamite.Adam(x)
    article_seconds: list[float] = []
    adamite_seconds: list[float] = []
    for round in range(rounds + 1):
        begin = time.perf_counter()
        for _ in range(repeat):
            params = articles.update(params, g)
        middle = time.perf_counter()
        for _ in range(repeat):
            optimizer.step(g)
        end = time.perf_counter()
        if round:  # the first one warms up
            article_seconds.append((middle - begin) / repeat)
            adamite_seconds.append((end - middle) / repeat)
    return article_seconds, adamite_seconds


CLAIMS = (
    Claim(
        "sgd-memory",
        "Adam vs. Other Optimizers",
        "Simple, low memory usage",
        "Exact: SGD has no state, Adam has some.",
        low,
    ),
    Claim(
        "sgd-edge",
        "When to Use SGD Instead",
        "Edge devices (lower memory usage)",
        "Exact: as above; whether the memory matters there isn't measured.",
        low,
    ),
    Claim(
        "adam-memory",
        "Adam vs. Other Optimizers",
        "Slightly higher memory usage than SGD",
        f"Exact: Adam's state is at most {SLIGHTLY:.0%} of weights, gradients and what a batch's backward pass keeps; "
        "on a condition, in one of two networks.",
        slightly,
    ),
    Claim(
        "efficient",
        "Introduction",
        "computationally efficient",
        "The optimizer's step takes less than a quarter of a training step: the interval over the seeds below it.",
        efficient,
    ),
    Claim(
        "manual",
        "Summary",
        "always use optimized implementations",
        "The article's class takes longer for a step than adamite: the interval of the ratio above 1 at each size.",
        manual,
    ),
)
