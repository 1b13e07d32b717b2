"""Commands about the rules: list, show, verify."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from adamite.cli.terminal import (
    all_of_them,
    app,
    bad_parameter,
    err,
    library,
    out,
    print_table,
    progress_bar,
    rule_or_name,
)
from adamite.errors import listed

if TYPE_CHECKING:
    from adamite.frontend import about
    from adamite.lab import differences


@app.command("list")
def list_() -> None:
    """List the optimizers, with the bytes of state that each keeps."""
    from adamite.frontend import about
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
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="An optimizer (adamw), a rule (adam_eps_hat), or yours: path/to/file.py:rule."
        ),
    ],
    asm: Annotated[bool, typer.Option("--asm", help="Print the compiled loop for this processor.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print the equations in LaTeX.")] = False,
) -> None:
    """Show an optimizer's equations, hyperparameters and memory.

    Also what changes where frameworks have other equations or defaults.
    """
    from adamite.backends.text import equations
    from adamite.frontend import about
    from adamite.numpy import optimizer

    if asm and latex:
        raise typer.BadParameter("give one of the two", param_hint="--asm, --latex")
    try:
        cls = optimizer(rule_or_name(name))
    except ValueError as error:
        err.print(all_of_them(error), soft_wrap=":" in name)
        raise typer.Exit(2) from None
    it = about.about(cls.__name__, cls.conventions())
    if latex:
        for equation in equations(it.update, latex=True):
            out.print(str(equation), soft_wrap=True)
        return
    if asm:
        print_loop(it)
        return
    out.print(it.title or it.name, style="bold")
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
    if it.differences:
        named = listed([f'"{difference.framework}"' for difference in it.differences], "or")
        out.print(f"\nWhat it changes to make it with convention={named}:")
    for difference in it.differences:
        out.print(f"\nIn {difference.framework}: {difference.decay}.", style="bold")
        if difference.title:
            out.print(difference.title)
        for equation in difference.equations:
            out.print(f"    {equation}", soft_wrap=True)
        if difference.defaults:
            out.print("Other defaults: " + ", ".join(f"{k}={v}" for k, v in difference.defaults.items()))
        elif not difference.equations:
            out.print("Equations and defaults are those above.")


def print_loop(it: "about.About") -> None:
    """The compiled loop, and how much of it there is."""
    from adamite.backends import llvm
    from adamite.codegen import compiler
    from adamite.graph.lowering import lower
    from adamite.storage import FLOAT32, Layout

    text = llvm.step_text(lower(it.update), Layout(FLOAT32))
    loop = compiler.loop(compiler.compile(text, assembly=True).assembly or "")
    out.print("\n".join(loop), soft_wrap=True)
    err.print(f"The loop of {it.name} in float32 on {compiler.processor()}: {len(loop)} lines.")


@app.command()
def verify(
    what: Annotated[str, library("numpy", "torch", "states")] = "numpy",
    quick: Annotated[bool, typer.Option("--quick", help="Of states: two seeds, and short trainings.")] = False,
) -> None:
    """Check bits and numbers on this machine.

    That the machine code has the bits of the reference, and the papers' numbers.

    With torch: that adamite.torch has torch's numbers, on torch's own test inputs, and refuses what torch refuses.
    Either takes about ten seconds.

    With states: that bfloat16 and 8-bit states train as float32 ones do. It takes two minutes, with --quick
    ten seconds.

    With a rule of yours, as path/to/file.py:rule: that it is what every optimizer must be.
    """
    if quick and what != "states":
        raise typer.BadParameter("it is of adamite verify states", param_hint="--quick")
    if ":" in what:
        verify_rule(what)
        return
    if what == "torch":
        verify_torch()
        return
    if what == "states":
        verify_states(quick)
        return
    from adamite.codegen import compiler
    from adamite.lab import differences, verify

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
        f"processor: {compiler.processor()}"
    )
    failed = [r for r in reports if not r.passed]
    for r in failed:
        for reason in r.reasons:
            err.print(f"{r.case}: {reason}", style="red")
    if failed:
        raise typer.Exit(1)
    print_differences(differences.TORCH)
    out.print(f"All {len(reports)} hold.", style="bold green")


def verify_rule(where: str) -> None:
    """A rule of the user's own."""
    from adamite.lab.where import rule
    from adamite.testing import Checks, run_checks

    with bad_parameter("'WHAT'"):
        found = rule(where)
    checks = Checks(run_checks(found))
    out.print(str(checks))
    failed = [check for check in checks if not check.passed]
    for check in failed:
        err.print(f"{check.name}: {check.error}", style="red")
    if failed:
        raise typer.Exit(1)
    out.print(f"All {len(checks)} hold.", style="bold green")


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
        for reason in r.reasons:
            err.print(f"{r.name}: {reason}", style="red")
    if failed:
        raise typer.Exit(1)
    out.print(f"All {len(reports)} hold.", style="bold green")


def verify_states(quick: bool) -> None:
    """Narrow states beside float32's."""
    with progress_bar() as progress:
        progress(0, 1, "importing torch")
        from adamite.lab import fidelity

        report = fidelity.verify(quick, progress)
    for heading, table, meaning in fidelity.tables(report):
        out.print(heading, style="bold")
        print_table(table)
        out.print(f"{meaning}\n")
    for missing in report.missing:
        err.print(missing)
    for failure in report.failures:
        err.print(failure, style="red")
    if report.failures:
        raise typer.Exit(1)
    out.print("All of it holds.", style="bold green")


def print_differences(found: "tuple[differences.Difference, ...]") -> None:
    out.print("\nWhere adamite.torch departs from torch.optim on purpose", style="bold")
    for difference in found:
        out.print(f"- {difference.what}: {difference.why}.")
