"""Parameters as any nesting of dicts, lists and tuples of arrays, and a name for each leaf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Tree:
    """The shape of a nesting. Leaves are named by their path: `encoder.0.weight`."""

    def __init__(self, nesting: Any) -> None:
        self._places: list[tuple[Any, Any, Any]] = []  # what could be replaced: container, key, what is there
        self.names: list[str] = []
        self.leaves: list[Any] = []
        self._shape = self._read(nesting, ())
        if len(set(self.names)) < len(self.names):
            twice = next(n for n in self.names if self.names.count(n) > 1)
            raise ValueError(f"two parameters are named {twice!r} by their path; rename a key that holds a dot")

    def _read(self, node: Any, path: tuple[str, ...]) -> Any:
        if isinstance(node, Mapping):
            self._places += ((node, key, value) for key, value in node.items())
            return {key: self._read(value, (*path, str(key))) for key, value in node.items()}
        if isinstance(node, (list, tuple)):
            self._places += ((node, key, value) for key, value in enumerate(node) if isinstance(node, list))
            return [self._read(value, (*path, str(index))) for index, value in enumerate(node)]
        self.names.append(".".join(path) or "x")
        self.leaves.append(node)
        return len(self.leaves) - 1

    def flatten(self, nesting: Any) -> list[Any]:
        """The leaves of another nesting of this shape, in this one's order; whoever asks checks the leaves.

        Raises:
            ValueError: where the nesting differs, with the path and what was found there.
        """
        if self._shape == 0:
            return [nesting]
        leaves: list[Any] = []
        _collect(self._shape, nesting, (), leaves)
        return leaves

    def check(self) -> None:
        """Raise if the nesting holds another object somewhere: whoever wrote it there would wait for it to move."""
        for container, key, node in self._places:
            try:
                same = container[key] is node
            except (KeyError, IndexError):
                same = False
            if not same:
                raise ValueError(
                    f"the parameters hold something else at {key!r} than when the optimizer was made, and a step would "
                    "not reach it: write into the array, x[...] = new, or make a new optimizer"
                )


def _collect(shape: Any, node: Any, path: tuple[str, ...], leaves: list[Any]) -> None:
    if type(shape) is dict:
        if type(node) is not dict and not isinstance(node, Mapping):
            raise _mismatch(path, f"a dict with the keys {_some(shape)}", node)
        if node.keys() != shape.keys():
            missing, extra = [k for k in shape if k not in node], [k for k in node if k not in shape]
            text = "; ".join(
                f"{label} {_some(keys)}" for label, keys in (("missing", missing), ("unknown", extra)) if keys
            )
            raise ValueError(f"the gradients don't match the parameters at {_at(path)}: {text}")
        children: Any = shape.items()
    else:
        if not isinstance(node, (list, tuple)) or len(node) != len(shape):
            raise _mismatch(path, f"a list or tuple of {len(shape)}", node)
        children = enumerate(shape)
    for key, child in children:
        if type(child) is int:
            leaves.append(node[key])
        else:
            _collect(child, node[key], (*path, str(key)), leaves)


def _at(path: tuple[str, ...]) -> str:
    return repr(".".join(path)) if path else "the top"


def _some(keys: Any) -> str:
    shown = [repr(k) for k in keys]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")


def _mismatch(path: tuple[str, ...], expected: str, node: Any) -> ValueError:
    if isinstance(node, (list, tuple)):
        got = f"a {type(node).__name__} of {len(node)}"
    elif isinstance(node, Mapping):
        got = f"a dict with the keys {_some(node)}"
    else:
        got = type(node).__name__
    return ValueError(
        f"the gradients don't match the parameters at {_at(path)}: expected {expected}, got {got}. "
        "Give gradients in the same nesting as the parameters"
    )
