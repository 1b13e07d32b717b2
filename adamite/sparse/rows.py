"""Gradients of some rows of a table, as embeddings have them: which rows, and a gradient for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

if TYPE_CHECKING:
    from adamite.storage.choice import Storage

Array = np.ndarray[Any, np.dtype[Any]]
Indices = np.ndarray[Any, np.dtype[np.int64]]
Sparse = Literal["lazy", "exact"]


class Rows:
    """The gradient of an array that is zero but for some of its rows.

    Args:
        indices: the rows' numbers, a 1-d array of integers; a row may be there more than once, and is summed then.
        values: their gradients, one behind the other: of shape `(len(indices), *x.shape[1:])`, of the parameter's type.

    Raises:
        TypeError: for indices that aren't integers.
        ValueError: for indices that are negative or not 1-d, and for values of another length.

    Whether an optimizer takes it is its argument `sparse`. Neither array is copied or written.

    >>> import adamite
    >>> table = np.ones((1000, 2), np.float32)
    >>> opt = adamite.Adam({"words": table}, lr=0.1, sparse="lazy")
    >>> opt.step({"words": adamite.Rows([7, 3, 7], np.ones((3, 2), np.float32))})
    >>> (np.flatnonzero((table != 1).any(axis=1))).tolist()
    [3, 7]
    """

    __slots__ = ("indices", "values")

    def __init__(self, indices: Any, values: Any) -> None:
        self.indices = checked(indices)
        self.values = np.asarray(values)
        if self.values.ndim == 0 or len(self.values) != len(self.indices):
            raise ValueError(
                f"Rows takes a gradient for each index: {len(self.indices)} indices, and values of shape "
                f"{self.values.shape}"
            )

    def __repr__(self) -> str:
        return f"<Rows: {len(self.indices)} of {self.values.dtype}, each of shape {self.values.shape[1:]}>"


def checked(indices: Any, rows: int | None = None, whose: str = "") -> Indices:
    """Indices as 64-bit integers, if they are rows' numbers; of a table of so many rows, if that is known."""
    numbers = np.asarray(indices)
    if numbers.size == 0 and numbers.ndim == 1 and not isinstance(indices, np.ndarray):
        numbers = numbers.astype(np.int64)  # an empty list
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"indices of rows{whose} must be integers, got {numbers.dtype}")
    if numbers.ndim != 1:
        raise ValueError(f"indices of rows{whose} must be a 1-d array, got one of shape {numbers.shape}")
    if numbers.size:
        low, high = int(numbers.min()), int(numbers.max())
        bad = low if low < 0 else high if rows is not None and high >= rows else None
        if bad is not None:
            there = f"0 to {rows - 1}" if rows else "at least 0" if rows is None else "none, since the table is empty"
            raise ValueError(f"indices of rows{whose} must be {there}, got {bad}; nothing was changed")
    return numbers.astype(np.int64, copy=False)


def distinct(indices: Indices) -> bool:
    """Whether no row is there twice."""
    ordered = np.sort(indices)
    return bool((ordered[1:] != ordered[:-1]).all())


def merged(indices: Indices, values: Array) -> tuple[Indices, Array]:
    """Rows, each once, with the sum of what it has."""
    if distinct(indices):
        return indices, np.ascontiguousarray(values)
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    with np.errstate(all="ignore"):
        return ordered[starts], np.add.reduceat(values[order], starts, axis=0)


def check_sparse(owner: str, value: Any, storage: Storage) -> Sparse | None:
    """What is done with gradients of rows, or the error that lists what there is."""
    if value is not None and (not isinstance(value, str) or value not in get_args(Sparse)):
        raise ValueError(
            f'{owner}: sparse must be "lazy" (rows without a gradient stay as they are), "exact" (they end up '
            f"where dense gradients would have taken them) or None; got {value!r}"
        )
    if value is not None and (storage.state, storage.rounding) != ("float32", "nearest"):
        raise ValueError(
            f"{owner}: sparse={value!r} can't be combined with state={storage.state!r}, rounding={storage.rounding!r}: "
            "rows have no blocks of their own; give the tables an optimizer of their own, with float32 states"
        )
    return cast("Sparse | None", value)
