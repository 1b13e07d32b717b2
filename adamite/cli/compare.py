"""Commands that answer: which optimizer, and with what learning rate?"""

from __future__ import annotations

import functools
import math
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from adamite.cli.terminal import (
    NowAndThen,
    TimeLeft,
    all_of_them,
    app,
    check_choice,
    err,
    out,
    output_folder,
    whole,
    writing,
)
from adamite.errors import counted

if TYPE_CHECKING:
    from adamite.lab.compare import comparison

FOLDER = Path("adamite-compare")
OPTIMIZERS = "sgd,momentum,rmsprop,adam,adamw,amsgrad,adabelief"


@app.command()
def compare(
    context: typer.Context,
    problem: Annotated[
        str, typer.Option(help="One of ours, or yours: path/to/file.py:function, or module:function.")
    ] = "digits",
    optimizers: Annotated[
        str, typer.Option(help="Names with commas; your own rule as path/to/file.py:rule, or module:rule.")
    ] = OPTIMIZERS,
    budget: Annotated[int, typer.Option(min=1, max=10_000, help="Settings tried for each optimizer.")] = 12,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Trainings of each with its best settings.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=999_999, help="What everything is drawn from.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Of a training; 0: the problem's own number.")] = 0,
    schedule: Annotated[str, typer.Option(help="Of lr: constant, cosine, linear or warmup-cosine.")] = "constant",
    target: Annotated[float | None, typer.Option(help="Of the metric; steps and seconds to it are counted.")] = None,
    tune: Annotated[
        list[str] | None, typer.Option(metavar="NAME=LOW:HIGH", help="Another range, or one more to tune; repeat it.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: one a core.")] = 0,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Train on a cluster of Ray; local begins one here.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", file_okay=False, help="Write the curves for TensorBoard too.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", file_okay=False, help="For the study and the report, instead of adamite-compare/PROBLEM."
        ),
    ] = None,
) -> None:
    """Tune optimizers alike on a problem, and say which is best.

    Each is then trained from the same seeds with its best settings. What was trained is kept in a study: a comparison
    that was stopped goes on, and a larger one uses it.
    """
    from adamite.lab.compare import comparison, report
    from adamite.lab.compare.study import Study, StudyError

    if tensorboard is not None:  # what is missing is told before the work
        from adamite.lab.compare import tensorboard as events
    if target is not None and not math.isfinite(target):
        raise typer.BadParameter(f"{target}; give a finite number", param_hint="'--target'")
    plan = _plan(problem, optimizers, tune or [], schedule)
    plan = comparison.replace(plan, budget=budget, seeds=seeds, seed=seed, steps=steps, target=target)
    begin = time.perf_counter()
    folder = _folder(plan, folder)
    if tensorboard is not None:
        output_folder(tensorboard, "'--tensorboard'")
    with writing(folder):
        study = Study(folder / "study.sqlite")
    pool = _pool(jobs, ray, own=":" in problem + optimizers)
    with writing(folder, kind=StudyError), live_table(plan) as tell:
        found = comparison.run(plan, study, pool, tell)
    print_comparison(found)
    with writing(folder):
        page = report.write(found, folder, _typed(context))
    out.print(f"Report: {page}", soft_wrap=True, highlight=False, markup=False)
    if tensorboard is not None:
        with writing(tensorboard, "'--tensorboard'"):
            runs = counted(len(events.write(found, tensorboard)), "training")
        out.print(f"{runs} for TensorBoard: tensorboard --logdir {tensorboard}", soft_wrap=True)
    fresh = sum(len(r.tuning) + len(r.reported) + len(r.failures) for r in found.results) - found.kept
    known = f", {found.kept} from the study" if found.kept else ""
    out.print(f"{counted(fresh, 'training')}{known}, {time.perf_counter() - begin:.0f} s.")
    if not found.ranked():
        raise typer.Exit(1)


def _folder(plan: comparison.Plan, given: Path | None) -> Path:
    """Where the report goes: a folder of the problem's own."""
    from adamite.lab.compare import report
    from adamite.lab.where import as_name, identity

    folder = FOLDER / as_name(plan.problem.where) if given is None else given
    other = report.problem_of(folder)
    own = identity(plan.problem.where)
    if other not in (None, own):
        said = f"{folder} has a report of {other}, and this one is of {own}; give another folder"
        raise typer.BadParameter(said, param_hint="'--out'")
    return output_folder(folder)


def _pool(jobs: int, ray: str | None, own: bool) -> comparison.Pool:
    """Where the trainings are done. What is the user's own is found on a cluster in a copy of the current folder."""
    from adamite.lab.compare import workers

    if ray is None:
        return functools.partial(workers.local, processes=jobs or workers.cores())
    from adamite.lab.compare import cluster

    here = Path.cwd() if own else None
    try:
        cluster.connect(ray, here)
    except cluster.ClusterError as error:
        raise typer.BadParameter(str(error), param_hint="'--ray'") from None
    return functools.partial(cluster.ray, address=ray, folder=here)


def _typed(context: typer.Context) -> str:
    """The command with all of its options, those too that were left at what another version may change."""
    words = ["adamite", str(context.info_name)]
    for option in context.command.params:
        given = context.params.get(option.name or "")
        for value in given if isinstance(given, (list, tuple)) else [given]:
            words += [option.opts[0], str(value)] if value is not None else []
    return shlex.join(words)


@app.command("problems")
def problems_() -> None:
    """List the problems that compare trains on."""
    from adamite.lab import problem as problems
    from adamite.lab.problems import PROBLEMS

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("problem", no_wrap=True)
    table.add_column("what it is")
    table.add_column("metric", no_wrap=True)
    table.add_column("steps", justify="right")
    table.add_column("source", max_width=17)
    for name in PROBLEMS:
        try:
            it = problems.look_up(name, PROBLEMS)
        except ModuleNotFoundError as missing:
            table.add_row(name, f"needs {missing.name}")
        else:
            table.add_row(name, it.title, it.metric, str(it.steps), it.source)
    out.print(table)
    out.print("Compare optimizers on one: adamite compare --problem quadratic")


def _plan(problem: str, optimizers: str, tune: list[str], schedule: str) -> comparison.Plan:
    from adamite.lab import problem as problems
    from adamite.lab.compare import comparison, entrants, training
    from adamite.lab.problems import PROBLEMS
    from adamite.lab.where import NotFoundError

    check_choice(schedule, training.SCHEDULES, "'--schedule'")
    try:
        found = problems.find(problem, PROBLEMS)
    except NotFoundError as error:
        raise typer.BadParameter(str(error), param_hint="'--problem'") from None
    ranges: dict[str, Any] = {}
    for name, range_ in map(_range, tune):
        if name in ranges:
            raise typer.BadParameter(f"{name} is given twice", param_hint="'--tune'")
        ranges[name] = range_
    names = [name.strip() for name in optimizers.split(",") if name.strip()]
    if not names:
        raise typer.BadParameter("give at least one", param_hint="'--optimizers'")
    try:
        them = {entrant.name: entrant for entrant in (entrants.find(name, ranges) for name in names)}
    except entrants.TuneError as error:
        raise typer.BadParameter(str(error), param_hint="'--tune'" if ranges else "'--optimizers'") from None
    except ValueError as error:
        raise typer.BadParameter(all_of_them(error), param_hint="'--optimizers'") from None
    return comparison.Plan(found, list(them.values()), schedule=schedule)


def _range(text: str) -> tuple[str, Any]:
    from adamite.lab.compare.entrants import span

    name, equals, ends = text.partition("=")
    try:
        low, high = map(float, ends.split(":"))
    except ValueError:
        low = high = float("nan")
    if not (name and equals and -math.inf < low < high < math.inf):
        raise typer.BadParameter(f"{text!r}; write lr=1e-4:1, the lower end first", param_hint="'--tune'")
    return name.strip(), span(low, high)


@contextmanager
def live_table(plan: comparison.Plan) -> Iterator[Callable[[comparison.Progress], None]]:
    """On a terminal a table that grows until the work is done; elsewhere a line now and then."""
    left = TimeLeft()

    def words(progress: comparison.Progress) -> str:
        fresh = progress.total - progress.kept
        return f"{progress.done}/{progress.total} trainings{left(progress.done - progress.kept, fresh)}"

    if not err.is_terminal:
        say = NowAndThen()
        yield lambda progress: say(words(progress))
        return
    bar = Progress(BarColumn(), TextColumn("{task.fields[words]}"), console=err)
    task = bar.add_task("", total=plan.total, words="starting")
    with Live(bar, console=err, transient=True, refresh_per_second=4) as live:

        def tell(progress: comparison.Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total, words=words(progress))
            live.update(Group(_so_far(plan, progress), bar))

        yield tell


def _so_far(plan: comparison.Plan, progress: comparison.Progress) -> Table:
    from adamite.lab.compare.report_tables import number

    rows = []
    for name, result in progress.results.items():
        best = result.best() or {}
        rows.append(
            (
                name,
                f"{len(result.tuning)}/{plan.budget}",
                str(result.diverged or ""),
                f"{best['lr']:.3g}" if "lr" in best else "",
                f"{len(result.reported)}/{plan.seeds}",
                number(result.final().median, 3) if result.reported else "",
            )
        )
    headers = "", "tuned", "diverged", "best lr so far", "trained", plan.problem.metric
    return whole(headers, rows, spare=("diverged", "best lr so far"))


def print_comparison(found: comparison.Comparison) -> None:
    """The table, the verdict, and what should be known beside."""
    from adamite.lab.bench import shown
    from adamite.lab.compare import comparison, report
    from adamite.lab.compare.report_tables import number

    plan = found.plan
    goal = "" if plan.goal is None else f"to {plan.goal:g}"
    headers = "", "lr", plan.problem.metric, "interval", *((goal, "time") if goal else ()), "a step", "bytes"
    rows = []
    for result in found.ranked():
        final, best, steps = result.final(), result.best() or {}, result.steps_to_goal()
        reach = (f"{steps:.0f}", shown(result.seconds_to_goal())) if steps < float("inf") else ("never", "")
        rows.append(
            (
                result.entrant.label,
                f"{best['lr']:.3g}" if "lr" in best else "",
                number(final.median),
                f"{number(final.low, 3)}–{number(final.high, 3)}",
                *(reach if goal else ()),
                shown(result.step_seconds()),
                str(result.entrant.state_bytes),
            )
        )
    out.print(f"{plan.problem.title or plan.problem.name}: {counted(plan.length, 'step')}", style="bold")
    if rows:
        spare = ("bytes", "a step", *(("time", goal) if goal else ()))
        out.print(whole(headers, rows, spare=spare))
    out.print(found.verdict())
    never = [r.entrant.name for r in found.ranked() if r.steps_to_goal() == float("inf")] if goal else []
    if never:
        out.print(f"{plan.problem.metric} {plan.goal:g} was not reached in half of the trainings: {', '.join(never)}.")
    for result in found.ranked():
        more = {k: v for k, v in (result.best() or {}).items() if k != "lr"}
        if more:
            out.print(f"{result.entrant.name}: with {comparison.as_words(more)}.")
    for note in report.notes(found):
        out.print(note)
