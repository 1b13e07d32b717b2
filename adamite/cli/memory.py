"""The command that counts bytes before a training: memory."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from adamite.cli.terminal import app, bad_parameter, check_choice, out, rule_or_name, whole


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
    from adamite.lab import fault

    with bad_parameter("'--optimizer'"):
        rule = rule_or_name(optimizer)
    if dtype is not None:
        check_choice(dtype, footprint.DTYPES, "'--dtype'")
    with bad_parameter("'MODEL'"):
        made, tensors = _model(model)
        try:
            found = footprint.memory(tensors, rule, dtype)
        except (ValueError, TypeError) as error:
            raise fault.about(made, str(error).removeprefix("memory: ") + fault.not_yield(tensors)) from None
    out.print(found.title, style="bold")
    ends = [i for i, row in enumerate(found.rows) if row.state == found.rows[-1].state]
    out.print(whole(footprint.HEADERS, found.cells, 3, ("B/param", "gradients", "weights", "states"), ends))
    out.print(found.verdict)


def _model(where: str) -> tuple[Any, Any]:
    """What a user's function returns, behind the function; or a file, a folder or a model that is there already."""
    from adamite.lab import fault
    from adamite.lab.where import load

    if not where:
        raise ValueError(
            "it is empty; give a .safetensors file or its folder, path/to/file.py:function, or module:function"
        )
    if not where.endswith(".py") and (Path(where).exists() or ":" not in where):
        return None, Path(where)
    found = load(where)
    if not isinstance(found, type) and (not callable(found) or hasattr(found, "parameters")):
        return None, found
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise fault.about(found, f"a function that returns a model is called without arguments: {error}") from None
    with fault.blamed_on(found):
        return found, found()
