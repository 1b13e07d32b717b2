"""What every command shares: the application, two consoles, tables and the progress bar."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

EXTRAS = {
    module: f"'adamite[{extra}]'"
    for extra, modules in {
        "lab": ("gymnasium", "matplotlib", "plotly", "rich", "scipy", "sklearn", "typer"),
        "torch": ("torch",),
        "jax": ("jax", "optax"),
        "keras": ("keras",),
        "ray": ("ray",),
        "tensorboard": ("tensorboardX",),
    }.items()
    for module in modules
} | {"expecttest": "expecttest"}  # of torch's own tests


def install(module: str | None) -> str:
    """What to do where a module is missing."""
    if module in EXTRAS:
        return f"adamite: this command needs {module}; install it with: pip install {EXTRAS[module]}"
    return f"adamite: there is no module {module} here"


try:
    import typer
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Table
except ModuleNotFoundError as missing:
    sys.exit(install(missing.name))

if TYPE_CHECKING:
    from adamite.lab import page

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # messages in plain lines, that a pipe does not break
)
out = Console(highlight=False, markup=False)
err = Console(highlight=False, markup=False, stderr=True)


LIBRARIES = {
    "numpy": "adamite itself",
    "torch": "adamite.torch beside torch.optim",
    "sparse": "gradients of rows, beside torch's SparseAdam and dense AdamW",
    "jax": "adamite.jax beside optax",
    "keras": "adamite.keras beside keras.optimizers",
    "bytes": "bfloat16 and 8-bit states and weights beside float32",
    "states": "bfloat16 and 8-bit states beside float32",
}


def library(*names: str) -> Any:
    """The argument that says beside which of these libraries a command works."""

    def read(text: str) -> str:
        if text not in names:
            gap = "\n" if len(names) > 4 else " "  # so that it fits the screen
            raise typer.BadParameter(f"{text!r}; give{gap}{', '.join(names[:-1])} or {names[-1]}")
        return text

    said = "; ".join(f"{name}: {LIBRARIES[name]}" for name in names)
    return typer.Argument(parser=read, metavar="WHAT", help=f"{said}.")


def print_table(content: "page.Table") -> None:
    """The first column stands to the left, the others, mostly numbers, to the right."""
    table = Table(box=SIMPLE_HEAD)
    for i, header in enumerate(content.headers):
        table.add_column(header, justify="right" if i else "left")
    for row in content.rows:
        table.add_row(*row)
    out.print(table)


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """On a terminal a bar, until the work is done: call it with (done, total, what comes next)."""
    if not err.is_terminal:
        yield lambda done, total, what: None
        return
    columns = TextColumn("{task.description:28}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)
