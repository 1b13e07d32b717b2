"""All JAX variables of one dtype as one operation: on a CPU it is the machine code, in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from keras import ops

from adamite.graph.lowering import lower
from adamite.jax.call import COMPUTE, FORMATS, call, dtype_of, kind
from adamite.language.update import Update
from adamite.storage import Layout


def step(
    update: Update, dtype: str, coefficients: Sequence[Any], columns: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """The new variables and states by name, for variables of one dtype."""
    stored = kind(dtype)
    compute = COMPUTE[FORMATS[stored].compute]
    layout = Layout(FORMATS[stored])
    # Keras's clipping returns the dtype of the computation.
    if any(g.dtype != stored for g in columns["g"]):
        layout = layout.with_gradient(FORMATS[compute])
    types = {"x": stored, "g": dtype_of(layout.g)}
    given = {
        name: [jnp.asarray(ops.convert_to_tensor(value), types.get(name, compute)) for value in values]
        for name, values in columns.items()
    }
    return call(lower(update), layout, jnp.array(coefficients, compute), given)
