"""How a tensor rests in memory: the formats that a kernel loads, computes in and stores."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np


class Format(NamedTuple):
    """A plain floating-point format: NumPy's type and LLVM's."""

    name: str
    dtype: np.dtype[Any]
    llvm: str

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
        return int(np.array(value, self.dtype).view(f"u{self.itemsize}")[()])

    def literal(self, value: float) -> str:
        """The value, rounded once to this format, as LLVM writes it."""
        with np.errstate(over="ignore"):
            rounded = float(self.dtype.type(value))
        return "0x" + struct.pack(">d", rounded).hex().upper()


FLOAT32 = Format("float32", np.dtype(np.float32), "float")
FLOAT64 = Format("float64", np.dtype(np.float64), "double")
FORMATS: dict[np.dtype[Any], Format] = {f.dtype: f for f in (FLOAT32, FLOAT64)}
