"""A claim, the rule it is judged by, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adamite.errors import listed
from adamite.lab.page import Table

if TYPE_CHECKING:
    from adamite.lab.claims.lab import Lab

HOLDS, WHEN, NOT = "holds", "holds when", "does not hold here"
UNMEASURED = "not measured"  # where its data are missing on this machine
VERDICTS = HOLDS, WHEN, NOT


@dataclass(frozen=True)
class Finding:
    """What an experiment says of a claim."""

    verdict: str  # one of VERDICTS
    figures: str  # in one line
    table: Table
    condition: str = ""  # of "holds when"
    words: str = ""  # what should be known beside
    command: str = ""  # that repeats a part of it by hand

    @property
    def said(self) -> str:
        """The verdict with its condition."""
        return f"{self.verdict} {self.condition}".strip()


@dataclass(frozen=True)
class Claim:
    """What the article says, and how it is put to the test."""

    slug: str
    section: str  # of the article
    quote: str  # its words
    rule: str  # when it holds, fixed before the figures are seen
    experiment: Callable[[Lab], Finding]


def across(found: Mapping[str, bool | None]) -> tuple[str, str]:
    """The verdict over several cases, and its condition: in each it is so (True), the reverse is (False), or neither.

    Held in all cases it holds, held in none it doesn't; between, the condition says where.
    """
    so, reverse, neither = ([name for name, f in found.items() if f is kind] for kind in (True, False, None))
    if not so:
        return NOT, ""
    if len(so) == len(found):
        return HOLDS, ""
    parts = [f"the case is {listed(so, 'or')}"]
    parts += [f"not told on {listed(neither)}"] if neither else []
    parts += [f"the reverse on {listed(reverse)}"] if reverse else []
    return WHEN, "; ".join(parts)


def plainly(held: bool | None) -> str:
    """The verdict of a single case."""
    return HOLDS if held else NOT
