"""The demonstration: fit a line, learn digits, and write a folder with pictures of both."""

import inspect
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
from numpy.typing import NDArray

import adamite
from adamite.backends.text import equations
from adamite.lab import page, plots
from adamite.lab.page import Table
from adamite.lab.problems import digits, regression
from adamite.language.update import build
from adamite.rules.adam import adam

Array = NDArray[Any]
Progress = Callable[[int, int, str], None]  # steps done, steps in all, what comes next

STEPS, BATCH, CHECK_EVERY = 900, 32, 10
STEPS_A_POINT = 45  # about an epoch
GOAL = 0.95
SCANS = 24


@dataclass(frozen=True, eq=False)  # compared by identity, so that it can be a key
class Entrant:
    """An optimizer and its options in the race."""

    name: str
    make: type[adamite.Optimizer]
    options: Mapping[str, Any]

    @property
    def call(self) -> str:
        """The call that makes it, as a reader would type it."""
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.make.__name__}(params, {options})"


# Each learning rate is the best of 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1 and 3 by one measure: the
# accuracy on the last fifth of the training scans (left out of that training; the test scans were
# not looked at), averaged over the 90 checks of a run and over the seeds 100 to 109.
# The other options are the customary ones.
ENTRANTS = (
    Entrant("SGD", adamite.SGD, {"lr": 0.3}),
    Entrant("Momentum", adamite.SGD, {"lr": 0.1, "momentum": 0.9}),
    Entrant("RMSprop", adamite.RMSprop, {"lr": 0.01}),
    Entrant("Adam", adamite.Adam, {"lr": 0.03}),
    Entrant("AdamW", adamite.AdamW, {"lr": 0.03, "weight_decay": 0.01}),
    Entrant("AMSGrad", adamite.AMSGrad, {"lr": 0.01}),
    Entrant("AdaBelief", adamite.AdaBelief, {"lr": 0.03}),
)


@dataclass(frozen=True)
class Fit:
    """The line after each epoch: ``path`` has a row [w, b] for each, ``losses`` a number."""

    problem: regression.Regression
    path: Array
    losses: Array

    def table(self) -> Table:
        """Every tenth epoch, and the least-squares solution."""
        every = range(9, len(self.losses), 10)
        rows = [_line(str(i + 1), self.losses[i], self.path[i]) for i in every]
        best = self.problem.solution()
        rows.append(_line("least squares", self.problem.loss(best), best))
        return Table(("epoch", "loss", "w", "b"), rows)


def _line(name: str, loss: float, params: Array) -> tuple[str, ...]:
    return (name, *(f"{value:.4f}" for value in (loss, *params)))


def fit_line(epochs: int = 100) -> Fit:
    """The tutorial's program: Adam from (0, 0) on all points at once, learning rate 0.1."""
    problem = regression.load()
    params = problem.start()
    optimizer = adamite.Adam(params, lr=0.1)
    path, losses = np.empty((epochs, 2)), np.empty(epochs)
    for epoch in range(epochs):
        optimizer.step(problem.gradient(params))
        path[epoch], losses[epoch] = params, problem.loss(params)
    return Fit(problem, path, losses)


@dataclass(frozen=True)
class Run:
    """One training from one seed."""

    params: digits.Params
    losses: Array  # of each step's batch
    accuracies: Array  # on the test scans, every CHECK_EVERY steps
    seconds: float

    @property
    def steps_to_goal(self) -> float:
        """Steps until the first check at the goal; infinite if it was never reached."""
        reached = np.flatnonzero(self.accuracies >= GOAL)
        return float((reached[0] + 1) * CHECK_EVERY) if reached.size else float("inf")


def train(data: digits.Digits, entrant: Entrant, seed: int, steps: int = STEPS) -> Run:
    """Train a network; the seed draws its start and the order of its batches."""
    params = digits.start(seed)
    optimizer = entrant.make(params, **entrant.options)
    losses, accuracies = np.empty(steps), np.empty(steps // CHECK_EVERY)
    begin = time.perf_counter()
    for step, batch in zip(range(steps), data.batches(BATCH, seed), strict=False):
        losses[step], gradient = digits.loss_and_gradient(params, *batch)
        optimizer.step(gradient)
        check, remainder = divmod(step + 1, CHECK_EVERY)
        if not remainder:
            accuracies[check - 1] = digits.accuracy(params, data.test_scans, data.test_digits)
    return Run(params, losses, accuracies, time.perf_counter() - begin)


@dataclass(frozen=True)
class Race:
    """Every entrant's runs, one for each seed."""

    data: digits.Digits
    runs: Mapping[Entrant, list[Run]]

    def table(self) -> Table:
        names = "optimizer", "lr", "test accuracy", "spread", f"steps to {100 * GOAL:.0f}\u00a0%"
        headers = (*names, "time per run")
        return Table(headers, [_result(entrant, runs) for entrant, runs in self.runs.items()])

    def curves(self, of: str) -> dict[str, Array]:
        """By name, the runs' ``losses`` or ``accuracies``: a row for each seed."""
        return {entrant.name: np.stack([getattr(run, of) for run in runs]) for entrant, runs in self.runs.items()}

    def answers(self) -> Array:
        """The digits that Adam's first network sees in the test scans."""
        runs = next(runs for entrant, runs in self.runs.items() if entrant.name == "Adam")
        return digits.read(runs[0].params, self.data.test_scans)


def _result(entrant: Entrant, runs: list[Run]) -> tuple[str, ...]:
    final = [run.accuracies[-1] for run in runs]
    steps = float(np.median([run.steps_to_goal for run in runs]))
    return (
        entrant.name,
        f"{entrant.options['lr']:g}",
        f"{100 * np.mean(final):.1f} %",
        f"{100 * min(final):.1f}–{100 * max(final):.1f}",
        f"{steps:.0f}" if np.isfinite(steps) else f"> {STEPS}",
        f"{np.median([run.seconds for run in runs]):.2f} s",
    )


@dataclass(frozen=True)
class Report:
    """The demonstration's results, and the page that shows them."""

    fit: Fit
    race: Race
    page: Path


def run(out: Path, seeds: int = 5, progress: Progress | None = None) -> Report:
    """Fit the line, race on the digits; write pictures and ``index.html`` into the folder."""
    begin = time.perf_counter()
    tell = progress or (lambda *_: None)
    out.mkdir(parents=True, exist_ok=True)
    fit, data = fit_line(), digits.load()
    runs: dict[Entrant, list[Run]] = {entrant: [] for entrant in ENTRANTS}
    # The seeds are the outer loop, so that a slow moment of the machine affects all optimizers.
    trainings = [(seed, entrant) for seed in range(seeds) for entrant in ENTRANTS]
    total = len(trainings) + len(PICTURES)
    for done, (seed, entrant) in enumerate(trainings):
        tell(done, total, f"digits: {entrant.name}, seed {seed}")
        runs[entrant].append(train(data, entrant, seed))
    report = Report(fit, Race(data, runs), out / "index.html")
    for done, (name, picture) in enumerate(PICTURES.items(), start=len(trainings)):
        tell(done, total, f"drawing {name}")
        plots.save(picture.paint(report), out, name, picture.size)
    command = f"adamite demo --out {shlex.quote(str(out))} --seeds {seeds}"
    page.write(report.page, **_parts(report, command, time.perf_counter() - begin))
    tell(total, total, "done")
    return report


@dataclass(frozen=True)
class Picture:
    paint: Callable[[Report], plots.Painter]
    caption: str
    size: tuple[float, float] = plots.SIZE


def _line_loss(report: Report) -> plots.Painter:
    fit = report.fit
    return plots.descent(fit.losses, fit.problem.loss(fit.problem.solution()))


def _line_fit(report: Report) -> plots.Painter:
    problem, params = report.fit.problem, report.fit.path[-1]
    lines = {
        "true line: y = 2x + 1": problem.predict(regression.TRUE_LINE),
        f"Adam: y = {params[0]:.2f}x + {params[1]:.2f}": problem.predict(params),
    }
    return plots.fit(problem.x, problem.y, lines)


def _digits_loss(report: Report) -> plots.Painter:
    steps = np.arange(STEPS_A_POINT, STEPS + 1, STEPS_A_POINT)
    curves = {
        name: rows.reshape(len(rows), len(steps), STEPS_A_POINT).mean(axis=2)
        for name, rows in report.race.curves("losses").items()
    }
    label = f"training loss, mean of {STEPS_A_POINT} steps"
    return plots.bands(steps, curves, xlabel="step", ylabel=label, yscale="log")


def _digits_accuracy(report: Report) -> plots.Painter:
    steps = np.arange(CHECK_EVERY, STEPS + 1, CHECK_EVERY)
    curves = {name: 100 * rows for name, rows in report.race.curves("accuracies").items()}
    # A log axis gives room to the first steps, where the optimizers differ.
    axes = {"xlabel": "step", "ylabel": "test accuracy, %", "xscale": "log", "ylim": (70, 100)}
    return plots.bands(steps, curves, **axes)


def _digits_scans(report: Report) -> plots.Painter:
    """Scans that the network misreads, up to half of the sample; then ones that it reads correctly."""
    data, answers = report.race.data, report.race.answers()
    wrong = np.flatnonzero(answers != data.test_digits)[: SCANS // 2]
    right = np.flatnonzero(answers == data.test_digits)[: SCANS - len(wrong)]
    shown = np.concatenate([wrong, right])
    images = data.test_scans[shown].reshape(-1, 8, 8)
    return plots.scans(images, answers[shown], data.test_digits[shown], columns=8)


PICTURES = {
    "line-loss": Picture(_line_loss, "The loss: Adam passes the lowest, swings back and settles on it."),
    "line-fit": Picture(_line_fit, "The points, the line they were made from, and the one that Adam found."),
    "digits-loss": Picture(_digits_loss, "Training loss. Lines: median over the seeds; bands: their middle half."),
    "digits-accuracy": Picture(
        _digits_accuracy, "Test accuracy, the first steps drawn wide; lines and bands likewise."
    ),
    "digits-scans": Picture(
        _digits_scans,
        "Test scans and what the network reads in them. Framed: wrong answers, with the truth.",
        size=(5.0, 2.3),
    ),
}


# Adam's equations in words, line by line.
WORDS = (
    "first moment: which way, on average",
    "second moment: how large, on average",
    "it starts at zero: divide that bias out at step <var>t</var>",
    "the same",
    "the step",
)


def _parts(report: Report, command: str, seconds: float) -> dict[str, str]:
    """The parts to fill into the page's template."""
    race, truths = report.race, report.race.data.test_digits
    rule = re.sub(r' *""".*?"""\n', "", inspect.getsource(adam.function), flags=re.DOTALL)
    versions = {"adamite": adamite.__version__, "Python": python_version()}
    for package in ("numpy", "llvmlite", "scikit-learn", "matplotlib"):
        versions[package] = metadata.version(package)
    lines = zip(equations(build(adam)), WORDS, strict=True)
    return {
        "equations": "\n".join(f"<dt>{escape(str(line))}</dt><dd>{words}</dd>" for line, words in lines),
        "rule": escape(rule.strip()),
        "line_table": page.table(report.fit.table()),
        "digits_table": page.table(race.table(), swatches=True),
        **{name.replace("-", "_"): page.picture(name, picture.caption) for name, picture in PICTURES.items()},
        "right": str(np.sum(race.answers() == truths)),
        "tested": str(len(truths)),
        "calls": escape("\n".join(entrant.call for entrant in race.runs)),
        "seeds": str(len(next(iter(race.runs.values())))),
        "steps": str(STEPS),
        "batch": str(BATCH),
        "check": str(CHECK_EVERY),
        "command": escape(command),
        "seconds": f"{seconds:.0f}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
