"""Commands that compare optimizers: compare, problems."""

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

from adamite.cli.options import Jobs, Problem
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
    from adamite.lab.compare.comparison import Comparison

FOLDER = Path("adamite-compare")
OPTIMIZERS = "sgd,momentum,rmsprop,adam,adamw,amsgrad,adabelief"


@app.command()
def compare(
    context: typer.Context,
    problem: Problem = "digits",
    optimizers: Annotated[
        str, typer.Option(help="Names with commas; your own rule as path/to/file.py:rule, or module:rule.")
    ] = OPTIMIZERS,
    budget: Annotated[int, typer.Option(min=1, max=10_000, help="Settings tried for each optimizer.")] = 12,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Trainings of each with its best settings.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=999_999, help="Seed of all random numbers.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Steps of a training; 0: the problem's own number.")] = 0,
    schedule: Annotated[str, typer.Option(help="Of lr: constant, cosine, linear or warmup-cosine.")] = "constant",
    target: Annotated[
        float | None, typer.Option(help="A target of the metric; the report counts steps and seconds to it.")
    ] = None,
    tune: Annotated[
        list[str] | None, typer.Option(metavar="NAME=LOW:HIGH", help="Tune a hyperparameter in this range; repeatable.")
    ] = None,
    jobs: Jobs = 0,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Train on a Ray cluster; local starts one here.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", file_okay=False, help="Also write the curves for TensorBoard.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", file_okay=False, help="For the study and the report, instead of adamite-compare/PROBLEM."
        ),
    ] = None,
) -> None:
    """Tune optimizers equally on a problem, and say which is best.

    Each is then trained from the same seeds with its best settings. Trainings are stored in a study: an interrupted
    comparison resumes, and a larger one reuses them.
    """
    from adamite.lab.compare import comparison

    if tensorboard is not None:  # fail before the trainings if the package is missing
        from adamite.lab.compare import tensorboard as _  # noqa: F401
    if target is not None and not math.isfinite(target):
        raise typer.BadParameter(f"{target}; give a finite number", param_hint="'--target'")
    plan = _plan(problem, optimizers, tune or [], schedule)
    plan = comparison.replace(plan, budget=budget, seeds=seeds, seed=seed, steps=steps, target=target)
    begin = time.perf_counter()
    folder = _folder(plan, folder)
    if tensorboard is not None:
        output_folder(tensorboard, "'--tensorboard'")
    result = _run(plan, folder, jobs, ray, users_files=":" in problem + optimizers)
    print_comparison(result)
    _write(result, folder, _typed(context), tensorboard)
    trained = sum(len(r.tuning) + len(r.reported) + len(r.failures) for r in result.results) - result.reused
    reused = f", {result.reused} from the study" if result.reused else ""
    out.print(f"{counted(trained, 'training')}{reused}, {time.perf_counter() - begin:.0f} s.")
    if not result.ranked():
        raise typer.Exit(1)


def _run(plan: comparison.Plan, folder: Path, jobs: int, ray: str | None, users_files: bool) -> Comparison:
    from adamite.lab.compare import comparison
    from adamite.lab.compare.study import Study, StudyError

    with writing(folder):
        study = Study(folder / "study.sqlite")
    pool = _pool(jobs, ray, users_files)
    with writing(folder, kind=StudyError), live_table(plan) as tell:
        return comparison.run(plan, study, pool, tell)


def _write(result: Comparison, folder: Path, command: str, tensorboard: Path | None) -> None:
    """The report, and the event files if there is a folder for them."""
    from adamite.lab.compare import report

    with writing(folder):
        page = report.write(result, folder, command)
    out.print(f"Report: {page}", soft_wrap=True, highlight=False, markup=False)
    if tensorboard is not None:
        from adamite.lab.compare import tensorboard as events

        with writing(tensorboard, "'--tensorboard'"):
            runs = counted(len(events.write(result, tensorboard)), "training")
        out.print(f"{runs} for TensorBoard: tensorboard --logdir {tensorboard}", soft_wrap=True)


def _folder(plan: comparison.Plan, given: Path | None) -> Path:
    """The folder of the report: as given, or one for the problem."""
    from adamite.lab.compare import report
    from adamite.lab.where import as_name, identity

    folder = FOLDER / as_name(plan.problem.where) if given is None else given
    other = report.problem_of(folder)
    this = identity(plan.problem.where)
    if other not in (None, this):
        said = f"{folder} has a report of {other}, and this one is of {this}; give another folder"
        raise typer.BadParameter(said, param_hint="'--out'")
    return output_folder(folder)


def _pool(jobs: int, ray: str | None, users_files: bool) -> comparison.Pool:
    """What runs the trainings. A cluster finds the user's files in a copy of the current folder."""
    from adamite.lab.compare import workers

    if ray is None:
        return functools.partial(workers.local, processes=jobs or workers.cores())
    from adamite.lab.compare import cluster

    here = Path.cwd() if users_files else None
    try:
        cluster.connect(ray, here)
    except cluster.ClusterError as error:
        raise typer.BadParameter(str(error), param_hint="'--ray'") from None
    return functools.partial(cluster.ray, address=ray, folder=here)


def _typed(context: typer.Context) -> str:
    """The command with all its options: defaults too, since another version may change them."""
    words = ["adamite", str(context.info_name)]
    for option in context.command.params:
        values = context.params.get(option.name or "")
        for value in values if isinstance(values, (list, tuple)) else [values]:
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
            problem = problems.look_up(name, PROBLEMS)
        except ModuleNotFoundError as missing:
            table.add_row(name, f"needs {missing.name}")
        else:
            table.add_row(name, problem.title, problem.metric, str(problem.steps), problem.source)
    out.print(table)
    out.print("Compare optimizers on one: adamite compare --problem quadratic")


def _plan(problem: str, optimizers: str, tune: list[str], schedule: str) -> comparison.Plan:
    from adamite.lab import problem as problems
    from adamite.lab.compare import comparison, entrants, training
    from adamite.lab.problems import PROBLEMS
    from adamite.lab.where import NotFoundError

    check_choice(schedule, training.SCHEDULES, "'--schedule'")
    try:
        trained_on = problems.find(problem, PROBLEMS)
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
        by_name = {entrant.name: entrant for entrant in (entrants.find(name, ranges) for name in names)}
    except entrants.TuneError as error:
        raise typer.BadParameter(str(error), param_hint="'--tune'" if ranges else "'--optimizers'") from None
    except ValueError as error:
        raise typer.BadParameter(all_of_them(error), param_hint="'--optimizers'") from None
    return comparison.Plan(trained_on, list(by_name.values()), schedule=schedule)


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
    """Show the results so far: on a terminal a live table, elsewhere a line from time to time."""
    left = TimeLeft()

    def words(progress: comparison.Progress) -> str:
        to_train = progress.total - progress.reused
        return f"{progress.done}/{progress.total} trainings{left(progress.done - progress.reused, to_train)}"

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


def print_comparison(comparison: Comparison) -> None:
    """The table, the verdict, and remarks."""
    from adamite.lab.bench import shown
    from adamite.lab.compare import report
    from adamite.lab.compare.comparison import as_words
    from adamite.lab.compare.report_tables import number

    plan = comparison.plan
    goal = "" if plan.goal is None else f"to {plan.goal:g}"
    headers = "", "lr", plan.problem.metric, "interval", *((goal, "time") if goal else ()), "a step", "bytes"
    rows = []
    for result in comparison.ranked():
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
    out.print(comparison.verdict())
    never = [r.entrant.name for r in comparison.ranked() if r.steps_to_goal() == float("inf")] if goal else []
    if never:
        out.print(f"{plan.problem.metric} {plan.goal:g} was not reached in half of the trainings: {', '.join(never)}.")
    for result in comparison.ranked():
        more = {k: v for k, v in (result.best() or {}).items() if k != "lr"}
        if more:
            out.print(f"{result.entrant.name}: with {as_words(more)}.")
    for note in report.notes(comparison):
        out.print(note)
