"""What is written from the catalogue says what it says; the `.pyi` files say what Python finds when it runs."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest

from adamite.frontend.catalogue import CATALOGUE
from scripts.generate import files
from tests.support import ROOT

TEXTS = files()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_is_stale(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == TEXTS[path], "run `make generate`"


@pytest.mark.parametrize("package", ["adamite", "adamite.rules", "adamite.numpy", "adamite.torch", "adamite.jax"])
def test_packages_have_what_their_stubs_declare(package: str) -> None:
    module: Any = importlib.import_module(package)
    stub = ROOT.joinpath(*package.split("."), "__init__.pyi")
    declared = next(
        ast.literal_eval(node.value)
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert sorted(module.__all__) == sorted(declared)
    assert all(hasattr(module, name) for name in declared)
    assert {*declared} <= {*dir(module)}


def test_every_optimizer_is_exported() -> None:
    import adamite

    for row in CATALOGUE:
        assert getattr(adamite, row.name).__name__ == row.name
