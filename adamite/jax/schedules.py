"""Schedules at steps that JAX traces, and at arrays of steps: in float64, whatever JAX computes in elsewhere."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from adamite.schedules.form import Operations, Schedule, evaluate

_ON_TRACED = Operations(
    jnp.cos,
    jnp.sqrt,
    jnp.floor,
    jnp.log1p,
    jnp.expm1,
    jnp.minimum,
    jnp.maximum,
    where=lambda condition, a, b: jnp.where(condition, a(), b()),
    number=lambda value: jnp.asarray(value, jnp.float64),
    count=lambda step: step.astype(jnp.int32),
)


@evaluate.register(jax.core.Tracer)
@evaluate.register(jax.Array)
def _(step: Any, schedule: Schedule) -> Any:
    """The value in the widest type that there is where it is asked for; of one step that is known, a number."""
    if not isinstance(step, jax.core.Tracer) and step.ndim == 0:
        return schedule(step.item())
    widest = jax.dtypes.canonicalize_dtype(jnp.float64)
    with jax.enable_x64(True):
        value = jnp.asarray(schedule.at(_ON_TRACED.number(step), _ON_TRACED), widest)
        return jnp.broadcast_to(value, step.shape)  # of a constant too


def at(value: Any, count: Any) -> Any:
    """What a schedule gives after so many steps: one of adamite's is in float64."""
    if not isinstance(value, Schedule):
        return value(count)
    with jax.enable_x64(True):
        return value(count)
