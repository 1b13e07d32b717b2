"""8-bit states: one byte per element, and one per block of 256 elements for the scale of its numbers.

A code is an exponent and three bits of mantissa, read as those of a float32: F(c) has the exponent 128 + c // 8 and the
mantissa c % 8. A block's scale S is a power of two, chosen at every step so that its largest number just fits.

    signed    value = ±S·(F(c) − 2)  for first moments: a sign and 7 bits; zero is exact, near it the spacing is S/4
    unsigned  value = S·F(c)         for second moments: 8 bits, and never zero, so that no step divides by zero

Numbers are rounded stochastically: random bits are added below the code, and the rest is cut. One rounding changes a
signed number by less than an eighth of it plus S/4, where S/4 is about 2⁻¹⁸ of the block's largest. It changes an
unsigned one by less than an eighth; numbers below about 2⁻³¹ of the largest are raised to that. On average a number
doesn't change, so slow averages neither stall nor drift; an average accumulates a standard deviation of about a fifth.

NaN and numbers of 2¹²⁷ or more have no code. If one new state of an element is such a number, because its gradient was
or because its square overflowed, all its states become zero, and it doesn't count for the block's scales. An outlier
does count: a first moment that is 2¹⁸ times smaller is lost in the noise, though right on average, and the floor under
second moments keeps steps small where that happens. Numbers below 2⁻¹¹⁹ aren't told apart.

Bytes are stored in groups of 64: byte 4·l + j is element 16·j + l. So 16 words hold four vectors, and neither reading
nor writing them moves bytes between lanes, on any processor. The scales follow after all codes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adamite.codegen.text import Value
from adamite.storage.format import FLOAT32, Array, Format
from adamite.storage.random import BLOCK, LANES

GROUP = 64  # elements whose bytes lie together
RANDOM_BITS = 20  # of a float32's mantissa, below the code's three bits
_SMALLEST = 8  # the exponent of a scale that a byte of 0 means: nothing decoded is near the subnormal numbers
LIMIT = 2.0**127  # what is as large has no code
LIMIT_BITS = 0x7F000000
_WINDOW = 0x40000000  # codes are read as floats from 2 on
_ORDER = np.arange(GROUP) % LANES * 4 + np.arange(GROUP) // LANES  # where an element's byte lies
_SIGN, _MAGNITUDE = 0x80000000, 0x7FFFFFFF  # bits of a float32


class Scale(NamedTuple):
    """What a block's numbers are encoded by: 2·S as a float and as its bits in each lane, the exponent in codes."""

    two: Value
    low: Value
    base: Value


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
        """The numbers in an array of this format."""
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

    def decoded(self, words: Value, vector: int) -> Value:
        """One vector of a group's words, without its scale."""
        if not self.signed:
            shift = 20 - 8 * vector
            moved = words << shift if shift > 0 else words >> -shift
            return (moved & 0xFF << 20 | _WINDOW).bitcast("float")
        top = words << 24 - 8 * vector if vector < 3 else words
        moved = top.apply("ashr", 4)  # the sign stays on top
        value = moved & (_SIGN | 0x7F << 20) | _WINDOW
        two = moved & _SIGN | _WINDOW
        return value.bitcast("float") - two.bitcast("float")

    def scale_text(self, place: Value) -> Value:
        """A block's S."""
        byte = place.out.value(f"load i8, ptr {place}", "i8").cast("zext", "i32")
        return (byte + (_SMALLEST - 1) << 23).bitcast("float")

    def measured(self, value: Value) -> Value:
        """A number's bits, as they are compared to find the largest."""
        bits = value.bitcast("i32")
        return bits & _MAGNITUDE if self.signed else bits

    def larger(self, a: Value, b: Value) -> Value:
        return a.call("umax" if self.signed else "smax", b)

    def scaled(self, largest: Value, place: Value) -> Scale:
        """Choose and store the scale of a block whose largest number has these bits."""
        exponent = (largest + self._room >> 23) - ((1 << self._exponents) - 1)
        exponent = exponent.call("smax", _SMALLEST).call("smin", self._most)
        byte = (exponent - _SMALLEST).cast("trunc", "i8")
        place.out.line(f"store i8 {byte}, ptr {place}")
        bits = exponent << 23
        base = (exponent << 3).cast("trunc", "i8")
        return Scale(bits.bitcast("float").splat(LANES), bits.splat(LANES), base.splat(GROUP))

    def encoded(self, values: list[Value], random: list[Value], scale: Scale) -> Value:
        """Four vectors as a group's bytes; of the random words only the lower 20 bits are set."""
        codes, signs = [], None
        for vector, (value, r) in enumerate(zip(values, random, strict=True)):
            bits = value.bitcast("i32")
            if self.signed:
                moved = ((bits & _MAGNITUDE).bitcast("float") + scale.two).bitcast("i32")
                shift = 24 - 8 * vector
                sign = (bits >> shift if shift else bits) & 0x80 << 8 * vector
                signs = sign if signs is None else signs | sign
            else:
                moved = bits.call("smax", scale.low)
            codes.append(moved + r << 4)
        packed = codes[3] >> 24
        for code in reversed(codes[:3]):  # each pushes its upper byte in from below
            packed = packed.call("fshl", code, 8)
        group = packed.bitcast("i8", GROUP) - scale.base
        # The code's eighth bit is what the sign takes.
        return group if signs is None else group | signs.bitcast("i8", GROUP)


def codable(values: Array) -> Array:
    """Whether numbers have a code."""
    below: Array = np.abs(values) < LIMIT
    return below


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
