"""The command line: the only layer of adamite that prints."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

DEMO_FOLDER = Path("adamite-demo")
EXTRAS = {
    module: f"'adamite[{extra}]'"
    for extra, modules in {
        "lab": ("matplotlib", "rich", "sklearn", "typer"),
        "torch": ("torch",),
        "jax": ("jax", "optax"),
        "keras": ("keras",),
    }.items()
    for module in modules
}


def install(module: str | None) -> str:
    """What to do where a module is missing."""
    return f"adamite: this command needs {module}; install it with: pip install {EXTRAS.get(module or '', module)}"


try:
    import typer
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Table
except ModuleNotFoundError as missing:
    sys.exit(install(missing.name))

if TYPE_CHECKING:
    from adamite import about
    from adamite.lab import differences, page

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # messages in plain lines, that a pipe does not break
)
out = Console(highlight=False, markup=False)
err = Console(highlight=False, markup=False, stderr=True)


def main() -> None:
    """Run the command line: the entry point of ``adamite`` and of ``python -m adamite``."""
    try:
        app(prog_name="adamite")
    except ModuleNotFoundError as missing:  # a command imports what it needs when it is called
        sys.exit(install(missing.name))
    except SystemExit as end:
        if end.code == 130:  # what Typer makes of Ctrl-C
            err.print("Stopped.")
        raise


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


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--out", file_okay=False, writable=True, help="Folder for the page.")
    ] = DEMO_FOLDER,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each optimizer on the digits.")] = 5,
) -> None:
    """Fit a line, learn digits, draw a page of both: ten seconds."""
    with progress_bar() as progress:
        from adamite.lab import demo  # takes a second

        try:
            report = demo.run(folder, seeds, progress)
        except OSError as error:
            message = f"{error.filename or folder}: {error.strerror}"
            raise typer.BadParameter(message, param_hint="'--out'") from error

    out.print("A straight line: Adam, lr 0.1, on 100 noisy points of y = 2x + 1", style="bold")
    print_table(report.fit.table())
    out.print(f"Handwritten digits: a network of 2,410 parameters, seeds: {seeds}", style="bold")
    print_table(report.race.table())
    out.print(f"Pictures, and a page of them: {report.page}", soft_wrap=True)


@app.command("list")
def list_() -> None:
    """List the optimizers, with the bytes of state that each keeps."""
    from adamite import about
    from adamite.numpy import OPTIMIZERS
    from adamite.rules import RULES

    table = Table(box=SIMPLE_HEAD)
    for column in ("optimizer", "what it is", "rule"):
        table.add_column(column)
    table.add_column("bytes", justify="right")
    named = set()
    for cls in OPTIMIZERS.values():
        it = about.about(cls.__name__, cls.conventions())
        named.add(it.update.rule.name)
        table.add_row(it.name, it.title, it.update.rule.name, str(it.state_bytes))
    out.print(table)
    out.print("bytes: of state for each float32 parameter.")
    variants = ", ".join(name for name in RULES if name not in named)
    out.print(f"Variants, as frameworks write them: {variants}.")
    out.print("More of one: adamite show adam")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An optimizer (adamw) or a rule (adam_eps_hat).")],
    asm: Annotated[bool, typer.Option("--asm", help="Print the compiled loop for this processor.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print the equations in LaTeX.")] = False,
) -> None:
    """Show an optimizer: its equations, hyperparameters, memory, and where frameworks differ."""
    from adamite import about
    from adamite.numpy import optimizer
    from adamite.readers.text import equations

    try:
        cls = optimizer(name)
    except ValueError as error:
        err.print(str(error).split(" It takes ")[0])  # the names are many
        err.print("All of them: adamite list")
        raise typer.Exit(2) from None
    if asm and latex:
        raise typer.BadParameter("give one of the two", param_hint="--asm, --latex")
    it = about.about(cls.__name__, cls.conventions())
    if latex:
        for equation in equations(it.update, latex=True):
            out.print(str(equation), soft_wrap=True)
        return
    if asm:
        print_loop(it)
        return
    out.print(it.title, style="bold")
    if it.summary:
        out.print(" ".join(it.summary.split()))
    out.print()
    for equation in equations(it.update):
        out.print(f"    {equation}", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD)
    for column in ("", "name", "default", "allowed", "meaning"):
        table.add_column(column)
    for argument in it.arguments:
        table.add_row(argument.symbol, argument.name, argument.default, argument.allowed, argument.meaning)
    out.print(table)
    states = ", ".join(it.update.states) or "none"
    out.print(
        f"Memory: {it.state_bytes} bytes of state a float32 parameter (states: {states}); "
        f"a step reads and writes {it.moved_bytes}."
    )
    for difference in it.differences:
        out.print(f"\nIn {difference.framework}: {difference.decay}.", style="bold")
        if difference.title:
            out.print(difference.title)
        for equation in difference.equations:
            out.print(f"    {equation}", soft_wrap=True)
        if difference.defaults:
            out.print("Other defaults: " + ", ".join(f"{k}={v}" for k, v in difference.defaults.items()))


def print_loop(it: "about.About") -> None:
    """The compiled loop, and how much of it there is."""
    from adamite import engine
    from adamite.readers import llvm
    from adamite.storage import FLOAT32

    text = llvm.step_text(engine.graph(it.update), FLOAT32, engine.machine())
    loop = llvm.loop(llvm.compile(text, assembly=True).assembly or "")
    out.print("\n".join(loop), soft_wrap=True)
    err.print(f"The loop of {it.name} in float32 on {llvm.processor()}: {len(loop)} lines.")


LIBRARIES = {
    "numpy": "adamite itself",
    "torch": "adamite.torch beside torch.optim",
    "jax": "adamite.jax beside optax",
    "keras": "adamite.keras beside keras.optimizers",
}


def library(*names: str) -> Any:
    """The argument that says beside which of these libraries a command works."""

    def read(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"{text!r}; give {', '.join(names[:-1])} or {names[-1]}")
        return text

    said = "; ".join(f"{name}: {LIBRARIES[name]}" for name in names)
    return typer.Argument(parser=read, metavar="LIBRARY", help=f"{said}.")


@app.command()
def verify(what: Annotated[str, library("numpy", "torch")] = "numpy") -> None:
    """Check on this machine that the machine code has the reference's bits and the papers' numbers.

    With torch: that adamite.torch has torch's numbers, on torch's own test inputs, and refuses what torch refuses.
    Either takes about ten seconds.
    """
    if what == "torch":
        verify_torch()
        return
    from adamite.lab import differences, verify
    from adamite.readers import llvm

    table = Table(box=SIMPLE_HEAD)
    table.add_column("rule", no_wrap=True)
    for column in ("checks", "error", "ULPs", "float32", "median"):
        table.add_column(column, justify="right")
    reports = []
    with progress_bar() as progress:
        for done, (rule, options) in enumerate(verify.CASES):
            progress(done, len(verify.CASES), verify.label(rule, options))
            reports.append(verify.report(rule, **options))
    for r in reports:
        table.add_row(
            r.case,
            f"{r.checks - len(r.failures)}/{r.checks}",
            f"{r.displacement64:.1e}",
            f"{r.ulps64:.0f}",
            f"{r.ulps32:.1f}",
            f"{r.ulps32_median:.1f}",
        )
    out.print(table)
    out.print(
        "checks: the machine code's bits are those of the NumPy reading (special values, threads), states stay "
        "normal, saved runs resume, and more: help(adamite.testing.check_rule).\n"
        f"errors: after {verify.STEPS} steps, against a float64 loop written from the paper: largest difference over "
        "largest displacement; then in units of the last place of the parameter (ULPs): the largest in float64, "
        "the largest and the median in float32.\n"
        f"processor: {llvm.processor()}"
    )
    failed = [r for r in reports if not r.passed]
    for r in failed:
        for failure in r.failures or [f"float64 error {r.displacement64:.1e}, more than {verify.LIMIT:g}"]:
            err.print(f"{r.case}: {failure}", style="red")
    if failed:
        raise typer.Exit(1)
    print_differences(differences.TORCH)
    out.print(f"All {len(reports)} hold.", style="bold green")


def verify_torch() -> None:
    """Each class of adamite.torch beside torch's."""
    with progress_bar() as progress:
        progress(0, 1, "importing torch")
        from adamite.lab import differences, verify_torch

        reports = []
        for done, name in enumerate(verify_torch.NAMES):
            progress(done, len(verify_torch.NAMES), name)
            reports.append(verify_torch.report(name))
    table = Table(box=SIMPLE_HEAD)
    table.add_column("class", no_wrap=True)
    for column in ("inputs", "error", "refused"):
        table.add_column(column, justify="right")
    for r in reports:
        refused = f"{r.refused}/{r.refused + len(r.failures)}"
        table.add_row(r.name, str(r.inputs), f"{r.displacement64:.1e}", refused)
    out.print(table)
    out.print(
        f"inputs: torch's own for its optimizers' tests; error: after {verify_torch.STEPS} steps in float64, largest "
        "difference from torch over largest displacement; refused: torch's error inputs, with its errors."
    )
    table = Table(box=SIMPLE_HEAD)
    table.add_column("class", no_wrap=True)
    for kind in verify_torch.KINDS:
        table.add_column(str(kind).removeprefix("torch."), justify="right")
        table.add_column("torch's", justify="right")
    for r in reports:
        pairs = (
            (f"{d.median:.1f}/{d.largest:.0f}", f"{d.median_torch:.1f}/{d.largest_torch:.0f}")
            for d in r.distances.values()
        )
        table.add_row(r.name, *(cell for pair in pairs for cell in pair))
    out.print(table)
    out.print("Distance from a float64 run in units of the last place, median/largest: ours, torch's.")
    print_differences(differences.TORCH)
    failed = [r for r in reports if not r.passed]
    for r in failed:
        for failure in r.failures or [f"float64 error {r.displacement64:.1e}, more than {verify_torch.LIMIT:g}"]:
            err.print(f"{r.name}: {failure}", style="red")
    if failed:
        raise typer.Exit(1)
    out.print(f"All {len(reports)} hold.", style="bold green")


def print_differences(found: "tuple[differences.Difference, ...]") -> None:
    out.print("\nWhere adamite.torch departs from torch.optim on purpose", style="bold")
    for difference in found:
        out.print(f"- {difference.what}: {difference.why}.")


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
    what: Annotated[str, library("numpy", "torch", "jax", "keras")] = "numpy",
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
    table = Table(box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for column in ("median", "GB/s", "ratio", "promise"):
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
            promise + ("" if row.kept is None else " kept" if row.kept else " missed"),
        )
    out.print(table, markup=True)
    out.print(
        "Medians of interleaved rounds in one process; ratio: to the case's yardstick (the limit kernel, torch fused, "
        "optax, ...), the median over rounds. The limit kernel loads and stores the same and adds once for each store. "
        "Machines are noisy: trust ratios, and repeat."
    )


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
