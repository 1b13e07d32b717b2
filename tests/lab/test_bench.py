"""The benchmarks: what they measure and what they report. Speed itself is never tested."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adamite
from adamite.engine import threads
from adamite.lab import bench
from adamite.lab.bench import Row
from adamite.rules import RULES
from tests.support import python

TORCH = ["torch AdamW fused", "torch AdamW default"]
SIZE = 200_000


@pytest.mark.parametrize(
    ("ratio", "bar", "kept"),
    [
        (1.04, 1.05, True),
        (1.06, 1.05, False),
        (1.05, 1.05, True),
        (None, 3e-3, True),
        (None, 1e-3, False),
        (2, None, None),
    ],
)
def test_a_promise_is_of_the_ratio_or_else_of_the_time(ratio: Any, bar: Any, kept: bool | None) -> None:
    row = Row("case", "name", 2e-3, ratio=ratio, bar=bar)
    assert row.kept is kept
    assert json.loads(json.dumps(row.as_dict())) == {
        "case": "case", "name": "name", "seconds": 2e-3, "yardstick": "", "ratio": ratio, "bar": bar, "gigabytes": None,
        "kept": kept,
    }  # fmt: skip


Cases = dict[str, list[Row]]


@pytest.fixture(scope="module")
def rows() -> Cases:
    measure: dict[str, Callable[[], Any]] = {
        "start": bench.start, "import": lambda: bench.imports(rounds=1), "small": lambda: bench.small(rounds=1),
        "many": lambda: bench.many(rounds=1),
        "denormals": bench.denormals, "large": lambda: bench.large(size=SIZE, rounds=1),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "SIZE", SIZE)
        return {name: list(function()) for name, function in measure.items()}


# case -> the rows' names, their yardstick, and the promises by name
EXPECTED: dict[str, tuple[list[str], str, dict[str, float]]] = {
    "start": (["a rule, traced and compiled"], "", {"a rule, traced and compiled": 0.060}),
    "import": (["adamite, beyond numpy"], "import numpy", {"adamite, beyond numpy": 0.5}),
    "small": (["adamite Adam", "torch fused", "torch default"], "adamite Adam", {"adamite Adam": 5e-6}),
    "many": ([*TORCH, "adamite AdamW"], TORCH[0], {"adamite AdamW": 0.7}),
    "denormals": (["states at the smallest normal"], "ordinary states", {"states at the smallest normal": 1.5}),
    "large": (
        ["limit", "AdamW", *TORCH, *RULES, "sgd, momentum", "rmsprop, centered", "your own rule"],
        "limit",
        {"AdamW": 1.05} | dict.fromkeys([*RULES, "sgd, momentum", "rmsprop, centered", "your own rule"], 1.10),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EXPECTED)
def test_rows(rows: Cases, case: str) -> None:
    pytest.importorskip("torch")
    names, yardstick, bars = EXPECTED[case]
    assert [row.name for row in rows[case]] == names
    for row in rows[case]:
        assert row.seconds > 0
        assert row.bar == bars.get(row.name), row
        alone = case == "start" or row.name == "adamite Adam"
        assert (row.yardstick, row.ratio is None) == ("" if alone else yardstick, alone), row
        assert row.ratio == 1.0 if row.name == yardstick and not alone else row.ratio is None or row.ratio > 0
        assert (row.kept is None) == (row.bar is None)
        assert (row.gigabytes is not None) == (case == "large")


def test_large_arrays_are_judged_at_the_promised_size_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def bars() -> list[float | None]:
        return [row.bar for row in bench.own(bench.yours, size=SIZE, rounds=1)]

    assert bench.SIZE == 40_000_000 and bars() == [None, None]
    monkeypatch.setattr(bench, "SIZE", SIZE)
    assert bars() == [None, 1.10]


def test_bytes_moved(rows: Cases) -> None:
    """x and every state twice, g once."""
    states = {"AdamW": 2, "adam": 2, "sgd": 0, "lion": 1, "amsgrad": 3, "rmsprop, centered": 3, "your own rule": 2}
    for row in rows["large"]:
        if row.name in states:
            moved = 4 * SIZE * (3 + 2 * states[row.name])
            assert row.gigabytes == pytest.approx(moved / row.seconds / 1e9)


def test_the_progress_bar_knows_how_many_rows_there_are(rows: Cases) -> None:
    assert bench.cases() == sum(map(len, rows.values()))


def test_cases_are_named(rows: Cases) -> None:
    assert {row.case for row in rows["large"]} == {"0.2M float32"}
    for found in rows.values():
        for row in found:
            assert 0 < len(row.case) <= 20 and 0 < len(row.name) <= 30


# ---- the yardstick --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [1, 1003, 400_003])
@pytest.mark.parametrize("name", ["SGD", "Lion", "AdamW", "AMSGrad"])
def test_the_limit_kernel_loads_and_stores_everything(name: str, size: int, count: int) -> None:
    rng = np.random.default_rng(size)
    x, g = (rng.standard_normal(size, dtype=np.float32) for _ in range(2))
    opt = getattr(adamite, name)(x)
    opt.step(g)
    arrays = [x, *bench._states(opt)]
    before, gradient = [a.copy() for a in arrays], g.copy()
    with threads.using_threads(count):
        limit = bench._limit(opt, x, g)
        limit()
        limit()
    assert len(arrays) == {"SGD": 1, "Lion": 2, "AdamW": 3, "AMSGrad": 4}[name]
    for after, old in zip(arrays, before, strict=True):
        assert np.array_equal(after, old + g + g)
    assert np.array_equal(g, gradient)


def test_steps_are_interleaved_after_a_warm_up() -> None:
    done: list[str] = []
    kinds = {"a": lambda: done.append("a"), "b": lambda: done.append("b")}
    found = list(bench.compare("case", kinds, rounds=3, repeat=2, bars={"b": 2.0}))
    assert "".join(done) == "aabb" + 3 * "aabb"
    assert [(row.name, row.yardstick, row.bar) for row in found] == [("a", "a", None), ("b", "a", 2.0)]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(12.0, "12 s"), (1.0, "1 s"), (0.25, "250 ms"), (1.234e-3, "1.23 ms"), (4.714e-6, "4.71 µs"), (2e-7, "0.2 µs")],
)
def test_times_are_shown_with_three_digits(seconds: float, shown: str) -> None:
    assert bench.shown(seconds) == shown


@pytest.mark.parametrize("seconds", [0.9996, 9.996e-4, 123.4])
def test_times_are_shown_without_exponents(seconds: float) -> None:
    assert "e" not in bench.shown(seconds)


def test_the_rule_of_a_user_is_measured_as_written() -> None:
    """`yours`, step by step in plain floats."""
    x, m, s = 1.0, 0.0, 0.0
    array = np.array([x])
    opt = adamite.optimizer(bench.yours)(array)
    for g in itertools.islice(itertools.cycle([0.5, -2.0]), 6):
        m, s = 0.9 * m + 0.1 * g, 0.99 * s + 0.01 * abs(g)
        x -= 1e-3 * (m / (s + 1e-8) + 0.1 * (1 if m > 0 else -1))
        opt.step(np.array([g]))
        assert array[0] == pytest.approx(x, rel=1e-12)


# ---- against JAX's and Keras's optimizers ---------------------------------------------------------


def promises(rows: list[Row]) -> dict[tuple[str, str], float]:
    return {(row.case, row.name): row.bar for row in rows if row.bar is not None}


def assert_read_well(rows: list[Row], yardstick: str) -> None:
    """Times are measured, ratios are to the peer, and names fit a screen of 80 columns."""
    for row in rows:
        assert row.seconds > 0 and row.yardstick.startswith(yardstick)
        assert row.ratio == 1 if row.name == row.yardstick else (row.ratio or 0) > 0
        assert len(row.case) <= 36 and len(row.name) <= 34


def test_beside_optax() -> None:
    pytest.importorskip("optax")
    from adamite.lab import bench_jax

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_jax, "SHAPES", bench.SHAPES[:5])  # JAX compiles 160 for seconds
        patch.setattr(bench, "SIZE", 10_000)
        rows = list(bench_jax.bench(size=10_000, rounds=1))
    assert len(rows) == bench_jax.cases()
    assert_read_well(rows, "optax")
    arrays = {"adamite update": 1.03, "adamite step": 1.03}
    wanted = {
        "160 leaves, 1.9M": {"adamite step": 0.7},
        "160 leaves, ten steps a program": {"adamite step": 0.7},
        "160 leaves, ten under vmap": arrays,
        "0.01M float32": {"adamite step": 0.7},
        "0.01M float32, under vmap": arrays,
    }
    assert promises(rows) == {(case, name): bar for case, bars in wanted.items() for name, bar in bars.items()}


KERAS = ["Adam", "AdamW", "Nadam", "RMSprop", "Lion", "SGD", "SGD, momentum"]
PLACES = {"torch": ["torch"], "jax": ["JAX"], "tensorflow": ["TensorFlow", "TensorFlow, XLA"]}


@pytest.mark.parametrize("backend", PLACES)
def test_beside_keras(backend: str) -> None:
    """In a process of its own, since Keras chooses its backend when it is imported."""
    pytest.importorskip({"torch": "torch", "jax": "jax", "tensorflow": "tensorflow"}[backend])
    done = python(
        """
        import json
        from adamite.lab import bench, bench_keras
        bench.SIZE = 10_000
        rows = list(bench_keras.bench(size=10_000, rounds=1))
        assert len(rows) == bench_keras.cases()
        print(json.dumps([row.as_dict() for row in rows]))
        """,
        KERAS_BACKEND=backend,
        OMP_NUM_THREADS="1",
    )
    assert done.returncode == 0, done.stderr
    found = [{name: value for name, value in row.items() if name != "kept"} for row in json.loads(done.stdout)]
    rows = [Row(**row) for row in found]
    assert_read_well(rows, "keras: ")
    cases = {f"MNIST's network on {place}": KERAS for place in PLACES[backend]}
    cases |= {f"0.01M float32 on {place}": ["Adam"] for place in PLACES[backend]}
    peers = {(case, f"{owner}: {name}") for case in cases for name in cases[case] for owner in ("keras", "adamite")}
    assert {(row.case, row.name) for row in rows} == peers
    assert promises(rows) == {
        "torch": {("MNIST's network on torch", "adamite: Adam"): 0.6},
        "jax": {},
        "tensorflow": {(case, name): 1.03 for case, name in peers if name.startswith("adamite")},
    }.get(backend)
