"""AdamW, AMSGrad and AdaBelief."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import adamite
from adamite.errors import counted
from adamite.lab.claims import contrasts
from adamite.lab.claims.claim import HOLDS, NOT, WHEN, Claim, Finding, plainly
from adamite.lab.claims.contrasts import shown
from adamite.lab.claims.exact import states
from adamite.lab.claims.lab import FEW, Lab, varied
from adamite.lab.compare import statistics
from adamite.lab.compare.entrants import find
from adamite.lab.page import Table

WHERE = "digits", "characters", "embeddings", "factorisation", "logistic", "quadratic", "gan", "cartpole"


def is_l2(lab: Lab) -> Finding:
    """Weights of 1 whose gradients are noise around 0: their mean shows what decay alone does."""
    rows, apart = [], []
    for size in (1.0, 0.1, 0.01, 0.001):
        ends = []
        for decay in ("decoupled", "l2"):
            x = np.ones(1000)
            optimizer = adamite.Adam(x, lr=1e-3, weight_decay=0.01, decay=decay)
            draw = np.random.default_rng(0)
            for _ in range(3000):
                optimizer.step(size * draw.normal(size=x.size))
            ends.append(float(x.mean()))
        apart.append(abs(ends[0] - ends[1]))
        rows.append((f"{size:g}", *(f"{end:.3f}" for end in ends)))
    figures = (
        f"weights of 1 after 3,000 steps, AdamW : Adam + L2: {', '.join(f'{a} : {b} (noise {s})' for s, a, b in rows)}"
    )
    headers = "gradients' deviation", "AdamW", "Adam + L2"
    words = "L2's gradient is divided by the root of v as all are, so where gradients are small it decays far more."
    return Finding(plainly(max(apart) < 0.01), figures, Table(headers, rows), words=words)


def overfitting(lab: Lab) -> Finding:
    """The accuracy decides; the gap is a remark."""
    compared = lab.compare(FEW, ["adamw", "adam"])
    finding = contrasts.better(lab, "adamw", "adam", [FEW])
    gaps = [[outcome.value("gap") for outcome in result.outcomes] for result in compared.results]
    gap = statistics.contrast(gaps[1], gaps[0])
    words = f"Adam's gap between training and test accuracy minus AdamW's: {shown(gap)}."
    return replace(finding, words=words)


def than_l2(lab: Lab) -> Finding:
    l2 = varied("adam + l2", "adam", {"weight_decay": find("adamw").space["weight_decay"]}, decay="l2")
    return contrasts.better(lab, "adamw", l2, [FEW])


def more_numbers(lab: Lab) -> Finding:
    counts = {name: len(find(name).space.keys() | find(name).rule.numbers) for name in ("sgd", "adam", "adamw")}
    more = counts["adamw"] - counts["adam"]
    rows = [("Adam", str(counts["adam"])), ("AdamW", str(counts["adamw"]))]
    return Finding(plainly(1 <= more <= 2), f"{more} more than Adam's {counts['adam']}", Table(("", "numbers"), rows))


def flaw(lab: Lab) -> Finding:
    return contrasts.better(lab, "amsgrad", "adam", ["reddi"])


def rarely(lab: Lab) -> Finding:
    cases, table, _, words = contrasts.standing(lab, "adam", "amsgrad", WHERE)
    adam, amsgrad = (sum(f is kind for f in cases.values()) for kind in (True, False))
    neither = len(cases) - adam - amsgrad
    rare, works = amsgrad <= 0.2 * len(cases), adam > len(cases) / 2
    verdict = HOLDS if rare and works else WHEN if rare or works else NOT
    condition = ""
    if verdict == WHEN:
        condition = "only 'rarely needed' is meant: Adam isn't better on most" if rare else "only Adam's lead is meant"
    figures = (
        f"of {counted(len(cases), 'problem')} Adam is better on {adam}, AMSGrad on {amsgrad}, neither on {neither}"
    )
    return Finding(verdict, figures, table, condition, words, contrasts.command(lab, "adam", "amsgrad", WHERE))


def gan(lab: Lab) -> Finding:
    return contrasts.better(lab, "adabelief", "adam", ["gan"], seeds=2 * lab.seeds)


def novel(lab: Lab) -> Finding:
    gradients = list(np.random.default_rng(0).normal(size=(100, 50)))
    belief, adam = (states(make, gradients) for make in (adamite.AdaBelief, adamite.Adam))
    same = bool(np.array_equal(belief["m"], adam["m"]))
    against = "has the bits of" if same else "differs from"
    figures = f"AdaBelief's momentum {against} Adam's; all that is new is (g - m)² for g²"
    means = [{name: f"{value.mean():.4g}" for name, value in each.items()} for each in (adam, belief)]
    rows = [(name, *(each.get(name, "") for each in means)) for name in "mvs"]
    words = "Adam has momentum already, so there is none to combine it with."
    return Finding(plainly(not same), figures, Table(("state's mean", "Adam", "AdaBelief"), rows), words=words)


VARIANTS, TABLE = "Common Variants of Adam", "Adam vs. Other Optimizers"
CLAIMS = (
    Claim(
        "adamw-is-l2",
        VARIANTS,
        "Adds weight decay (L2 regularization) to Adam",
        "Exact: AdamW moves a weight as Adam with L2 in its gradient does, to 0.01.",
        is_l2,
    ),
    Claim(
        "adamw-overfitting",
        TABLE,
        "Reduces overfitting",
        "With 160 digits to train on, AdamW reads the test scans better than Adam, lr and decay tuned: the interval of "
        "the difference above 0.",
        overfitting,
    ),
    Claim(
        "adamw-than-l2",
        VARIANTS,
        "more effective than standard L2 regularization with Adam",
        "The same of AdamW and Adam with L2, both with lr and decay tuned.",
        than_l2,
    ),
    Claim("adamw-numbers", TABLE, "Slightly more hyperparameters to tune", "Exact: one or two more.", more_numbers),
    Claim(
        "amsgrad-flaw",
        VARIANTS,
        "Fixes a theoretical flaw in Adam",
        "On Reddi, Kale and Kumar's counter-example AMSGrad ends nearer to the best point, both tuned: the interval of "
        "the difference above 0.",
        flaw,
    ),
    Claim(
        "amsgrad-rare",
        VARIANTS,
        "Rarely needed (Adam works better in practice)",
        "AMSGrad ends better on at most a fifth of the problems, and Adam on over half; on a condition, one is so.",
        rarely,
    ),
    Claim(
        "adabelief-gan",
        VARIANTS,
        "Good for unstable training regimes (e.g., GANs)",
        "AdaBelief's GAN draws nearer to the ring than Adam's, both tuned: the interval of the difference above 0; "
        "twice as many seeds.",
        gan,
    ),
    Claim(
        "adabelief-novel",
        VARIANTS,
        "combines Adam and momentum in a novel way",
        "Exact: AdaBelief's momentum differs from Adam's own.",
        novel,
    ),
)
