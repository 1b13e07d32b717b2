"""What several tests share: every rule with its options, awkward numbers, bits, fresh processes."""

from __future__ import annotations

import functools
import itertools
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adamite
from adamite.graph.lowering import lower
from adamite.lab import mnist
from adamite.language.rule import Number, Rule
from adamite.language.update import build
from adamite.rules import RULES

Array = np.ndarray[Any, np.dtype[Any]]
Options = dict[str, Any]

ROOT = Path(__file__).parent.parent
MNIST = ROOT / "tests" / "data"  # a part of it
PATIENCE = 1800  # seconds: what takes as long hangs, however busy the machine is
DTYPES = (np.float32, np.float64)

# ---- every rule, with every option ----------------------------------------------------------------


def variants(rule: Rule) -> Iterator[Options]:
    """The combinations of choices and of optional numbers, present or absent, that are graphs of their own.

    Of more than three options, each alone and two together.
    """
    kinds: dict[str, tuple[Any, ...]] = {c.name: c.allowed or (c.default,) for c in rule.choices.values()}
    kinds |= {n.name: (None, 0.9) for n in rule.numbers.values() if n.optional}
    seen = set()
    for values in itertools.product(*kinds.values()):
        options = dict(zip(kinds, values, strict=True))
        changed = [
            name
            for name, value in options.items()
            if value is not None and value != getattr(rule.choices.get(name), "default", None)
        ]
        if len(kinds) > 3 and len(changed) > 2:
            continue
        if options.get("centered") and options.get("bias_correction"):
            continue  # at the first step the variance is a rounding error, and what is divided by it is chaotic
        choices = tuple((name, options[name]) for name in rule.choices)
        absent = frozenset(name for name in options if options[name] is None)
        graph = lower(build(rule, choices, absent))
        if (graph.nodes, graph.outputs) not in seen:
            seen.add((graph.nodes, graph.outputs))
            yield options


@dataclass(frozen=True)
class Case:
    """A rule, its options, and what surrounds it."""

    rule: Rule
    options: Options
    around: Options = field(default_factory=dict)

    def __str__(self) -> str:
        shown = [f"{k}={v}" for k, v in (self.options | self.around).items() if v not in (None, False)]
        return "-".join([self.rule.name, *shown])

    def optimizer(self, params: Any, **more: Any) -> adamite.Optimizer:
        return adamite.optimizer(self.rule)(params, **self.options, **self.around, **more)

    @property
    def numbers(self) -> dict[str, Number]:
        """The rule's numbers that count under these options."""
        absent = frozenset(name for name, value in self.options.items() if value is None)
        choices = tuple((name, self.options[name]) for name in self.rule.choices)
        read = lower(build(self.rule, choices, absent)).numbers
        starts = [state.start for state in self.rule.states]
        return {k: n for k, n in self.rule.numbers.items() if k in read or k in starts}


VARIANTS = [Case(rule, options) for rule in RULES.values() for options in variants(rule)]


def cases(*surroundings: Options, of: Sequence[Case] = VARIANTS) -> pytest.MarkDecorator:
    """Run a test with each rule and its options, in each of the surroundings."""
    all_cases = [Case(c.rule, c.options, around) for c in of for around in surroundings or ({},)]
    return pytest.mark.parametrize("case", all_cases, ids=str)


def dtypes() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)


def elsewhere(spec: Number) -> float:
    """An allowed value of a number that isn't its default."""
    default = spec.default or 0.9 * spec.optional
    return next(v for v in (default * 0.875 or 0.25, default * 1.25) if spec.allows(v))


# ---- awkward numbers ------------------------------------------------------------------------------


def special(dtype: Any) -> Array:
    """Zeros, subnormals, the edges of the range, infinities, NaN."""
    info = np.finfo(dtype)
    tiny, small, large = info.smallest_normal, info.smallest_subnormal, info.max
    positive = [
        0,
        1,
        1 + info.eps,
        small,
        tiny / 2,
        tiny,
        tiny * 2,
        tiny**0.5,
        large**0.5,
        large,
        np.inf,
    ]
    return np.array([sign * value for value in positive for sign in (1, -1)] + [np.nan], dtype)


def awkward(rng: np.random.Generator, size: int, dtype: Any, share: float = 0.1) -> Array:
    """Numbers from 1e-6 to 1e3, a share of them special."""
    values = rng.normal(size=size) * 10.0 ** rng.uniform(-6, 3, size)
    return np.where(rng.random(size) < share, rng.choice(special(dtype), size), values).astype(dtype)


def tame(values: Array) -> Array:
    """The same without what makes a norm infinite or enormous."""
    return np.where(np.abs(values) < 1e3, values, 0.5).astype(values.dtype)


# ---- histories and bits ---------------------------------------------------------------------------

History = list[dict[str, Array]]


@functools.cache
def arrays(dtype: Any, sizes: Sequence[int], mild: bool, seed: int) -> dict[str, Array]:
    """An awkward array of each size, by name."""
    rng = np.random.default_rng(seed)
    drawn = {f"w{size}": awkward(rng, size, dtype) for size in sizes}
    return {name: tame(a) for name, a in drawn.items()} if mild else drawn


def history(case: Case, dtype: Any, sizes: tuple[int, ...], *, backend: str = "llvm", steps: int = 20) -> History:
    """The parameters and states after each of some steps on awkward numbers."""
    params = {name: a.copy() for name, a in arrays(dtype, sizes, False, 0).items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAMITE_BACKEND", backend)
        optimizer = case.optimizer(params)
    found = []
    for step in range(steps):
        optimizer.step(arrays(dtype, sizes, "clip_norm" in case.around, 1 + step))
        found.append(snapshot(optimizer, params))
    return found


def snapshot(optimizer: adamite.Optimizer, params: dict[str, Array]) -> dict[str, Array]:
    """Copies of the parameters and states, `w.x` and `w.m`."""
    states = optimizer.state_dict()["parameters"]
    return {
        f"{name}.{state}": np.array(value)
        for name, x in params.items()
        for state, value in ({"x": x} | states[name]).items()
    }


def set_states(optimizer: adamite.Optimizer, values: dict[str, Any]) -> None:
    """Give the parameter called x these states, as far as it keeps them."""
    state = optimizer.state_dict()
    for name, kept in state["parameters"]["x"].items():
        if name in values and isinstance(kept, np.ndarray):
            kept[...] = values[name]
    optimizer.load_state_dict(state)


def same_bits(a: Array, b: Array) -> Any:
    """Where two arrays have the same bits, or NaN both."""
    assert a.dtype == b.dtype and a.shape == b.shape
    kind = f"u{a.itemsize}"
    return (np.isnan(a) & np.isnan(b)) | (np.ascontiguousarray(a).view(kind) == np.ascontiguousarray(b).view(kind))


def assert_same_bits(found: History, expected: History) -> None:
    assert len(found) == len(expected)
    for step, (mine, theirs) in enumerate(zip(found, expected, strict=True), start=1):
        assert mine.keys() == theirs.keys()
        for name in mine:
            same = same_bits(mine[name].ravel(), theirs[name].ravel())
            if not same.all():
                at = int(np.argmin(same))
                pytest.fail(
                    f"step {step}, {name}: {np.sum(~same)} of {same.size} differ, the first at {at}: "
                    f"{mine[name].flat[at]!r} instead of {theirs[name].flat[at]!r}"
                )


# ---- older processors -----------------------------------------------------------------------------

# What each level of x86-64 asks for beyond the one before.
LEVELS = {
    "x86-64": set[str](),
    "x86-64-v2": {"sse4.2", "ssse3", "popcnt"},
    "x86-64-v3": {"avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}


def levels() -> list[str]:
    """The levels of x86-64 that this processor has."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return []
    features = pytest.importorskip("llvmlite.binding").get_host_cpu_features()
    return list(itertools.takewhile(lambda level: all(features.get(f) for f in LEVELS[level]), LEVELS))


# ---- data -----------------------------------------------------------------------------------------

_NAMED = os.environ.get("ADAMITE_MNIST")  # before conftest.py names the part that is here


def whole_mnist() -> Path:
    """The folder of all of MNIST, where the environment names it."""
    if not _NAMED or len(mnist.read(mnist.find(Path(_NAMED), "train-labels-idx1-ubyte"))) != 60_000:
        pytest.skip("ADAMITE_MNIST names no folder with all of MNIST")
    return Path(_NAMED).resolve()


# ---- fresh processes ------------------------------------------------------------------------------


def python(code: str, *, path: Sequence[Path] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds adamite, and modules in `path` before all others."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=process_environment(*path) | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def process_environment(*path: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}


def running(code: str) -> subprocess.Popen[str]:
    """A program that has been started, with its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(code)],
        env=process_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupted(code: str, longest: float) -> list[str]:
    """What a program prints that gets Ctrl-C, after up to so many seconds, each time it says that it is stepping."""
    with running(code) as child:
        assert child.stdout and child.stderr
        reports, rng = [], np.random.default_rng(0)
        for line in child.stdout:
            if line == "stepping\n":
                threading.Event().wait(0.01 + longest * rng.random())
                child.send_signal(signal.SIGINT)
            else:
                reports.append(line.strip())
        assert child.wait(timeout=PATIENCE) == 0, child.stderr.read()
    return reports
