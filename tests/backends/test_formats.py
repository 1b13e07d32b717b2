"""float16 and bfloat16 parameters: widened and rounded as torch does it, the same bits in machine code and in NumPy."""

from __future__ import annotations

import copy
import ctypes
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from adamite import rule
from adamite.backends import llvm
from adamite.backends.backend import BackendName, Kernel
from adamite.backends.llvm.squares import squares_text
from adamite.codegen import compiler
from adamite.codegen.job import CHUNK, COEFFICIENTS, PARTIALS, Job, X
from adamite.engine import kernels, norms, running
from adamite.graph.lowering import lower
from adamite.language.update import Decay, Surroundings, build
from adamite.rules import adam
from adamite.storage import BFLOAT16, FLOAT16, FLOAT32, Format, Layout
from tests.support import VARIANTS, Array, Case, awkward, levels, same_bits

NARROW = pytest.mark.parametrize("format", [FLOAT16, BFLOAT16], ids=lambda f: f.name)
BACKENDS: tuple[BackendName, ...] = ("llvm", "numpy")
TORCH = {FLOAT16: torch.float16, BFLOAT16: torch.bfloat16}


@rule
def keep(g: Any, s: Any, *, t: Any, lr: float = 1.0) -> Any:
    return g, g  # the state becomes the gradient, widened


@rule
def put(x: Any, g: Any, s: Any, *, t: Any, lr: float = 1.0) -> Any:
    return -(s * lr), s  # a parameter of minus zero becomes the state times lr, rounded


def ran(kernel: Kernel, arrays: list[Array], coefficients: Any = ()) -> None:
    job = Job(1, 2 + len(arrays))
    buffer = (ctypes.c_float * max(1, len(coefficients)))(*coefficients)
    job.lengths([arrays[0].size])
    job.fill(COEFFICIENTS, [ctypes.addressof(buffer)])
    for column, array in enumerate(arrays, start=X):
        job.fill(column, [array.ctypes.data])
    job.rewind()
    running.run(kernel, job)


def both(update: Any, format: Format) -> Mapping[str, Kernel]:
    """The NumPy reading, and machine code for this processor and for older ones."""
    return {
        "numpy": kernels.step_kernel(update, Layout(format), "numpy"),
        "llvm": kernels.step_kernel(update, Layout(format), "llvm"),
        **on_levels(llvm.step_text(lower(update), Layout(format), llvm.machine())),
    }


def on_levels(text: str) -> Mapping[str, Kernel]:
    """Machine code for this processor's levels."""
    codes = {level: compiler.compile(text, level) for level in levels()}
    return {level: Kernel(code.call, code.call_held, 1, code) for level, code in codes.items()}


@NARROW
def test_every_number_widened(format: Format) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    expected = torch.from_numpy(bits.view(np.int16)).view(TORCH[format]).float().numpy()
    if format is FLOAT16:
        assert same_bits(expected, bits.view(np.float16).astype(np.float32)).all()
    assert same_bits(format.widen(bits.view(format.dtype)), expected).all()
    small = np.abs(expected) < FLOAT32.smallest_state  # zero as a state
    for label, kernel in both(build(keep), format).items():
        x, s = np.zeros(bits.size, format.dtype), np.zeros(bits.size, np.float32)
        ran(kernel, [x, bits.view(format.dtype), s])
        assert (same_bits(s, expected) | small).all(), label
        assert not s[small].any()


@NARROW
def test_numbers_rounded_to_nearest_even(format: Format) -> None:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(TORCH[format]).double()
    finite = np.sort(every[torch.isfinite(every)].numpy())
    middles = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [
            middles,
            np.nextafter(middles, np.float32(np.inf)),
            np.nextafter(middles, np.float32(-np.inf)),
            rng.integers(0, 1 << 32, 300_000, dtype=np.uint64).astype(np.uint32).view(np.float32),
            np.array([np.inf, -np.inf, np.nan, 65504, 65519.99, 65520, 3.39e38, 3.4e38], np.float32),
        ]
    )
    small = np.abs(values) < 2.0**-60  # would count as zero in a state
    assert_rounded(format, values[~small])
    assert_rounded(format, values[small], 2.0**100)


def assert_rounded(format: Format, values: Array, scale: float = 1.0) -> None:
    """In NumPy, and by kernels that are given them `scale` times as large."""
    expected = torch.from_numpy(values).to(TORCH[format]).view(torch.int16).numpy().view(np.uint16)
    nan = np.isnan(values)

    def right(stored: Array) -> bool:
        return bool((stored.view(np.uint16) == expected)[~nan].all() and np.isnan(format.widen(stored[nan])).all())

    with np.errstate(all="raise"):  # the user's own setting changes nothing
        assert right(format.narrow(values))
    for label, kernel in both(build(put), format).items():
        x = format.narrow(np.full(values.size, -0.0, np.float32))
        with np.errstate(invalid="ignore"):
            ran(kernel, [x, x.copy(), values * np.float32(scale)], [1 / scale])
        assert right(x), label


@NARROW
def test_a_copied_format_is_the_same(format: Format) -> None:
    """As optimizers are copied and pickled."""
    copied = copy.deepcopy(format)
    value = np.array(-1.2345, np.float32)
    assert copied.narrow(value) == format.narrow(value)
    assert copied.widen(format.narrow(value)) == format.widen(format.narrow(value))
    graph = lower(build(keep))
    assert llvm.step_text(graph, Layout(copied), "x86_64") == llvm.step_text(graph, Layout(format), "x86_64")


@NARROW
def test_bits_of_a_number(format: Format) -> None:
    for value in (0.0, -0.0, 1.0, -2.5, 0.1, 2.0**-24, float("inf")):
        expected = torch.tensor(value).to(TORCH[format]).view(torch.int16).numpy().view(np.uint16)
        assert format.bits(value) == expected


@NARROW
@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_the_same_bits(case: Case, format: Format) -> None:
    """Machine code and NumPy, each rule, several steps with awkward numbers."""
    choices = tuple((name, case.options[name]) for name in case.rule.choices)
    absent = frozenset(name for name, value in case.options.items() if value is None)
    decay: Decay = "decoupled" if "lr" in case.rule.numbers else "l2"
    update = build(case.rule, choices, absent, Surroundings(decay, maximize=True, ema=True, cautious=True))
    graph = lower(update)
    numbers = {n: 0.9 if s.default is None else s.default for n, s in case.rule.numbers.items()}
    numbers |= {"weight_decay": 0.1, "ema": 0.9, "lr": 0.01}
    for size in (1, 7, 33, 1000):
        rng = np.random.default_rng(size)
        x = format.narrow(awkward(rng, size, np.float32))
        states = [np.zeros(size, np.float32) for _ in graph.inputs[2:]]
        results = [[a.copy() for a in (x, x, *states)] for _ in range(2)]
        scalars = [1.0] * len(graph.scalars)
        for t in range(1, 6):
            arguments = [numbers[name] for name in graph.numbers if name not in graph.scalars]
            values = graph.evaluate(float(t), *arguments, *scalars)
            scalars = list(values[graph.coefficient_count :])
            g = format.narrow(awkward(rng, size, np.float32))
            for arrays, backend in zip(results, BACKENDS, strict=True):
                arrays[1][...] = g
                ran(kernels.step_kernel(update, Layout(format), backend), arrays, values[: graph.coefficient_count])
            for name, a, b in zip(graph.inputs, *results, strict=True):
                wide = [(format if name in ("x", "g") else FLOAT32).widen(array) for array in (a, b)]
                assert same_bits(*wide).all(), (name, t)


@NARROW
@pytest.mark.parametrize("gradient", [FLOAT16, BFLOAT16, FLOAT32], ids=lambda f: f.name)
def test_gradients_of_a_wider_format(format: Format, gradient: Format) -> None:
    """As a float32 parameter of the same value moves, rounded once."""
    layout, update, size = Layout(format).with_gradient(gradient), build(adam), 1000
    graph = lower(update)
    values = graph.evaluate(1.0, *(s.default for n, s in adam.numbers.items() if n in graph.numbers))
    rng = np.random.default_rng(0)
    x, g = format.narrow(awkward(rng, size, np.float32)), gradient.narrow(awkward(rng, size, np.float32))
    plain = [format.widen(x).copy(), gradient.widen(g).copy(), *(np.zeros(size, np.float32) for _ in graph.inputs[2:])]
    ran(kernels.step_kernel(update, Layout(FLOAT32), "numpy"), plain, values)
    compared: dict[str, Kernel] = {b: kernels.step_kernel(update, layout, b) for b in BACKENDS}
    for label, kernel in (compared | dict(on_levels(llvm.step_text(graph, layout, llvm.machine())))).items():
        arrays = [x.copy(), g, *(np.zeros(size, np.float32) for _ in graph.inputs[2:])]
        ran(kernel, arrays, values)
        assert same_bits(format.widen(arrays[0]), format.widen(format.narrow(plain[0]))).all(), label
        assert all(same_bits(mine, wide).all() for mine, wide in zip(arrays[2:], plain[2:], strict=True)), label


@NARROW
def test_loops_use_vectors(format: Format) -> None:
    text = llvm.step_text(lower(build(adam)), Layout(format), llvm.machine())
    for level in levels():
        loop = "\n".join(compiler.loop(str(compiler.compile(text, level, assembly=True).assembly)))
        assert "divps" in loop and "call" not in loop, level
        assert not re.search(r"(add|sub|mul|div)ss\b", loop), level
        # The first level takes roots one by one, of float32 parameters too.
        assert "sqrtps" in loop or level == "x86-64", level


LENGTHS = [1, 31, 32, 33, CHUNK - 1, CHUNK, CHUNK + 1, 20_011]


def in_order(g: Array, scale: float) -> list[float]:
    """The sums of blocks: each lane in index order, then the lanes."""
    sums = []
    for start in range(0, g.size, CHUNK):
        lanes = [0.0] * PARTIALS
        for index, value in enumerate(g[start : start + CHUNK].tolist()):
            lanes[index % PARTIALS] += (value * scale) * (value * scale)
        total = 0.0
        for lane in lanes:
            total += lane
        sums.append(total)
    return sums


@NARROW
@pytest.mark.parametrize("scale", [1.0, 0.3, 2.0**-600])
@pytest.mark.parametrize("share", [0.0, 0.01], ids=["plain", "special"])
def test_sums_of_squares(format: Format, scale: float, share: float) -> None:
    rng = np.random.default_rng(0)
    tensors = [format.narrow(awkward(rng, size, np.float32, share)) for size in LENGTHS]
    torchs = [torch.from_numpy(t.view(np.int16)).view(TORCH[format]).double().numpy() for t in tensors]
    expected = np.array([total for g in torchs for total in in_order(g, scale)])
    assert np.isfinite(expected).any()
    text = squares_text(format, llvm.machine())
    compared = {b: kernels.squares_kernel(format, b) for b in BACKENDS} | dict(on_levels(text))
    for label, kernel in compared.items():
        squares = norms.Squares(format, LENGTHS, "numpy")
        squares.kernel = kernel
        assert same_bits(squares.run([t.ctypes.data for t in tensors], scale), expected).all(), label
