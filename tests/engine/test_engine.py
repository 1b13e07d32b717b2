"""The engine: what compiles, what allocates, threads, forks, Ctrl-C, a missing LLVM, tiny states."""

from __future__ import annotations

import signal
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adamite
from adamite.engine import kernels, norms
from adamite.storage import FORMATS
from tests.support import (
    PATIENCE,
    Array,
    Case,
    assert_same_bits,
    cases,
    dtypes,
    elsewhere,
    interrupted,
    python,
    running,
    same_bits,
    set_states,
    snapshot,
)

# ---- compiling and allocating ---------------------------------------------------------------------


@cases()
def test_new_numbers_never_compile(case: Case) -> None:
    x = np.ones(3)
    optimizer = case.optimizer(x)
    optimizer.step(x.copy())
    before = kernels.step_kernel.cache_info().misses
    starts = [state.start for state in case.rule.states]
    for t in range(1, 30):
        optimizer.lr = 1.0 / t
        for name, spec in case.numbers.items():
            if name not in starts:
                setattr(optimizer, name, elsewhere(spec) if t % 2 else getattr(optimizer, name))
        optimizer.step(x.copy())
    case.optimizer(np.ones((4, 5)), lr=0.5).step(np.ones((4, 5)))
    assert kernels.step_kernel.cache_info().misses == before


def test_an_option_turned_on_compiles_once() -> None:
    x = np.ones(3)
    optimizer = adamite.Lion(x, lr=0.123)
    optimizer.step(x.copy())
    for _ in range(2):
        before = kernels.step_kernel.cache_info().misses
        optimizer.weight_decay = 0.1
        optimizer.step(x.copy())
        assert kernels.step_kernel.cache_info().misses <= before + 1
        optimizer.weight_decay = 0.0
        optimizer.step(x.copy())
    assert kernels.step_kernel.cache_info().misses == before


@pytest.mark.parametrize("options", [{}, dict(clip_norm=1.0, ema=0.9, weight_decay=0.1)], ids=["plain", "all"])
def test_steps_allocate_nothing_that_grows(options: dict[str, Any]) -> None:
    x, g = np.ones((2, 10_000_000), np.float32)
    optimizer = adamite.AdamW(x, **options)
    optimizer.step(g)
    tracemalloc.start()
    try:
        optimizer.step(g)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


# ---- threads --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def default_threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("ADAMITE_THREADS", raising=False)
    yield
    adamite.set_threads(None)


@pytest.mark.parametrize("count", [0, -1, 1.5, 2.0, "2", True])
def test_set_threads_refuses(count: Any) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        adamite.set_threads(count)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", " "])
def test_the_environment_is_checked(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAMITE_THREADS", text)
    with pytest.raises(ValueError, match="ADAMITE_THREADS"):
        adamite.threads()


def test_threads_come_from_the_setting_then_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert adamite.threads() >= 1
    monkeypatch.setenv("ADAMITE_THREADS", "3")
    assert adamite.threads() == 3
    adamite.set_threads(2)
    assert adamite.threads() == 2


def trained(seed: int, size: int = 400_000) -> Array:
    rng = np.random.default_rng(seed)
    x, gradients = rng.normal(size=size), rng.normal(size=(3, size))
    optimizer = adamite.Adam(x, clip_norm=1.0)
    for step in range(9):
        optimizer.step(gradients[step % 3])
    return x


def test_several_optimizers_in_several_threads(small_shares: None) -> None:
    adamite.set_threads(3)
    expected = {seed: trained(seed) for seed in range(4)}
    results: dict[int, Array] = {}
    workers = [threading.Thread(target=lambda s=s: results.update({s: trained(s)})) for s in expected]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(same_bits(results[seed], expected[seed]).all() for seed in expected)


@pytest.mark.parametrize("leave", ["os._exit(code)", "sys.exit(code)"])
def test_a_forked_child_steps(leave: str) -> None:
    done = python(
        f"""
        import os, sys, threading, warnings
        warnings.simplefilter("ignore")
        import numpy as np, adamite
        from tests.engine.test_engine import trained
        adamite.set_threads(3)
        expected = trained(0)
        child = os.fork()
        if not child:
            same = np.array_equal(trained(0), expected)
            pooled = any(thread.name.startswith("adamite") for thread in threading.enumerate())
            code = 0 if same and pooled else 1
            {leave}
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert np.array_equal(trained(0), expected)
        """
    )
    assert done.returncode == 0, done.stderr


# ---- Ctrl-C ---------------------------------------------------------------------------------------

INTERRUPTED = """
    import sys, time
    import numpy as np, adamite
    adamite.set_threads(2)
    x = {"a": np.zeros(3_000_000), "b": np.zeros(1_000_000, np.float32), "c": np.zeros(10)}
    one = {name: np.ones_like(a) for name, a in x.items()}
    optimizer = adamite.SGD(x, lr=1.0, maximize=True)  # x counts the steps
    for _ in range(20):
        print("stepping", flush=True)
        try:
            while True:
                optimizer.step(one)
        except KeyboardInterrupt:
            time.sleep(0.02)  # a worker that is still running would show
        low, high = ([int(f(a)) for a in x.values()] for f in (np.min, np.max))
        print(optimizer.steps, low, high, flush=True)
    print("done", flush=True)
"""


def test_interrupts_leave_whole_steps() -> None:
    reports = interrupted(INTERRUPTED, 0.02)
    assert reports.pop() == "done" and len(reports) == 20
    for report in reports:
        steps = report.split()[0]
        assert report == f"{steps} [{steps}, {steps}, {steps}] [{steps}, {steps}, {steps}]", reports


def test_an_interrupted_program_ends() -> None:
    code = """
        import numpy as np, adamite
        adamite.set_threads(2)
        x, g = np.zeros(3_000_000), np.ones(3_000_000)
        optimizer = adamite.Adam(x)
        print("stepping", flush=True)
        while True:
            optimizer.step(g)
    """
    with running(code) as child:
        assert child.stdout
        child.stdout.readline()
        threading.Event().wait(0.1)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=PATIENCE)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert child.returncode == -signal.SIGINT


# ---- without LLVM ---------------------------------------------------------------------------------

HISTORY = """
    import sys, warnings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import numpy as np, adamite
        x = {"a": np.linspace(-1, 1, 1000), "b": np.linspace(-2, 2, 70, dtype=np.float32)}
        for cls in (adamite.Adam, adamite.Lion):
            optimizer = cls(x, clip_norm=0.5, weight_decay=0.1, decay="decoupled")
            for _ in range(3):
                optimizer.step({name: np.cos(a) for name, a in x.items()})
    for w in caught:
        print(w.category.__name__, w.message, file=sys.stderr)
    print({name: a.tobytes().hex() for name, a in x.items()})
"""


def test_without_llvm_one_warning_and_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "llvmlite").mkdir()
    (tmp_path / "llvmlite" / "__init__.py").write_text("raise ImportError('libLLVM is broken')")
    without, with_llvm = python(HISTORY, path=[tmp_path]), python(HISTORY)
    assert without.returncode == with_llvm.returncode == 0, without.stderr + with_llvm.stderr
    assert without.stdout == with_llvm.stdout
    assert with_llvm.stderr == ""
    assert len(without.stderr.splitlines()) == 1
    assert without.stderr.startswith("RuntimeWarning") and "libLLVM is broken" in without.stderr


# ---- tiny states ----------------------------------------------------------------------------------


SIGNED = ("m", "b", "g_bar", "ema")  # states that may be negative


@dtypes()
@cases({}, dict(ema=0.9))
def test_no_state_is_subnormal(case: Case, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = np.finfo(dtype).smallest_normal
    near = (tiny * 2.0 ** np.linspace(-20, 20, 1001)).astype(dtype)
    near[::7] = 0
    near[::5] *= -1
    results = []
    for backend in ("llvm", "numpy"):
        monkeypatch.setenv("ADAMITE_BACKEND", backend)
        x = {"x": near.copy()}
        optimizer = case.optimizer(x)
        names = optimizer.state_dict()["parameters"]["x"]
        set_states(optimizer, {n: near if n in SIGNED else np.abs(near) for n in names})
        optimizer.step({"x": np.zeros_like(near)})
        results.append(snapshot(optimizer, x))
    assert_same_bits(results[:1], results[1:])
    for name, state in results[0].items():
        if name != "x.x" and state.ndim:
            assert not ((np.abs(state) < tiny) & (state != 0)).any(), name


@dtypes()
@pytest.mark.parametrize("rho", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("name", ["rmsprop", "rmsprop_eps_outside"])
def test_centered_rmsprop_on_constant_gradients(name: str, rho: float, dtype: Any) -> None:
    """The variance is zero there, and must not become negative by rounding."""
    rng = np.random.default_rng(0)
    x, g = np.zeros(400, dtype), rng.normal(size=400).astype(dtype)
    optimizer = adamite.optimizer(name)(x, lr=1e-3, rho=rho, eps=1e-8, centered=True)
    for _ in range(2000):
        optimizer.step(g)
    assert np.isfinite(x).all() and (np.sign(x) == -np.sign(g)).all()


# ---- norms ----------------------------------------------------------------------------------------


@dtypes()
def test_norms_that_overflow_when_squared(dtype: Any) -> None:
    large = np.finfo(dtype).max / 4
    x, g = np.zeros(4, dtype), np.full(4, large, dtype)
    optimizer = adamite.SGD(x, lr=1.0, clip_norm=1.0)
    optimizer.step(g)
    assert optimizer.gradient_norm == pytest.approx(2.0 * float(large))
    np.testing.assert_allclose(x, -0.5, rtol=1e-6)


def test_a_sum_leaves_out_absent_tensors() -> None:
    a, b = np.full(3, 2.0), np.full(5, 3.0)
    squares = norms.Squares(FORMATS[a.dtype], [3, 5], "llvm")
    assert norms.total(squares.run([a.ctypes.data, b.ctypes.data])) == 57.0
    assert norms.total(squares.run([0, b.ctypes.data])) == 45.0
