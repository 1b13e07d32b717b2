"""The command line: the only layer of adamite that prints."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

DEMO_FOLDER = Path("adamite-demo")
INSTALL = "adamite: this command needs {}; install it with: pip install 'adamite[lab]'"

try:
    import typer
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Table
except ModuleNotFoundError as missing:
    sys.exit(INSTALL.format(missing.name))

if TYPE_CHECKING:
    from adamite.lab import page

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # messages in plain lines, that a pipe does not break
)
out = Console(highlight=False, markup=False)
err = Console(highlight=False, markup=False, stderr=True)


def main() -> None:
    """Run the command line: the entry point of ``adamite`` and of ``python -m adamite``."""
    try:
        app(prog_name="adamite")
    except ModuleNotFoundError as missing:  # a command imports what it needs when it is called
        sys.exit(INSTALL.format(missing.name))
    except SystemExit as end:
        if end.code == 130:  # what Typer makes of Ctrl-C
            err.print("Stopped.")
        raise


@app.callback()
def adamite() -> None:
    """Optimizers that you can read: each is written once, as its paper prints it."""


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

        try:
            report = demo.run(folder, seeds, progress)
        except OSError as error:
            message = f"{error.filename or folder}: {error.strerror}"
            raise typer.BadParameter(message, param_hint="'--out'") from error

    out.print("A straight line: Adam, lr 0.1, on 100 noisy points of y = 2x + 1", style="bold")
    print_table(report.fit.table())
    out.print(f"Handwritten digits: a network of 2,410 parameters, seeds: {seeds}", style="bold")
    print_table(report.race.table())
    out.print(f"Pictures, and a page of them: {report.page}", soft_wrap=True)


def print_table(content: "page.Table") -> None:
    """The first column stands to the left, the others, mostly numbers, to the right."""
    table = Table(box=SIMPLE_HEAD)
    for i, header in enumerate(content.headers):
        table.add_column(header, justify="right" if i else "left")
    for row in content.rows:
        table.add_row(*row)
    out.print(table)


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """On a terminal a bar, until the work is done: call it with (done, total, what comes next)."""
    if not err.is_terminal:
        yield lambda done, total, what: None
        return
    columns = TextColumn("{task.description:28}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)
