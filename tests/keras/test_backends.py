"""Every check of checks.py and storage.py, on each backend in a process of its own; the three run at the same time."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support import PATIENCE, ROOT, process_environment

BACKENDS = ("tensorflow", "jax", "torch")
CHECKS = [Path(__file__).with_name(name) for name in ("checks.py", "storage.py")]
NAMES = [
    f"{checks.stem}.{node.name}"
    for checks in CHECKS
    for node in ast.parse(checks.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}


class Run:
    """One backend's process, which pytest runs in too."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.report = folder / f"{backend}.xml"
        options = [f"--junitxml={self.report}", "-p", "no:cacheprovider", "-p", "no:xdist"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *map(str, CHECKS), *options, "-o", "filterwarnings=default"],
            env=process_environment() | QUIET | {"KERAS_BACKEND": backend},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.cases: dict[str, list[ElementTree.Element]] | None = None

    def check(self, name: str) -> None:
        """Pass, fail or skip as a check did, whose cases are one here."""
        if self.cases is None:
            output = self.process.communicate(timeout=PATIENCE)[0]
            assert self.report.exists(), output
            self.cases = {}
            for case in ElementTree.parse(self.report).getroot().iter("testcase"):
                file = str(case.get("classname")).rpartition(".")[2]
                self.cases.setdefault(f"{file}.{case.get('name')}".partition("[")[0], []).append(case)
        assert name in self.cases, f"{name} wasn't run"
        cases = self.cases[name]
        problems = [f"{c.get('name')}\n{problem.text}" for c in cases for problem in c if problem.tag != "skipped"]
        assert not problems, "\n\n".join(problems)
        skipped = [str(reason.get("message")) for case in cases for reason in case.iter("skipped")]
        if len(skipped) == len(cases):
            pytest.skip(skipped[0])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """The processes of all backends."""
    folder = tmp_path_factory.mktemp("keras")
    made = {backend: Run(backend, folder) for backend in BACKENDS}
    yield made
    for run in made.values():
        run.process.kill()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_on(backend: str, name: str, runs: dict[str, Run]) -> None:
    runs[backend].check(name)
