"""bfloat16: the upper half of a float32. NumPy and LLVM see its bits.

Rounding to the nearest changes a number by at most 1/256 of itself. Stochastic rounding adds random bits below the half
that is stored and cuts. It changes a number by less than 1/128, and not at all on average: a small change isn't lost,
it happens seldom. Zero and infinity stay what they are, and so does a NaN that arithmetic has made.
"""

from __future__ import annotations

import numpy as np

from adamite.codegen.text import Value
from adamite.storage.format import FLOAT32, Array, Format

_NAN = 0x7FC0
_UPPER = 0xFFFF0000  # the half of a float32 that is stored


class Bfloat16(Format):
    # Of bfloat16 states: a power of two, so that testing the exponent's bits is enough.
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

    def widened(self, stored: Value) -> Value:
        return (stored.cast("zext", "i32") << 16).bitcast("float")

    def narrowed(self, value: Value, random: Value | None = None) -> Value:
        return (self.upper(value, random) >> 16).cast("trunc", "i16")

    def upper(self, value: Value, random: Value | None = None) -> Value:
        """The rounded number in the upper half of an integer, something in the lower; `random` has 16 bits."""
        bits = value.bitcast("i32")
        nan = value.compare("fcmp uno", value)
        if random is not None:
            return bits + nan.select(0, random)
        return nan.select(_NAN << 16, self._nearest(bits))

    @staticmethod
    def _nearest(bits: Value) -> Value:
        odd = bits >> 16 & 1
        return bits + 0x7FFF + odd

    # A number as two bfloat16: the nearest one, and the compensation, which is what that rounding lost. It belongs to a
    # number if their sum rounds to that number. If it doesn't, somebody has assigned another number since.

    def whole(self, number: Array, compensation: Array) -> Array:
        """Their sum in float32; the number alone where the compensation doesn't belong to it."""
        with np.errstate(all="ignore"):
            both = number + compensation
        together: Array = np.where(self.narrow(both) == self.narrow(number), both, number)
        return together

    def compensation(self, values: Array, stored: Array) -> Array:
        """What numbers lost when they were stored."""
        number = self.widen(stored)
        with np.errstate(all="ignore"):
            lost = self.narrow(values - number)
            belongs = self.narrow(number + self.widen(lost)) == stored
        nearer: Array = np.where(belongs, lost, lost - np.uint16(1))  # one that was rounded up to half a place
        return nearer

    def whole_text(self, number: Value, compensation: Value) -> Value:
        both = number + compensation
        return self._belongs(number, both).select(both, number)

    def compensation_text(self, value: Value, upper: Value) -> Value:
        """From a number and the result of `upper`; it is in the upper half too."""
        number = (upper & _UPPER).bitcast("float")
        lost = self.upper(value - number) & _UPPER
        both = number + lost.bitcast("float")
        return self._belongs(number, both).select(lost, lost - (1 << 16))

    def _belongs(self, number: Value, both: Value) -> Value:
        rounded = self._nearest(both.bitcast("i32")) & _UPPER
        return rounded.compare("icmp eq", number.bitcast("i32"))

    # Two vectors at once: the even elements of 32 are shifted out of their words, the odd ones masked.

    def widened_pair(self, words: Value) -> tuple[Value, Value]:
        even, odd = words << 16, words & _UPPER
        return even.bitcast("float"), odd.bitcast("float")

    def narrowed_pair(self, even: Value, odd: Value) -> Value:
        """Words from two results of `upper`."""
        return even >> 16 | odd & _UPPER


BFLOAT16 = Bfloat16("bfloat16", np.uint16, "i16", FLOAT32)
