"""The README's code runs as it is, and its Adam is the library's."""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adamite
from adamite.lab import differences, verify, verify_torch
from adamite.rules import adam
from adamite.sparse import tables
from adamite.storage import choice
from tests.support import PATIENCE, ROOT, process_environment

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    """The code of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


README = PAGES[0].read_text(encoding="utf-8")
CODE = blocks(PAGES[0])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The names that each block of the README defines, run by itself."""
    folder = tmp_path_factory.mktemp("readme")
    found = []
    for number, code in enumerate(CODE):
        path = folder / f"readme_{number}.py"
        path.write_text(code, encoding="utf-8")
        found.append(runpy.run_path(str(path)))
    return found


def test_the_code_runs(ran: list[dict[str, Any]]) -> None:
    (ten_lines,) = (
        names for names, code in zip(ran, CODE, strict=True) if code.startswith("import adamite") and "groups" in code
    )
    assert isinstance(ten_lines["opt"], adamite.Optimizer)
    assert all(np.isfinite(x).all() for x in ten_lines["params"].values())
    assert np.abs(ten_lines["params"]["w"]).max() > 0.3
    (own,) = (names for names in ran if "signum" in names)
    assert adamite.testing.check_rule(own["signum"])


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
    assert len(list(tmp_path.glob("adamite-compare/mine-problem*/report.html"))) == 1


def test_its_adam_is_the_one_that_is_run() -> None:
    written = re.sub(r' *""".*?"""\n', "", inspect.getsource(adam.function), flags=re.DOTALL)
    assert CODE[0].endswith(written)


# Pages whose blocks run one after another in one process, with this environment, which sets Keras's backend.
PROCESSES: dict[str, tuple[list[str], dict[str, str]]] = {
    "torch": (["torch.md", "compare.md", "memory.md", "sparse.md"], {}),
    "jax": (["jax.md"], {}),
    **{f"keras-{b}": (["keras.md"], {"KERAS_BACKEND": b}) for b in ("tensorflow", "jax", "torch")},
}


@pytest.mark.parametrize(("names", "environment"), PROCESSES.values(), ids=PROCESSES)
def test_the_code_of_the_pages_runs(names: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    """Each block, with only its own names."""
    paths = []
    for name in names:
        for number, code in enumerate(blocks(ROOT / "docs" / name)):
            paths.append(str(tmp_path / f"{name}_{number}.py"))
            Path(paths[-1]).write_text(code, encoding="utf-8")
    strict = [] if environment else ["-W", "error"]  # Keras itself warns
    run_all = f"import runpy\nfor path in {paths}: runpy.run_path(path)"
    done = subprocess.run(
        [sys.executable, *strict, "-c", run_all],
        env=process_environment() | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr


def test_all_pages_are_run() -> None:
    run = {"README.md", *(name for names, _ in PROCESSES.values() for name in names)}
    assert run == {page.name for page in PAGES if blocks(page)}


def test_the_page_of_torch_lists_all_differences() -> None:
    page = (ROOT / "docs" / "torch.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- (.*)\.$", page, re.MULTILINE)
    assert listed == [f"{d.what}: {d.why}" for d in differences.TORCH]


# Promises in the page's words, and the numbers of the checks that hold them.
PROMISES: list[tuple[str, str, tuple[float, ...]]] = [
    (
        "README.md",
        r"after (\S+) steps is below (\S+) of the displacement in float64, and the median is below (\S+) units",
        (verify.STEPS, verify.LIMIT, verify.NEAR),
    ),
    (
        "docs/torch.md",
        r"over (\S+) steps, .* below (\S+) of the displacement",
        (verify_torch.STEPS, verify_torch.LIMIT),
    ),
    ("docs/torch.md", r"torch's or smaller \(within (\S+) %\)", (100 * (verify_torch.NEAR - 1),)),
    ("docs/memory.md", r"Tensors of fewer than (\S+) elements keep float32 states", (choice.SMALLEST,)),
    ("docs/sparse.md", r"keeps its coefficients, .* up to (\S+) steps", (tables.LONGEST,)),
]


@pytest.mark.parametrize(("name", "said", "numbers"), PROMISES, ids=[f"{n}-{said[:20]}" for n, said, _ in PROMISES])
def test_promises_and_checks_have_one_number(name: str, said: str, numbers: tuple[float, ...]) -> None:
    found = re.search(said, " ".join((ROOT / name).read_text(encoding="utf-8").split()))
    assert found and [float(n.replace(",", "")) for n in found.groups()] == pytest.approx(numbers)


def test_the_claims_are_counted_as_on_their_page() -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    counts = re.search(r"Of (\d+) claims (\d+) hold, (\d+) hold on a condition, (\d+) don't", page)
    said = re.search(r"puts (\d+) claims .*: (\d+) hold, (\d+) on a condition, (\d+) don't", README)
    assert counts and said and counts.groups() == said.groups()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_was_measured_says_by_what_command_where_and_when(page: Path) -> None:
    first, *others = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for section in others:
        if re.search(r"^\|.*\d (ms|µs|s|%) ?\||^\|.*\| 0\.\d\d? ", section, re.MULTILINE):
            said = " ".join((first + section).split())
            title = section.partition("\n")[0]
            assert re.search(r"`(\w+=\w+ )?(adamite|make) ", said), title
            assert re.search(r"EPYC|\d cores", said), title
            assert re.search(r"\b20\d\d-\d\d-\d\d\b", said), title


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_they_are_finished(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"@@|TODO|XXX", text)
    for place in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / place).exists(), place
