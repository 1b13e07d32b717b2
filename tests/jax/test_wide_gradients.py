"""Gradients of a wider type than their parameter: never rounded to the parameter's type before the step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamite.jax as ours
from adamite.jax import OPTIMIZERS

NARROW = [jnp.float16, jnp.bfloat16]


def moved(tx: Any, params: Any, grads: Any) -> list[Any]:
    """With `step` and `update`, compiled and not."""
    state = tx.init(params)

    def updated(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    steps = (tx.step, jax.jit(tx.step), updated, jax.jit(updated))
    return [step(params, state, grads)[0] for step in steps]


@pytest.mark.parametrize("kind", NARROW)
def test_a_gradient_that_the_parameter_cannot_hold(kind: Any) -> None:
    large, rate = (1e5, 1e-3) if kind is jnp.float16 else (3.395e38, 2e-38)  # bfloat16's largest is 3.3895e38
    params, grads = jnp.zeros(100, kind), jnp.full(100, large, jnp.float32)
    expected = optax.apply_updates(params, -rate * grads)
    for found in moved(ours.sgd(rate), params, grads):
        assert found.dtype == kind and (found == expected).all() and jnp.isfinite(found).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", NARROW)
def test_a_step_is_that_of_a_wide_parameter_rounded_once(name: str, kind: Any) -> None:
    generator = np.random.default_rng(0)
    start = jnp.asarray(generator.normal(size=37), kind)
    grads = jnp.asarray(generator.normal(size=37) * 1e3, jnp.float32)
    tx = OPTIMIZERS[name](0.01)
    wide = start.astype(jnp.float32)
    expected = tx.step(wide, tx.init(wide), grads)[0].astype(kind)
    stepped, compiled, *_ = moved(tx, start, grads)
    assert (stepped == expected).all() and (compiled == expected).all()


def test_float64_gradients_of_float32_parameters() -> None:
    with jax.enable_x64(True):
        params, grads = jnp.zeros(5, jnp.float32), jnp.full(5, 1e39, jnp.float64)
        for found in moved(ours.sgd(1e-39), params, grads):
            assert found.dtype == jnp.float32 and (found == -1).all()
        state = ours.adam(0.1).init(params)
        assert state[0].mu.dtype == jnp.float32


def test_accumulated_gradients() -> None:
    """optax accumulates them in float32."""
    params = jnp.zeros(3, jnp.float16)
    tx = optax.MultiSteps(ours.sgd(1e-3), 2)
    state: Any = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(jnp.full(3, 1e5, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
    assert params.tolist() == [-100.0] * 3
