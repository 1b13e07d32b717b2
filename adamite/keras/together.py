"""JAX's variables of one type as one operation: on the CPU it is the machine code, in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from adamite import engine
from adamite.jax.call import COMPUTE, FORMATS, call, kind
from adamite.update import Update


def step(
    update: Update, dtype: str, coefficients: Sequence[Any], columns: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """What the graph stores, by name: of variables of one type, by their gradients and states."""
    stored = kind(dtype)
    format = FORMATS[stored]
    compute = COMPUTE[format.compute]
    types = {"x": stored, "g": stored}
    given = {
        name: [jnp.asarray(value, types.get(name, compute)) for value in values] for name, values in columns.items()
    }
    return call(engine.graph(update), format, jnp.array(coefficients, compute), given)
