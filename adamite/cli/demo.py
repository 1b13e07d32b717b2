"""The demonstration."""

from pathlib import Path
from typing import Annotated

import typer

from adamite.cli.terminal import app, out, print_table, progress_bar, writing

DEMO_FOLDER = Path("adamite-demo")


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--out", file_okay=False, writable=True, help="Folder for the page.")
    ] = DEMO_FOLDER,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each optimizer on the digits.")] = 5,
) -> None:
    """Fit a line, learn digits, draw a page of both: ten seconds."""
    with progress_bar() as progress:
        from adamite.lab import demo  # takes a second

        with writing(folder):
            report = demo.run(folder, seeds, progress)

    out.print("A straight line: Adam, lr 0.1, on 100 noisy points of y = 2x + 1", style="bold")
    print_table(report.fit.table())
    out.print(f"Handwritten digits: a network of 2,410 parameters, seeds: {seeds}", style="bold")
    print_table(report.race.table())
    out.print(f"Pictures, and a page of them: {report.page}", soft_wrap=True)
