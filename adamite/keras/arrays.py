"""An update as operations of the backend that runs: traced by TensorFlow and JAX, or done by torch.

What depends on numbers alone is evaluated in float64 and rounded once, also where the step number and the learning
rate are traced.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
from keras import ops

from adamite.graph import Graph
from adamite.readers.arrays import Operations, Reading

BACKEND = keras.backend.backend()
NARROW = ("float16", "bfloat16")  # what is stored in these is computed in float32

# ---- numbers --------------------------------------------------------------------------------------

if BACKEND == "jax":
    import jax
    import jax.numpy as jnp

    def _in_float64() -> AbstractContextManager[Any]:
        scope: AbstractContextManager[Any] = jax.enable_x64(True)
        return scope

    def _number(value: Any) -> Any:
        return jnp.asarray(getattr(value, "value", value), jnp.float64)

    def _rounded(value: Any, dtype: str) -> Any:
        return jnp.asarray(value, dtype)

    def scalar_type() -> str:
        """The type of a Scalar state: float64 where there is such."""
        return str(jax.dtypes.canonicalize_dtype("float64"))

elif BACKEND == "tensorflow":
    import tensorflow as tf

    _in_float64 = nullcontext

    def _number(value: Any) -> Any:
        return tf.cast(getattr(value, "value", value), tf.float64)

    def _rounded(value: Any, dtype: str) -> Any:
        return tf.cast(value, dtype)

    def scalar_type() -> str:
        """The type of a Scalar state."""
        return "float64"

else:
    _in_float64 = nullcontext

    def _number(value: Any) -> Any:
        return float(getattr(value, "value", value))

    def _rounded(value: Any, dtype: str) -> Any:
        return value  # torch rounds it to its tensors' type

    def scalar_type() -> str:
        """The type of a Scalar state."""
        return "float64"


def number(value: Any) -> Any:
    """A number in float64, be it a variable's value or traced."""
    return _number(value)


def coefficients(
    graph: Graph, done: Any, numbers: Mapping[str, Any], scalars: Sequence[Any], types: Sequence[str]
) -> tuple[dict[str, list[Any]], list[Any]]:
    """The coefficients after `done` steps, rounded to each of the types, and the new Scalar states."""
    count = graph.coefficient_count
    names = graph.numbers[: len(graph.numbers) - len(graph.scalars)]
    with _in_float64():
        given = [_number(done) + 1.0, *(numbers[n] for n in names), *map(_number, scalars)]
        given = [_number(value) for value in given]
        if BACKEND == "torch":
            values = graph.evaluate(*given)
        else:
            values = graph.program.run(_ON_NUMBERS, given)
        rounded = {dtype: [_rounded(value, dtype) for value in values[:count]] for dtype in types}
        return rounded, [_rounded(value, scalar_type()) for value in values[count:]]


# ---- arrays ---------------------------------------------------------------------------------------


def compute_type(dtype: Any) -> str:
    """The type in which variables of a type are updated, and their states kept."""
    name: str = keras.backend.standardize_dtype(dtype)
    return "float32" if name in NARROW else name


def dense(gradient: Any) -> Any:
    """A gradient as an array: embeddings have sparse ones, whose update is the same as of dense ones."""
    if hasattr(gradient, "todense"):
        return gradient.todense()
    return ops.convert_to_tensor(gradient)


def step(reading: Reading, inputs: Mapping[str, Any], compute: str) -> dict[str, Any]:
    """What the graph stores for one variable, by name."""
    cast = {name: ops.cast(value, compute) for name, value in inputs.items()}
    new = reading.run(cast, _ON_ARRAYS)
    return {name: ops.full_like(cast[name], v) if isinstance(v, float) else v for name, v in new.items()}


_COMMON: Operations = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "and": ops.logical_and,
    "or": ops.logical_or,
    "not": ops.logical_not,
    "abs": operator.abs,
    "sqrt": ops.sqrt,
    "where": ops.where,
}
_ON_ARRAYS: Operations = {**_COMMON, "maximum": ops.maximum, "minimum": ops.minimum}
_ON_NUMBERS: Operations = {**_COMMON, "pow": operator.pow}
