"""The command that counts bytes before a training: memory."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from adamite.cli.terminal import app, out

if TYPE_CHECKING:
    from adamite.rule import Rule


@app.command()
def memory(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A .safetensors file, its index or a folder; or module:function, path/to/file.py:function, which "
            "returns a model.",
        ),
    ],
    optimizer: Annotated[str, typer.Option(help="Its name; your own rule as module:rule.")] = "adamw",
    dtype: Annotated[
        str | None, typer.Option(help="Of the weights: float32, bfloat16, float16, float64; else their own.")
    ] = None,
) -> None:
    """Count what training a model takes, for each way in which an optimizer's states can rest.

    Weights, gradients and states, to the byte; activations aren't counted. Of a file the header alone is read.
    """
    from adamite import footprint

    rule, tensors = _rule(optimizer), _model(model)
    if dtype is not None and dtype not in footprint.DTYPES:
        raise typer.BadParameter(f"{dtype!r}; give {', '.join(footprint.DTYPES)}", param_hint="'--dtype'")
    try:
        found = footprint.memory(tensors, rule, dtype)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error).removeprefix("memory: "), param_hint="'MODEL'") from None
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index, header in enumerate(footprint.HEADERS):
        table.add_column(header, justify="right" if index > 2 else "left", no_wrap=True)
    for row, cells in zip(found.rows, found.cells, strict=True):
        table.add_row(*cells, end_section=row.state == found.rows[-1].state)
    out.print(found.title, style="bold")
    out.print(table)
    out.print(found.verdict)


def _rule(name: str) -> str | Rule:
    """An optimizer's name that is known, or the rule that stands there."""
    from adamite.lab.where import load
    from adamite.numpy import optimizer
    from adamite.rule import Rule

    try:
        found = load(name) if ":" in name else name
        if ":" in name and not isinstance(found, Rule):
            raise ValueError(f"{name} is {found!r:.60}, not a rule: a function with @adamite.rule")
        optimizer(found)
    except ValueError as error:
        said = str(error).replace(" It takes ", "\n").split("\n")  # the names are many
        more = " All of them: adamite list" * (len(said) > 1)
        raise typer.BadParameter(f"{said[0]}{more}", param_hint="'--optimizer'") from None
    kept: str | Rule = found
    return kept


def _model(where: str) -> Any:
    """A file or a folder, or what a function returns."""
    from adamite.lab.where import NotFoundError, load

    if Path(where).exists() or ":" not in where:
        return Path(where)
    try:
        found = load(where)
        if not isinstance(found, type) and (not callable(found) or hasattr(found, "parameters")):
            return found
        inspect.signature(found).bind()
    except (NotFoundError, TypeError) as error:
        raise typer.BadParameter(f"{where}: {error}", param_hint="'MODEL'") from None
    return found()
