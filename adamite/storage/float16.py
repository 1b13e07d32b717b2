"""float16: stored in two bytes, computed in float32."""

from __future__ import annotations

import math

import numpy as np

from adamite.codegen.text import Lanes
from adamite.storage.format import FLOAT32, Format


class Float16(Format):
    def widened(self, on: Lanes, stored: str) -> str:
        bits = on.cast("zext", stored, "i16", "i32")
        magnitude = on.apply("and", "i32", bits, 0x7FFF)
        shifted = on.apply("shl", "i32", magnitude, 13)
        normal = on.apply("add", "i32", shifted, (127 - 15) << 23)
        # Subnormal numbers are counted, since they stall a multiplication, and are what gradients often are.
        counted = on.apply("fmul", "float", on.cast("sitofp", magnitude, "i32", "float"), FLOAT32.literal(2.0**-24))
        subnormal = on.apply("icmp ult", "i32", magnitude, self.bits(self.tiny))
        value = on.select(subnormal, "i32", on.cast("bitcast", counted, "float", "i32"), normal)
        special = on.apply("icmp uge", "i32", magnitude, self.bits(math.inf))  # infinity, NaN
        value = on.select(special, "i32", on.apply("or", "i32", shifted, FLOAT32.bits(math.inf)), value)
        sign = on.apply("shl", "i32", on.apply("and", "i32", bits, 0x8000), 16)
        return on.cast("bitcast", on.apply("or", "i32", value, sign), "i32", "float")

    def narrowed(self, on: Lanes, value: str) -> str:
        bits = on.cast("bitcast", value, "float", "i32")
        magnitude = on.apply("and", "i32", bits, 0x7FFFFFFF)
        # Below 2**-14 the spacing is that of float32 numbers near a half: adding one rounds.
        near_half = on.apply("fadd", "float", on.cast("bitcast", magnitude, "i32", "float"), FLOAT32.literal(0.5))
        small = on.apply("sub", "i32", on.cast("bitcast", near_half, "float", "i32"), FLOAT32.bits(0.5))
        odd = on.apply("and", "i32", on.apply("lshr", "i32", magnitude, 13), 1)
        shifted = on.apply("add", "i32", on.apply("add", "i32", magnitude, ((15 - 127) << 23) + 0xFFF), odd)
        normal = on.apply("lshr", "i32", shifted, 13)
        rounded = on.select(on.apply("icmp ult", "i32", magnitude, FLOAT32.bits(2.0**-14)), "i32", small, normal)
        nan = on.apply("icmp ugt", "i32", magnitude, FLOAT32.bits(math.inf))
        beyond = on.select(nan, "i32", on.number("i32", 0x7E00), on.number("i32", self.bits(math.inf)))
        rounded = on.select(on.apply("icmp uge", "i32", magnitude, FLOAT32.bits(2.0**16)), "i32", beyond, rounded)
        sign = on.apply("and", "i32", on.apply("lshr", "i32", bits, 16), 0x8000)
        return on.cast("trunc", on.apply("or", "i32", rounded, sign), "i32", "i16")


FLOAT16 = Float16("float16", np.float16, "i16", FLOAT32)
