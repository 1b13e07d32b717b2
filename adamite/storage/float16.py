"""float16: stored in two bytes, computed in float32."""

from __future__ import annotations

import math

import numpy as np

from adamite.codegen.text import Value
from adamite.storage.format import FLOAT32, Format


class Float16(Format):
    def widened(self, stored: Value) -> Value:
        bits = stored.cast("zext", "i32")
        magnitude = bits & 0x7FFF
        shifted = magnitude << 13
        normal = shifted + ((127 - 15) << 23)
        # Subnormal numbers are counted, since they stall a multiplication, and are what gradients often are.
        counted = magnitude.cast("sitofp", "float") * FLOAT32.literal(2.0**-24)
        subnormal = magnitude.compare("icmp ult", self.bits(self.tiny))
        value = subnormal.select(counted.bitcast("i32"), normal)
        special = magnitude.compare("icmp uge", self.bits(math.inf))  # infinity, NaN
        value = special.select(shifted | FLOAT32.bits(math.inf), value)
        sign = (bits & 0x8000) << 16
        return (value | sign).bitcast("float")

    def narrowed(self, value: Value) -> Value:
        bits = value.bitcast("i32")
        magnitude = bits & 0x7FFFFFFF
        # Below 2**-14 the spacing is that of float32 numbers near a half: adding one rounds.
        near_half = magnitude.bitcast("float") + FLOAT32.literal(0.5)
        small = near_half.bitcast("i32") - FLOAT32.bits(0.5)
        odd = magnitude >> 13 & 1
        normal = magnitude + (((15 - 127) << 23) + 0xFFF) + odd >> 13
        rounded = magnitude.compare("icmp ult", FLOAT32.bits(2.0**-14)).select(small, normal)
        nan = magnitude.compare("icmp ugt", FLOAT32.bits(math.inf))
        beyond = nan.select(magnitude.like(0x7E00), self.bits(math.inf))
        rounded = magnitude.compare("icmp uge", FLOAT32.bits(2.0**16)).select(beyond, rounded)
        sign = bits >> 16 & 0x8000
        return (rounded | sign).cast("trunc", "i16")


FLOAT16 = Float16("float16", np.float16, "i16", FLOAT32)
