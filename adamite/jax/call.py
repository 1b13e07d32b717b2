"""One update of many arrays as one JAX operation.

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

from adamite.backends import arrays, llvm
from adamite.backends.llvm import xla
from adamite.engine import kernels, running, threads
from adamite.graph.nodes import Graph
from adamite.storage import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format, Layout

# There is no machine code for complex numbers, so their formats exist only here.
COMPLEX = {jnp.dtype(name): Format(name, name, "") for name in ("complex64", "complex128")}
FORMATS: dict[Any, Format] = {
    jnp.dtype(jnp.float16): FLOAT16,
    jnp.dtype(jnp.bfloat16): BFLOAT16,
    jnp.dtype(jnp.float32): FLOAT32,
    jnp.dtype(jnp.float64): FLOAT64,
    **COMPLEX,
}
COMPUTE = {FLOAT32: jnp.dtype(jnp.float32), FLOAT64: jnp.dtype(jnp.float64)} | {f: f.dtype for f in COMPLEX.values()}

Columns = Mapping[str, Sequence[jax.Array]]


def kind(dtype: Any) -> Any:
    """The dtype that JAX uses for this one: float32 for float64, unless x64 is enabled."""
    return jnp.dtype(jax.dtypes.canonicalize_dtype(dtype))


def call(
    graph: Graph, layout: Layout, coefficients: Any, columns: Columns, fused: bool = False
) -> dict[str, list[jax.Array]]:
    """Update rows of one layout.

    Args:
        coefficients: of the graph, a vector in the type that the layout computes in, or in that of its real parts.
        columns: the graph's inputs by name, an array a row, each in the layout's format. Those that the graph doesn't
            read may be left out.
        fused: as operations that XLA fuses with those that use the results, with the bits of the machine code.

    Returns:
        What the graph stores, by name. Arrays that are donated are written in place.

    Raises:
        TypeError, ValueError: for arrays of other types or shapes, which machine code can't see.
    """
    _check(graph, layout, columns)
    flat = [array for name in graph.read for array in columns[name]]
    new = _update.bind(coefficients, *flat, graph=graph, layout=layout, fused=fused)
    rows = len(new) // len(graph.outputs)
    return {name: new[k * rows : (k + 1) * rows] for k, (name, _) in enumerate(graph.outputs)}


def _check(graph: Graph, layout: Layout, columns: Columns) -> None:
    for name in graph.read:
        wanted = dtype_of(layout.of(name))
        for array, first in zip(columns[name], columns[graph.read[0]], strict=True):
            if array.dtype != wanted:
                raise TypeError(f"{name} must be of {wanted}, got {array.dtype}")
            if array.shape != first.shape:
                raise ValueError(f"{graph.read[0]} has shape {first.shape}, and its {name} {array.shape}")


def dtype_of(format: Format) -> Any:
    """JAX's dtype of a format."""
    return next(dtype for dtype, its_format in FORMATS.items() if its_format == format)


def is_complex(format: Format) -> bool:
    """Whether a format holds complex numbers."""
    return format in COMPLEX.values()


def as_complex(format: Format) -> Format:
    """The complex format whose parts have this format."""
    return FORMATS[jnp.result_type(dtype_of(format), jnp.complex64)]


_update: Any = Primitive("adamite_update")
_update.multiple_results = True


def _columns(graph: Graph, flat: Sequence[Any]) -> dict[str, Sequence[Any]]:
    rows = len(flat) // len(graph.read)
    return {name: flat[k * rows : (k + 1) * rows] for k, name in enumerate(graph.read)}


def _shapes(coefficients: Any, *flat: Any, graph: Graph, layout: Layout, fused: bool) -> list[Any]:
    columns = _columns(graph, flat)
    return [array.update(weak_type=False) for name, _ in graph.outputs for array in columns[name]]


# ---- array operations

OPERATIONS: arrays.Operations = {
    **arrays.OPERATORS,
    "sqrt": jnp.sqrt,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "sign": jnp.sign,
    "and": jnp.logical_and,
    "or": jnp.logical_or,
    "not": jnp.logical_not,
    "where": jnp.where,
    # over complex numbers
    "square": lambda z: jnp.real(z) ** 2 + jnp.imag(z) ** 2,
    "real": jnp.real,
}
EXACT = arrays.exact(OPERATIONS)  # with the bits of the machine code


def _arrays(
    coefficients: Any, *flat: Any, graph: Graph, layout: Layout, fused: bool, operations: arrays.Operations = OPERATIONS
) -> list[Any]:
    compute, columns = COMPUTE[layout.compute], _columns(graph, flat)
    reading = arrays.Evaluation(graph, [coefficients[k] for k in range(graph.coefficient_count)])
    new: dict[str, list[Any]] = {name: [] for name, _ in graph.outputs}
    for row in zip(*columns.values(), strict=True):
        inputs = dict(zip(columns, row, strict=True))
        results = reading.run({name: array.astype(compute) for name, array in inputs.items()}, operations)
        for name, value in results.items():
            old = inputs[name]
            new[name].append(jnp.broadcast_to(jnp.asarray(value, compute), old.shape).astype(old.dtype))
    return [array for column in new.values() for array in column]


def _batched(args: Sequence[Any], axes: Sequence[Any], **how: Any) -> tuple[list[Any], list[int]]:
    new = jax.vmap(functools.partial(_arrays, **how), in_axes=tuple(axes))(*args)
    return new, [0] * len(new)


def _derivative(primals: Sequence[Any], tangents: Sequence[Any], **how: Any) -> Any:
    instantiated = tuple(map(_instantiate, tangents))
    return jax.jvp(functools.partial(_arrays, **how), tuple(primals), instantiated)


_instantiate: Any = ad.instantiate_zeros


# ---- machine code


def _interface() -> tuple[int, int] | None:
    """The version of XLA's foreign function interface, if machine code can be called through it."""
    return xla.version(jax.ffi.include_dir()) if kernels.default_backend() == "llvm" else None


@functools.cache
def _target(graph: Graph, layout: Layout, count: int) -> str | None:
    """The name under which the handler is registered with XLA; None if there can't be one."""
    interface = _interface()
    if interface is None or not layout.native or is_complex(layout.x):
        return None
    text = xla.text(graph, layout, llvm.machine(), interface, threads.crew().worth, running.SHARE, count)
    # Programs that JAX caches on disk refer to this name, so it must mean the same code in every process.
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
_registered: dict[str, Any] = {}  # machine code that XLA may call until the process ends


def _on_cpu(ctx: Any, *operands: Any, graph: Graph, layout: Layout, fused: bool) -> Any:
    alone = _alone(ctx.module_context)
    if fused and alone and _interface() is not None:
        return _exactly(ctx, *operands, graph=graph, layout=layout, fused=fused)
    target = _target(graph, layout, threads.threads()) if alone and not fused else None
    if target is None:
        return _elsewhere(ctx, *operands, graph=graph, layout=layout, fused=fused)
    columns = _columns(graph, range(1, len(operands)))
    stored = (place for name, _ in graph.outputs for place in columns[name])
    aliases = {operand: result for result, operand in enumerate(stored)}
    return jax.ffi.ffi_lowering(target, operand_output_aliases=aliases)(ctx, *operands)


def _alone(module: Any) -> bool:
    """Whether the program runs on one device, in this process."""
    devices = getattr(module.axis_context, "num_devices", None)
    return devices == 1 and not getattr(module.lowering_parameters, "for_export", False)


_compiled = jax.jit(_update.bind, static_argnames=("graph", "layout", "fused"))


def _alone_in_a_program(*args: Any, **how: Any) -> Any:
    with jax.disable_jit(False):  # else it would call itself
        return _compiled(*args, **how)


_update.def_abstract_eval(_shapes)
_update.def_impl(_alone_in_a_program)
_elsewhere = mlir.lower_fun(_arrays, multiple_results=True)
_exactly = mlir.lower_fun(functools.partial(_arrays, operations=EXACT), multiple_results=True)
mlir.register_lowering(_update, _elsewhere)
mlir.register_lowering(_update, _on_cpu, platform="cpu")
batching.primitive_batchers[_update] = _batched
ad.primitive_jvps[_update] = _derivative
