"""Commands about the rules: list, show, verify."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    names_and_numbers,
    out,
    print_table,
    progress_bar,
    rule_or_name,
)
from adamite.errors import listed

if TYPE_CHECKING:
    from adamite.backends.text import Equation
    from adamite.frontend import about
    from adamite.lab import differences


@app.command("list")
def list_() -> None:
    """List the optimizers, with the bytes of state that each needs."""
    from adamite.frontend import about
    from adamite.numpy import OPTIMIZERS
    from adamite.rules import RULES

    table = Table(box=SIMPLE_HEAD)
    for column in ("optimizer", "what it is", "rule"):
        table.add_column(column)
    table.add_column("bytes", justify="right")
    with_a_class = set()
    for cls in OPTIMIZERS.values():
        it = about.about(cls.__name__, cls.conventions())
        with_a_class.add(it.update.rule.name)
        table.add_row(it.name, it.title, it.update.rule.name, str(it.state_bytes))
    out.print(table)
    out.print("bytes: state per float32 parameter.")
    variants = ", ".join(name for name in RULES if name not in with_a_class)
    out.print(f"Variants, as frameworks write them: {variants}.")
    out.print("More about one: adamite show adam")


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

    And how other frameworks' equations and defaults differ.
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
    print_about(it)


def print_about(it: about.About) -> None:
    """Equations, hyperparameters, memory, and what the frameworks change."""
    from adamite.backends.text import equations

    out.print(it.title or it.name, style="bold")
    if it.summary:
        out.print(" ".join(it.summary.split()))
    out.print()
    print_equations(equations(it.update))
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
        frameworks = listed([f'"{difference.framework}"' for difference in it.differences], "or")
        out.print(f"\nWhat changes with convention={frameworks}:")
    for difference in it.differences:
        out.print(f"\nIn {difference.framework}: {difference.decay}.", style="bold")
        if difference.title:
            out.print(difference.title)
        print_equations(difference.equations)
        if difference.defaults:
            out.print("Other defaults: " + ", ".join(f"{k}={v}" for k, v in difference.defaults.items()))
        elif not difference.equations:
            out.print("Equations and defaults are those above.")


def print_equations(lines: Iterable[Equation]) -> None:
    for equation in lines:
        out.print(f"    {equation}", soft_wrap=True)


def print_loop(it: about.About) -> None:
    """The compiled loop, and its number of lines."""
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
    quick: Annotated[bool, typer.Option("--quick", help="For states: two seeds and short trainings.")] = False,
) -> None:
    """Check bits and numbers on this machine.

    The machine code must have the bits of the reference, and the papers' numbers.

    torch: adamite.torch must have torch's numbers, on torch's own test inputs, and refuse what torch refuses.
    Either takes about ten seconds.

    states: bfloat16 and 8-bit states must train as well as float32 ones. It takes two minutes, with --quick
    ten seconds.

    A rule of yours, as path/to/file.py:rule, must have the properties that every optimizer has.
    """
    if quick and what != "states":
        raise typer.BadParameter("it is an option of adamite verify states", param_hint="--quick")
    if ":" in what:
        verify_rule(what)
    elif what == "torch":
        verify_torch()
    elif what == "states":
        verify_states(quick)
    else:
        verify_numpy()


def verify_numpy() -> None:
    """Every rule of adamite's."""
    from adamite.codegen import compiler
    from adamite.lab import differences, verify

    reports = []
    with progress_bar() as progress:
        for done, (rule, options) in enumerate(verify.CASES):
            progress(done, len(verify.CASES), verify.label(rule, options))
            reports.append(verify.report(rule, **options))
    table = names_and_numbers("rule", "checks", "error", "ULPs", "float32", "median")
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
        "checks: the machine code has the bits of the NumPy backend (special values, threads), states stay normal, "
        "saved runs resume, and more: help(adamite.testing.check_rule).\n"
        f"errors: after {verify.STEPS} steps, against a float64 loop written from the paper: largest difference over "
        "largest displacement; then in units of the last place of the parameter (ULPs): the largest in float64, "
        "the largest and the median in float32.\n"
        f"processor: {compiler.processor()}"
    )
    exit_if_any([f"{r.case}: {reason}" for r in reports for reason in r.reasons])
    print_differences(differences.TORCH)
    out.print(f"All {len(reports)} hold.", style="bold green")


def verify_rule(where: str) -> None:
    """A rule of the user's own."""
    from adamite.lab.where import rule
    from adamite.testing import Checks, run_checks

    with bad_parameter("'WHAT'"):
        users_rule = rule(where)
    checks = Checks(run_checks(users_rule))
    out.print(str(checks))
    exit_if_any([f"{check.name}: {check.error}" for check in checks if not check.passed])
    out.print(f"All {len(checks)} hold.", style="bold green")


def verify_torch() -> None:
    """Each class of adamite.torch against torch's."""
    with progress_bar() as progress:
        progress(0, 1, "importing torch")
        from adamite.lab import differences, verify_torch

        reports = []
        for done, name in enumerate(verify_torch.NAMES):
            progress(done, len(verify_torch.NAMES), name)
            reports.append(verify_torch.report(name))
    table = names_and_numbers("class", "inputs", "error", "refused")
    for r in reports:
        refused = f"{r.refused}/{r.refused + len(r.failures)}"
        table.add_row(r.name, str(r.inputs), f"{r.displacement64:.1e}", refused)
    out.print(table)
    out.print(
        f"inputs: torch's own for its optimizers' tests; error: after {verify_torch.STEPS} steps in float64, largest "
        "difference from torch over largest displacement; refused: torch's error inputs, with its errors."
    )
    kinds = (str(kind).removeprefix("torch.") for kind in verify_torch.KINDS)
    table = names_and_numbers("class", *(header for kind in kinds for header in (kind, "torch's")))
    for r in reports:
        pairs = (
            (f"{d.median:.1f}/{d.largest:.0f}", f"{d.median_torch:.1f}/{d.largest_torch:.0f}")
            for d in r.distances.values()
        )
        table.add_row(r.name, *(cell for pair in pairs for cell in pair))
    out.print(table)
    out.print("Distance from a float64 run in units of the last place, median/largest: ours, torch's.")
    print_differences(differences.TORCH)
    exit_if_any([f"{r.name}: {reason}" for r in reports for reason in r.reasons])
    out.print(f"All {len(reports)} hold.", style="bold green")


def verify_states(quick: bool) -> None:
    """Low-precision states against float32 ones."""
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
    exit_if_any(report.failures)
    out.print("All of it holds.", style="bold green")


def exit_if_any(failures: Sequence[str]) -> None:
    """Print the failures; if there are any, end with exit status 1."""
    for failure in failures:
        err.print(failure, style="red")
    if failures:
        raise typer.Exit(1)


def print_differences(departures: tuple[differences.Difference, ...]) -> None:
    out.print("\nWhere adamite.torch departs from torch.optim on purpose", style="bold")
    for difference in departures:
        out.print(f"- {difference.what}: {difference.why}.")
