"""One update of many arrays as one operation of JAX.

On one CPU it is the machine code, in place; XLA calls it. Under `vmap`, for derivatives, for sharded arrays, on other
platforms, and where XLA's interface isn't one that is known, it is the same graph as array operations.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from adamite import engine
from adamite.readers import arrays, xla
from adamite.storage import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format
from adamite.update import Update

FORMATS: dict[Any, Format] = {
    jnp.dtype(jnp.float16): FLOAT16,
    jnp.dtype(jnp.bfloat16): BFLOAT16,
    jnp.dtype(jnp.float32): FLOAT32,
    jnp.dtype(jnp.float64): FLOAT64,
}
COMPUTE = {FLOAT32: jnp.dtype(jnp.float32), FLOAT64: jnp.dtype(jnp.float64)}

Columns = Mapping[str, Sequence[jax.Array]]


def call(update: Update, format: Format, coefficients: Any, columns: Columns) -> dict[str, list[jax.Array]]:
    """Update rows of one format.

    Args:
        coefficients: of the update's graph, a vector in the type that the format computes in.
        columns: the graph's inputs by name, an array a row: parameters and gradients in the format, states in the
            type that it computes in. Those that the graph doesn't read may be left out.

    Returns:
        What the graph stores, by name. Arrays that are donated are written in place.
    """
    graph = engine.graph(update)
    names = xla.read(graph)
    rows = len(columns[graph.outputs[0][0]])
    flat = [array for name in names for array in columns[name]]
    new = _update.bind(coefficients, *flat, update=update, format=format)
    return {name: list(new[k * rows : (k + 1) * rows]) for k, (name, _) in enumerate(graph.outputs)}


_update: Any = Primitive("adamite_update")
_update.multiple_results = True


def _columns(update: Update, flat: Sequence[Any]) -> tuple[list[str], int]:
    names = xla.read(engine.graph(update))
    return names, len(flat) // len(names)


def _shapes(coefficients: Any, *flat: Any, update: Update, format: Format) -> list[Any]:
    names, rows = _columns(update, flat)
    places = [names.index(name) * rows for name, _ in engine.graph(update).outputs]
    return [flat[place + row].update(weak_type=False) for place in places for row in range(rows)]


# ---- array operations


def _arrays(coefficients: Any, *flat: Any, update: Update, format: Format) -> list[Any]:
    graph, compute = engine.graph(update), COMPUTE[format.compute]
    names, rows = _columns(update, flat)
    reading = arrays.Reading(graph, [coefficients[k] for k in range(graph.coefficient_count)])
    new: dict[str, list[Any]] = {name: [] for name, _ in graph.outputs}
    for row in range(rows):
        inputs = {name: flat[k * rows + row] for k, name in enumerate(names)}
        found = reading.run({name: array.astype(compute) for name, array in inputs.items()}, OPERATIONS)
        for name, value in found.items():
            old = inputs[name]
            new[name].append(jnp.broadcast_to(jnp.asarray(value, compute), old.shape).astype(old.dtype))
    return [array for column in new.values() for array in column]


def _batched(args: Sequence[Any], axes: Sequence[Any], **how: Any) -> tuple[list[Any], list[int]]:
    new = jax.vmap(functools.partial(_arrays, **how), in_axes=tuple(axes))(*args)
    return new, [0] * len(new)


def _derivative(primals: Sequence[Any], tangents: Sequence[Any], **how: Any) -> Any:
    known = tuple(map(_instantiate, tangents))
    return jax.jvp(functools.partial(_arrays, **how), tuple(primals), known)


_instantiate: Any = ad.instantiate_zeros


OPERATIONS: arrays.Operations = {
    **arrays.OPERATORS,
    "sqrt": jnp.sqrt,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "and": jnp.logical_and,
    "or": jnp.logical_or,
    "not": jnp.logical_not,
    "where": jnp.where,
}


# ---- machine code


@functools.cache
def _target(update: Update, format: Format, threads: int) -> str | None:
    """The name under which XLA knows the handler; None where it can't have one."""
    interface = xla.version(jax.ffi.include_dir())
    if interface is None or engine.default_backend() != "llvm":
        return None
    text = xla.text(engine.graph(update), format, engine.machine(), interface, *engine.shares(), threads)
    # Programs that JAX keeps on disk name it: the same name must be the same code, in any process.
    name = f"adamite_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    if name not in _registered:
        try:
            code = xla.compile(text)
        except (ImportError, OSError, RuntimeError, AttributeError, TypeError):
            return None  # no compiler here
        _ffi.register_ffi_target(name, _ffi.pycapsule(code.place), platform="cpu")
        _registered[name] = code
    return name


_ffi: Any = jax.ffi
_registered: dict[str, Any] = {}  # machine code that XLA may call, for as long as the process lives


def _on_cpu(ctx: Any, *operands: Any, update: Update, format: Format) -> Any:
    target = _target(update, format, engine.threads()) if _alone(ctx.module_context) else None
    if target is None:
        return _elsewhere(ctx, *operands, update=update, format=format)
    names, rows = _columns(update, operands[1:])
    outputs = [name for name, _ in engine.graph(update).outputs]
    aliases = {
        1 + names.index(name) * rows + row: k * rows + row for k, name in enumerate(outputs) for row in range(rows)
    }
    return jax.ffi.ffi_lowering(target, operand_output_aliases=aliases)(ctx, *operands)


def _alone(module: Any) -> bool:
    """Whether the program is for one device, and for this process."""
    devices = getattr(module.axis_context, "num_devices", None)
    return devices == 1 and not getattr(module.lowering_parameters, "for_export", False)


_update.def_abstract_eval(_shapes)
_update.def_impl(jax.jit(_update.bind, static_argnames=("update", "format")))
_elsewhere = mlir.lower_fun(_arrays, multiple_results=True)
mlir.register_lowering(_update, _elsewhere)
mlir.register_lowering(_update, _on_cpu, platform="cpu")
batching.primitive_batchers[_update] = _batched
ad.primitive_jvps[_update] = _derivative
