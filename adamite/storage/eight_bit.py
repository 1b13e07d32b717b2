"""8-bit states: a byte an element, and a byte a block of 256 elements that says how large its numbers are.

A code's bits are an exponent and three bits of mantissa, and are read as a float32's: F(c) has the exponent
128 + c // 8 and the mantissa c % 8. A block's scale S is a power of two, chosen at every step so that its largest
number just fits.

    signed    value = ±S·(F(c) − 2)  for first moments: a sign and 7 bits; zero is exact, near it the spacing is S/4
    unsigned  value = S·F(c)         for second moments: 8 bits, and never zero, so that no step divides by zero

Numbers are rounded stochastically, by adding random bits under the code and cutting. One rounding changes a signed
number by less than an eighth of it plus S/4, where S/4 is about 2⁻¹⁸ of the block's largest; an unsigned one by less
than an eighth, and what is below about 2⁻³¹ of the largest is raised to it. On average a number doesn't change, so that
slow averages neither stall nor drift; an average accumulates a standard deviation of about a fifth.

NaN and what is 2¹²⁷ or more have no code. An element of whose new states one is such, since its gradient was, or its
square has overflowed, leaves zero behind in all of them, and doesn't count for the scales that the others have. An
outlier does: what is 2¹⁸ times smaller than it is lost in the noise of a first moment, though right on average, and the
floor under second moments keeps steps small where that happens. Numbers below 2⁻¹¹⁹ aren't told apart.

Bytes rest in groups of 64: byte 4·l + j is element 16·j + l, so that 16 words hold four vectors, and neither reading
nor writing them needs to move bytes between lanes, on any processor. The scales follow after all codes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adamite.codegen.text import Lanes, Text
from adamite.storage.format import FLOAT32, Array, Format
from adamite.storage.random import BLOCK, LANES

GROUP = 64  # elements whose bytes lie together
RANDOM_BITS = 20  # of a float32's mantissa, below the code's three bits
_SMALLEST = 8  # the exponent of a scale that a byte of 0 means: nothing decoded is near the subnormal numbers
LIMIT = 2.0**127  # what is as large has no code
LIMIT_BITS = 0x7F000000
_WINDOW = 0x40000000  # codes are read as floats from 2 on
_ORDER = np.arange(GROUP) % LANES * 4 + np.arange(GROUP) // LANES  # where an element's byte lies
_BYTES = "<64 x i8>"


class Scale(NamedTuple):
    """What a block's numbers are encoded by: 2·S as a float and as its bits in each lane, the exponent in codes."""

    two: str
    low: str
    base: str


class EightBit(Format):
    """A format of blocks; `exponents` is how many bits of a code are its exponent."""

    def __init__(self, name: str, signed: bool) -> None:
        super().__init__(name, np.uint8, "i8", FLOAT32)
        self.signed = signed
        self._exponents = 4 if signed else 5
        self._most = 255 - (1 << self._exponents)
        # Adding this to the largest number's bits rounds its exponent up, where it wouldn't fit with random bits.
        self._room = (1 << RANDOM_BITS) - 1 + (0x200 if signed else 0)

    def length(self, elements: int) -> int:
        """How many bytes so many elements take."""
        return -(-elements // BLOCK) * (BLOCK + 1)

    # ---- in NumPy: by blocks, a row each

    def decode(self, stored: Array, elements: int) -> Array:
        """The numbers that lie in an array of this format."""
        codes, scales = self.parts(stored)
        raw = self.raw(codes) * self.factor(scales)
        return raw.reshape(-1)[:elements]

    def filled(self, elements: int, value: float) -> Array:
        """An array of this format with one number in it; zeros take no memory before they are written."""
        stored = np.zeros(self.length(elements), np.uint8)
        if value:
            codes, scales = self.parts(stored)
            codes[...], scales[...] = self.parts(self.encode(np.full(BLOCK, value, np.float32)))
        return stored

    def encode(self, values: Array, random: Array | None = None) -> Array:
        """An array of this format that holds these numbers, rounded to the nearest, or by random words."""
        flat = np.asarray(values, np.float32).reshape(-1)
        blocks = np.zeros(-(-flat.size // BLOCK) * BLOCK, np.float32)
        blocks[: flat.size] = flat
        stored = np.zeros(self.length(flat.size), np.uint8)
        codes, scales = self.parts(stored)
        rows = np.where(codable(blocks), blocks, np.float32(0)).reshape(len(codes), BLOCK)
        if random is None:
            random = np.uint32(1 << RANDOM_BITS - 1)
        codes[...], scales[...] = self.codes(rows, random)
        return stored

    def parts(self, stored: Array) -> tuple[Array, Array]:
        """The codes, a row a block, and the scales."""
        blocks = stored.size // (BLOCK + 1)
        return stored[: blocks * BLOCK].reshape(blocks, BLOCK), stored[blocks * BLOCK :]

    def raw(self, codes: Array) -> Array:
        """Blocks of codes as numbers, without their scales."""
        c = codes.reshape(len(codes), -1, GROUP)[:, :, _ORDER].reshape(codes.shape).astype(np.uint32)
        if not self.signed:
            unsigned: Array = (c << np.uint32(20) | np.uint32(_WINDOW)).view(np.float32)
            return unsigned
        sign = (c & np.uint32(0x80)) << np.uint32(24) | np.uint32(_WINDOW)
        signed: Array = (sign | (c & np.uint32(0x7F)) << np.uint32(20)).view(np.float32) - sign.view(np.float32)
        return signed

    def factor(self, scales: Array) -> Array:
        """The blocks' S."""
        return _power(scales.astype(np.uint32) + np.uint32(_SMALLEST - 1))[:, None]

    def largest(self, values: Array) -> Array:
        """The bits of each block's largest number."""
        bits = np.ascontiguousarray(values).view(np.int32)
        most: Array = (bits & 0x7FFFFFFF if self.signed else np.maximum(bits, 0)).max(axis=1, initial=0)
        return most.astype(np.int64)

    def codes(self, values: Array, random: Array | np.uint32) -> tuple[Array, Array]:
        """Codes and scales of blocks of finite numbers."""
        bits = np.ascontiguousarray(values).view(np.uint32)
        magnitude = bits & np.uint32(0x7FFFFFFF)
        exponent = (self.largest(values) + self._room >> 23) - ((1 << self._exponents) - 1)
        exponent = np.clip(exponent, _SMALLEST, self._most).astype(np.uint32)
        random = random & np.uint32((1 << RANDOM_BITS) - 1)
        if self.signed:
            shifted = (magnitude.view(np.float32) + _power(exponent)[:, None]).view(np.uint32)
        else:
            shifted = np.maximum(bits.view(np.int32), (exponent << np.uint32(23)).view(np.int32)[:, None]).view(
                np.uint32
            )
        c = (shifted + random >> np.uint32(20)) - (exponent << np.uint32(3))[:, None]
        if self.signed:
            c |= bits >> np.uint32(24) & np.uint32(0x80)
        out = np.empty(c.shape, np.uint8)
        out.reshape(len(c), -1, GROUP)[:, :, _ORDER] = c.astype(np.uint8).reshape(len(c), -1, GROUP)
        return out, (exponent - np.uint32(_SMALLEST)).astype(np.uint8)

    # ---- in LLVM's language: four vectors of a group at once

    def decoded(self, on: Lanes, words: str, vector: int) -> str:
        """One vector of a group's words, without its scale."""
        if not self.signed:
            shift = 20 - 8 * vector
            moved = on.apply("shl" if shift > 0 else "lshr", "i32", words, abs(shift))
            kept = on.apply("or", "i32", on.apply("and", "i32", moved, 0xFF << 20), _WINDOW)
            return on.cast("bitcast", kept, "i32", "float")
        top = on.apply("shl", "i32", words, 24 - 8 * vector) if vector < 3 else words
        moved = on.apply("ashr", "i32", top, 4)  # the sign stays on top
        value = on.apply("or", "i32", on.apply("and", "i32", moved, 0x80000000 | 0x7F << 20), _WINDOW)
        two = on.apply("or", "i32", on.apply("and", "i32", moved, 0x80000000), _WINDOW)
        floats = (on.cast("bitcast", v, "i32", "float") for v in (value, two))
        return on.apply("fsub", "float", *floats)

    def scale_text(self, out: Text, place: str) -> str:
        """A block's S."""
        byte = out.value(f"zext i8 {out.value(f'load i8, ptr {place}')} to i32")
        bits = out.value(f"shl i32 {out.value(f'add i32 {byte}, {_SMALLEST - 1}')}, 23")
        return out.value(f"bitcast i32 {bits} to float")

    def measured(self, on: Lanes, value: str) -> str:
        """A number's bits, as they are compared to find the largest."""
        bits = on.cast("bitcast", value, "float", "i32")
        return on.apply("and", "i32", bits, 0x7FFFFFFF) if self.signed else bits

    def larger(self, on: Lanes, a: str, b: str) -> str:
        return on.call("umax" if self.signed else "smax", "i32", a, b)

    def scaled(self, out: Text, largest: str, place: str) -> Scale:
        """Choose and store the scale of a block whose largest number has these bits."""
        raised = out.value(f"lshr i32 {out.value(f'add i32 {largest}, {self._room}')}, 23")
        exponent = out.value(f"sub i32 {raised}, {(1 << self._exponents) - 1}")
        one = Lanes(out, 0)
        exponent = one.call("smin", "i32", one.call("smax", "i32", exponent, _SMALLEST), self._most)
        byte = out.value(f"trunc i32 {out.value(f'sub i32 {exponent}, {_SMALLEST}')} to i8")
        out.line(f"store i8 {byte}, ptr {place}")
        bits = out.value(f"shl i32 {exponent}, 23")
        base = out.value(f"trunc i32 {out.value(f'shl i32 {exponent}, 3')} to i8")
        on, bytes_ = Lanes(out, LANES), Lanes(out, GROUP)
        two = on.splat("float", out.value(f"bitcast i32 {bits} to float"))
        return Scale(two, on.splat("i32", bits), bytes_.splat("i8", base))

    def encoded(self, on: Lanes, values: list[str], random: list[str], scale: Scale) -> str:
        """Four vectors as a group's bytes; of the random words the lower 20 bits are set alone."""
        codes, signs = [], None
        for vector, (value, r) in enumerate(zip(values, random, strict=True)):
            bits = on.cast("bitcast", value, "float", "i32")
            if self.signed:
                magnitude = on.cast("bitcast", on.apply("and", "i32", bits, 0x7FFFFFFF), "i32", "float")
                moved = on.cast("bitcast", on.apply("fadd", "float", magnitude, scale.two), "float", "i32")
                shift = 8 * vector - 24
                placed = on.apply("lshr", "i32", bits, -shift) if shift else bits
                sign = on.apply("and", "i32", placed, 0x80 << 8 * vector)
                signs = on.apply("or", "i32", signs, sign) if signs else sign
            else:
                moved = on.call("smax", "i32", bits, scale.low)
            codes.append(on.apply("shl", "i32", on.apply("add", "i32", moved, r), 4))
        packed = on.apply("lshr", "i32", codes[3], 24)
        for code in reversed(codes[:3]):  # each pushes its upper byte in from below
            packed = on.call("fshl", "i32", packed, code, 8)
        group = Lanes(on.out, GROUP)
        out = group.apply("sub", "i8", on.out.value(f"bitcast <16 x i32> {packed} to {_BYTES}"), scale.base)
        if signs is None:
            return out
        # The code's eighth bit is what the sign takes.
        return group.apply("or", "i8", out, on.out.value(f"bitcast <16 x i32> {signs} to {_BYTES}"))


def codable(values: Array) -> Array:
    """Whether numbers have a code."""
    found: Array = np.abs(values) < LIMIT
    return found


def _power(exponent: Array) -> Array:
    """Two to the power of a biased exponent."""
    power: Array = (exponent.astype(np.uint32) << np.uint32(23)).view(np.float32)
    return power


def byte_order(pairs: bool) -> list[int]:
    """Which byte of a group each lane's byte is, where even and odd elements are in vectors of their own."""
    if not pairs:
        return list(range(GROUP))
    wanted = [(lane, vector) for lane in range(LANES) for vector in range(4)]
    elements = [32 * (vector // 2) + 2 * lane + vector % 2 for lane, vector in wanted]
    return [int(_ORDER[e]) for e in elements]


EIGHT_BIT_SIGNED = EightBit("eight_bit_signed", signed=True)
EIGHT_BIT_UNSIGNED = EightBit("eight_bit_unsigned", signed=False)
