"""The command that counts bytes before a training: memory."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from adamite.cli.terminal import app, bad_parameter, check_choice, out, rule_or_name


@app.command()
def memory(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A .safetensors file, its index or a folder; or path/to/file.py:function, module:function, which "
            "returns a model.",
        ),
    ],
    optimizer: Annotated[str, typer.Option(help="Its name; your own rule as path/to/file.py:rule.")] = "adamw",
    dtype: Annotated[
        str | None, typer.Option(help="Of the weights: float32, bfloat16, float16, float64; else their own.")
    ] = None,
) -> None:
    """Count the bytes that training a model takes.

    For each way in which an optimizer's states can rest: weights, gradients and states, to the byte. Activations aren't
    counted. Of a file the header alone is read.
    """
    from adamite import footprint

    with bad_parameter("'--optimizer'"):
        rule = rule_or_name(optimizer)
    if dtype is not None:
        check_choice(dtype, footprint.DTYPES, "'--dtype'")
    with bad_parameter("'MODEL'"):
        tensors = _model(model)
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


def _model(where: str) -> Any:
    """A file or a folder, or what a function returns."""
    from adamite.lab import fault
    from adamite.lab.where import load

    if not where.endswith(".py") and (Path(where).exists() or ":" not in where):
        return Path(where)
    found = load(where)
    if not isinstance(found, type) and (not callable(found) or hasattr(found, "parameters")):
        return found
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise fault.about(found, f"a function that returns a model is called without arguments: {error}") from None
    with fault.blamed_on(found):
        return found()
