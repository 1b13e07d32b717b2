"""bfloat16: the upper half of a float32. NumPy and LLVM see its bits.

Rounded to the nearest a number changes by at most 1/256 of itself. Rounded stochastically, by adding random bits under
the half that stays and cutting, it changes by less than 1/128, and not at all on average: so a small change isn't
lost, it happens seldom. Zero, infinity and NaN stay what they are.
"""

from __future__ import annotations

import numpy as np

from adamite.emit import Lanes
from adamite.storage.format import FLOAT32, Array, Format

_NAN = 0x7FC0


class Bfloat16(Format):
    # Of its states; a power of two whose exponent's bits can be tested at once.
    smallest_state = 2.0**-119

    def widen(self, stored: Array) -> Array:
        bits: Array = stored.astype(np.uint32) << np.uint32(16)  # a copy counts too
        return bits.view(np.float32)

    def narrow(self, values: Array, random: Array | None = None) -> Array:
        bits = np.asarray(values).view(np.uint32)
        with np.errstate(all="ignore"):
            nan = np.isnan(values)
            if random is not None:
                upper = bits + np.where(nan, np.uint32(0), random & np.uint32(0xFFFF))
            else:
                upper = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
                upper = np.where(nan, np.uint32(_NAN << 16), upper)
            stored: Array = (upper >> np.uint32(16)).astype(np.uint16)
        return stored

    def widened(self, on: Lanes, stored: str) -> str:
        bits = on.cast("zext", stored, "i16", "i32")
        return on.cast("bitcast", on.apply("shl", "i32", bits, 16), "i32", "float")

    def narrowed(self, on: Lanes, value: str, random: str | None = None) -> str:
        return on.cast("trunc", on.apply("lshr", "i32", self.upper(on, value, random), 16), "i32", "i16")

    def upper(self, on: Lanes, value: str, random: str | None = None) -> str:
        """The rounded number in the upper half of an integer, something in the lower; `random` has 16 bits."""
        bits = on.cast("bitcast", value, "float", "i32")
        nan = on.apply("fcmp uno", "float", value, value)
        if random is not None:
            return on.apply("add", "i32", bits, on.select(nan, "i32", on.number("i32", 0), random))
        odd = on.apply("and", "i32", on.apply("lshr", "i32", bits, 16), 1)
        rounded = on.apply("add", "i32", on.apply("add", "i32", bits, 0x7FFF), odd)
        return on.select(nan, "i32", on.number("i32", _NAN << 16), rounded)

    # Two vectors at once: the even elements of 32 are shifted out of their words, the odd ones masked.

    def widened_pair(self, on: Lanes, words: str) -> tuple[str, str]:
        even, odd = on.apply("shl", "i32", words, 16), on.apply("and", "i32", words, 0xFFFF0000)
        return on.cast("bitcast", even, "i32", "float"), on.cast("bitcast", odd, "i32", "float")

    def narrowed_pair(self, on: Lanes, even: str, odd: str) -> str:
        """Words from two results of `upper`."""
        return on.apply("or", "i32", on.apply("lshr", "i32", even, 16), on.apply("and", "i32", odd, 0xFFFF0000))


BFLOAT16 = Bfloat16("bfloat16", np.uint16, "i16", FLOAT32)
