"""The leaves of gradients, and what belongs to each in other trees. What doesn't fit is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from adamite.jax.call import COMPUTE, FORMATS, kind
from adamite.storage import Format

Tree = Any


class Gradients:
    """The leaves of gradients. None counts as a leaf: Equinox has it where nothing is trained."""

    def __init__(self, owner: str, grads: Tree) -> None:
        self.owner, self.grads = owner, grads
        self.leaves: list[Any]
        self._tree: Any
        self.leaves, self._tree = jax.tree.flatten(grads, is_leaf=_missing)

    def beside(self, what: str, tree: Tree) -> list[Any]:
        """The value of another tree at each leaf.

        Raises:
            ValueError: where it is of another structure, or a leaf of another shape.
        """
        try:
            column: list[Any] = self._tree.flatten_up_to(tree)
        except ValueError:
            raise ValueError(self._apart(what, tree)) from None
        for index, (g, other) in enumerate(zip(self.leaves, column, strict=True)):
            if g is not None and jnp.shape(g) != jnp.shape(other):
                raise ValueError(
                    f"{self.owner}: the gradient{self.name(index)} has shape {jnp.shape(g)}, and its {what} "
                    f"{jnp.shape(other)}"
                )
        return column

    def name(self, index: int) -> str:
        """The path of a leaf, such as ` of ['w']`; empty for a tree that is one array."""
        return _named(_paths(self.grads)[index])

    def like(self, leaves: Sequence[Any]) -> Tree:
        """A tree of these leaves, in the gradients' structure."""
        return self._tree.unflatten(leaves)

    def spread(self, prefix: Tree) -> list[bool]:
        """A tree of bools, or a prefix of one, as a bool for each leaf."""
        spread = jax.tree.map(lambda keep, below: jax.tree.map(lambda _: keep, below), prefix, self.grads)
        return [bool(keep) for keep in self._tree.flatten_up_to(spread)]

    def _apart(self, what: str, tree: Tree) -> str:
        mine, theirs = _paths(self.grads), _paths(tree)
        parts = [
            text
            for text, paths in (
                ("the gradients lack", [path for path in theirs if path not in mine]),
                (f"the {what} lacks", [path for path in mine if path not in theirs]),
            )
            for text in [f"{text} {', '.join(paths[:5])}{' and more' if len(paths) > 5 else ''}"]
            if paths
        ]
        return f"{self.owner}: the gradients' tree isn't that of the {what}: {'; '.join(parts) or 'other containers'}"


def _missing(leaf: Any) -> bool:
    return leaf is None


def _paths(tree: Tree) -> list[str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_missing)
    return [jax.tree_util.keystr(path) or "the array" for path, _ in leaves]


def _named(path: str) -> str:
    return "" if path == "the array" else f" of {path}"


def format_of(owner: str, leaf: Any, name: Callable[[], str] = str) -> Format:
    """The format of an array.

    Raises:
        TypeError: where it is none, or of a type that isn't updated.
    """
    supported = ", ".join(str(dtype) for dtype in FORMATS)
    try:
        dtype = kind(jnp.result_type(leaf))
    except (TypeError, ValueError):
        raise TypeError(
            f"{owner}: parameters and gradients must be arrays of {supported}, got {type(leaf).__name__}{name()}; "
            "mask or filter other leaves"
        ) from None
    if dtype not in FORMATS:
        raise TypeError(
            f"{owner}: parameters and gradients must be of {supported}, got {dtype}{name()}; mask other leaves"
        )
    return FORMATS[dtype]


def is_function(mask: Tree) -> bool:
    """Whether a mask is a function. Its leaves decide, since a tree such as a model may be callable."""
    leaves = jax.tree.leaves(mask)
    return bool(leaves) and all(map(callable, leaves))


def as_complex_as(x: Any, like: Any) -> Any:
    """An array as a complex one, if another is complex. Its parts keep their dtype where JAX has that complex dtype."""
    x = jnp.asarray(x)
    return x.astype(jnp.result_type(x.dtype, jnp.complex64)) if jnp.iscomplexobj(like) else x


def cast(x: Any, dtype: Any) -> Any:
    """An array in another dtype. Complex numbers become real ones by their real parts."""
    if getattr(x, "dtype", dtype).kind == "c" != dtype.kind:
        x = jnp.real(x)
    return jnp.asarray(x, dtype)


def as_real(value: Any) -> Any:
    """A real number. optax.inject_hyperparams adds an imaginary part of 0 if there are complex parameters."""
    if not isinstance(value, jax.Array) or not jnp.iscomplexobj(value):
        return value
    traced = isinstance(value, jax.core.Tracer)
    return value.real if traced or not value.imag.any() else value


def wide(x: Any) -> Any:
    """A parameter in the dtype of its states, float32 at least; also a jax.ShapeDtypeStruct."""
    dtype = COMPUTE[FORMATS[kind(jnp.result_type(x))].compute]
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, dtype, sharding=x.sharding)  # type: ignore[no-untyped-call]
    return jnp.asarray(x, dtype)
