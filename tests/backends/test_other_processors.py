"""Same bits on AArch64: kernels of every kind, run by qemu-user, against the NumPy reading on this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamite.backends import jobs, llvm
from adamite.backends.llvm import blocks
from adamite.backends.llvm.catch_up import catch_up_text
from adamite.backends.llvm.squares import squares_text
from adamite.codegen.job import CHUNK, GRAIN, SCALE, Job
from adamite.engine import kernels, norms
from adamite.graph.lowering import lower
from adamite.language.update import Surroundings, Update
from adamite.storage import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format, Layout, choice
from adamite.storage.choice import Storage
from tests.backends.guest import MACHINE, PROCESSORS, Program
from tests.storage.test_bits import (
    DECOUPLED,
    FEW,
    FIRST,
    L2,
    LARGE,
    LAST,
    assert_same,
    built,
    job_columns,
    named,
    steps,
)
from tests.support import VARIANTS, Array, Case, awkward, same_bits

FORMATS = (FLOAT32, FLOAT64, FLOAT16, BFLOAT16)
RULES = [case for case in VARIANTS if not any(case.options.values())]  # each as it comes


@pytest.fixture(params=PROCESSORS)
def program(request: pytest.FixtureRequest) -> Program:
    return Program(request.param)


def assert_the_references_bits(
    program: Program,
    folder: Path,
    made: Sequence[tuple[Update, Layout]],
    text: Callable[[Update, Layout], str],
    **how: Any,
) -> None:
    """Some steps of each, all in one program."""
    results = []
    for update, layout in made:
        compared: dict[str, tuple[Callable[[int], None], int]] = {
            "here": (kernels.step_kernel(update, layout, "numpy").call, 1000),
            "there": (program.kernel(text(update, layout), job_columns(update, layout)), 3),
        }
        results.append(steps(update, layout, compared, places={"there": program.place}, **how))
    program.run(folder)
    for (update, layout), rows in zip(made, results, strict=True):
        assert_same(update, layout, rows["there"], rows["here"])


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_steps(format: Format, program: Program, tmp_path: Path) -> None:
    """Every rule in float32, some in the other formats."""
    cases = RULES if format is FLOAT32 and program.processor == PROCESSORS[0] else FEW
    made = [(built(case, (L2, DECOUPLED)[k % 2]), Layout(format)) for k, case in enumerate(cases)]
    assert_the_references_bits(
        program,
        tmp_path,
        made,
        lambda update, layout: llvm.step_text(lower(update), layout, MACHINE),
        sizes=(1, 17, 300),
        count=3,
    )


@pytest.mark.parametrize("way", [FIRST, LAST, (FLOAT16, Storage("bfloat16"))], ids=named)
def test_blocks(way: tuple[Format, Storage], program: Program, tmp_path: Path) -> None:
    updates = [built(case, L2) for case in (FEW[3:] if program.processor == PROCESSORS[0] else FEW[4:])]
    assert_the_references_bits(
        program,
        tmp_path,
        [(update, choice.layout(update, way[0], LARGE, way[1])) for update in updates],
        lambda update, layout: blocks.step_text(lower(update), layout, MACHINE),
        sizes=(1000, 300),
        count=3,
        seed=3,
    )


def test_sums_of_squares(program: Program, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths, scale = [0, 1, 31, 33, CHUNK, CHUNK + 1, 20_011], 0.3
    results = []
    for format in FORMATS:
        tensors = [
            format.narrow(awkward(rng, size, format.compute.dtype, 0.5 if size < 40 else 0.0)) for size in lengths
        ]
        here = norms.Squares(format, lengths, "numpy")
        expected = here.run([t.ctypes.data for t in tensors], scale).copy()
        assert np.isfinite(expected).any()
        sums = [np.full(count, -1.0) for count in here.blocks]
        job = Job(len(lengths), 4)
        job.lengths(here.blocks)
        for column, values in enumerate((lengths, map(program.place, tensors), map(program.place, sums)), start=1):
            job.fill(column, list(values))
        ctypes.c_double.from_address(job.address + 8 * SCALE).value = scale
        job.cells[GRAIN] = 2
        program.kernel(squares_text(format, MACHINE), 4)(job.address)
        results.append((sums, expected))
    program.run(tmp_path)
    for sums, expected in results:
        assert same_bits(np.concatenate(sums), expected).all()


@pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)
def test_steps_that_rows_have_missed(format: Format, program: Program, tmp_path: Path) -> None:
    results = []
    for case in (case for case in FEW if case.rule.name in ("adam", "nadam")):
        update = built(case, Surroundings("decoupled"))
        for width in jobs.WIDTHS if format is FLOAT32 else jobs.WIDTHS[:1]:
            text = catch_up_text(lower(update), format, width, MACHINE)
            kernel = kernels.catch_up_kernel(update, format, width, "numpy").call
            here, there = rows(case, update, format), rows(case, update, format)
            catch_up(kernel, update, format, here, lambda array: array.ctypes.data)
            catch_up(program.kernel(text, jobs.catch_up_columns(lower(update))), update, format, there, program.place)
            results.append((here, there))
    program.run(tmp_path)
    for here, there in results:
        for name in here:
            for a, b in zip(here[name], there[name], strict=True):
                assert same_bits(format.widen(a), format.widen(b)).all() if name == "x" else same_bits(a, b).all(), name


LENGTHS, MISSED = (1, 15, 64, 130), (0, 1, 7, 40)  # of rows: elements, and steps


def rows(case: Case, update: Update, format: Format) -> dict[str, list[Array]]:
    """The parameter and the states of some rows."""
    rng = np.random.default_rng(1)
    return {
        name: [
            format.narrow(awkward(rng, length, format.compute.dtype))
            if name == "x"
            else np.abs(awkward(rng, length, format.compute.dtype))
            for length in LENGTHS
        ]
        for name in lower(update).inputs
        if name != "g"
    }


def catch_up(
    kernel: Callable[[int], None],
    update: Update,
    format: Format,
    rows: dict[str, list[Array]],
    place: Callable[[Array], int],
) -> None:
    """Give each row the steps that it has missed."""
    graph = lower(update)
    numbers = {name: spec.default for name, spec in update.rule.numbers.items()} | {"weight_decay": 0.1, "lr": 0.01}
    scalars: list[float] = [float(state.start) for state in update.rule.states if state.name in graph.scalars]
    arguments = [numbers[name] for name in graph.numbers if name not in graph.scalars]
    table = np.zeros((max(MISSED), graph.coefficient_count), format.compute.dtype)
    for t in range(max(MISSED)):
        values = graph.evaluate(float(t + 1), *arguments, *scalars)
        table[t], scalars = values[: graph.coefficient_count], list(values[graph.coefficient_count :])
    job = Job(len(LENGTHS), jobs.catch_up_columns(graph))
    job.lengths(list(LENGTHS))
    job.fill(jobs.FIRST, [place(table)] * len(LENGTHS))
    for column, arrays in enumerate(rows.values(), start=jobs.X):
        job.fill(column, [place(array) for array in arrays])
    job.fill(jobs.steps_column(graph), list(MISSED))
    for k in range(len(rows)):
        factors = np.linspace(0.25 * (k + 1), 1, len(LENGTHS))
        job.fill(jobs.steps_column(graph) + 1 + k, factors.view(np.int64).tolist())
    job.cells[GRAIN] = 50
    kernel(job.address)
