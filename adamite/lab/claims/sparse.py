"""Sparse gradients: parameters whose gradients are mostly zero."""

from __future__ import annotations

from typing import Any

import numpy as np

import adamite
from adamite.lab.claims import contrasts
from adamite.lab.claims.claim import Claim, Finding, plainly
from adamite.lab.claims.exact import moves
from adamite.lab.claims.lab import Lab
from adamite.lab.page import Table

STEPS, RARE = 1000, 100


def _rates() -> dict[str, tuple[float, float]]:
    """The effective learning rate of a feature seen at every step, and of one seen at every 100th, by optimizer."""
    seen = np.array([[1.0, float(t % RARE == 0)] for t in range(1, STEPS + 1)])
    rates = {}
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "SGD": (adamite.SGD, {}),
        "Adagrad": (adamite.Adagrad, {}),
        "RMSprop": (adamite.RMSprop, {}),
        "Adam, beta1 0": (adamite.Adam, {"beta1": 0.0}),  # with momentum a step would depend on many gradients
    }
    for name, (make, options) in kinds.items():
        often, seldom = moves(make, list(seen), lr=1.0, **options)[-1]
        rates[name] = float(often), float(seldom)
    return rates


def _table() -> Table:
    rows = [(name, f"{a:.3g}", f"{b:.3g}", f"{b / a:.3g}") for name, (a, b) in _rates().items()]
    return Table(("optimizer", "seen always", "seen every 100th", "ratio"), rows)


def smaller(lab: Lab) -> Finding:
    adaptive = {name: b / a for name, (a, b) in _rates().items() if name != "SGD"}
    held = all(ratio < 1 for ratio in adaptive.values())
    figures = f"rare features get {', '.join(f'{r:.1f} times ({n})' for n, r in adaptive.items())} the rate"
    words = "The reverse: the rarer a feature, the larger the step that each adaptive method gives it when it is seen."
    return Finding(plainly(held), figures, _table(), words=words)


def equally(lab: Lab) -> Finding:
    a, b = _rates()["SGD"]
    return Finding(plainly(a == b), f"SGD: ratio {b / a:g}", _table())


def rmsprop(lab: Lab) -> Finding:
    return contrasts.faster(lab, "rmsprop", "sgd", ["embeddings"])


def adam(lab: Lab) -> Finding:
    return contrasts.faster(lab, "adam", "sgd", ["embeddings"])


RULE = "Fewer steps than SGD to 93 % on texts by their words' vectors, of which a batch meets some hundred of 5,000; {}"
ABOVE = RULE.format("the interval of the ratio above 1, both tuned.")

CLAIMS = (
    Claim(
        "sparse-smaller",
        "Core Motivation",
        "need smaller learning rates than dense gradients",
        "Exact: after 1,000 steps with gradients of 1, the adaptive methods give a feature seen at every 100th step a "
        "smaller rate than one seen always.",
        smaller,
    ),
    Claim(
        "sgd-equally",
        "Core Motivation",
        "SGD treats them equally",
        "Exact: the same with SGD; the ratio is 1.",
        equally,
    ),
    Claim("rmsprop-sparse", "Adam vs. Other Optimizers", "Good for sparse gradients", ABOVE, rmsprop),
    Claim("adam-sparse", "When to Use Adam", "Sparse data (e.g., NLP tasks with word embeddings)", ABOVE, adam),
)
