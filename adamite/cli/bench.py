"""The command that measures: bench."""

import importlib
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from adamite.cli.terminal import app, library, out, progress_bar


def elements(text: str | int) -> int:
    """A number of elements: 40000000, or 4e7."""
    try:
        count = float(text)
    except ValueError:
        count = float("nan")
    if not (count >= 1_000_000 and count.is_integer()):
        raise typer.BadParameter(f"{text!r}; give at least 1000000")
    return int(count)


@app.command()
def bench(
    size: Annotated[
        int, typer.Option(parser=elements, metavar="N", help="Elements of the large array, at least 1000000.")
    ] = 40_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Interleaved rounds of each comparison.")] = 9,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list for machines.")] = False,
    what: Annotated[str, library("numpy", "torch", "jax", "keras", "bytes", "sparse")] = "numpy",
) -> None:
    """Measure the speed, side by side with the machine's limit and the peers that are installed.

    It takes a minute or two; less with a smaller --size, but the promises for large arrays are for 40 million.

    Keras is measured on the backend that it is set to, as by KERAS_BACKEND=jax.
    """
    import json

    from adamite.lab import bench

    rows = []
    with progress_bar() as progress:
        progress(0, 1, "starting")
        try:
            measured = importlib.import_module(f"adamite.lab.bench{'' if what == 'numpy' else f'_{what}'}")
        except ValueError as error:
            if what != "keras":
                raise
            raise typer.BadParameter(str(error), param_hint="KERAS_BACKEND") from None
        total = measured.cases()
        for row in measured.bench(size, rounds):
            rows.append(row)
            progress(len(rows), total, f"{row.case}: {row.name}")
    if as_json:
        typer.echo(json.dumps([row.as_dict() for row in rows], indent=1))
        return
    more = getattr(measured, "MORE", ())  # what these rows have besides
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0) if more else (0, 1))
    table.add_column("", no_wrap=True)
    for column in ("median", "GB/s", "ratio", *more, "promise"):
        table.add_column(column, justify="right", no_wrap=True)
    case = ""
    for row in rows:
        if row.case != case:
            table.add_row(f"[bold]{row.case}[/]", end_section=False)
            case = row.case
        promise = "" if row.bar is None else f"≤ {bench.shown(row.bar) if row.ratio is None else f'{row.bar:.3g}'}"
        table.add_row(
            f"  {row.name}",
            bench.shown(row.seconds),
            "" if row.gigabytes is None else f"{row.gigabytes:.0f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            *("" if (value := getattr(row, name, None)) is None else f"{value:.3g}" for name in more),
            promise + ("" if row.kept is None else " kept" if row.kept else " missed"),
        )
    out.print(table, markup=True)
    if hasattr(measured, "said"):
        out.print(measured.said())
        return
    out.print(
        "Medians of interleaved rounds in one process; ratio: to the case's yardstick (the limit kernel, torch fused, "
        "optax, ...), the median over rounds. The limit kernel loads and stores the same and adds once for each store. "
        "Machines are noisy: trust ratios, and repeat."
    )
