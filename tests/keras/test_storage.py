"""What is in storage.py, on each backend in a process of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keras.test_backends import BACKENDS, Run, running

CHECKS = Path(__file__).with_name("storage.py")
NAMES = [node.name for node in ast.parse(CHECKS.read_text()).body if isinstance(node, ast.FunctionDef)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    with running(tmp_path_factory.mktemp("keras"), CHECKS) as made:
        yield made


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("test_")])
def test_on(backend: str, name: str, runs: dict[str, Run]) -> None:
    runs[backend].check(name)
