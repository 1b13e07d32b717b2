"""How a tensor rests in memory: the formats that a kernel loads, computes in and stores."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Format:
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

    def literal(self, value: float) -> str:
        """The value, rounded once to this format, as LLVM writes it."""
        with np.errstate(over="ignore"):
            rounded = float(self.dtype.type(value))
        return "0x" + struct.pack(">d", rounded).hex().upper()


FLOAT32 = Format("float32", np.dtype(np.float32), "float")
FLOAT64 = Format("float64", np.dtype(np.float64), "double")
FORMATS: dict[np.dtype[Any], Format] = {f.dtype: f for f in (FLOAT32, FLOAT64)}
