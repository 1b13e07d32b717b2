"""The command that looks for a learning rate: find-lr."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from adamite.cli.terminal import app, bad_parameter, out, output_folder, writing

if TYPE_CHECKING:
    from adamite.lab.find_lr import Found

FOLDER = Path("adamite-find-lr")


@app.command("find-lr")
def find_lr(
    problem: Annotated[
        str, typer.Option(help="One of ours, or yours: path/to/file.py:function, or module:function.")
    ] = "digits",
    optimizer: Annotated[str, typer.Option(help="Its name; your own rule as path/to/file.py:rule.")] = "adam",
    low: Annotated[float, typer.Option(help="The first learning rate.")] = 1e-7,
    high: Annotated[float, typer.Option(help="The last one.")] = 10.0,
    steps: Annotated[int, typer.Option(min=20, help="From the first to the last.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the start and the batches.")] = 0,
    folder: Annotated[
        Path | None,
        typer.Option("--out", file_okay=False, help="For the picture, instead of adamite-find-lr/PROBLEM."),
    ] = None,
) -> None:
    """Look for a learning rate: where the loss falls, and breaks.

    It is one short training, in which the rate grows. The test says which decade is worth a try; adamite compare says
    what is best.
    """
    from adamite.lab import find_lr as lab
    from adamite.lab import problem as problems
    from adamite.lab.compare import entrants
    from adamite.lab.problems import PROBLEMS
    from adamite.lab.where import as_name

    with bad_parameter("'--problem'"):
        found_problem = problems.find(problem, PROBLEMS)
    with bad_parameter("'--optimizer'"):
        entrant = entrants.find(optimizer)
        lab.check_lr(entrant)
    with bad_parameter("'--low' and '--high'"):
        lab.check_rates(low, high)
    own = as_name(found_problem.where)
    folder = output_folder(FOLDER / own if folder is None else folder)
    with contextlib.redirect_stdout(sys.stderr):  # what a problem prints
        found = lab.find_lr_problem(found_problem, entrant, low=low, high=high, steps=steps, seed=seed)
    out.print(f"{found_problem.title or found_problem.name}: {entrant.name}", style="bold")
    _print(found)
    from adamite.lab import plots

    name = f"{own}-{as_name(entrant.name)}"
    with writing(folder):
        plots.save(lab.picture(found), folder, name)
    out.print(f"Picture: {folder / name}.png", soft_wrap=True)


def _print(found: Found) -> None:
    """A row a half decade, and what follows."""
    table = Table(box=SIMPLE_HEAD)
    for header in ("lr", "loss", "smoothed"):
        table.add_column(header, justify="right")
    every = max(1, round(len(found.lrs) / math.log10(found.lrs[-1] / found.lrs[0]) / 2)) if len(found.lrs) > 1 else 1
    for lr, loss, smoothed in list(zip(found.lrs, found.losses, found.smoothed, strict=True))[::every]:
        table.add_row(f"{lr:.2g}", f"{loss:.4g}", f"{smoothed:.4g}")
    out.print(table)
    if found.suggestion is None or found.tenth is None:
        out.print("No suggestion: the loss never fell.")
    else:
        out.print(f"Try lr {found.suggestion:.2g}, where the smoothed loss falls steepest.")
        out.print(f"A tenth of the lr with the lowest smoothed loss: {found.tenth:.2g}.")
    if found.stopped:
        out.print(f"It stopped early: {found.stopped}.")
    if found.chance:
        out.print(found.chance)
