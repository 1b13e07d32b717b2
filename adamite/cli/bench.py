"""The command that measures: bench."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from adamite.cli.terminal import app, bad_parameter, library, out, progress_bar

if TYPE_CHECKING:
    from adamite.lab.bench import Row

MEANING = (
    "Medians of interleaved rounds in one process; ratio: to the case's yardstick (the limit kernel, torch fused, "
    "optax, ...), the median over rounds. The limit kernel has the same loads and stores, and one addition per store. "
    "Machines are noisy: trust ratios, and repeat."
)


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
    """Measure the speed against the machine's limit and peers.

    It takes a minute or two, less with a smaller --size. What is promised for large arrays is promised for 40 million
    elements, and isn't judged at other sizes. Peers are measured if they are installed.

    Keras is measured on its configured backend, as set by KERAS_BACKEND=jax.
    """
    import json

    from adamite.lab import bench

    rows: list[Row] = []
    with progress_bar() as progress:
        progress(0, 1, "starting")
        measured, total, coming = _measuring(what, size, rounds)
        for row in coming:
            rows.append(row)
            progress(len(rows), total, f"{row.case}: {row.name}")
    if as_json:
        typer.echo(json.dumps([row.as_dict() for row in rows], indent=1))
        return
    more = getattr(measured, "MORE", ())  # the names of further columns
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
    out.print(measured.said() if hasattr(measured, "said") else MEANING)
    if size != bench.SIZE:
        out.print(f"What is promised for large arrays is promised for {bench.SIZE:,} elements, and isn't judged here.")


def _measuring(what: str, size: int, rounds: int) -> tuple[ModuleType, int, Iterator[Row]]:
    """The module that measures, the number of rows, and the rows as they are measured."""
    from adamite.lab import bench
    from adamite.lab.where import rule

    if ":" in what:
        with bad_parameter("'WHAT'"):
            users_rule = rule(what)
        return bench, 2, bench.own(users_rule, size, rounds)
    try:
        measured: Any = importlib.import_module(f"adamite.lab.bench{'' if what == 'numpy' else f'_{what}'}")
    except ValueError as error:
        if what != "keras":
            raise
        raise typer.BadParameter(str(error), param_hint="KERAS_BACKEND") from None
    return measured, measured.cases(), measured.bench(size, rounds)
