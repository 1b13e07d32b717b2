"""The command that suggests a learning rate: find-lr."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from adamite.cli.options import Optimizer, Problem
from adamite.cli.terminal import app, bad_parameter, out, output_folder, writing

if TYPE_CHECKING:
    from adamite.lab.find_lr import Result

FOLDER = Path("adamite-find-lr")


@app.command("find-lr")
def find_lr(
    problem: Problem = "digits",
    optimizer: Optimizer = "adam",
    low: Annotated[float, typer.Option(help="The first learning rate.")] = 1e-7,
    high: Annotated[float, typer.Option(help="The last one.")] = 10.0,
    steps: Annotated[int, typer.Option(min=20, help="Steps from the first to the last.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the start and the batches.")] = 0,
    folder: Annotated[
        Path | None,
        typer.Option("--out", file_okay=False, help="For the picture, instead of adamite-find-lr/PROBLEM."),
    ] = None,
) -> None:
    """Find a learning rate: where the loss falls and diverges.

    It runs one short training with a growing learning rate. The test shows which decade is worth trying; adamite
    compare shows which rate is best.
    """
    from adamite.lab import find_lr as lab
    from adamite.lab import problem as problems
    from adamite.lab.compare import entrants
    from adamite.lab.problems import PROBLEMS
    from adamite.lab.where import as_name

    with bad_parameter("'--problem'"):
        trained_on = problems.find(problem, PROBLEMS)
    with bad_parameter("'--optimizer'"):
        entrant = entrants.find(optimizer)
        lab.check_lr(entrant)
    with bad_parameter("'--low' and '--high'"):
        lab.check_rates(low, high)
    problem_name = as_name(trained_on.where)
    folder = output_folder(FOLDER / problem_name if folder is None else folder)
    with contextlib.redirect_stdout(sys.stderr):  # what a problem prints
        result = lab.find_lr_problem(trained_on, entrant, low=low, high=high, steps=steps, seed=seed)
    out.print(f"{trained_on.title or trained_on.name}: {entrant.name}", style="bold")
    _print(result)
    from adamite.lab import plots

    name = f"{problem_name}-{as_name(entrant.name)}"
    with writing(folder):
        plots.save(lab.picture(result), folder, name)
    out.print(f"Picture: {folder / name}.png", soft_wrap=True)


def _print(result: Result) -> None:
    """Two rows per decade, and the suggestion."""
    table = Table(box=SIMPLE_HEAD)
    for header in ("lr", "loss", "smoothed"):
        table.add_column(header, justify="right")
    lrs = result.lrs
    every = max(1, round(len(lrs) / math.log10(lrs[-1] / lrs[0]) / 2)) if len(lrs) > 1 else 1
    for lr, loss, smoothed in list(zip(lrs, result.losses, result.smoothed, strict=True))[::every]:
        table.add_row(f"{lr:.2g}", f"{loss:.4g}", f"{smoothed:.4g}")
    out.print(table)
    if result.suggestion is None or result.tenth is None:
        out.print("No suggestion: the loss never fell.")
    else:
        out.print(f"Try lr {result.suggestion:.2g}, where the smoothed loss falls steepest.")
        out.print(f"A tenth of the lr with the lowest smoothed loss: {result.tenth:.2g}.")
    if result.stopped:
        out.print(f"It stopped early: {result.stopped}.")
    if result.chance:
        out.print(result.chance)
