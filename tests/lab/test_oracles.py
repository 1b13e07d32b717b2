"""Every rule, with its options, against the oracles: the papers in plain float64 loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import adamite
from adamite.lab import oracles
from tests.support import Array, Case, cases, elsewhere

STEPS = 50
SHAPES: dict[str, tuple[int, ...]] = {"a": (), "b": (5,), "c": (2, 3), "d": (0, 4), "e": (2, 1, 4)}


def falling(start: float) -> Callable[[int], float]:
    return lambda step: start / (1 + step)


L2: dict[str, Any] = dict(decay="l2", weight_decay=0.0625, clip_norm=3.0, maximize=True, ema=0.9)
DECOUPLED: dict[str, Any] = dict(decay="decoupled", weight_decay=0.0625, ema=0.9)


def hyperparameters(case: Case, moved: bool) -> dict[str, Any]:
    """The rule's numbers and choices: the defaults, or others and a schedule for lr."""
    numbers = {k: elsewhere(n) if moved and k in case.numbers else n.default for k, n in case.rule.numbers.items()}
    return numbers | ({"lr": falling(0.1)} if moved else {}) | case.options


def flat(arrays: dict[str, Array]) -> Array:
    return np.concatenate([array.ravel() for array in arrays.values()], dtype=float)


def drawn(rng: np.random.Generator, scale: float, dtype: Any) -> dict[str, Array]:
    return {k: np.array(scale * rng.normal(size=shape), dtype) for k, shape in SHAPES.items()}


def paths(case: Case, scale: float, moved: bool, dtype: Any) -> tuple[Array, Array]:
    """Displacements by adamite and by the oracle: a row per step, and one for the average of the weights."""
    rng = np.random.default_rng(8)
    x, gradients = (
        drawn(rng, min(scale, 1.0), dtype),
        [drawn(rng, scale, dtype) for _ in range(STEPS)],
    )
    start, numbers, around = flat(x), hyperparameters(case, moved), dict(case.around)
    if "clip_norm" in around:
        around["clip_norm"] *= scale
    if around.get("decay") == "l2":  # x is fed back: paths are chaotic if decay outweighs the gradients
        around["weight_decay"] *= min(scale, 1.0)

    optimizer = Case(case.rule, {}, around).optimizer(x, **numbers)
    found = []
    for g in gradients:
        optimizer.step(g)
        found.append(flat(x))
    if "ema" in around:
        with optimizer.averaged():
            found.append(flat(x))

    kind, decay = around.get("decay"), around.get("weight_decay", 0.0)
    expected, average = oracles.run(
        case.rule.name,
        start.tolist(),
        [flat(g).tolist() for g in gradients],
        numbers,
        l2=decay if kind == "l2" else 0.0,
        weight_decay=decay if kind == "decoupled" else 0.0,
        clip_norm=around.get("clip_norm"),
        maximize=around.get("maximize", False),
        ema_decay=around.get("ema"),
    )
    return np.array(found) - start, np.array([*expected, *([average] if average else [])]) - start


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("moved", [False, True], ids=["defaults", "moved"])
@cases({}, L2, DECOUPLED)
def test_float64(case: Case, moved: bool, scale: float) -> None:
    found, expected = paths(case, scale, moved, np.float64)
    error, moves = np.abs(found - expected).max(axis=1), np.abs(expected).max(axis=1)
    assert moves[-1] > 0 and not error[moves == 0].any()
    worst = float(np.max(error[moves > 0] / moves[moves > 0]))
    assert worst <= 1e-12


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
@cases({}, L2, DECOUPLED)
def test_float32(case: Case, scale: float) -> None:
    """Within the bounds of rounding: half a unit per step in x, and in each step the longest chain's roundings.

    A chain is a moving average of moving averages (RMSprop's momentum of a quotient): in each step two products
    by rounded coefficients, so 4 roundings a step and level; the last step adds a dozen more.
    """
    found, expected = paths(case, scale, False, np.float32)
    half = np.finfo(np.float32).eps / 2
    moved = np.abs(np.diff(expected[:STEPS], axis=0, prepend=0.0)).max(axis=1).cumsum()
    steps = np.arange(1, STEPS + 1)
    x = np.abs(expected[:STEPS]).max(axis=1) + min(scale, 1.0) * 3  # no coordinate starts beyond 3
    error = np.abs(found - expected).max(axis=1)[:STEPS]
    assert (error <= half * ((8 * steps + 12) * moved + steps * x)).all()


@pytest.mark.parametrize(("name", "threshold"), [("radam", 4), ("radam_eps_hat", 5)])
def test_radam_against_exact_rectification(name: str, threshold: int) -> None:
    """With gradients of 1 a step is r_t. The paper's formula loses digits in float64: 4e-12 at t = 5."""
    x, beta2 = np.zeros(1), Fraction(0.999)
    optimizer = adamite.optimizer(name)(x, lr=1.0, beta2=0.999, eps=1e-300)
    rho_inf = 2 / (1 - beta2) - 1
    for t in range(1, 51):
        before = x[0]
        optimizer.step(np.ones(1))
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        squared = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
        assert before - x[0] == pytest.approx(math.sqrt(squared) if rho > threshold else 1.0, rel=1e-11)
