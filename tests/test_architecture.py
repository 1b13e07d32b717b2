"""Arrows only go down: what every module imports, read from its source."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter

import pytest

from tests.support import ROOT, python

# From bottom to top: the rooms, and in a room its files. Modules in one row don't import each other; a folder that
# isn't split here counts as one, with its own order inside.
LAYERS: list[set[str]] = [
    {"errors"},
    {"language.operations"},
    {"language.expression"},
    {"language.maths"},
    {"language.rule"},
    {"language.trace"},
    {"language.bounds"},
    {"language.update"},
    {"rules"},
    {"codegen.text", "codegen.job", "codegen.compiler"},
    {"codegen.frame"},
    {"storage.format", "storage.safetensors"},
    {"storage.random", "storage.float16", "storage.bfloat16"},
    {"storage.eight_bit"},
    {"storage.layout"},
    {"storage"},
    {"storage.choice"},
    {"graph.numbers"},
    {"graph.nodes"},
    {"graph.expansion", "graph.stages"},
    {"graph.lowering", "graph.passes", "graph.idle"},
    {"graph.missed"},
    {"backends.backend", "backends.jobs", "backends.arrays", "backends.text"},
    {"backends.complex_numbers", "backends.numpy.elements", "backends.llvm.elements", "backends.llvm.squares"},
    {"backends.numpy.blocks", "backends.numpy.catch_up", "backends.numpy.fingerprints"},
    {"backends.llvm.blocks", "backends.llvm.catch_up", "backends.llvm.fingerprints", "backends.llvm.xla"},
    {"backends.numpy", "backends.llvm"},
    {"backends"},
    {"engine.pool", "engine.memory", "engine.coefficients", "engine.kernels"},
    {"engine.threads"},
    {"engine.running", "engine.batch"},
    {"engine.norms"},
    {"engine.native"},
    {"sparse.rows"},
    {"sparse.tables"},
    {"schedules.arguments"},
    {"schedules.form"},
    {"schedules.closed_forms", "schedules.plateau"},
    {"schedules"},
    {"frontend.settings", "frontend.spelling", "frontend.loading"},
    {"frontend.catalogue", "frontend.about", "frontend.named"},
    {"frontend.classes"},
    {"numpy", "torch", "jax"},
    {"keras"},  # of the other frameworks on the backend that runs
    {"minimization", "testing", "footprint"},
    {"adamite"},  # what `import adamite` gives
    {"lab"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
EMPTY = {f"adamite.{room}" for room in ("language", "codegen", "graph", "engine", "sparse", "frontend")}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "adamite").rglob("*.py"))
}


def imports(module: str, node: ast.AST | None = None) -> Iterator[str]:
    """The modules of adamite that a module imports, anywhere in it, except for types only."""
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
    while path not in LEVEL and "." in path:
        path = path.rpartition(".")[0]
    return path


@pytest.mark.parametrize("module", MODULES)
def test_arrows_go_down(module: str) -> None:
    here = unit(module)
    if module in EMPTY:
        assert not arrows(module)
        return
    assert here in LEVEL, f"{module} is in no layer: say where it stands"
    for target in arrows(module):
        there = unit(target)
        assert there == here or LEVEL[there] < LEVEL[here], f"{module} imports {target}"


def test_nothing_goes_round() -> None:
    TopologicalSorter({module: arrows(module) for module in MODULES}).prepare()


def test_the_arrows_are_found() -> None:
    assert arrows("adamite.language.maths") == {"adamite.language.operations", "adamite.language.expression"}
    assert "adamite.backends.llvm.blocks" in arrows("adamite.backends.llvm")
    assert "adamite.lab.demo" in arrows("adamite.cli.demo")  # imported in a function
    assert sum(len(arrows(module)) for module in MODULES) > 100


def test_the_picture_shows_the_rooms_in_their_order() -> None:
    picture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```\n")[1]
    rows = [re.split(r"  +", line)[0].split() for line in picture.splitlines()]
    levels = [[max(LEVEL[n] for n in LEVEL if n.split(".")[0] == name.rstrip("/")) for name in row] for row in rows]
    assert levels == sorted(levels, reverse=True)
    shown = {name.rstrip("/") for row in rows for name in row}
    assert shown == {name.split(".")[0] for name in LEVEL} - {"adamite", "__main__"}
    assert all((ROOT / "adamite" / name).is_dir() for row in rows for name in row if name.endswith("/"))


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("adamite.rules.")])
def test_rules_are_equations(module: str) -> None:
    below = {"adamite.language.maths", "adamite.language.rule"}
    assert all(target in below or target.startswith("adamite.rules.") for target in arrows(module))


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("adamite.lab.oracles")])
def test_the_oracle_stands_alone(module: str) -> None:
    assert all(target.startswith("adamite.lab.oracles.") for target in arrows(module))


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
