"""All commands: importing this adds them to the application."""

from typing import Annotated

from adamite.cli.terminal import app, out

# isort: split
import typer

from adamite.cli import bench, claims, compare, demo, find_lr, memory, rules  # noqa: F401 - each adds its commands


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


__all__ = ["app"]
