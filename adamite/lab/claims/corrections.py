"""The parts of Adam's equations: moments, their bias, epsilon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import adamite
from adamite.frontend.catalogue import CONVENTIONS
from adamite.lab.claims import contrasts
from adamite.lab.claims.claim import HOLDS, NOT, WHEN, Claim, Finding, plainly
from adamite.lab.claims.exact import moves, states
from adamite.lab.claims.lab import Lab
from adamite.lab.compare.entrants import Entrant, find
from adamite.lab.page import Table
from adamite.language.maths import sqrt
from adamite.language.rule import rule


@rule
def uncorrected(g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):  # type: ignore[no-untyped-def]
    """Adam without bias correction."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    return lr * m / (sqrt(v) + eps), m, v


def combines(lab: Lab) -> Finding:
    g = list(np.random.default_rng(0).normal(size=(100, 50)))
    adam = states(adamite.Adam, g)
    velocity = states(adamite.Momentum, g)["b"]
    square = states(adamite.RMSprop, g, rho=0.999)["v"]
    apart = float(np.abs(adam["m"] - 0.1 * velocity).max()), float(np.abs(adam["v"] - square).max())
    rows = [("m against 0.1 of momentum's velocity", f"{apart[0]:.1e}"), ("v against RMSprop's", f"{apart[1]:.1e}")]
    figures = f"after 100 steps m differs by {apart[0]:.0e}, v by {apart[1]:.0e}"
    return Finding(plainly(max(apart) < 1e-12), figures, Table(("state", "largest difference"), rows))


def weights(lab: Lab) -> Finding:
    first = states(adamite.Adam, [1.0])
    second = states(adamite.Adam, [1.0, 0.0])
    shares = {name: (float(first[name]), float(second[name] / first[name])) for name in ("m", "v")}
    rows = [(name, f"{a:.4g}", f"{b:.4g}") for name, (a, b) in shares.items()]
    claimed = {"m": (0.1, 0.9), "v": (0.001, 0.999)}
    held = all(np.allclose(shares[name], claimed[name]) for name in claimed)
    figures = f"current, past: m {rows[0][1]}, {rows[0][2]}; v {rows[1][1]}, {rows[1][2]}"
    return Finding(plainly(held), figures, Table(("moment", "of the current", "of the past"), rows))


def variance(lab: Lab) -> Finding:
    """Gradients of equal variance, with and without a mean."""
    centred = np.where(np.arange(20_000) % 2 == 0, 1.0, -1.0)
    kinds = {"mean 0, variance 1": centred, "mean 3, variance 1": centred + 3, "mean 3, variance 0": 0 * centred + 3}
    rows, matches = [], []
    for name, g in kinds.items():
        v = float(states(adamite.Adam, list(g))["v"])
        matches.append(bool(abs(v - g.var()) < 0.01))
        rows.append((name, f"{g.var():.3g}", f"{v:.3g}"))
    verdict = HOLDS if all(matches) else WHEN if matches[0] else NOT
    condition = "the gradients' mean is 0; else v is their mean square" if verdict == WHEN else ""
    figures = "v of " + ", ".join(f"{name}: {v}" for name, _, v in rows)
    return Finding(verdict, figures, Table(("gradients", "variance", "v"), rows), condition)


def larger(lab: Lab) -> Finding:
    scales = [0.01, 0.1, 1.0, 10.0]
    noise = np.random.default_rng(0).normal(size=5000)
    rates = []
    for scale in scales:
        v = float(states(adamite.Adam, list(scale * noise))["v"]) / (1 - 0.999**5000)
        rates.append(0.001 / (v**0.5 + 1e-8))
    rows = [(f"{s:g}", f"{r:.3g}") for s, r in zip(scales, rates)]
    figures = "rate at gradients of " + ", ".join(f"{s}: {r}" for s, r in rows)
    words = "The step itself, rate times gradient, is equal for all: it doesn't depend on the gradients' scale."
    return Finding(
        plainly(rates == sorted(rates, reverse=True)), figures, Table(("deviation", "rate"), rows), words=words
    )


def biased(lab: Lab) -> Finding:
    rows, moments = [], {}
    for t in (1, 10, 100, 1000, 5000):
        after = states(adamite.Adam, [1.0] * t)
        moments[t] = float(after["m"]), float(after["v"])
        rows.append((str(t), *(f"{moment:.3g}" for moment in moments[t])))
    held = max(moments[1]) < 0.5 and min(moments[5000]) > 0.99
    figures = f"of a gradient of 1: m {rows[0][1]}, v {rows[0][2]} at step 1; v {rows[3][2]} still at step 1000"
    return Finding(plainly(held), figures, Table(("step", "m", "v"), rows))


def critical(lab: Lab) -> Finding:
    plain = Entrant("uncorrected", uncorrected, {}, find("adam").space)
    first = moves(adamite.optimizer(uncorrected), [1.0], lr=1.0)[0] / moves(adamite.Adam, [1.0], lr=1.0)[0]
    names = "digits", "embeddings", "logistic", "quadratic", "factorisation"
    finding = contrasts.faster(lab, "adam", plain, names)
    words = f"Without the correction the first step is {float(first):.3g} times as long, not shorter."
    return replace(finding, words=words)


def epsilon(lab: Lab) -> Finding:
    half = np.float16(1e-8)
    rows = []
    steps = {}
    for size in (1e-4, 1e-6, 1e-8, 1e-10):
        steps[size] = [float(moves(adamite.Adam, [size], lr=1.0, eps=eps)[0]) for eps in (1e-8, 1e-16)]
        rows.append((f"{size:g}", *(f"{s:.3g}" for s in steps[size])))
    held = half != 0 and min(steps[1e-8]) > 0.9
    cut = " and ".join(f"{s:.2g} lr with eps {e}" for s, e in zip(steps[1e-8], ("1e-8", "1e-16")))
    figures = f"1e-8 is {half:g} in float16; at gradients of 1e-8 the first step is {cut}"
    headers = "gradient", "first step / lr, eps 1e-8", "eps 1e-16"
    words = "In float16 a first gradient of zero is then divided by zero, and gives NaN."
    return Finding(plainly(held), figures, Table(headers, rows), words=words)


def keras(lab: Lab) -> Finding:
    default = CONVENTIONS["Adam"]["keras"].default("eps")
    rows = []
    for name, convention, eps in (
        ("Keras's default", "keras", default),
        ("Keras with 1e-8", "keras", 1e-8),
        ("the paper's 1e-8", "paper", 1e-8),
    ):
        step = float(moves(adamite.Adam, [1e-6], lr=1.0, convention=convention, eps=eps)[0])
        rows.append((name, f"{eps:g}", f"{step:.3g}"))
    figures = (
        f"Keras's is {default:g}; at gradients of 1e-6 its first step is {rows[0][2]} lr, the paper's {rows[2][2]}"
    )
    words = "Keras adds it before the correction of v, where it acts up to 32 times as large."
    return Finding(plainly(default == 1e-8), figures, Table(("Adam", "eps", "first step / lr"), rows), words=words)


MOMENTS = "Step 3: Update Second-Order Moment"
CLAIMS = (
    Claim(
        "combines",
        "Introduction",
        "Adam combines the strengths of two popular optimizers",
        "Exact, of the equations: Adam's m is momentum's velocity times 1 - beta1, and its v is RMSprop's.",
        combines,
    ),
    Claim(
        "weights",
        "Step 2: Update First-Order Moment",
        "10% of current gradient + 90% of past momentum",
        "Exact: what a gradient leaves in m and v, and what the next step keeps of it (v: 0.1 % and 99.9 %).",
        weights,
    ),
    Claim(
        "variance",
        MOMENTS,
        "captures the variance of gradients for each parameter",
        "Exact: v is the gradients' variance, whatever their mean; on a condition, where the mean is 0.",
        variance,
    ),
    Claim(
        "larger-v",
        "Step 5: Update Parameters",
        "the effective learning rate is small (prevents large updates)",
        "Exact: the larger the gradients' spread, the smaller the effective rate.",
        larger,
    ),
    Claim(
        "biased",
        "Step 4: Correct Bias in Moments",
        "are biased toward zero",
        "Exact: with gradients of 1, m and v are below half of what they estimate at step 1, and within 1 % at 5,000.",
        biased,
    ),
    Claim(
        "bias-critical",
        "Core Motivation",
        "critical for early training steps",
        "Adam needs fewer steps to the target than the same without correction, both tuned: the interval of the ratio "
        "above 1.",
        critical,
    ),
    Claim(
        "epsilon",
        "Key Hyperparameters of Adam",
        "Never change (prevents division by zero)",
        "Exact: 1e-8 isn't zero in float16, and no gradient down to 1e-8 has its step cut by more than a tenth.",
        epsilon,
    ),
    Claim(
        "keras-epsilon", "Step 2: Adam in TensorFlow/Keras", "# Default epsilon", "Exact: it is Keras's default.", keras
    ),
)
