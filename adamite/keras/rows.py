"""Gradients of some rows of a table, as embeddings have: tf.IndexedSlices and JAX's BCOO."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from adamite.keras.arrays import BACKEND

if BACKEND == "jax":
    from jax.experimental.sparse import BCOO
elif BACKEND == "tensorflow":
    import tensorflow as tf


class Rows(NamedTuple):
    """Where rows lie and what their gradients are. A row that is listed twice has its whole gradient each time."""

    indices: Any
    gradients: Any

    def of(self, table: Any, compute: str) -> Any:
        """These rows of a table."""
        if isinstance(table, keras.Variable):
            table = table.value
        # TensorFlow's own reads the rows alone: a table that was read whole is copied before it is assigned rows.
        rows = tf.gather(table, self.indices) if BACKEND == "tensorflow" else ops.take(table, self.indices, axis=0)
        return ops.cast(rows, compute)

    def put(self, table: Any, values: Any) -> Any:
        """A table with these rows in it."""
        if BACKEND == "jax":
            return table.at[self.indices].set(values)
        return tf.tensor_scatter_nd_update(table, self.indices[:, None], values)

    def assigned(self, table: Any, values: Any) -> Any:
        """Values of these rows, in the form in which a table is assigned some."""
        if BACKEND == "jax":
            return BCOO((ops.cast(values, table.dtype), self.indices[:, None]), shape=tuple(table.shape))
        return tf.IndexedSlices(values, self.indices)


def rows_of(gradient: Any, compute: str) -> Rows | None:
    """The rows of a gradient, in the type that is computed in; None if it isn't one of rows."""
    if BACKEND == "tensorflow" and isinstance(gradient, tf.IndexedSlices):
        indices, gradients = gradient.indices, gradient.values
    elif BACKEND == "jax" and isinstance(gradient, BCOO) and gradient.n_batch == 0 and gradient.n_sparse == 1:
        indices, gradients = gradient.indices[:, 0], gradient.data
    else:
        return None
    # The shapes are those of the gradient, which compilers ask for.
    indices = ops.convert_to_tensor(indices)
    order = ops.argsort(indices)
    indices = ops.take(indices, order)
    gradients = ops.take(ops.cast(gradients, compute), order, axis=0)
    nth = ops.cumsum(ops.cast(indices != ops.roll(indices, 1), "int32"))
    sums = ops.segment_sum(gradients, nth, ops.shape(indices)[0] + 1)
    return Rows(indices, ops.take(sums, nth, axis=0))


def with_rows(variable: Any, value: Any) -> Any:
    """What a variable is after some of its rows are assigned, where the backend needs to be told."""
    if BACKEND == "jax" and isinstance(value, BCOO):
        return variable.value.at[value.indices[:, 0]].set(value.data)
    return value
