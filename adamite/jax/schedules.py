"""Schedules for traced step numbers and arrays of them, in float64 even if x64 is off."""

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
    """The value, in the widest enabled dtype; for one step number that isn't traced, a Python number."""
    if not isinstance(step, jax.core.Tracer) and step.ndim == 0:
        return schedule(step.item())
    widest = jax.dtypes.canonicalize_dtype(jnp.float64)
    with jax.enable_x64(True):
        value = jnp.asarray(schedule.at(_ON_TRACED.number(step), _ON_TRACED), widest)
        return jnp.broadcast_to(value, step.shape)  # a constant schedule has the shape of the steps too


def at(value: Any, count: Any) -> Any:
    """The value of a schedule after so many steps; adamite's are computed in float64."""
    if not isinstance(value, Schedule):
        return value(count)
    with jax.enable_x64(True):
        return value(count)
