"""What a storage format is; float32 and float64, which are stored in the type that is computed in."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from adamite.codegen.text import Value

Array = np.ndarray[Any, np.dtype[Any]]


_BY_NAME: dict[str, Format] = {}


def named(name: str) -> Format:
    """The format of a name."""
    return _BY_NAME[name]


class Format:
    """How numbers are stored: NumPy's and LLVM's type of what lies in memory, and the format that is computed in.

    A format says this twice, in NumPy and in LLVM's language, and the two have the same bits.
    """

    def __init__(self, name: str, dtype: Any, llvm: str, computes_in: Format | None = None) -> None:
        self.name, self.dtype, self.llvm = name, np.dtype(dtype), llvm
        self.computes_in = computes_in  # if that is another
        _BY_NAME[name] = self

    def __repr__(self) -> str:
        return f"<format {self.name}>"

    def __reduce__(self) -> Any:
        return named, (self.name,)

    def __deepcopy__(self, memo: Any) -> Format:
        return self

    @property
    def compute(self) -> Format:
        return self.computes_in or self

    @property
    def itemsize(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return float(np.finfo(self.dtype).smallest_normal)

    @property
    def smallest_state(self) -> float:
        """Smaller magnitudes count as zero in a state, so that no decay by 1/16 or more makes a subnormal number."""
        return 16 * self.tiny

    def bits(self, value: float) -> int:
        """The value's bits as an integer."""
        return int(self.narrow(np.array(value, self.compute.dtype)).view(f"u{self.itemsize}")[()])

    def literal(self, value: float) -> str:
        """The value, rounded once to this format, as LLVM writes it."""
        with np.errstate(over="ignore"):
            rounded = float(self.dtype.type(value))
        return "0x" + struct.pack(">d", rounded).hex().upper()

    # ---- in NumPy

    def widen(self, stored: Array) -> Array:
        """What lies in memory as numbers to compute with."""
        numbers: Array = stored.astype(self.compute.dtype, copy=False)
        return numbers

    def narrow(self, values: Array) -> Array:
        """Computed numbers as they are stored: rounded to the nearest, ties to even."""
        with np.errstate(all="ignore"):
            stored: Array = values.astype(self.dtype, copy=False)
        return stored

    # ---- in LLVM's language: by integers, since its own conversions call libraries or flush subnormals

    def widened(self, stored: Value) -> Value:
        """What was loaded as numbers to compute with."""
        return stored

    def narrowed(self, value: Value) -> Value:
        """A computed number as it is stored: rounded to the nearest, ties to even."""
        return value


FLOAT32 = Format("float32", np.float32, "float")
FLOAT64 = Format("float64", np.float64, "double")
