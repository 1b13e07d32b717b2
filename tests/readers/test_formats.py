"""float16 and bfloat16 parameters: widened and rounded as torch does it, the same bits in machine code and in NumPy."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from adamite import engine, rule
from adamite.readers import llvm
from adamite.readers.job import COEFFICIENTS, Job, X
from adamite.storage import BFLOAT16, FLOAT16, FLOAT32, Format
from adamite.update import Decay, Surroundings, build
from tests.support import VARIANTS, Array, Case, awkward, same_bits

NARROW = pytest.mark.parametrize("format", [FLOAT16, BFLOAT16], ids=lambda f: f.name)
TORCH = {FLOAT16: torch.float16, BFLOAT16: torch.bfloat16}


@rule
def keep(g: Any, s: Any, *, t: Any, lr: float = 1.0) -> Any:
    return g, g  # the state becomes the gradient, widened


@rule
def put(x: Any, g: Any, s: Any, *, t: Any, lr: float = 1.0) -> Any:
    return -s, s  # a parameter of zero becomes the state, rounded


def ran(kernel: engine.Kernel, arrays: list[Array], coefficients: Any = ()) -> None:
    job = Job(1, 2 + len(arrays))
    buffer = (ctypes.c_float * max(1, len(coefficients)))(*coefficients)
    job.lengths([arrays[0].size])
    job.fill(COEFFICIENTS, [ctypes.addressof(buffer)])
    for column, array in enumerate(arrays, start=X):
        job.fill(column, [array.ctypes.data])
    job.rewind()
    engine.run(kernel, job)


def kernels(update: Any, format: Format) -> Mapping[str, engine.Kernel]:
    """The NumPy reading, and machine code for this processor and for older ones."""
    found = {"numpy": engine.step_kernel(update, format, "numpy"), "llvm": engine.step_kernel(update, format, "llvm")}
    if engine.machine() == "x86_64":
        for cpu in ("x86-64", "x86-64-v3"):
            code = llvm.compile(llvm.step_text(engine.graph(update), format, "x86_64"), cpu)
            found[cpu] = engine.Kernel(code.call, code.call_held, code)
    return found


@NARROW
def test_every_number_widened(format: Format) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    expected = torch.from_numpy(bits.view(np.int16)).view(TORCH[format]).float().numpy()
    assert same_bits(format.widen(bits.view(format.dtype)), expected).all()
    small = np.abs(expected) < FLOAT32.smallest_state  # zero as a state
    for label, kernel in kernels(build(keep), format).items():
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
    values = values[(np.abs(values) >= FLOAT32.smallest_state) | np.isnan(values)]
    expected = torch.from_numpy(values).to(TORCH[format]).view(torch.int16).numpy().view(np.uint16)
    nan = np.isnan(values)

    def right(stored: Array) -> bool:
        return bool((stored.view(np.uint16) == expected)[~nan].all() and np.isnan(format.widen(stored[nan])).all())

    assert right(format.narrow(values))
    for label, kernel in kernels(build(put), format).items():
        x = np.zeros(values.size, format.dtype)
        ran(kernel, [x, x.copy(), values.copy()])
        assert right(x), label


@NARROW
@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_the_same_bits(case: Case, format: Format) -> None:
    """Machine code and NumPy, each rule, several steps with awkward numbers."""
    choices = tuple((name, case.options[name]) for name in case.rule.choices)
    absent = frozenset(name for name, value in case.options.items() if value is None)
    decay: Decay = "decoupled" if "lr" in case.rule.numbers else "l2"
    update = build(case.rule, choices, absent, Surroundings(decay, maximize=True, ema=True, cautious=True))
    graph = engine.graph(update)
    numbers = {n: 0.9 if s.default is None else s.default for n, s in case.rule.numbers.items()}
    numbers |= {"weight_decay": 0.1, "ema": 0.9, "lr": 0.01}
    for size in (1, 33, 1000):
        rng = np.random.default_rng(size)
        x = format.narrow(awkward(rng, size, np.float32))
        states = [np.zeros(size, np.float32) for _ in graph.inputs[2:]]
        found = [[a.copy() for a in (x, x, *states)] for _ in range(2)]
        scalars = [1.0] * len(graph.scalars)
        for t in range(1, 6):
            own = [numbers[name] for name in graph.numbers if name not in graph.scalars]
            values = graph.evaluate(float(t), *own, *scalars)
            scalars = list(values[graph.coefficient_count :])
            g = format.narrow(awkward(rng, size, np.float32))
            for arrays, backend in zip(found, ("llvm", "numpy"), strict=True):
                arrays[1][...] = g
                ran(engine.step_kernel(update, format, backend), arrays, values[: graph.coefficient_count])
            for name, a, b in zip(graph.inputs, *found, strict=True):
                wide = [(format if name in ("x", "g") else FLOAT32).widen(array) for array in (a, b)]
                assert same_bits(*wide).all(), (name, t)


@NARROW
def test_loops_use_vectors(format: Format) -> None:
    if engine.machine() != "x86_64":
        pytest.skip("the listing is of x86-64")
    from adamite.rules import adam

    text = llvm.step_text(engine.graph(build(adam)), format, "x86_64")
    loop = "\n".join(llvm.loop(str(llvm.compile(text, "x86-64-v3", assembly=True).assembly)))
    assert "sqrtps" in loop and "call" not in loop


@NARROW
def test_sums_of_squares(format: Format) -> None:
    rng = np.random.default_rng(0)
    g = format.narrow(rng.normal(size=20_011).astype(np.float32))
    totals = []
    for backend in ("llvm", "numpy"):
        squares = engine.Squares(format, [g.size], backend)
        squares.run([g.ctypes.data])
        totals.append(squares.total())
    assert totals[0] == totals[1] == pytest.approx(float(np.sum(format.widen(g).astype(float) ** 2)), rel=1e-13)
