"""Defaults, learning rates, betas and schedules."""

from __future__ import annotations

import numpy as np

import adamite
from adamite.errors import counted, listed
from adamite.lab.claims import contrasts
from adamite.lab.claims.claim import HOLDS, NOT, WHEN, Claim, Finding, across, plainly
from adamite.lab.claims.contrasts import shown, sign
from adamite.lab.claims.exact import moves
from adamite.lab.claims.lab import Lab, fixed, varied
from adamite.lab.compare import statistics
from adamite.lab.compare.comparison import Comparison
from adamite.lab.compare.statistics import Interval
from adamite.lab.page import Table
from adamite.schedules import ReduceOnPlateau

NEARLY = 0.8  # the share that "nearly all" means
ALL = (
    *("regression", "digits", "quadratic", "rosenbrock", "logistic"),
    *("mnist", "characters", "embeddings", "factorisation", "gan", "cartpole"),
)
NUMPY = "digits", "quadratic", "logistic", "embeddings", "factorisation"


def defaults(lab: Lab) -> Finding:
    """The defaults work if they reach the problem's target within its steps; only where a tuned rate does too."""
    rows: list[tuple[str, ...]] = []
    works: list[str] = []
    lost: list[str] = []
    for name in lab.present(ALL):
        compared = lab.compare(name, ["adam", fixed("adam at 0.001", "adam", lr=0.001)])
        tuned, plain = (contrasts.steps_to_goal(result, compared.plan) for result in compared.results)
        if np.median(tuned) >= compared.plan.length:
            rows.append((name, _lr(compared), "never", "", ""))
            continue
        ratio = statistics.contrast(plain, tuned, "ratio")
        fine = bool(np.median(plain) < compared.plan.length)
        (works if fine else lost).append(name)
        steps = (contrasts.shown_steps(taken, compared.plan) for taken in (tuned, plain))
        rows.append((name, _lr(compared), *steps, shown(ratio)))
    share = len(works) / max(1, len(works) + len(lost))
    verdict = HOLDS if share >= NEARLY else WHEN if works else NOT
    condition = f"the case is {listed(works, 'or')}" if verdict == WHEN else ""
    reached = counted(len(works) + len(lost), "problem")
    figures = f"lr 0.001 reaches the target on {len(works)} of the {reached} that a tuned lr reaches"
    words = "The trainings here are short; on longer ones a small learning rate would have the time it needs."
    headers = "problem", "tuned lr", "steps to target, tuned", "at 0.001", "ratio (95 %)"
    return Finding(verdict, figures, Table(headers, rows), condition, words)


def _lr(compared: Comparison) -> str:
    return f"{(compared.results[0].best() or {}).get('lr', np.nan):.3g}"


def robust(lab: Lab) -> Finding:
    """Over how many of the four decades of lr around each rule's default the target is reached."""
    rows, gaps = [], []
    for name in lab.present(ALL):
        compared = lab.compare(name, ["adam", "sgd"])
        widths = []
        for result in compared.results:
            reached = [result.to_goal(outcome)[0] < np.inf for _, outcome in result.tuning]
            widths.append(4 * sum(reached) / max(1, len(result.tuning)))
        if any(widths):
            gaps.append(widths[0] - widths[1])
            rows.append((name, *(f"{w:.1f}" for w in widths)))
    gap = statistics.interval(gaps or [np.nan])
    headers = "problem", "Adam, decades of lr", "SGD, decades of lr"
    wider, by = ("wider", gap) if gap.median >= 0 else ("narrower", Interval(-gap.median, -gap.high, -gap.low))
    over = counted(len(gaps), "problem")
    figures = f"Adam's range of lr is {wider} by {shown(by)} decades than SGD's (median of {over})"
    return Finding(plainly(sign(gap, 0)), figures, Table(headers, rows), words="The interval is over problems.")


def simple(lab: Lab) -> Finding:
    return contrasts.better(
        lab,
        fixed("lr 0.01", "adam", lr=0.01),
        fixed("lr 0.001", "adam", lr=0.001),
        ("regression", "digits", "mnist"),
    )


def reduce(lab: Lab) -> Finding:
    """How much the loss fluctuates in the second half of the training."""
    cases, rows, figures = {}, [], []
    who = [fixed(f"lr {lr}", "adam", lr=lr) for lr in (0.1, 0.01)]
    for name in lab.present(("digits", "embeddings", "logistic", "quadratic")):
        compared = lab.compare(name, who)
        deviations = [
            [float(np.std(o.losses[len(o.losses) // 2 :])) for o in result.outcomes] for result in compared.results
        ]
        if not all(deviations):
            continue
        ratio = statistics.contrast(deviations[0], deviations[1], "ratio")
        cases[name] = sign(ratio, 1)
        rows.append((name, *(f"{np.median(m):.3g}" for m in deviations), shown(ratio)))
        figures.append(f"{name} {ratio.median:.2g}")
    verdict, condition = across(cases)
    headers = "problem", "loss's deviation, lr 0.1", "lr 0.01", "ratio (95 %)"
    return Finding(
        verdict, f"the loss moves at lr 0.1 over 0.01: {', '.join(figures)}", Table(headers, rows), condition
    )


def beta1_noisy(lab: Lab) -> Finding:
    names = "quadratic", "logistic", "embeddings", "cartpole"
    return contrasts.better(
        lab, varied("beta1 0.95", "adam", beta1=0.95), varied("beta1 0.9", "adam", beta1=0.9), names
    )


def beta1_fast(lab: Lab) -> Finding:
    """Steps until Adam changes direction, after the gradient has changed sign at step 200."""
    turned = {}
    for beta1 in (0.8, 0.9, 0.95):
        after = moves(adamite.Adam, [1.0] * 200 + [-1.0] * 100, beta1=beta1)[200:]
        turned[beta1] = int(np.argmax(after < 0)) + 1
    rows = [(f"{beta1}", str(steps)) for beta1, steps in turned.items()]
    held = turned[0.8] < turned[0.9] < turned[0.95]
    figures = "steps to turn: " + ", ".join(f"beta1 {b} {s}" for b, s in rows)
    return Finding(plainly(held), figures, Table(("beta1", "steps until it turns"), rows))


BETA2 = 0.9, 0.99, 0.9999


def beta2(lab: Lab) -> Finding:
    rows, beaten, count = [], {}, 0
    for name in lab.present(NUMPY):
        who = [varied(f"beta2 {b}", "adam", beta2=b) for b in (0.999, *BETA2)]
        compared = lab.compare(name, who)
        count += 1
        costs = {r.entrant.name: contrasts.costs(r, compared.plan.seeds) for r in compared.results}
        (_, usual), *others = costs.items()
        above = [b for b, cost in others if sign(statistics.contrast(usual, cost), 0)]
        if above:
            beaten[name] = above
        rows.append((name, *(contrasts.shown_end(r) for r in compared.results), ", ".join(above) or "none"))
    held = len(beaten) < count / 2
    verdict = plainly(held)
    figures = f"another beta2 is better by more than luck on {len(beaten)} of {counted(count, 'problem')}"
    if beaten:
        figures += f": {', '.join(f'{n} ({listed(b)})' for n, b in beaten.items())}"
    headers = "problem", "0.999", *(f"{b}" for b in BETA2), "better than 0.999"
    words = "Where none can be told from 0.999, nothing says that 0.999 is better than its neighbours either."
    return Finding(verdict, figures, Table(headers, rows), words=words)


def beta2_fast(lab: Lab) -> Finding:
    """Steps until the effective rate has grown tenfold, after gradients have shrunk a hundredfold at step 5,000."""
    noise = np.random.default_rng(0).choice([-1.0, 1.0], 15_000)
    noise[5000:] *= 0.01
    grown = {}
    for b in (0.99, 0.999):
        moved = np.abs(moves(adamite.Adam, list(noise), lr=1.0, beta1=0.0, beta2=b)[5000:])
        grown[b] = int(np.argmax(moved > 0.1)) + 1
    rows = [(f"{b}", f"{steps:,}") for b, steps in grown.items()]
    figures = "steps until the rate is ten times as large: " + ", ".join(f"beta2 {b} {s}" for b, s in rows)
    return Finding(plainly(grown[0.99] < grown[0.999]), figures, Table(("beta2", "steps"), rows))


def schedule(lab: Lab) -> Finding:
    cases, rows, figures = {}, [], []
    for name in lab.present(("characters", *NUMPY)):
        flat, decayed = (lab.compare(name, ["adam"], schedule=s) for s in ("constant", "cosine"))
        seeds = flat.plan.seeds
        gain = statistics.contrast(contrasts.costs(flat.results[0], seeds), contrasts.costs(decayed.results[0], seeds))
        cases[name] = sign(gain, 0)
        ends = contrasts.shown_end(decayed.results[0]), contrasts.shown_end(flat.results[0])
        rows.append((name, flat.plan.problem.metric, *ends, shown(gain)))
        figures.append(f"{name} {' : '.join(ends)}")
    verdict, condition = across(cases)
    headers = "problem", "metric", "cosine", "constant", "better by (95 %)"
    command = lab.command("digits", ["adam"], " --schedule cosine")
    return Finding(
        verdict, f"cosine : constant: {', '.join(figures)}", Table(headers, rows), condition, command=command
    )


def plateau(lab: Lab) -> Finding:
    rows, dropped = [], {}
    kinds = {"falls by 1 % an epoch": 0.99 ** np.arange(100), "stays where it is": np.ones(100)}
    for name, losses in kinds.items():
        watched = ReduceOnPlateau(1e-3, factor=0.5, patience=10, minimum=1e-6)
        dropped[name] = [epoch for epoch, loss in enumerate(losses, 1) if watched.report(float(loss))]
        rows.append((name, ", ".join(map(str, dropped[name])) or "never"))
    every = list(range(10, 101, 10))
    held = all(epochs == every for epochs in dropped.values())
    falls = dropped["falls by 1 % an epoch"]
    figures = (
        f"reductions in 100 epochs: {len(falls)} while the loss falls, on a plateau after epochs {rows[1][1][:10]}…"
    )
    words = "This counts as torch does; Keras reduces one epoch earlier at first, and then every 10 on a plateau."
    return Finding(plainly(held), figures, Table(("the loss", "reduced after epochs"), rows), words=words)


KEYS = "Key Hyperparameters of Adam"
CLAIMS = (
    Claim(
        "defaults",
        "Summary",
        "its default hyperparameters work well for nearly all use cases",
        f"With lr 0.001 Adam's median training comes to the problem's target on {NEARLY:.0%} of the problems at least "
        "on which it does with lr tuned; on a condition, on some.",
        defaults,
    ),
    Claim(
        "robust",
        "Introduction",
        "robust to hyperparameter choices",
        "The target is reached over more decades of lr with Adam than with SGD: the interval of the difference's "
        "median over the problems above 0.",
        robust,
    ),
    Claim(
        "lr-simple",
        KEYS,
        "Increase (e.g., 0.01) for simple tasks (regression, small CNNs)",
        "Adam ends better with lr 0.01 than with 0.001: the interval of the difference above 0.",
        simple,
    ),
    Claim(
        "lr-reduce",
        KEYS,
        "Reduce if training is unstable (loss oscillates)",
        "In the second half of a training the loss moves more with lr 0.1 than with 0.01: the interval of the ratio of "
        "its deviations above 1.",
        reduce,
    ),
    Claim(
        "beta1-noisy",
        KEYS,
        "Higher values (0.95) = more smoothing (good for noisy gradients)",
        "On problems with noisy gradients Adam ends better with beta1 0.95 than with 0.9, both with lr tuned: the "
        "interval of the difference above 0.",
        beta1_noisy,
    ),
    Claim(
        "beta1-fast",
        KEYS,
        "Lower values (0.8) = faster adaptation to new gradients",
        "Exact: when the gradient turns, Adam turns first with beta1 0.8, then with 0.9, then with 0.95.",
        beta1_fast,
    ),
    Claim(
        "beta2-optimal",
        KEYS,
        "Rarely tuned (0.999 is optimal for most cases)",
        "On most problems none of 0.9, 0.99 and 0.9999 ends better than 0.999, all with lr tuned: on fewer than half "
        "of them an interval lies above 0.",
        beta2,
    ),
    Claim(
        "beta2-fast",
        KEYS,
        "Lower values (0.99) = faster adaptation to variance changes",
        "Exact: when gradients shrink a hundredfold, the rate follows in fewer steps with 0.99 than with 0.999.",
        beta2_fast,
    ),
    Claim(
        "schedule",
        "Learning Rate Scheduling with Adam",
        "To further improve convergence, you can decay the learning rate over time",
        "Adam ends better with a cosine's decay than with a constant lr, each tuned for itself: the interval of the "
        "difference above 0.",
        schedule,
    ),
    Claim(
        "plateau",
        "Learning Rate Scheduling with Adam",
        "Reduce LR by 50% every 10 epochs",
        "Exact: ReduceLROnPlateau with patience 10 reduces after epochs 10, 20 and so on, whatever the loss does.",
        plateau,
    ),
)
