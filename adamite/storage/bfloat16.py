"""bfloat16: the upper half of a float32. NumPy and LLVM see its bits."""

from __future__ import annotations

import numpy as np

from adamite.emit import Lanes
from adamite.storage.format import FLOAT32, Array, Format

NAN = 0x7FC0


class Bfloat16(Format):
    def widen(self, stored: Array) -> Array:
        bits: Array = stored.astype(np.uint32) << np.uint32(16)  # a copy counts too
        return bits.view(np.float32)

    def narrow(self, values: Array) -> Array:
        bits = np.asarray(values).view(np.uint32)
        with np.errstate(all="ignore"):
            rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            stored: Array = np.where(np.isnan(values), np.uint32(NAN), rounded).astype(np.uint16)
        return stored

    def widened(self, on: Lanes, stored: str) -> str:
        bits = on.cast("zext", stored, "i16", "i32")
        return on.cast("bitcast", on.apply("shl", "i32", bits, 16), "i32", "float")

    def narrowed(self, on: Lanes, value: str) -> str:
        bits = on.cast("bitcast", value, "float", "i32")
        odd = on.apply("and", "i32", on.apply("lshr", "i32", bits, 16), 1)
        rounded = on.apply("lshr", "i32", on.apply("add", "i32", on.apply("add", "i32", bits, 0x7FFF), odd), 16)
        nan = on.apply("fcmp uno", "float", value, value)
        return on.cast("trunc", on.select(nan, "i32", on.number("i32", NAN), rounded), "i32", "i16")


BFLOAT16 = Bfloat16("bfloat16", np.uint16, "i16", FLOAT32)
