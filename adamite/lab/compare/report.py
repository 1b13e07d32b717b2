"""The report of a comparison: a page that needs no network, pictures and tables beside it."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape, unescape
from importlib import metadata
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

import adamite
from adamite.errors import counted
from adamite.lab import plots
from adamite.lab.compare import report_curves as curves
from adamite.lab.compare import report_figures as figures
from adamite.lab.compare import report_tables as tables
from adamite.lab.compare.comparison import FAR, TUNING_SEED, Comparison, as_words
from adamite.lab.compare.statistics import LEVEL, can_tell
from adamite.lab.compare.training import HUGE
from adamite.lab.compare.workers import ATTEMPTS
from adamite.lab.where import identity

PAGE, RESULTS, TRAININGS = "report.html", "results.csv", "trainings.csv"
PACKAGES = ("numpy", "scipy", "llvmlite", "torch")


def write(comparison: Comparison, folder: Path, command: str) -> Path:
    """Write the report into the folder; return the path of its page.

    Args:
        command: the command line of this comparison.
    """
    tables.results(comparison, folder / RESULTS)
    tables.trainings(comparison, folder / TRAININGS)
    shown = list(_pictures(comparison))
    for name, _, painter in shown:
        plots.save(painter, folder, name)
    names = [RESULTS, TRAININGS, *(f"{name}{end}.png" for name, *_ in shown for end in ("", "-dark"))]
    plan = comparison.plan
    parts = {
        "title": escape(plan.problem.title or plan.problem.name),
        "problem": escape(identity(plan.problem.where)),
        "verdict": escape(comparison.verdict()),
        "table": tables.ranking(comparison) if comparison.ranked() else "",
        "reading": escape(_reading(comparison)),
        "notes": "\n".join(f"<li>{escape(note)}</li>" for note in notes(comparison)),
        "figures": "\n".join(section for _, section, _ in shown),
        "command": " ".join(f"<span>{escape(word)}</span>" for word in command.split(" ")),
        "facts": "\n".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts(comparison).items()),
        "files": ", ".join(f'<a href="{name}">{name}</a>' for name in names),
        "light": _colours(plots.LIGHT),
        "dark": _colours(plots.DARK),
        "plotly": get_plotlyjs(),
    }
    template = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    page = folder / PAGE
    page.write_text(template.substitute(parts), encoding="utf-8", errors="replace")
    return page


def problem_of(folder: Path) -> str | None:
    """The `identity` of the problem of the report in the folder; None if there is no report."""
    try:
        page = (folder / PAGE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    said = re.search('<meta name="adamite-problem" content="(.*?)">', page)
    return unescape(said[1]) if said else "another program"


def _pictures(comparison: Comparison) -> Iterator[tuple[str, str, plots.Painter]]:
    """The pictures that have something to show: file name, section of the page, painter."""
    problem = comparison.plan.problem
    middle = "Lines: median over the seeds; bands: their middle half. A training that diverged counts as the worst."
    for name, measure in {"loss": "loss", "metric": problem.metric}.items():
        lines = curves.curves(comparison, measure)
        if not lines or (name == "metric" and measure == "loss"):
            continue
        goal = comparison.plan.goal if measure == problem.metric else None
        title = "Training loss" if name == "loss" else f"{measure[:1].upper()}{measure[1:]}"
        figure = figures.bands(lines, "training loss" if name == "loss" else measure, goal)
        painter = plots.ribbons(
            [(label, look, it.band) for label, look, it in lines],
            goal,
            xlabel="step",
            ylabel=plots.plain("training loss" if name == "loss" else measure),
            yscale=figure["layout"]["yaxis"]["type"],
        )
        yield name, _section(name, title, figure, middle, seconds=True), painter
    tried = curves.tried(comparison)
    if tried:
        measure = problem.tuned or problem.metric
        figure = figures.sensitivity(tried, f"final {measure}")
        scale = figure["layout"]["yaxis"]["type"]
        painter = plots.sensitivity(tried, ylabel=plots.plain(f"final {measure}"), yscale=scale)
        words = (
            f"Each point is a training that chose settings, by {measure}; the large ones were chosen. × above: "
            "diverged. ▲ below: the rule's own default. Points without a line differ in other settings too."
        )
        yield "lr", _section("lr", "How much the learning rate matters", figure, words), painter
    ground = None if problem.plane is None else curves.ground(problem.plane)
    if ground is not None and problem.plane is not None:
        ways = curves.ways(comparison, problem.plane)
        words = (
            f"From seed {comparison.plan.seed}, with the best settings; a point marks the end. "
            "Contours: the loss, in equal steps of its logarithm."
        )
        figure = figures.trajectories(ground, ways)
        yield "ways", _section("ways", "Where they went", figure, words, scales=False), plots.trajectories(ground, ways)


def _section(
    name: str, title: str, figure: figures.Figure, caption: str, seconds: bool = False, scales: bool = True
) -> str:
    """A figure of the page, with switches for its axes."""
    switches = _switch(name, "x", ("steps", "seconds"), "steps") if seconds else ""
    if scales:
        switches += _switch(name, "y", ("log", "linear"), figure["layout"]["yaxis"]["type"])
    entries = len({trace.get("name") for trace in figure["data"]})  # of the legend, which takes its share of the height
    return (
        f'<section class="figure" id="{name}" style="--entries: {entries}">'
        f'<h2>{escape(title)}</h2>\n<div class="switches">{switches}</div>\n'
        f'<div class="plot"></div><script type="application/json">{figures.as_json(figure)}</script>\n'
        f'<p class="note">{escape(caption)}</p></section>'
    )


def _switch(figure: str, axis: str, choices: Sequence[str], chosen: str) -> str:
    options = "".join(
        f'<label><input type="radio" name="{figure}-{axis}" data-axis="{axis}" value="{value}"'
        f"{' checked' if value == chosen else ''}><span>{value}</span></label>"
        for value in choices
    )
    return f"<fieldset><legend>{axis}</legend>{options}</fieldset>"


def _reading(comparison: Comparison) -> str:
    """How to read the table."""
    plan = comparison.plan
    measure = plan.problem.tuned or plan.problem.metric
    words = (
        f"Each optimizer was tuned with {counted(plan.budget, 'setting')}, chosen by {measure}, then trained from "
        f"{counted(plan.seeds, 'other seed')} for {counted(plan.length, 'step')}. Values: the median over these seeds, "
        f"below it its {LEVEL:.0%} bootstrap interval. State: bytes a parameter in float32. Diverged: the number of "
        f"settings tried whose loss became NaN, rose above {HUGE:g}, or ended above {FAR:g} times the loss at the "
        "start."
    )
    others = len(comparison.ranked()) - 1
    if others > 0 and can_tell(plan.seeds, others):
        words += " Told from the best: by Mann and Whitney's test, corrected by Holm."
    return words


def notes(comparison: Comparison) -> list[str]:
    """Remarks: what diverged, what failed, which best settings lie at the edge of their range."""
    remarks, unfinished = [], [result.entrant.name for result in comparison.results if result.best() is None]
    if unfinished:
        remarks.append(f"Not in the table, since no training finished: {', '.join(unfinished)}.")
    tuning = [(result, result.diverged, len(result.tuning)) for result in comparison.results]
    seeds = [(r, sum(o.diverged is not None for o in r.outcomes), len(r.outcomes)) for r in comparison.results]
    for what, counts in (("Settings that diverged", tuning), ("Seeds that diverged with the best settings", seeds)):
        lines = [f"{result.entrant.name} {lost} of {of}" for result, lost, of in counts if lost]
        if lines:
            remarks.append(f"{what}: {', '.join(lines)}.")
    if comparison.chance():
        remarks.append(comparison.chance())
    for setting in tables.tuned(comparison):
        at_edge = [result.entrant.name for result in comparison.results if setting in result.at_edge]
        if at_edge:
            remarks.append(
                f"The best {setting} lies at the edge of the search range, so a wider range (--tune) may have a better "
                f"one: {', '.join(at_edge)}."
            )
    for result in comparison.results:
        for message, count in Counter(message for _, message in result.failures).items():
            trial = next(trial for trial, each in result.failures if each == message)
            which = ", ".join([f"seed {trial.seed}", *filter(None, [as_words(trial.settings)])])
            many = f"{count} trainings failed, the first" if count > 1 else "a training failed,"
            remarks.append(f"{result.entrant.name}: {many} with {which}: {message}")
    if comparison.retried:
        remarks.append(
            f"Retried because a process died: {comparison.retried} (each training at most {ATTEMPTS} times)."
        )
    return remarks or ["No training diverged or failed, and no best setting lies at the edge of its range."]


def facts(comparison: Comparison) -> dict[str, str]:
    """The versions, seeds and machine that the result may depend on."""
    plan = comparison.plan
    last = plan.seed + plan.seeds - 1
    versions = {"adamite": adamite.__version__, "Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    options = {"Options of every rule": ", ".join(f"{k} {v}" for k, v in plan.problem.options.items())}
    return {
        "Problem": plan.problem.where or plan.problem.name,
        **({"Source": plan.problem.source} if plan.problem.source else {}),
        **(options if plan.problem.options else {}),
        "Seeds": f"{plan.seed}–{last}" if plan.seeds > 1 else str(plan.seed),
        "Seed of tuning": str(plan.seed + TUNING_SEED),
        "Schedule of lr": plan.schedule,
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Platform": platform.platform(),
        "Processor": f"{_processor()}, {os.cpu_count()} cores",
        "Date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
    }


def _processor() -> str:
    """The processor's name; Python knows it on few systems."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def _colours(theme: plots.Theme) -> str:
    def soft(line: str) -> str:
        return "rgba({},{},{},.16)".format(*bytes.fromhex(line[1:]))

    return " ".join(f"--line{i}: {line}; --band{i}: {soft(line)};" for i, line in enumerate(theme.lines))
