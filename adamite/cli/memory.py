"""The command that predicts the memory of a training: memory."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from adamite.cli.options import Optimizer
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
    optimizer: Optimizer = "adamw",
    dtype: Annotated[
        str | None, typer.Option(help="Of the weights: float32, bfloat16, float16 or float64; default: their own.")
    ] = None,
) -> None:
    """Count the bytes that training a model takes.

    For each format of the optimizer's states: weights, gradients and states, to the byte. Activations aren't counted.
    Only the header of a file is read.
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
            footprints = footprint.memory(tensors, rule, dtype)
        except (ValueError, TypeError) as error:
            raise fault.about(made, str(error).removeprefix("memory: ") + fault.not_yield(tensors)) from None
    out.print(footprints.title, style="bold")
    ends = [i for i, row in enumerate(footprints.rows) if row.state == footprints.rows[-1].state]
    out.print(whole(footprint.HEADERS, footprints.cells, 3, ("B/param", "gradients", "weights", "states"), ends))
    out.print(footprints.verdict)


def _model(where: str) -> tuple[Any, Any]:
    """The user's function and the model that it returns; or None and a file, a folder or an existing model."""
    from adamite.lab import fault
    from adamite.lab.where import load

    if not where:
        raise ValueError(
            "it is empty; give a .safetensors file or its folder, path/to/file.py:function, or module:function"
        )
    if not where.endswith(".py") and (Path(where).exists() or ":" not in where):
        return None, Path(where)
    loaded = load(where)
    if not isinstance(loaded, type) and (not callable(loaded) or hasattr(loaded, "parameters")):
        return None, loaded
    try:
        inspect.signature(loaded).bind()
    except TypeError as error:
        raise fault.about(loaded, f"a function that returns a model is called without arguments: {error}") from None
    with fault.blamed_on(loaded):
        return loaded, loaded()
