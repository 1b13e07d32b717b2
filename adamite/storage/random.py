"""Random bits that depend on where and when alone: the same for any number of threads, and drawn anew each step.

A block's lanes have a word each (a hash of block, lane and the tensor's seed), every vector of a block and every
output has one (a hash of its number and the step's seed), and an element's bits are the exclusive or of the two.
"""

from __future__ import annotations

import numpy as np

from adamite.codegen.text import Lanes
from adamite.storage.format import Array

BLOCK = 256  # elements that share a word a lane, and the scales of 8-bit states
LANES = 16
VECTORS = BLOCK // LANES

_GOLDEN, _FIRST, _SECOND = 0x9E3779B1, 0x7FEB352D, 0x846CA68B
_MASK = 0xFFFFFFFF


def mixed(word: int) -> int:
    """A hash of one word."""
    word = word * _GOLDEN & _MASK
    word = (word ^ word >> 16) * _FIRST & _MASK
    word = (word ^ word >> 15) * _SECOND & _MASK
    return word ^ word >> 16


def hashed(words: Array, seed: int) -> Array:
    """A hash of each word."""
    h = words.astype(np.uint32) * np.uint32(_GOLDEN) ^ np.uint32(seed)
    h = (h ^ h >> np.uint32(16)) * np.uint32(_FIRST)
    h = (h ^ h >> np.uint32(15)) * np.uint32(_SECOND)
    mixed: Array = h ^ h >> np.uint32(16)
    return mixed


def hashed_text(on: Lanes, words: str, seed: str) -> str:
    """The same in LLVM's language."""
    h = on.apply("xor", "i32", on.apply("mul", "i32", words, _GOLDEN), seed)
    for shift, factor in ((16, _FIRST), (15, _SECOND)):
        h = on.apply("mul", "i32", on.apply("xor", "i32", h, on.apply("lshr", "i32", h, shift)), factor)
    return on.apply("xor", "i32", h, on.apply("lshr", "i32", h, 16))


def places(pairs: bool) -> tuple[Array, Array]:
    """In which vector of its block, and in which lane, each element is; in pairs even and odd ones are apart."""
    e = np.arange(BLOCK)
    if not pairs:
        return e // LANES, e % LANES
    return e // (2 * LANES) * 2 + e % 2, e % (2 * LANES) // 2
