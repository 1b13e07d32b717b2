"""How a tensor is stored: the formats that a kernel loads, computes in and writes; a file each."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamite.storage.bfloat16 import BFLOAT16
from adamite.storage.eight_bit import EIGHT_BIT_SIGNED, EIGHT_BIT_UNSIGNED, EightBit
from adamite.storage.float16 import FLOAT16
from adamite.storage.format import FLOAT32, FLOAT64, Array, Format
from adamite.storage.layout import COMPENSATION, TOGETHER, Layout, Rounding

__all__ = [
    "BFLOAT16",
    "COMPENSATION",
    "EIGHT_BIT_SIGNED",
    "EIGHT_BIT_UNSIGNED",
    "FLOAT16",
    "FLOAT32",
    "FLOAT64",
    "FORMATS",
    "TOGETHER",
    "Array",
    "EightBit",
    "Format",
    "Layout",
    "Rounding",
]

FORMATS: dict[np.dtype[Any], Format] = {f.dtype: f for f in (FLOAT32, FLOAT64)}  # of NumPy's arrays
