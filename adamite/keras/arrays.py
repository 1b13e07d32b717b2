"""An update as operations of the backend that runs: traced by TensorFlow and JAX, or done by torch.

What depends on numbers alone is evaluated in float64 and rounded once, also where the step number and the learning
rate are traced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from typing import Any

import keras
import numpy as np
from keras import ops

from adamite.backends.arrays import OPERATORS, Evaluation, Operations, exact
from adamite.graph.nodes import Graph
from adamite.graph.stages import subtrahend

BACKEND = keras.backend.backend()
NARROW = ("float16", "bfloat16")  # what is stored in these is computed in float32

# ---- numbers --------------------------------------------------------------------------------------

if BACKEND == "jax":
    import jax
    import jax.numpy as jnp

    _TENSOR: Any = jax.Array

    def _traced(value: Any) -> bool:
        return isinstance(value, jax.core.Tracer)

    def in_float64() -> AbstractContextManager[Any]:
        """A context in which JAX computes in float64."""
        scope: AbstractContextManager[Any] = jax.enable_x64(True)
        return scope

    def _cast(value: Any, dtype: str) -> Any:
        return jnp.asarray(value, dtype)

    def scalar_type() -> str:
        """The dtype of a Scalar state: float64 if it is enabled."""
        return str(jax.dtypes.canonicalize_dtype("float64"))

elif BACKEND == "tensorflow":
    import tensorflow as tf

    _TENSOR = tf.Tensor  # no variable
    _value: Any = tf.convert_to_tensor  # also reads values that are mirrored on several devices

    def _traced(value: Any) -> bool:
        return ops.is_tensor(value) and not tf.executing_eagerly()

else:
    import torch

    _TENSOR = torch.Tensor

    def _traced(value: Any) -> bool:
        return False


if BACKEND != "tensorflow":
    _value = attrgetter("value")

if BACKEND != "jax":
    in_float64 = nullcontext

    def _cast(value: Any, dtype: str) -> Any:
        # TensorFlow's cast would round a Python float to float32 first.
        return ops.convert_to_tensor(value, dtype) if isinstance(value, float) else ops.cast(value, dtype)

    def scalar_type() -> str:
        """The dtype of a Scalar state."""
        return "float64"


def number(value: Any) -> Any:
    """The value of a variable or number: a float, unless it is traced."""
    value = _value(value) if isinstance(value, keras.Variable) else value
    return value if _traced(value) else float(value)


def constant(value: Any) -> Any:
    """The number in a zero-dimensional tensor; anything else is returned as it is."""
    return float(value) if isinstance(value, _TENSOR) and value.ndim == 0 and not _traced(value) else value


def coefficients(
    graph: Graph, done: Any, numbers: Mapping[str, Any], scalars: Sequence[Any], types: Sequence[str]
) -> tuple[Mapping[str, Sequence[Any]], Sequence[Any]]:
    """The coefficients after `done` steps, rounded to each of the types, and the new Scalar states."""
    values: Sequence[Any]
    count = graph.coefficient_count
    names = graph.numbers[: len(graph.numbers) - len(graph.scalars)]
    given = [number(value) for value in (done, *(numbers[name] for name in names), *scalars)]
    if not any(map(_traced, given)):
        values = graph.evaluate(given[0] + 1.0, *given[1:])
        return dict.fromkeys(types, values[:count]), values[count:]  # rounded when they meet an array
    with in_float64():
        done, *rest = (_cast(value, "float64") for value in given)
        t = done + 1.0
        values = graph.program.run(exact(_COMMON) if BACKEND == "jax" else _COMMON, [t, *rest])
        rounded = {dtype: [_cast(value, dtype) for value in values[:count]] for dtype in types}
        return rounded, [_cast(value, scalar_type()) for value in values[count:]]


# ---- arrays ---------------------------------------------------------------------------------------


def compute_type(dtype: Any) -> str:
    """The dtype in which variables of a dtype are updated and have their states."""
    name: str = keras.backend.standardize_dtype(dtype)
    return "float32" if name in NARROW else name


def filled(shape: Sequence[int], value: float, dtype: str) -> Any:
    """An array filled with one number, without the rounding to float32 of Keras's initializers."""
    return ops.convert_to_tensor(np.full(shape, value), dtype)


def dense(gradient: Any, variable: Any) -> Any:
    """A gradient as a dense array."""
    if BACKEND == "tensorflow":
        if isinstance(gradient, tf.IndexedSlices):  # whose own shape may be missing, or a tuple
            return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
        return tf.convert_to_tensor(gradient)
    if BACKEND == "torch":
        return gradient.to_dense() if getattr(gradient, "layout", torch.strided) is not torch.strided else gradient
    return gradient.todense() if hasattr(gradient, "todense") else gradient


def plain(gradient: Any, variable: Any) -> Any:
    """A gradient as a dense array in the dtype of the computation."""
    gradient = dense(gradient, variable)
    compute = compute_type(gradient.dtype)
    return gradient if compute == keras.backend.standardize_dtype(gradient.dtype) else ops.cast(gradient, compute)


def shape(gradient: Any) -> tuple[int | None, ...] | None:
    """A gradient's shape; None, or None for an axis, if it isn't known yet."""
    if BACKEND == "tensorflow":
        if isinstance(gradient, tf.IndexedSlices):
            whole = gradient.dense_shape
            rows = None if whole is None else tf.get_static_value(tf.convert_to_tensor(whole)[0])
            return (None if rows is None else int(rows), *gradient.values.shape[1:])
        static = tf.TensorShape(gradient.shape)
        return None if static.rank is None else tuple(static)
    return tuple(gradient.shape)


def fits(gradient: Any, variable: Any) -> bool:
    """Whether a gradient has its variable's shape, as far as its shape is known."""
    gradient_shape, wanted = shape(gradient), tuple(variable.shape)
    return gradient_shape is None or (
        len(gradient_shape) == len(wanted)
        and all(a is None or a == b for a, b in zip(gradient_shape, wanted, strict=True))
    )


def read(graph: Graph, coefficients: Sequence[Any]) -> Evaluation:
    """The graph with a step's coefficients. Instead of the new parameter it computes what is subtracted from it."""
    return Evaluation(subtrahend(graph), coefficients)


def step(reading: Evaluation, inputs: Mapping[str, Any], compute: str) -> dict[str, Any]:
    """The new states of one variable by name, and under "x" what is subtracted from it."""
    cast = {name: ops.cast(value, compute) for name, value in inputs.items()}
    new = reading.run(cast, _ON_ARRAYS)
    return {name: ops.full_like(cast[name], v) if isinstance(v, float) else v for name, v in new.items()}


_COMMON: Operations = {
    **OPERATORS,
    "and": ops.logical_and,
    "or": ops.logical_or,
    "not": ops.logical_not,
    "sqrt": ops.sqrt,
    "where": ops.where,
}

_ON_ARRAYS: Operations = {**_COMMON, "maximum": ops.maximum, "minimum": ops.minimum}
if BACKEND != "torch":  # whose sign makes zero of NaN
    _ON_ARRAYS = {**_ON_ARRAYS, "sign": ops.sign}
