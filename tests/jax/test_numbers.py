"""adamite.jax against optax: every function with every option in float64; in float32 as near to that as optax."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamite.jax as ours

STEPS = 100
SHAPES = {"kernel": (3, 4), "bias": (4,), "scale": (), "empty": (0, 2), "deep": [(2, 1, 3), (5,)]}
ONE = {"kernel": (3, 4)}  # enough for options, which are the same for each leaf; XLA compiles it twice as fast

SCHEDULE = optax.cosine_decay_schedule(0.02, 60)
# Values of the functions' arguments that aren't the defaults.
VALUES: dict[str, list[Any]] = {
    "b1": [0.8],
    "b2": [0.95],
    "rho": [0.8],
    "decay": [0.8],
    "eps": [1e-3],
    "eps_root": [1e-4],
    "momentum": [0.9],
    "threshold": [7.0],
    "initial_scale": [0.5],
    "initial_accumulator_value": [0.0, 1.0],
    "weight_decay": [0.1],
    "clip_value_fn": [lambda count: 0.1 * count],
}
OF_ITS_OWN: dict[str, dict[str, list[Any]]] = {
    "adadelta": {"weight_decay": [0.1, SCHEDULE]},
    "adamw": {"weight_decay": [0.1, 0.0, SCHEDULE]},
    "lion": {"weight_decay": [0.1, 0.0]},
}


def options_of(name: str) -> dict[str, list[Any]]:
    """Each flag of a function negated, and other values of its numbers."""
    options: dict[str, list[Any]] = {}
    for parameter in inspect.signature(getattr(ours, name)).parameters.values():
        if isinstance(parameter.default, bool):
            options[parameter.name] = [not parameter.default]
        elif parameter.name in VALUES:
            options[parameter.name] = VALUES[parameter.name]
        elif isinstance(parameter.default, float):
            options[parameter.name] = [0.875 * parameter.default]
    return options | OF_ITS_OWN.get(name, {})


OPTIONS = {name: options_of(name) for name in ours.OPTIMIZERS}


def cases() -> Iterator[Any]:
    """Each option alone, flags in pairs, and all together."""
    for name, options in OPTIONS.items():
        single = [{option: value} for option, values in options.items() for value in values]
        flags = [one for one in single if not isinstance(next(iter(one.values())), float) or "momentum" in one]
        pairs = [a | b for a, b in combinations(flags, 2) if a.keys() != b.keys()]
        every = {option: values[0] for option, values in options.items()}
        scheduled: dict[str, Any] = {"learning_rate": SCHEDULE}
        for chosen in ({}, scheduled, *single, *pairs, every, every | scheduled):
            if chosen.get("centered") and chosen.get("bias_correction"):
                chosen = chosen | {"eps": 0.1}  # the first variance is a rounding error
            label = "-".join(f"{k}={'schedule' if callable(v) else v}" for k, v in chosen.items())
            yield pytest.param(name, {"learning_rate": 0.01, **chosen}, id=f"{name}-{label}")


def peer(name: str) -> Any:
    """optax's function of this name."""
    return getattr(optax, name, None) or getattr(optax.contrib, name)


def tree(seed: int, dtype: Any = jnp.float64, shapes: Any = SHAPES) -> Any:
    """Random numbers that are exact in float32."""
    draw = np.random.default_rng(seed)

    def drawn(shape: tuple[int, ...]) -> Any:
        return jnp.asarray(draw.standard_normal(shape).astype(np.float32), dtype)

    return jax.tree.map(drawn, shapes, is_leaf=lambda s: isinstance(s, tuple))


def run(tx: Any, params: Any, steps: int = STEPS, dtype: Any = jnp.float64, shapes: Any = SHAPES) -> tuple[Any, Any]:
    @jax.jit
    def whole(params: Any, state: Any, grads: Any) -> Any:
        def step(carried: Any, g: Any) -> Any:
            updates, state = tx.update(g, carried[1], carried[0])
            return (optax.apply_updates(carried[0], updates), state), None

        return jax.lax.scan(step, (params, state), grads)[0]

    return whole(params, tx.init(params), gradients(steps, dtype, str(shapes)))  # type: ignore[no-any-return]


@functools.cache
def gradients(steps: int, dtype: Any, shapes: str) -> Any:
    trees = [tree(100 + k, dtype, ast.literal_eval(shapes)) for k in range(steps)]
    return jax.tree.map(lambda *g: jnp.asarray(np.stack(g)), *trees)


def distance(mine: Any, theirs: Any, start: Any) -> float:
    """The largest difference over the largest displacement."""
    found = 0.0
    for a, b, s in zip(*map(jax.tree.leaves, (mine, theirs, start)), strict=True):
        if a.size and not np.array_equal(a, b):
            found = max(found, float(np.max(np.abs(a - b)) / np.max(np.abs(b - s))))
    return found


FLOAT64 = {"radam": 1e-11}  # the rectification cancels three digits, and XLA's power has its own error


@pytest.mark.parametrize(("name", "options"), list(cases()))
def test_optaxs_numbers_in_float64(name: str, options: dict[str, Any]) -> None:
    with jax.enable_x64(True):
        shapes = SHAPES if options.keys() == {"learning_rate"} else ONE
        start = tree(0, shapes=shapes)
        state: Any
        mine, state = run(getattr(ours, name)(**options), start, shapes=shapes)
        theirs, expected = run(peer(name)(**options), start, shapes=shapes)
        assert distance(mine, theirs, start) <= FLOAT64.get(name, 1e-12)
        assert str(jax.tree.structure(state)) == str(jax.tree.structure(expected))
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
            assert a.dtype == b.dtype and np.allclose(a, b, rtol=1e-10, atol=1e-13)


MANY = {"x": (10_000,)}  # elements, so that a median is known to a percent or two


def ends(tx: Any, dtype: Any) -> Any:
    return np.asarray(run(tx, tree(0, dtype, MANY), 50, dtype, MANY)[0]["x"])


@pytest.mark.parametrize("name", [name for name in OPTIONS if name.removesuffix("w") not in OPTIONS.keys() - {name}])
def test_float32_is_no_farther_off_than_optax(name: str) -> None:
    """The distance from optax's float64 run, in units in the last place, against optax's own."""
    with jax.enable_x64(True):
        exact = ends(peer(name)(learning_rate=0.01), jnp.float64)
    unit = np.spacing(np.abs(exact).astype(np.float32))
    mine, theirs = (ends(make(learning_rate=0.01), jnp.float32) for make in (getattr(ours, name), peer(name)))
    assert mine.dtype == theirs.dtype == np.float32
    distances = [float(np.median(np.abs(x - exact) / unit)) for x in (mine, theirs)]
    assert 0 < distances[0] <= 1.05 * distances[1]
