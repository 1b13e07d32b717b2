"""The article's claims: each is listed once in its own words, judged from figures, and reported on a page."""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from adamite import cli
from adamite.lab.claims import CLAIMS, LEFT_OUT, tuning, write
from adamite.lab.claims.claim import HOLDS, NOT, UNMEASURED, VERDICTS, WHEN, Finding, across, run
from adamite.lab.claims.contrasts import sign
from adamite.lab.claims.lab import Lab
from adamite.lab.claims.length import SECONDS, expected
from adamite.lab.compare import statistics
from adamite.lab.compare.statistics import Interval
from adamite.lab.compare.study import Study
from adamite.lab.page import Table
from tests.support import ROOT

BY_SLUG = {claim.slug: claim for claim in CLAIMS}

# Verdicts that follow from the equations, on any machine.
EXACT = {
    "line": WHEN,
    "sparse-smaller": NOT,
    "sgd-equally": HOLDS,
    "combines": HOLDS,
    "weights": HOLDS,
    "variance": WHEN,
    "larger-v": HOLDS,
    "biased": HOLDS,
    "epsilon": NOT,
    "keras-epsilon": NOT,
    "beta1-fast": HOLDS,
    "beta2-fast": HOLDS,
    "plateau": NOT,
    "adamw-is-l2": NOT,
    "adamw-numbers": HOLDS,
    "adabelief-novel": NOT,
    "sgd-memory": HOLDS,
    "adam-memory": WHEN,
}


@pytest.fixture
def quick(tmp_path: Path) -> Lab:
    return Lab(Study(tmp_path / "study.sqlite"), 1, budget=2, seeds=2, quick=True)


def tables(text: str) -> list[list[str]]:
    """The lines of each table of a page."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [lines for lines in found if lines]


def cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def test_each_is_listed_once() -> None:
    assert len(BY_SLUG) == len(CLAIMS) > 40
    assert all(re.fullmatch(r"[a-z0-9-]{4,17}", slug) for slug in BY_SLUG)  # an anchor, and a terminal's column
    assert all(claim.quote and claim.rule.endswith(".") for claim in CLAIMS)


def test_its_words_are_the_articles() -> None:
    """The article isn't in the repository: after changing a quote, check it there and update the hash."""
    words = [f"{claim.section}: {claim.quote}" for claim in CLAIMS] + [quote for quote, _ in LEFT_OUT]
    held = "3a31a469dbf66e926d7982d2b64d1ecd3a6578fd5f69a63deecd33fe57f6e821"
    assert hashlib.sha256("\n".join(words).encode()).hexdigest() == held


@pytest.mark.parametrize("slug", EXACT)
def test_what_the_equations_say(slug: str, quick: Lab) -> None:
    if slug == "adam-memory":
        pytest.importorskip("torch")
    found = run(BY_SLUG[slug], quick)
    assert found.verdict == EXACT[slug], found.figures
    assert bool(found.condition) == (found.verdict == WHEN)
    assert found.figures and found.table.rows


@pytest.mark.parametrize(
    ("reached", "said"),
    [
        ([[1, 1], [1, 0]], "Adam's range of lr is wider by 2 (2 to 2) decades than SGD's (median of 1 problem)"),
        ([[0, 0], [1, 0]], "Adam's range of lr is narrower by 2 (2 to 2) decades than SGD's (median of 1 problem)"),
    ],
)
def test_a_range_is_wider_or_narrower(reached: list[list[int]], said: str) -> None:
    tried = [
        SimpleNamespace(tuning=[(None, 9.0 if there else math.inf) for there in row], to_goal=lambda step: (step, 0.0))
        for row in reached
    ]
    lab: Any = SimpleNamespace(present=lambda names: names[:1], compare=lambda *of: SimpleNamespace(results=tried))
    assert tuning.robust(lab).figures == said


@pytest.mark.parametrize(
    "slug", ["sgd-slow", "adam-sparse", "bias-critical", "robust", "adamw-overfitting", "schedule"]
)
def test_a_quick_look_comes_to_a_verdict(slug: str, quick: Lab) -> None:
    found = run(BY_SLUG[slug], quick)
    assert found.verdict in VERDICTS
    assert bool(found.condition) == (found.verdict == WHEN)
    assert {len(row) for row in found.table.rows} == {len(found.table.headers)}


def test_verdicts_follow_the_figures() -> None:
    assert across({"a": True, "b": True}) == (HOLDS, "")
    assert across({"a": None, "b": False}) == (NOT, "")
    assert across({"a": True, "b": None, "c": False, "d": True}) == (
        WHEN,
        "the case is a or d; not told on b; the reverse on c",
    )
    assert [sign(Interval(2, low, high), 1) for low, high in ((1.1, 3), (0.9, 3), (0.5, 0.9), (1, 3))] == [
        *(True, None, False, None)
    ]


def test_a_contrast_covers_the_truth() -> None:
    """The interval contains the true difference, and the true ratio, at least nine times in ten."""
    rng = np.random.default_rng(0)
    hits = np.zeros(2)
    for _ in range(60):
        a, b = rng.normal(3, 1, 15), rng.normal(2, 1, 15)
        for k, (how, truth) in enumerate((("difference", 1), ("ratio", 1.5))):
            found = statistics.contrast(a, b, how)  # type: ignore[arg-type]
            assert found.low <= found.median <= found.high
            hits[k] += found.low <= truth <= found.high
    assert hits.min() >= 54


def test_a_contrast_of_what_diverged() -> None:
    inf, nan = float("inf"), float("nan")
    assert statistics.contrast([inf, nan], [inf, inf]) == (0, 0, 0)
    assert statistics.contrast([inf, nan], [inf, inf], "ratio") == (1, 1, 1)
    assert statistics.contrast([inf] * 3, [1.0] * 3).low == inf
    assert statistics.contrast([4.0, 4.0], [2.0, 2.0], "ratio") == (2, 2, 2)
    assert statistics.contrast([0.0, 4.0] * 8, [1.0] * 16, of=np.std).median == 2


def test_what_was_trained_is_kept(quick: Lab) -> None:
    told: list[float] = []
    first = run(BY_SLUG["adam-sparse"], quick)
    quick.tell = lambda what, share: told.append(share)
    assert run(BY_SLUG["adam-sparse"], quick) == first
    assert told[0] > 0  # at once


def test_missing_data_are_told(quick: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("ADAMITE_MNIST", str(tmp_path / "nowhere"))
    found = run(BY_SLUG["cnn-98"], quick)
    assert found.verdict == UNMEASURED and "mnist" in found.figures


def test_a_page_is_markdown(quick: Lab) -> None:
    odd = Finding(WHEN, "a | b", Table(("x|y", "*z*"), [("1", "2 | 3")]), "it is | so", "words", "adamite compare")
    text = write.page({CLAIMS[0].slug: odd, CLAIMS[1].slug: odd}, quick, "adamite claims")
    for lines in tables(text):
        assert len({cells(line) for line in lines}) == 1
    assert r"2 \| 3" in text and "adamite compare" in text and "2 claims" in text


def test_the_page_of_the_repository() -> None:
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert re.findall(r"^## ([a-z0-9-]+)$", text, re.MULTILINE) == [claim.slug for claim in CLAIMS]
    assert re.findall(r"^\| \[([a-z0-9-]+)\]\(#\1\)", text, re.MULTILINE) == [claim.slug for claim in CLAIMS]
    for lines in tables(text):
        assert len({cells(line) for line in lines}) == 1, lines[0]
    verdicts = re.findall(r"^\*\*(.*?)\*\*$", text, re.MULTILINE)
    assert len(verdicts) == len(CLAIMS) and all(verdict.startswith(VERDICTS) for verdict in verdicts)
    for claim, verdict in zip(CLAIMS, verdicts, strict=True):
        assert verdict.startswith(EXACT.get(claim.slug, verdict))
    assert re.search(r"Made on \d{4}-\d\d-\d\d with `adamite claims", text)


def test_the_command(tmp_path: Path) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "adamite", "claims", *arguments]
        return subprocess.run(words, capture_output=True, text=True, cwd=ROOT)

    done = command("--only", "combines,plateau", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "combines" in done.stdout and NOT in done.stdout and max(map(len, done.stdout.splitlines()[:8])) <= 80
    first, *lines = done.stderr.splitlines()
    assert re.match(r"2 claims: about \d+ s on two cores\.", first)
    assert lines[-2:] == ["1/2 combines: holds", "2/2 plateau: does not hold here"]
    assert {path.name for path in tmp_path.glob("*.md")} == {"combines.md", "plateau.md"}  # none replaces another
    page = (tmp_path / "plateau.md").read_text(encoding="utf-8")
    assert "## plateau" in page and "Of 1 claim 1 doesn't hold here." in page and "“Adam Optimizer”" in page
    wrong = command("--only", "combine")
    assert wrong.returncode == 2 and "did you mean combines?" in wrong.stderr


def test_a_quick_look_says_that_it_means_nothing(tmp_path: Path) -> None:
    given = ["claims", "--quick", "--only", "adam-sparse", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.app, given, env={"COLUMNS": "80"}, catch_exceptions=False)
    assert result.exit_code == 0 and "verdicts mean nothing" in " ".join(result.stdout.split())
    assert "verdicts mean nothing" in (tmp_path / "adam-sparse-quick.md").read_text(encoding="utf-8")


def test_the_length_of_every_claim_is_known() -> None:
    assert list(SECONDS) == [claim.slug for claim in CLAIMS]
    every, few = (expected(list(SECONDS), *much, False) for much in ((10, 5), (20, 10)))
    assert sum(few) == pytest.approx(2 * sum(every), rel=0.1) and min(every) > 0
    assert expected(["efficient"], 10, 5, False)[0] >= every[list(SECONDS).index("efficient")]
