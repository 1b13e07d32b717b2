"""A claim, the rule that decides it, and an experiment's finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adamite.errors import listed
from adamite.lab.claims.lab import Lab
from adamite.lab.fault import Fault
from adamite.lab.page import Table

HOLDS, WHEN, NOT = "holds", "holds when", "does not hold here"
UNMEASURED = "not measured"  # its data are missing on this machine
VERDICTS = HOLDS, WHEN, NOT


@dataclass(frozen=True)
class Finding:
    """What an experiment says of a claim."""

    verdict: str  # one of VERDICTS
    figures: str  # in one line
    table: Table
    condition: str = ""  # when the verdict is WHEN
    words: str = ""  # remarks
    command: str = ""  # repeats a part of it by hand

    @property
    def said(self) -> str:
        """The verdict with its condition."""
        return f"{self.verdict} {self.condition}".strip()


@dataclass(frozen=True)
class Claim:
    """What the article says, and how it is tested."""

    slug: str
    section: str  # of the article
    quote: str  # its words
    rule: str  # when it holds, fixed before the figures were seen
    experiment: Callable[[Lab], Finding]


def run(claim: Claim, lab: Lab) -> Finding:
    """The finding of the claim's experiment; if data are missing or a training fails, the finding says so."""
    try:
        return claim.experiment(lab)
    except Fault as missing:
        return Finding(UNMEASURED, str(missing), Table((), []))


def across(cases: Mapping[str, bool | None]) -> tuple[str, str]:
    """The verdict over several cases, and its condition.

    A case is True where the claim is right, False where the reverse is, None where neither can be told. A claim that is
    right in all cases holds; right in none, it doesn't; otherwise the condition names the cases.
    """
    right, reverse, neither = ([name for name, case in cases.items() if case is kind] for kind in (True, False, None))
    if not right:
        return NOT, ""
    if len(right) == len(cases):
        return HOLDS, ""
    parts = [f"the case is {listed(right, 'or')}"]
    parts += [f"not told on {listed(neither)}"] if neither else []
    parts += [f"the reverse on {listed(reverse)}"] if reverse else []
    return WHEN, "; ".join(parts)


def plainly(held: bool | None) -> str:
    """The verdict of a single case."""
    return HOLDS if held else NOT
