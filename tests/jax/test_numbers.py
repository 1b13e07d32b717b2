"""adamite.jax against optax: every function with every option in float64; in float32 as near to that as optax."""

from __future__ import annotations

import ast
import functools
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
ONE = {"kernel": (3, 4)}  # for options, which are the same for each leaf: XLA compiles it twice as fast

# Every option of each function, with a value that isn't the default's.
SCHEDULE = optax.cosine_decay_schedule(0.02, 60)
ADAM: dict[str, list[Any]] = {"b1": [0.8], "b2": [0.95], "eps": [1e-3], "eps_root": [1e-4], "nesterov": [True]}
OPTIONS: dict[str, dict[str, list[Any]]] = {
    "sgd": {"momentum": [0.9], "nesterov": [True]},
    "rmsprop": {
        "decay": [0.8],
        "eps": [1e-3],
        "initial_scale": [0.5],
        "eps_in_sqrt": [False],
        "centered": [True],
        "momentum": [0.9],
        "nesterov": [True],
        "bias_correction": [True],
    },
    "adagrad": {"initial_accumulator_value": [0.0, 1.0], "eps": [1e-3]},
    "adadelta": {"rho": [0.8], "eps": [1e-3], "weight_decay": [0.1, SCHEDULE]},
    "adam": ADAM,
    "adamw": {**ADAM, "weight_decay": [0.1, 0.0, SCHEDULE]},
    "nadam": {**ADAM, "nesterov": [False]},
    "nadamw": {**ADAM, "nesterov": [False], "weight_decay": [0.1]},
    "amsgrad": {
        **{name: values for name, values in ADAM.items() if name != "nesterov"},
        "bias_correction_mu": [False],
        "bias_correction_nu": [False],
    },
    "adamax": {"b1": [0.8], "b2": [0.95], "eps": [1e-3]},
    "adamaxw": {"b1": [0.8], "b2": [0.95], "eps": [1e-3], "weight_decay": [0.1]},
    "radam": {**ADAM, "threshold": [7.0]},
    "adabelief": {**ADAM},
    "lion": {"b1": [0.8], "b2": [0.95], "weight_decay": [0.1, 0.0]},
    "adopt": {
        "b1": [0.8],
        "b2": [0.95],
        "eps": [1e-3],
        "nesterov": [True],
        "use_clipping": [False],
        "clip_value_fn": [lambda count: 0.1 * count],
    },
}


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
    return optax.contrib.adopt if name == "adopt" else getattr(optax, name)


def tree(seed: int, dtype: Any = jnp.float64, shapes: Any = SHAPES) -> Any:
    """Numbers that are float32's."""
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


FLOAT64 = {"radam": 1e-11}  # the rectification cancels three digits, and XLA's power has an error of its own


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


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ("adamw", "nadamw", "adamaxw")])
def test_float32_is_no_farther_off_than_optax(name: str) -> None:
    """Than optax from its own float64 run, in units in the last place."""
    with jax.enable_x64(True):
        exact = ends(peer(name)(learning_rate=0.01), jnp.float64)
    unit = np.spacing(np.abs(exact).astype(np.float32))
    mine, theirs = (ends(make(learning_rate=0.01), jnp.float32) for make in (getattr(ours, name), peer(name)))
    assert mine.dtype == theirs.dtype == np.float32
    distances = [float(np.median(np.abs(x - exact) / unit)) for x in (mine, theirs)]
    assert 0 < distances[0] <= 1.05 * distances[1]
