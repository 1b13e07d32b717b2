"""Convergence: who is fastest, who oscillates, and the article's two programs."""

from __future__ import annotations

from typing import Any

import numpy as np

import adamite
from adamite.lab.claims import contrasts
from adamite.lab.claims.claim import HOLDS, NOT, WHEN, Claim, Finding, across, plainly
from adamite.lab.claims.contrasts import shown, sign
from adamite.lab.claims.exact import Array
from adamite.lab.claims.lab import ARTICLE, Lab, fixed
from adamite.lab.compare import statistics
from adamite.lab.page import Table
from adamite.lab.problem import Problem
from adamite.lab.problems import quadratic, regression, rosenbrock

LEARNED = "digits", "mnist", "characters"
CONVEX = "logistic", "quadratic"
FEWER = (
    "Fewer steps to the problem's target: the interval of the ratio above 1; each with the learning rate that its "
    "tuning chose, by where a training ends."
)


def sgd_slow(lab: Lab) -> Finding:
    return contrasts.faster(lab, "adam", "sgd", LEARNED)


def adam_momentum(lab: Lab) -> Finding:
    return contrasts.faster(lab, "adam", "momentum", LEARNED)


def momentum_faster(lab: Lab) -> Finding:
    return contrasts.faster(lab, "momentum", "sgd", (*LEARNED, *CONVEX))


def rmsprop_slower(lab: Lab) -> Finding:
    return contrasts.faster(lab, "adam", "rmsprop", LEARNED)


# ---- oscillation ----------------------------------------------------------------------------------

RATES = np.geomspace(1e-4, 3, 28)


def oscillates(lab: Lab) -> Finding:
    """Without noise, so that a step that turns back has overshot."""
    bowl = quadratic.quadratic(noise=0)
    surfaces = {
        "regression": (regression.problem, 100),
        "quadratic": (bowl, 300),
        "rosenbrock": (rosenbrock.problem, 500),
    }
    cases, rows, figures = {}, [], []
    for name, (problem, steps) in surfaces.items():
        sgd, adam = (_turns(make, problem, steps, lab.seeds) for make in (adamite.SGD, adamite.Adam))
        gap = statistics.contrast(sgd, adam)
        cases[name] = sign(gap, 0)
        shares = [f"{np.median(s):.0%}" for s in (sgd, adam)]
        rows.append((name, *shares, f"{gap.median:+.0%} ({gap.low:+.0%} to {gap.high:+.0%})"))
        figures.append(f"{name} {' : '.join(shares)}")
    verdict, condition = across(cases)
    headers = "surface", "SGD's turns", "Adam's turns", "difference (95 %)"
    words = "A turn is a step of more than 90° from the one before. Rosenbrock's valley is the one that isn't convex."
    return Finding(verdict, f"turns, SGD : Adam: {', '.join(figures)}", Table(headers, rows), condition, words)


def _turns(make: Any, problem: Problem, steps: int, seeds: int) -> list[float]:
    """For each seed the fraction of steps that turn back, at the learning rate with the lowest final loss."""

    def path(seed: int, lr: float) -> tuple[Array, float]:
        run = problem.begin(seed)
        optimizer, places = make(run.params, lr=lr), [run.params.copy()]
        with np.errstate(all="ignore"):
            for _ in range(steps):
                _, gradient = run.loss()
                optimizer.step(gradient)
                places.append(run.params.copy())
            loss = float(run.loss()[0])
        return np.diff(places, axis=0), loss if np.isfinite(loss) else np.inf

    best = min(RATES, key=lambda lr: path(1000, float(lr))[1])
    shares = []
    for seed in range(seeds):
        steps_taken, _ = path(seed, float(best))
        shares.append(float(np.mean(np.sum(steps_taken[1:] * steps_taken[:-1], axis=1) < 0)))
    return shares


def stability(lab: Lab) -> Finding:
    """From the trainings that chose the learning rates, so it costs nothing."""
    rows, gaps, mean = [], [], np.zeros(2)
    for name in lab.present((*LEARNED, *CONVEX, "embeddings", "factorisation")):
        compared = lab.compare(name, ["sgd", "adam"])
        diverged = [result.diverged / compared.plan.budget for result in compared.results]
        gaps.append(diverged[0] - diverged[1])
        mean += diverged
        rows.append((name, *(f"{share:.0%}" for share in diverged)))
    gap = statistics.contrast(gaps, [0.0], of=np.mean)
    mean /= len(gaps)
    figures = f"diverged over four decades of lr: SGD {mean[0]:.0%}, Adam {mean[1]:.0%}"
    words = f"SGD's share minus Adam's, averaged over the problems: {gap.median:.1%} ({gap.low:.1%} to {gap.high:.1%})."
    return Finding(
        plainly(sign(gap, 0)), figures, Table(("problem", "SGD diverged", "Adam diverged"), rows), words=words
    )


# ---- the article's programs -----------------------------------------------------------------------


def line(lab: Lab) -> Finding:
    """The article's program, with adamite's Adam in place of its class."""
    points = regression.load()
    params = points.start()
    optimizer, rows = adamite.Adam(params, lr=0.1), []
    for epoch in range(1, 101):
        optimizer.step(points.gradient(params))
        if epoch % 20 == 0:
            rows.append((f"epoch {epoch}", *(f"{v:.5f}" for v in (*params, points.loss(params)))))
    best = points.solution()
    rows.append(("least squares", *(f"{v:.5f}" for v in (*best, points.loss(best)))))
    rows.append(("true line", *(f"{v:.5f}" for v in (*regression.TRUE_LINE, points.loss(regression.TRUE_LINE)))))
    off = [float(np.abs(params - answer).max()) for answer in (regression.TRUE_LINE, best)]
    verdict = HOLDS if off[0] <= 0.05 else WHEN if off[1] <= 0.05 else NOT
    condition = "it is the least-squares line that should be matched" if verdict == WHEN else ""
    figures = f"w {params[0]:.4f}, b {params[1]:.4f}; off the true line {off[0]:.3f}, off least squares {off[1]:.3f}"
    words = "The noise moves the best line; Adam overshoots it, rings and settles."
    return Finding(verdict, figures, Table(("", "w", "b", "loss"), rows), condition, words)


def _article(lab: Lab) -> Any:
    """Three trainings each of Adam as in the article, SGD with Keras's default, and SGD tuned on short trainings."""
    lab.present(["mnist"])
    tuned = lab.compare("mnist", ["sgd"]).results[0].best() or {"lr": 0.1}
    who = [
        fixed("Adam, lr 0.001", "adam", lr=0.001),
        fixed("SGD, lr 0.01", "sgd", lr=0.01),
        fixed("SGD, lr tuned", "sgd", lr=tuned["lr"]),
    ]
    return lab.compare(ARTICLE, who, seeds=3), tuned["lr"]


def cnn(lab: Lab) -> Finding:
    compared, _ = _article(lab)
    reached = compared.results[0].final()
    held = reached.low >= 0.975
    rows = [(f"seed {t.seed}", f"{o.value('accuracy'):.2%}") for t, o in compared.results[0].reported]
    figures = f"{reached.median:.2%} ({reached.low:.2%} to {reached.high:.2%}) of the 10,000 test images, 3 seeds"
    return Finding(plainly(held), figures, Table(("training", "test accuracy"), rows))


def cnn_sgd(lab: Lab) -> Finding:
    compared, lr = _article(lab)
    adam, *others = compared.results
    cases, rows = {}, [("Adam, lr 0.001", f"{adam.final().median:.2%}", "")]
    for result in others:
        gain = statistics.contrast(result.costs(), adam.costs())
        cases[result.entrant.name] = sign(gain, 0)
        percent = f"{gain.median:+.2%} ({gain.low:+.2%} to {gain.high:+.2%})"
        rows.append((result.entrant.name, f"{result.final().median:.2%}", percent))
    verdict, condition = across(cases)
    figures = ", ".join(f"{name} {accuracy}" for name, accuracy, _ in rows)
    words = f"lr 0.01 is Keras's default; {lr:g} was the best of the tuning on {lab.steps('mnist')} steps."
    return Finding(
        verdict, figures, Table(("optimizer", "test accuracy", "Adam better by (95 %)"), rows), condition, words
    )


def large(lab: Lab) -> Finding:
    compared, _ = _article(lab)
    steps = {r.entrant.name: contrasts.steps_to_goal(r, compared.plan) for r in compared.results}
    (adam, adams_steps), *others = steps.items()
    cases, rows = {}, [(adam, f"{np.median(adams_steps):.0f}", "")]
    for name, taken in others:
        ratio = statistics.contrast(taken, adams_steps, "ratio")
        cases[name] = sign(ratio, 1)
        rows.append((name, contrasts.shown_steps(taken, compared.plan), shown(ratio)))
    verdict, condition = across(cases)
    figures = "steps to 97.5 %: " + ", ".join(f"{name} {taken}" for name, taken, _ in rows)
    words = "54,000 images and 54,410 parameters: the largest task here, and not large."
    return Finding(verdict, figures, Table(("optimizer", "steps", "over Adam's (95 %)"), rows), condition, words)


CLAIMS = (
    Claim("sgd-slow", "Adam vs. Other Optimizers", "Slow convergence, oscillates around minimum", FEWER, sgd_slow),
    Claim(
        "adam-faster",
        "Summary",
        "to speed up convergence and improve stability",
        f"Against SGD with momentum. {FEWER}",
        adam_momentum,
    ),
    Claim("momentum-faster", "Adam vs. Other Optimizers", "Faster than vanilla SGD", FEWER, momentum_faster),
    Claim("rmsprop-slower", "Adam vs. Other Optimizers", "No momentum (slower than Adam)", FEWER, rmsprop_slower),
    Claim(
        "sgd-oscillates",
        "Core Motivation",
        "SGD oscillates around the loss minimum, especially on non-convex loss surfaces",
        "Without noise and at its best learning rate SGD turns back at more of its steps than Adam: the interval of "
        "the difference above 0, on a line's loss, a bowl and Rosenbrock's valley.",
        oscillates,
    ),
    Claim(
        "stability",
        "Summary",
        "improve stability",
        "Of the learning rates tried over four decades, Adam diverges at fewer than SGD: the interval of the mean "
        "difference, over the problems, above 0.",
        stability,
    ),
    Claim(
        "line",
        "Key Outputs",
        "matching the true values",
        "After the program's 100 epochs w and b are within 0.05 of 2 and 1; or, on a condition, of least squares.",
        line,
    ),
    Claim(
        "cnn-98",
        "Key Outputs",
        "The CNN achieves ~98% test accuracy with Adam",
        "The article's training in PyTorch, all of it: the lower end of the median's interval is 97.5 % at least.",
        cnn,
    ),
    Claim(
        "cnn-sgd",
        "Key Outputs",
        "outperforming vanilla SGD (which would require more epochs and tuning)",
        "Adam's test accuracy after the five epochs is higher: the interval of the difference above 0, against SGD "
        "with Keras's default and against SGD tuned.",
        cnn_sgd,
    ),
    Claim(
        "large-faster",
        "When to Use Adam",
        "Large datasets/models (faster convergence than SGD)",
        "In the same trainings Adam needs fewer steps to 97.5 %: the interval of the ratio above 1.",
        large,
    ),
)
