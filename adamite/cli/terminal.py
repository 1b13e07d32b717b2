"""What every command shares: the application, two consoles, tables and the progress bar."""

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
    rich_markup_mode=None,  # messages in plain lines, that a pipe does not break
)
out = Console(highlight=False, markup=False)
err = Console(highlight=False, markup=False, stderr=True)


LEAST = 10  # letters of a name, or of a header's word, before it is folded

LIBRARIES = {
    "numpy": "adamite itself",
    "torch": "adamite.torch beside torch.optim",
    "sparse": "gradients of rows, beside torch's SparseAdam and dense AdamW",
    "jax": "adamite.jax beside optax",
    "keras": "adamite.keras beside keras.optimizers",
    "bytes": "bfloat16 and 8-bit states and weights beside float32",
    "states": "bfloat16 and 8-bit states beside float32",
}


def check_choice(text: str, choices: Collection[str], hint: str) -> None:
    """Refuse what isn't among the choices."""
    if text not in choices:
        them = listed(list(choices), "or")
        gap = "\n" if len(them) > 44 else " "  # so that it fits the screen
        raise typer.BadParameter(f"{text!r}; give{gap}{them}", param_hint=hint)


def all_of_them(error: ValueError) -> str:
    """What an error says of a name that isn't there, but for the list of all optimizers."""
    said, many, _ = str(error).partition(" It takes ")
    return f"{said}\nAll of them: adamite list" if many or "the nearest here" in said else said


@contextmanager
def bad_parameter(hint: str) -> Iterator[None]:
    """What is refused inside was given for this option."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(all_of_them(error), param_hint=hint) from None


@contextmanager
def writing(path: Path, hint: str = "'--out'", kind: type[OSError] = OSError) -> Iterator[None]:
    """What can't be written inside was to be written where this option says."""
    try:
        yield
    except kind as error:
        said = f"{error.filename or path}: {error.strerror}" if error.strerror else str(error)
        raise typer.BadParameter(said, param_hint=hint) from None


def output_folder(path: Path, hint: str = "'--out'") -> Path:
    """Make a folder for what will be written, and see before the work whether it can be."""
    with writing(path, hint):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    return path


def rule_or_name(text: str) -> Rule | str:
    """The name of an optimizer that is known, or the rule that stands there.

    Raises:
        ValueError: that says what is wrong.
    """
    from adamite.lab.where import rule
    from adamite.numpy import optimizer

    found = rule(text) if ":" in text else text
    optimizer(found)  # which knows the names
    return found


def library(*names: str) -> Any:
    """The argument that says beside which of these libraries a command works, or a rule of the user's own."""

    def read(text: str) -> str:
        if ":" not in text:
            check_choice(text, (*names, OWN_RULE), "'WHAT'")
        return text

    said = "; ".join(f"{name}: {LIBRARIES[name]}" for name in names)
    return typer.Argument(parser=read, metavar="WHAT", help=f"{said}; or {OWN_RULE}.")


def whole(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: int = 1,
    spare: Sequence[str] = (),
    ends: Sequence[int] = (),
) -> Table:
    """A table whose numbers are whole on a narrow screen too.

    Where there is no room for all, headers are wrapped, names folded, and columns left out.

    Args:
        left: so many columns are of names, to the left; the others of numbers, to the right.
        spare: the headers of columns that can be missed, first that which is missed least.
        ends: the rows with a gap below.
    """
    cells = {h: max((cell_len(row[i]) for row in rows), default=0) for i, h in enumerate(headers)}
    most = {h: max(cell_len(h), cells[h]) for h in headers}
    least = {h: max(cells[h], min(LEAST, max(map(cell_len, h.split()), default=0))) for h in headers}
    least |= {h: min(most[h], LEAST) for h in headers[:left]}
    kept = list(headers)

    def room() -> int:
        return out.width - sum(least[h] + 2 for h in kept)

    for header in spare:
        if room() < 0 and header in kept:
            kept.remove(header)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, header in enumerate(headers):
        if header in kept:
            least[header] += max(0, min(most[header] - least[header], room()))
            how: Any = {"justify": "right" if i >= left else "left", "width": least[header], "overflow": "fold"}
            table.add_column(header, **how)
    for i, row in enumerate(rows):
        table.add_row(*(cell for header, cell in zip(headers, row) if header in kept), end_section=i in ends)
    return table


def print_table(content: page.Table) -> None:
    """The first column stands to the left, the others, mostly numbers, to the right."""
    table = Table(box=SIMPLE_HEAD)
    for i, header in enumerate(content.headers):
        table.add_column(header, justify="right" if i else "left")
    for row in content.rows:
        table.add_row(*row)
    out.print(table)


# ---- what is told until a result is there ---------------------------------------------------------

Tell = Callable[[float, float, str], None]  # how much is done, of how much, and what comes next
EVERY = 30.0  # seconds between lines where there is no terminal


class NowAndThen:
    """Lines on stderr, for what is redirected: none before EVERY seconds have passed, and none sooner after another."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, words: str) -> None:
        now = time.monotonic()
        if now - self._last >= EVERY:
            self._last = now
            print(words, file=sys.stderr, flush=True)


class TimeLeft:
    """How long it will take yet, from how long it took so far: call it with (done, total)."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def __call__(self, done: float, total: float) -> str:
        """A comma and the words, or nothing where nothing is known."""
        if not 0 < done < total:
            return ""
        return f", {duration((time.monotonic() - self._begin) / done * (total - done))} left"


def duration(seconds: float) -> str:
    """About how long, in the unit that one would say."""
    if seconds < 99:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 99 * 60 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress_bar() -> Iterator[Tell]:
    """Until the work is done a bar, or a line now and then."""
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
