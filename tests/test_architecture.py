"""Arrows only go down: what every module imports, read from its source."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from graphlib import TopologicalSorter

import pytest

from tests.support import ROOT, python

# From bottom to top; what stands in one row doesn't see each other. A package is one, with its own order inside.
LAYERS: list[set[str]] = [
    {"errors", "words"},
    {"expression"},
    {"maths"},
    {"rule"},
    {"rules", "trace"},
    {"bounds"},
    {"update"},
    {"graph"},
    {"emit"},
    {"storage"},
    {"idle", "layouts"},
    {"missed"},
    {"coefficients"},
    {"readers.job", "readers.passes"},
    {"readers.llvm", "readers.numpy", "readers.text", "readers.arrays"},
    {"readers.xla", "readers.blocks", "readers.numpy_blocks", "readers.idle", "readers.fingerprints"},
    {"pool"},
    {"tree", "arrays", "settings", "conventions", "schedules", "safetensors", "rows"},
    {"engine", "about", "named"},
    {"tables"},
    {"numpy", "torch", "jax"},
    {"keras"},  # of the other frameworks on the backend that runs
    {"minimization", "testing", "footprint"},
    {"adamite"},  # what `import adamite` gives
    {"lab"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "adamite").rglob("*.py"))
}


def imports(module: str, node: ast.AST | None = None) -> Iterator[str]:
    """The modules of adamite that a module imports, anywhere in it but for types alone."""
    for child in ast.iter_child_nodes(node or ast.parse(MODULES[module].read_text())):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name in MODULES)
            case ast.ImportFrom(module=str(source), names=names, level=0) if source in MODULES:
                for name in names:
                    yield f"{source}.{name.name}" if f"{source}.{name.name}" in MODULES else source
            case ast.ImportFrom(level=level) if level:
                raise AssertionError(f"{module} imports relatively, which hides where an arrow goes")
            case _:
                yield from imports(module, child)


@functools.cache
def arrows(module: str) -> frozenset[str]:
    return frozenset(imports(module))


def unit(module: str) -> str:
    """The name in the layers above that a module belongs to."""
    path = module.removeprefix("adamite.")
    return path if path in LEVEL else path.split(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_arrows_go_down(module: str) -> None:
    here = unit(module)
    if module == "adamite.readers":
        assert not arrows(module)
        return
    assert here in LEVEL, f"{module} is in no layer: say where it stands"
    for target in arrows(module):
        there = unit(target)
        assert there == here or LEVEL[there] < LEVEL[here], f"{module} imports {target}"


def test_nothing_goes_round() -> None:
    TopologicalSorter({module: arrows(module) for module in MODULES}).prepare()


def test_the_arrows_are_found() -> None:
    assert arrows("adamite.maths") == {"adamite.expression"}
    assert "adamite.readers.llvm" in arrows("adamite.engine")
    assert "adamite.lab.demo" in arrows("adamite.cli.demo")  # imported in a function
    assert sum(len(arrows(module)) for module in MODULES) > 100


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("adamite.rules.")])
def test_rules_are_equations(module: str) -> None:
    below = {"adamite.maths", "adamite.rule"}
    assert all(target in below or target.startswith("adamite.rules.") for target in arrows(module))


def test_the_oracle_stands_alone() -> None:
    assert not arrows("adamite.lab.oracles")


def test_importing_adamite_imports_nothing_heavy() -> None:
    heavy = [
        "llvmlite",
        "torch",
        "keras",
        "jax",
        "tensorflow",
        "matplotlib",
        "rich",
        "typer",
        "sklearn",
        "scipy",
    ]
    done = python(f"import sys, adamite; print([name for name in {heavy} if name in sys.modules])")
    assert done.stdout == "[]\n", done.stdout + done.stderr
