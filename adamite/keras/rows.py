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
    """Row numbers and their gradients. A row that is listed twice has its whole gradient each time."""

    indices: Any
    gradients: Any

    def of(self, table: Any, compute: str) -> Any:
        """These rows of a table."""
        if isinstance(table, keras.Variable):
            table = table.value
        # tf.Variable reads the rows alone; a table that was read whole would be copied before rows are assigned to it.
        rows = tf.gather(table, self.indices) if BACKEND == "tensorflow" else ops.take(table, self.indices, axis=0)
        return ops.cast(rows, compute)

    def put(self, table: Any, values: Any) -> Any:
        """The table with these rows replaced."""
        if BACKEND == "jax":
            return table.at[self.indices].set(values)
        return tf.tensor_scatter_nd_update(table, self.indices[:, None], values)

    def assigned(self, table: Any, values: Any) -> Any:
        """Values for these rows, in the form that the backend assigns to a table."""
        if BACKEND == "jax":
            return BCOO((ops.cast(values, table.dtype), self.indices[:, None]), shape=tuple(table.shape))
        return tf.IndexedSlices(values, self.indices)


def rows_of(gradient: Any, compute: str) -> Rows | None:
    """The rows of a sparse gradient, in the dtype of the computation; None for a dense one."""
    if BACKEND == "tensorflow" and isinstance(gradient, tf.IndexedSlices):
        indices, gradients = gradient.indices, gradient.values
    elif BACKEND == "jax" and isinstance(gradient, BCOO) and gradient.n_batch == 0 and gradient.n_sparse == 1:
        indices, gradients = gradient.indices[:, 0], gradient.data
    else:
        return None
    # The shapes are the gradient's, since compilers need static ones.
    indices = ops.convert_to_tensor(indices)
    order = ops.argsort(indices)
    indices = ops.take(indices, order)
    gradients = ops.take(ops.cast(gradients, compute), order, axis=0)
    nth = ops.cumsum(ops.cast(indices != ops.roll(indices, 1), "int32"))
    sums = ops.segment_sum(gradients, nth, ops.shape(indices)[0] + 1)
    return Rows(indices, ops.take(sums, nth, axis=0))


def with_rows(variable: Any, value: Any) -> Any:
    """The value of a variable after an assignment to rows, for backends that need the whole table."""
    if BACKEND == "jax" and isinstance(value, BCOO):
        return variable.value.at[value.indices[:, 0]].set(value.data)
    return value
