"""The command line: the only layer of adamite that prints."""

import sys
from typing import Annotated

from adamite.cli.terminal import app, err, install, out  # first: it says which package is missing

# isort: split
import typer

from adamite.cli import bench, claims, compare, demo, find_lr, memory, rules  # noqa: F401 - each adds its commands


def main() -> None:
    """Run the command line: the entry point of ``adamite`` and of ``python -m adamite``."""
    try:
        app(prog_name="adamite")
    except ModuleNotFoundError as missing:  # a command imports what it needs when it is called
        sys.exit(install(missing.name))
    except SystemExit as end:
        if end.code == 130:  # what Typer makes of Ctrl-C
            err.print("Stopped.")
        raise


def show_version(wanted: bool) -> None:
    if wanted:
        from adamite import __version__

        out.print(f"adamite {__version__}")
        raise typer.Exit


@app.callback()
def adamite(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Optimizers that you can read: each is written once, as its paper prints it."""


__all__ = ["app", "main"]
