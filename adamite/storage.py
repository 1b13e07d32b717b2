"""How a tensor rests in memory: the formats that a kernel loads, computes in and stores."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Format(NamedTuple):
    """A floating-point format: NumPy's type and LLVM's of what lies in memory, and what it is computed in."""

    name: str
    dtype: np.dtype[Any]
    llvm: str
    computes_in: Format | None = None  # where that is another

    @property
    def compute(self) -> Format:
        return self.computes_in or self

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return float(np.finfo(self.dtype).smallest_normal)

    @property
    def smallest_state(self) -> float:
        """What is smaller counts as zero in a state, so that no decay by 1/16 or more makes a subnormal number."""
        return 16 * self.tiny

    def bits(self, value: float) -> int:
        """The value's bits as an integer."""
        return int(self.narrow(np.array(value, self.compute.dtype)).view(f"u{self.itemsize}")[()])

    def literal(self, value: float) -> str:
        """The value, rounded once to this format, as LLVM writes it."""
        with np.errstate(over="ignore"):
            rounded = float(self.dtype.type(value))
        return "0x" + struct.pack(">d", rounded).hex().upper()

    def widen(self, stored: Array) -> Array:
        """What lies in memory as numbers to compute with."""
        if self == BFLOAT16:  # a copy counts too
            bits: Array = stored.astype(np.uint32) << np.uint32(16)
            return bits.view(np.float32)
        numbers: Array = stored.astype(self.compute.dtype, copy=False)
        return numbers

    def narrow(self, values: Array) -> Array:
        """Computed numbers as they are stored: rounded to the nearest, ties to even."""
        with np.errstate(all="ignore"):
            if self == BFLOAT16:
                bits = np.asarray(values).view(np.uint32)
                rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
                values = np.where(np.isnan(values), np.uint32(0x7FC0), rounded)
            stored: Array = values.astype(self.dtype, copy=False)
        return stored


FLOAT32 = Format("float32", np.dtype(np.float32), "float")
FLOAT64 = Format("float64", np.dtype(np.float64), "double")
# Numbers that are only stored: LLVM and NumPy see their bits.
FLOAT16 = Format("float16", np.dtype(np.float16), "i16", FLOAT32)
BFLOAT16 = Format("bfloat16", np.dtype(np.uint16), "i16", FLOAT32)
FORMATS: dict[np.dtype[Any], Format] = {f.dtype: f for f in (FLOAT32, FLOAT64)}  # of NumPy's arrays


def stored(name: str, format: Format) -> Format:
    """How an input of a graph is stored: parameter and gradient in the parameter's format, states as computed."""
    return format if name in ("x", "g") else format.compute
