"""One rule everywhere: the same gradients through every framework end in the same place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.everywhere import AFTER, CASES, RUNS, SHAPES, STARTS, XLA
from tests.support import PATIENCE, ROOT, Array, Case, process_environment, same_bits

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}
OTHERS = [name for name in RUNS if name != "numpy"]
MACHINE = [name for name in OTHERS if "tensorflow" not in name]  # where machine code runs
ENDS = np.cumsum([int(np.prod(shape)) for shape in SHAPES])[:-1]
START = np.concatenate([start.ravel() for start in STARTS])

Processes = dict[str, tuple["subprocess.Popen[str]", Path]]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """One process per framework, all at the same time."""
    folder = tmp_path_factory.mktemp("everywhere")
    made: Processes = {}
    for name in reversed(RUNS):  # TensorFlow takes the longest
        place = folder / f"{name}.npy"
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.everywhere", name, str(place)],
            env=process_environment() | QUIET,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        made[name] = process, place
    yield made
    for process, _ in made.values():
        process.kill()
        process.communicate()


def parameters(processes: Processes, name: str) -> Array:
    """The parameters in a framework, by case and by step in AFTER."""
    process, place = processes[name]
    if not place.exists():
        output = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 0, output
    array: Array = np.load(place)
    assert array.dtype == np.float32 and len(array) == len(of(name)) and array.shape[1] >= len(AFTER) - 1
    return array


def of(name: str) -> list[Case]:
    """The cases that were run."""
    return CASES[XLA] if name.endswith("xla") else CASES


def both(processes: Processes, name: str) -> Iterator[tuple[Case, Array, Array]]:
    """Each case with the parameters in a framework and in NumPy, by step in AFTER."""
    numpys = dict(zip(map(str, CASES), parameters(processes, "numpy"), strict=True))
    for case, mine in zip(of(name), parameters(processes, name), strict=True):
        yield case, mine, numpys[str(case)][: len(mine)]


def ulps(a: Array, b: Array) -> int:
    """The largest distance between two arrays, in float32 units in the last place."""
    places = [np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) for bits in (x.view(np.int32).astype(int) for x in (a, b))]
    return int(np.abs(places[0] - places[1]).max())


def displacements(a: Array, b: Array) -> float:
    """The largest difference within an array, relative to its largest displacement."""
    parts = zip(*(np.split(x.astype(np.float64), ENDS) for x in (a, b, START)), strict=True)
    shares = [np.abs(a - b).max() / np.abs(b - start).max() for a, b, start in parts if (a != b).any()]
    return float(max(shares, default=0.0))


def test_numpy_goes_somewhere(processes: Processes) -> None:
    """The reference for the others is finite, and with every rule all parameters have moved."""
    end = parameters(processes, "numpy")[:, -1]
    assert np.isfinite(end).all() and (end != START).all()


@pytest.mark.parametrize("name", MACHINE)
def test_the_same_bits_where_machine_code_runs(name: str, processes: Processes) -> None:
    same = {str(case): same_bits(*pair).all(axis=1) for case, *pair in both(processes, name)}
    assert not [f"{case} after {AFTER[k]}" for case, row in same.items() for k in range(len(row)) if not row[k]]


@pytest.mark.parametrize("name", OTHERS)
def test_four_ulps_after_one_step(name: str, processes: Processes) -> None:
    off = {str(case): ulps(mine[0], numpys[0]) for case, mine, numpys in both(processes, name)}
    assert {case: n for case, n in off.items() if n > 4} == {}, max(off.values())


@pytest.mark.parametrize("name", [name for name in OTHERS if name not in ("jax", "keras torch")])
def test_a_thousand_steps(name: str, processes: Processes) -> None:
    off = {str(case): displacements(mine[-1], numpys[-1]) for case, mine, numpys in both(processes, name)}
    assert {case: share for case, share in off.items() if not share <= 1e-5} == {}
