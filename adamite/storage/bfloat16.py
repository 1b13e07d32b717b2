"""bfloat16: the upper half of a float32. NumPy and LLVM see its bits.

Rounded to the nearest a number changes by at most 1/256 of itself. Rounded stochastically, by adding random bits under
the half that stays and cutting, it changes by less than 1/128, and not at all on average: so a small change isn't
lost, it happens seldom. Zero and infinity stay what they are, and so does a NaN that arithmetic has made.
"""

from __future__ import annotations

import numpy as np

from adamite.codegen.text import Lanes
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
        return on.select(nan, "i32", on.number("i32", _NAN << 16), self._nearest(on, bits))

    @staticmethod
    def _nearest(on: Lanes, bits: str) -> str:
        odd = on.apply("and", "i32", on.apply("lshr", "i32", bits, 16), 1)
        return on.apply("add", "i32", on.apply("add", "i32", bits, 0x7FFF), odd)

    # A number in two: the nearest bfloat16, and beside it the compensation, what was lost by that. It belongs to the
    # number if their sum rounds to it again; else it is left over from a number that somebody has assigned over.

    def whole(self, number: Array, compensation: Array) -> Array:
        """Both together in float32; the number alone where the compensation isn't its own."""
        with np.errstate(all="ignore"):
            both = number + compensation
        together: Array = np.where(self.narrow(both) == self.narrow(number), both, number)
        return together

    def compensation(self, values: Array, stored: Array) -> Array:
        """What numbers lost as they were stored."""
        number = self.widen(stored)
        with np.errstate(all="ignore"):
            lost = self.narrow(values - number)
            belongs = self.narrow(number + self.widen(lost)) == stored
        nearer: Array = np.where(belongs, lost, lost - np.uint16(1))  # one that was rounded up to half a place
        return nearer

    def whole_text(self, on: Lanes, number: str, compensation: str) -> str:
        both = on.apply("fadd", "float", number, compensation)
        return on.select(self._belongs(on, number, both), "float", both, number)

    def compensation_text(self, on: Lanes, value: str, upper: str) -> str:
        """From a number and the result of `upper`; it is in the upper half too."""
        number = on.cast("bitcast", on.apply("and", "i32", upper, 0xFFFF0000), "i32", "float")
        lost = on.apply("and", "i32", self.upper(on, on.apply("fsub", "float", value, number)), 0xFFFF0000)
        both = on.apply("fadd", "float", number, on.cast("bitcast", lost, "i32", "float"))
        return on.select(self._belongs(on, number, both), "i32", lost, on.apply("sub", "i32", lost, 1 << 16))

    def _belongs(self, on: Lanes, number: str, both: str) -> str:
        held = on.apply("and", "i32", self._nearest(on, on.cast("bitcast", both, "float", "i32")), 0xFFFF0000)
        return on.apply("icmp eq", "i32", held, on.cast("bitcast", number, "float", "i32"))

    # Two vectors at once: the even elements of 32 are shifted out of their words, the odd ones masked.

    def widened_pair(self, on: Lanes, words: str) -> tuple[str, str]:
        even, odd = on.apply("shl", "i32", words, 16), on.apply("and", "i32", words, 0xFFFF0000)
        return on.cast("bitcast", even, "i32", "float"), on.cast("bitcast", odd, "i32", "float")

    def narrowed_pair(self, on: Lanes, even: str, odd: str) -> str:
        """Words from two results of `upper`."""
        return on.apply("or", "i32", on.apply("lshr", "i32", even, 16), on.apply("and", "i32", odd, 0xFFFF0000))


BFLOAT16 = Bfloat16("bfloat16", np.uint16, "i16", FLOAT32)
