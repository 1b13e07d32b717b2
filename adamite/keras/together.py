"""JAX's variables of one type as one operation: on the CPU it is the machine code, in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from keras import ops

from adamite import engine
from adamite.jax.call import COMPUTE, FORMATS, call, dtype_of, kind
from adamite.storage import Layout
from adamite.update import Update


def step(
    update: Update, dtype: str, coefficients: Sequence[Any], columns: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """What the graph stores, by name: of variables of one type, by their gradients and states."""
    stored = kind(dtype)
    compute = COMPUTE[FORMATS[stored].compute]
    layout = Layout(FORMATS[stored])
    if any(g.dtype != stored for g in columns["g"]):  # as after Keras's clipping, which is done in `compute`
        layout = layout.with_gradient(FORMATS[compute])
    types = {"x": stored, "g": dtype_of(layout.g)}
    given = {
        name: [jnp.asarray(ops.convert_to_tensor(value), types.get(name, compute)) for value in values]
        for name, values in columns.items()
    }
    return call(engine.graph(update), layout, jnp.array(coefficients, compute), given)
