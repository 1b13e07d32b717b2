"""The page of all claims, in Markdown."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from importlib import metadata

import numpy as np

import adamite
from adamite.errors import counted
from adamite.lab.claims import CLAIMS, LEFT_OUT
from adamite.lab.claims.claim import HOLDS, NOT, UNMEASURED, WHEN, Claim, Finding
from adamite.lab.claims.lab import STEPS, Lab
from adamite.lab.compare import workers
from adamite.lab.page import Table

EXPLAINED = """\
The article is “Adam Optimizer”, a tutorial: how Adam works, a program in NumPy and one in Keras, how to tune it, and
when to use something else. This library began with it; all that we have is its text, without an author, a date or
an address. Each of its claims is quoted here and tested.

The rule that decides was written before the figures were seen, except for two that were corrected after a first look:
that of stability had no interval, and the trainings of amsgrad-flaw were too short. A program applies the rules: a
claim *holds*, *holds when* a condition is met, or *does not hold here*. An interval that includes "no difference"
counts for neither side, so "does not hold here" may mean that so few seeds show nothing. Bootstrap intervals of so few
seeds cover less than 95 %, and there are many of them: a few verdicts will be luck.

Unless stated otherwise, every optimizer has its learning rate tuned with {budget} over four decades around its default
(SGD's a decade higher, since it was best with the largest that was tried), and is then trained from {seeds}. Figures
are medians, with 95 % bootstrap intervals over the seeds in brackets.
Trainings are short, so that all of this takes minutes: each problem's own number of steps (`adamite problems`),
but {steps}.
"Exact" rules need no seeds: they run the equations.
"""
QUICK = (
    "A quick look: few trainings, a tenth as long, and none of slow problems. Its verdicts mean nothing, except those "
    "of exact rules."
)


def page(findings: Mapping[str, Finding], lab: Lab, command: str) -> str:
    """The page: every finding, in the order of CLAIMS."""
    judged = [(claim, findings[claim.slug]) for claim in CLAIMS if claim.slug in findings]
    counts = {verdict: sum(f.verdict == verdict for _, f in judged) for verdict in (HOLDS, WHEN, NOT, UNMEASURED)}
    lengths = ", ".join(f"{steps:,} on {name}" for name, steps in STEPS.items())
    parts = [
        "# What the article claims, and what comes out",
        f"**{QUICK}**" if lab.quick else "",
        EXPLAINED.format(budget=counted(lab.budget, "setting"), seeds=counted(lab.seeds, "seed"), steps=lengths),
        f"Made on {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d} with `{command}`: {_versions()}.",
        f"Of {counted(len(judged), 'claim')} {_counted(counts)}.",
        table(Table(("claim", "the article's words", "verdict"), [_row(*each) for each in judged])),
        *(_section(*each) for each in judged),
        "## What no experiment can settle",
        "\n".join(f"- “{quote}”: {why}." for quote, why in LEFT_OUT),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _counted(counts: Mapping[str, int]) -> str:
    words = {
        HOLDS: ("holds", "hold"),
        WHEN: ("holds on a condition", "hold on a condition"),
        NOT: ("doesn't hold here", "don't hold here"),
        UNMEASURED: ("isn't measured for lack of data", "aren't measured for lack of data"),
    }
    return ", ".join(f"{count} {words[verdict][count > 1]}" for verdict, count in counts.items() if count)


def _row(claim: Claim, finding: Finding) -> tuple[str, ...]:
    return f"[{claim.slug}](#{claim.slug})", f"“{claim.quote}”", finding.verdict


def _section(claim: Claim, finding: Finding) -> str:
    parts = [
        f"## {claim.slug}",
        f"> {_plain(claim.quote)}\n>\n> {claim.section}",
        f"**{_plain(finding.said)}**",
        f"{_plain(finding.figures)}.",
        f"Rule: {claim.rule}",
        table(finding.table) if finding.table.rows else "",
        finding.words,
        f"```\n{finding.command}\n```" if finding.command else "",
    ]
    return "\n\n".join(part for part in parts if part)


def table(content: Table) -> str:
    """A table in Markdown."""
    lines = [content.headers, ("---",) * len(content.headers), *content.rows]
    return "\n".join(f"| {' | '.join(_plain(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    return text.replace("*", r"\*").replace("\n", " ").replace("<", "&lt;").lstrip("#")


def _versions() -> str:
    names = "numpy", "scipy", "torch", "gymnasium"
    versions = [f"adamite {adamite.__version__}", f"Python {platform.python_version()}", f"NumPy {np.__version__}"]
    for name in names[1:]:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    cores = workers.cores()
    return f"{', '.join(versions)}; {platform.machine()}, {cores} core{'s' if cores > 1 else ''}"
