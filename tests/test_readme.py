"""What the README shows runs as it stands, and its Adam is the one that is run."""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import adamite
from adamite.lab import differences
from adamite.rules import adam
from tests.support import ROOT, process_environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_code_runs(tmp_path: Path) -> None:
    path = tmp_path / "readme.py"
    path.write_text("\n".join(CODE), encoding="utf-8")
    names = runpy.run_path(str(path))
    assert isinstance(names["opt"], adamite.Optimizer)
    assert all(np.isfinite(x).all() for x in names["params"].values()) and np.abs(names["params"]["w"]).max() > 0.3
    assert adamite.testing.check_rule(names["signum"])


def test_its_problem_is_compared(tmp_path: Path) -> None:
    (code,) = (code for code in CODE if code.startswith("# mine.py"))
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    (command,) = re.findall(r"^adamite (compare .*mine.*)$", README, re.MULTILINE)
    small = ["--budget", "2", "--seeds", "2", "--steps", "40", "--jobs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "adamite", *command.split(), *small],
        cwd=tmp_path,
        env=process_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "A line of eight weights through noisy points" in done.stdout
    assert (tmp_path / "adamite-compare" / "mine-problem" / "report.html").is_file()


def test_its_adam_is_the_one_that_is_run() -> None:
    written = re.sub(r' *""".*?"""\n', "", inspect.getsource(adam.function), flags=re.DOTALL)
    assert CODE[0].endswith(written)


PAGES = sorted((ROOT / "docs").glob("*.md"))


# Frameworks don't share a process, and Keras itself warns.
RUNS: dict[str, tuple[str, dict[str, str]]] = {
    "torch": ("torch.md", {}),
    "compare": ("compare.md", {}),
    "memory": ("memory.md", {}),
    "sparse": ("sparse.md", {}),
    "jax": ("jax.md", {}),
    **{f"keras-{b}": ("keras.md", {"KERAS_BACKEND": b}) for b in ("tensorflow", "jax", "torch")},
}


@pytest.mark.parametrize(("name", "environment"), RUNS.values(), ids=RUNS)
def test_the_code_of_the_pages_runs(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(encoding="utf-8"), re.DOTALL)
    assert code
    path = tmp_path / "page.py"
    path.write_text("\n".join(code), encoding="utf-8")
    strict = [] if environment else ["-W", "error"]
    done = subprocess.run(
        [sys.executable, *strict, str(path)],
        env=process_environment() | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_all_pages_are_run() -> None:
    assert {name for name, _ in RUNS.values()} == {
        page.name for page in PAGES if "```python" in page.read_text("utf-8")
    }


def test_the_page_of_torch_lists_all_differences() -> None:
    page = (ROOT / "docs" / "torch.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- (.*)\.$", page, re.MULTILINE)
    assert listed == [f"{d.what}: {d.why}" for d in differences.TORCH]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_they_are_finished(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"@@|TODO|XXX", text)
    for place in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / place).exists(), place
