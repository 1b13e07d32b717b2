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


def write(found: Comparison, folder: Path, command: str) -> Path:
    """Write the report into the folder; return where its page is.

    Args:
        command: what is typed for this comparison.
    """
    tables.results(found, folder / RESULTS)
    tables.trainings(found, folder / TRAININGS)
    shown = list(_pictures(found))
    for name, _, painter in shown:
        plots.save(painter, folder, name)
    names = [RESULTS, TRAININGS, *(f"{name}{end}.png" for name, *_ in shown for end in ("", "-dark"))]
    plan = found.plan
    parts = {
        "title": escape(plan.problem.title or plan.problem.name),
        "problem": escape(identity(plan.problem.where)),
        "verdict": escape(found.verdict()),
        "table": tables.ranking(found) if found.ranked() else "",
        "reading": escape(_reading(found)),
        "notes": "\n".join(f"<li>{escape(note)}</li>" for note in notes(found)),
        "figures": "\n".join(section for _, section, _ in shown),
        "command": " ".join(f"<span>{escape(word)}</span>" for word in command.split(" ")),
        "facts": "\n".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts(found).items()),
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
    """The `identity` of the problem that a report in the folder is of; None, where there is no report."""
    try:
        page = (folder / PAGE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    said = re.search('<meta name="adamite-problem" content="(.*?)">', page)
    return unescape(said[1]) if said else "another program"


def _pictures(found: Comparison) -> Iterator[tuple[str, str, plots.Painter]]:
    """Each picture there is something to draw in: its file's name, its part of the page, its painter."""
    problem = found.plan.problem
    middle = "Lines: median over the seeds; bands: their middle half. A training that diverged counts as the worst."
    for name, measure in {"loss": "loss", "metric": problem.metric}.items():
        lines = curves.curves(found, measure)
        if not lines or (name == "metric" and measure == "loss"):
            continue
        goal = found.plan.goal if measure == problem.metric else None
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
    tried = curves.tried(found)
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
        ways = curves.ways(found, problem.plane)
        words = (
            f"From seed {found.plan.seed}, with the best settings; a point marks the end. "
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


def _reading(found: Comparison) -> str:
    """How the table is to be read."""
    plan = found.plan
    measure = plan.problem.tuned or plan.problem.metric
    words = (
        f"Each optimizer was tuned with {counted(plan.budget, 'setting')}, chosen by {measure}, then trained from "
        f"{counted(plan.seeds, 'other seed')} for {counted(plan.length, 'step')}. Values: the median over these seeds, "
        f"below it its {LEVEL:.0%} bootstrap interval. State: bytes a parameter in float32. Diverged: so many of the "
        f"settings tried had a loss that was no number, or above {HUGE:g}, or at the end {FAR:g} times what trainings "
        "begin with."
    )
    others = len(found.ranked()) - 1
    if others > 0 and can_tell(plan.seeds, others):
        words += " Told from the best: by Mann and Whitney's test, corrected by Holm."
    return words


def notes(found: Comparison) -> list[str]:
    """What should be known beside: what diverged, what failed, what may lie beyond a range."""
    made, nothing = [], [result.entrant.name for result in found.results if result.best() is None]
    if nothing:
        made.append(f"Not in the table, since none of its settings came to an end: {', '.join(nothing)}.")
    tuning = [(result, result.diverged, len(result.tuning)) for result in found.results]
    seeds = [(r, sum(o.diverged is not None for o in r.outcomes), len(r.outcomes)) for r in found.results]
    for what, counts in (("Settings that diverged", tuning), ("Seeds that diverged with the best settings", seeds)):
        some = [f"{result.entrant.name} {lost} of {of}" for result, lost, of in counts if lost]
        if some:
            made.append(f"{what}: {', '.join(some)}.")
    if found.chance():
        made.append(found.chance())
    for setting in tables.tuned(found):
        near = [result.entrant.name for result in found.results if setting in result.at_edge]
        if near:
            made.append(
                f"Best {setting} at the end of what was tried, so that a wider range (--tune) may have a better one: "
                f"{', '.join(near)}."
            )
    for result in found.results:
        for words, count in Counter(words for _, words in result.failures).items():
            trial = next(trial for trial, said in result.failures if said == words)
            which = ", ".join([f"seed {trial.seed}", *filter(None, [as_words(trial.settings)])])
            many = f"{count} trainings failed, the first" if count > 1 else "a training failed,"
            made.append(f"{result.entrant.name}: {many} with {which}: {words}")
    if found.retried:
        made.append(f"Begun again because a process died: {found.retried} (each training at most {ATTEMPTS} times).")
    return made or ["No training diverged or failed, and no best setting lies at the end of its range."]


def facts(found: Comparison) -> dict[str, str]:
    """What the result may depend on."""
    plan = found.plan
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
    """Its name; Python knows it on few systems."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def _colours(theme: plots.Theme) -> str:
    def soft(line: str) -> str:
        return "rgba({},{},{},.16)".format(*bytes.fromhex(line[1:]))

    return " ".join(f"--line{i}: {line}; --band{i}: {soft(line)};" for i, line in enumerate(theme.lines))
