"""The transformer of the examples, shortened: both optimizers on the same curve, a picture, clear mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.running import run
from tests.support import ROOT

EXAMPLE = ROOT / "examples" / "character_transformer.py"


def test_both_learn_alike(tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    done = run(EXAMPLE, "--steps", "40", "--out", str(picture))
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"│ (\S+)\s+│ (\S+)\s+│ (\S+)\s+│ (\S+)\s+│", done.stdout)
    rows = {label: [float(n) for n in numbers] for label, *numbers in lines}
    theirs, mine = rows["torch.optim"], rows["adamite.torch"]
    assert mine == pytest.approx(theirs, rel=0.01) and mine[1] < 0.8 * mine[0]
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--steps", "3"], "--steps must be at least 20, got 3"), (["--out", "nowhere/x.png"], "there is no folder")],
)
def test_mistakes(arguments: list[str], message: str) -> None:
    done = run(EXAMPLE, *arguments)
    assert done.returncode == 2 and message in done.stderr
