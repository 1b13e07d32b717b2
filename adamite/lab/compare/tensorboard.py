"""The trainings of a comparison as TensorBoard reads them: curves, and a table of settings and results."""

from __future__ import annotations

import time
from pathlib import Path

from tensorboardX import SummaryWriter

from adamite.lab.compare.comparison import Comparison
from adamite.lab.compare.training import Outcome, Trial
from adamite.lab.problem import Problem
from adamite.lab.where import as_name


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write a run for every reported training: problem/optimizer/seed-0. It replaces an older one of that name.

    Args:
        comparison: the comparison.
        folder: the folder for `tensorboard --logdir`.

    Returns:
        The folders of the runs.
    """
    runs = []
    for result in comparison.results:
        for trial, outcome in result.reported:
            run = folder / as_name(comparison.plan.problem.where) / as_name(trial.entrant) / f"seed-{trial.seed}"
            for old in run.glob("events.out.tfevents.*"):
                old.unlink()  # TensorBoard would draw both as one curve
            _write(comparison.plan.problem, trial, outcome, run)
            runs.append(run)
    return runs


def _write(problem: Problem, trial: Trial, outcome: Outcome, run: Path) -> None:
    begin = time.time()
    # The second file, of the table, may be begun in the same second: a suffix tells them apart.
    with SummaryWriter(str(run), filename_suffix=".curves", write_to_disk=True) as writer:
        for name, values in {"loss": outcome.losses, **outcome.measures}.items():
            for step, value, seconds in zip(outcome.steps, values, outcome.times):
                writer.add_scalar(name, value, step, begin + seconds)  # so that its relative time is the training's
        settings = {"optimizer": trial.entrant, "seed": trial.seed, "schedule": trial.schedule, **trial.settings}
        writer.add_hparams(settings, {f"final {problem.metric}": outcome.value(problem.metric)}, ".", trial.steps)
