"""What all commands share: the application, two consoles, tables and the progress bar."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from adamite.cli import bare
from adamite.cli.bare import OWN_RULE
from adamite.errors import listed

if TYPE_CHECKING:
    from adamite.lab import page
    from adamite.language.rule import Rule

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": bare.HELP},
    rich_markup_mode=None,  # plain messages, which a pipe doesn't break
)
out = Console(highlight=False, markup=False)
err = Console(highlight=False, markup=False, stderr=True)


LEAST = 10  # characters of a name, or of a word of a header, before it is folded

LIBRARIES = {
    "numpy": "adamite itself",
    "torch": "adamite.torch against torch.optim",
    "sparse": "sparse gradients, against torch's SparseAdam and dense AdamW",
    "jax": "adamite.jax against optax",
    "keras": "adamite.keras against keras.optimizers",
    "bytes": "bfloat16 and 8-bit states and weights against float32",
    "states": "bfloat16 and 8-bit states against float32",
}


def check_choice(text: str, choices: Collection[str], hint: str) -> None:
    """Refuse what isn't among the choices."""
    if text not in choices:
        alternatives = listed(list(choices), "or")
        gap = "\n" if len(alternatives) > 44 else " "  # so that it fits the screen
        raise typer.BadParameter(f"{text!r}; give{gap}{alternatives}", param_hint=hint)


def all_of_them(error: ValueError) -> str:
    """The message about an unknown name, with a command instead of the list of all optimizers."""
    said, many, _ = str(error).partition(" It takes ")
    return f"{said}\nAll of them: adamite list" if many or "the nearest here" in said else said


@contextmanager
def bad_parameter(hint: str) -> Iterator[None]:
    """Report a ValueError raised inside as an invalid value of this option."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(all_of_them(error), param_hint=hint) from None


@contextmanager
def writing(path: Path, hint: str = "'--out'", kind: type[OSError] = OSError) -> Iterator[None]:
    """Report a failure to write, raised inside, as an invalid value of this option."""
    try:
        yield
    except kind as error:
        said = f"{error.filename or path}: {error.strerror}" if error.strerror else str(error)
        raise typer.BadParameter(said, param_hint=hint) from None


def output_folder(path: Path, hint: str = "'--out'") -> Path:
    """Make the folder, and check before the work that files can be written there."""
    with writing(path, hint):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    return path


def rule_or_name(text: str) -> Rule | str:
    """The rule at a place (file.py:rule), or the name of an optimizer.

    Raises:
        ValueError: there is none; the message says why.
    """
    from adamite.lab.where import rule
    from adamite.numpy import optimizer

    named = rule(text) if ":" in text else text
    optimizer(named)  # raises an error for an unknown name
    return named


def library(*names: str) -> Any:
    """The argument of a command that works with one of these libraries, or with a rule of the user's own."""

    def read(text: str) -> str:
        if ":" not in text:
            check_choice(text, (*names, OWN_RULE), "'WHAT'")
        return text

    meanings = "; ".join(f"{name}: {LIBRARIES[name]}" for name in names)
    return typer.Argument(parser=read, metavar="WHAT", help=f"{meanings}; or {OWN_RULE}.")


def whole(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: int = 1,
    spare: Sequence[str] = (),
    ends: Sequence[int] = (),
) -> Table:
    """A table that doesn't cut numbers off on a narrow screen.

    If there is no room for everything, headers are wrapped, names folded, and columns left out.

    Args:
        left: the number of columns of names, aligned left; the others have numbers, aligned right.
        spare: the headers of columns that may be left out, the least important first.
        ends: the rows with a gap below.
    """
    cells = {h: max((cell_len(row[i]) for row in rows), default=0) for i, h in enumerate(headers)}
    most = {h: max(cell_len(h), cells[h]) for h in headers}
    least = {h: max(cells[h], min(LEAST, max(map(cell_len, h.split()), default=0))) for h in headers}
    least |= {h: min(most[h], LEAST) for h in headers[:left]}
    shown = list(headers)

    def room() -> int:
        return out.width - sum(least[h] + 2 for h in shown)

    for header in spare:
        if room() < 0 and header in shown:
            shown.remove(header)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, header in enumerate(headers):
        if header in shown:
            least[header] += max(0, min(most[header] - least[header], room()))
            how: Any = {"justify": "right" if i >= left else "left", "width": least[header], "overflow": "fold"}
            table.add_column(header, **how)
    for i, row in enumerate(rows):
        table.add_row(*(cell for header, cell in zip(headers, row) if header in shown), end_section=i in ends)
    return table


def names_and_numbers(names: str, *numbers: str) -> Table:
    """A table without rows: a column of names, aligned left, and columns of numbers, aligned right."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column(names, no_wrap=True)
    for header in numbers:
        table.add_column(header, justify="right")
    return table


def print_table(content: page.Table) -> None:
    table = names_and_numbers(*content.headers)
    for row in content.rows:
        table.add_row(*row)
    out.print(table)


# ---- progress -------------------------------------------------------------------------------------

Tell = Callable[[float, float, str], None]  # called with the amount done, the total, and what comes next
EVERY = 30.0  # seconds between lines if there is no terminal


class NowAndThen:
    """Lines on stderr, for when it isn't a terminal: at most one every EVERY seconds, and none before."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, words: str) -> None:
        now = time.monotonic()
        if now - self._last >= EVERY:
            self._last = now
            print(words, file=sys.stderr, flush=True)


class TimeLeft:
    """The time left, estimated from the time so far: call it with (done, total)."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def __call__(self, done: float, total: float) -> str:
        """A comma and the time; "" before anything is done."""
        if not 0 < done < total:
            return ""
        return f", {duration((time.monotonic() - self._begin) / done * (total - done))} left"


def duration(seconds: float) -> str:
    """An approximate duration, in seconds, minutes or hours."""
    if seconds < 99:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 99 * 60 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress_bar() -> Iterator[Tell]:
    """A progress bar, or a line from time to time if there is no terminal."""
    left = TimeLeft()
    if not err.is_terminal:
        say = NowAndThen()
        yield lambda done, total, what: say(f"{done / max(1, total):.0%} done{left(done, total)}; {what}")
        return
    columns = (
        TextColumn("{task.description:28}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %{task.fields[left]}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=None, left="")
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=what, left=left(done, total)
        )
