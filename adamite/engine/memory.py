"""NumPy arrays as memory: their addresses, whether they overlap, and contiguous pieces of arrays of any layout."""

from __future__ import annotations

import ctypes
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_from_buffer: Callable[[Any], Any] = ctypes.c_char.from_buffer
_addressof = ctypes.addressof


def address(array: Array) -> int:
    """Where the array's first element lies."""
    try:
        return _addressof(_from_buffer(array))
    except (TypeError, ValueError, BufferError):  # read-only, empty, or not C-contiguous
        return int(array.ctypes.data)


def dense(array: Array) -> bool:
    """Whether the elements fill one aligned stretch of memory, in whatever order of axes."""
    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    return array.flags.aligned and array.transpose(order).flags.c_contiguous


def overlaps_itself(array: Array) -> bool:
    """Whether two elements may share memory, as in a broadcast array."""
    extent = array.itemsize
    for size, stride in sorted(
        ((n, abs(s)) for n, s in zip(array.shape, array.strides, strict=True) if n > 1), key=lambda a: a[1]
    ):
        if stride < extent:
            return array.size > 0
        extent += (size - 1) * stride
    return False


def bounds(array: Array) -> tuple[int, int]:
    """The first address, and the one past the last."""
    if not array.size:
        return 0, 0
    if array.flags.forc:
        low = address(array)
        return low, low + array.nbytes
    low, high = np.lib.array_utils.byte_bounds(array)
    return int(low), int(high)


class Ranges:
    """Ranges of memory and their owners, to find who shares memory with whom."""

    def __init__(self, owners: Sequence[tuple[str, Array]]) -> None:
        ranges = sorted(((*bounds(a), name, a) for name, a in owners if a.size), key=lambda each: each[:2])
        self.starts = [low for low, *_ in ranges]
        self.ends = list(accumulate((high for _, high, *_ in ranges), max))  # of this range and all before
        self.owners = [(name, a) for *_, name, a in ranges]

    def free(self, low: int, high: int) -> bool:
        """Whether no owner's range overlaps this one."""
        index = bisect_left(self.starts, high)
        return not index or self.ends[index - 1] <= low

    def clash(self, array: Array, among: int | None = None) -> str | None:
        """An owner that the array shares memory with, if there is one; of the first `among` ranges if given."""
        low, high = bounds(array)
        index = bisect_left(self.starts, high) if among is None else among
        while index and self.ends[index - 1] > low and low < high:
            index -= 1
            name, owner = self.owners[index]
            if _shared(array, owner):
                return name
        return None

    def conflict(self) -> tuple[str, str] | None:
        """Two owners of the same memory, if there are any."""
        for index, (name, array) in enumerate(self.owners):
            other = self.clash(array, among=index)
            if other is not None:
                return other, name
        return None


def _shared(a: Array, b: Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def pieces(reading: Sequence[Array], writing: Sequence[Array], size: int) -> Iterator[tuple[int, list[int]]]:
    """Contiguous pieces of arrays of one shape and any layouts: the length and the addresses.

    What isn't contiguous goes through buffers of `size` elements; what is written goes back.
    """
    operands = [a.reshape(1) if a.ndim == 0 else a for a in (*reading, *writing)]
    if not operands[0].size:
        return
    roles = ["readonly"] * len(reading) + ["readwrite"] * len(writing)
    flags: Any = [[role, "contig", "aligned"] for role in roles]
    iterator = np.nditer(
        operands,
        flags=["external_loop", "buffered", "delay_bufalloc"],
        op_flags=flags,
        order="K",
        buffersize=size,
    )
    with iterator:
        iterator.reset()
        for parts in iterator:
            together: Any = parts if len(operands) > 1 else (parts,)
            yield together[0].size, [int(p.ctypes.data) for p in together]
