"""Random bits that depend only on place and step: the same for any number of threads, and new in each step.

An element's bits are the exclusive or of two words. One belongs to its block and lane: a hash of their numbers and of
the tensor's seed. The other belongs to its output and the vector in the block: a hash of their numbers and of the
step's seed.
"""

from __future__ import annotations

import numpy as np

from adamite.codegen.text import Operand, Value
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


def hashed_text(words: Value, seed: Operand) -> Value:
    """The same in LLVM's language."""
    h = words * _GOLDEN ^ seed
    h = (h ^ h >> 16) * _FIRST
    h = (h ^ h >> 15) * _SECOND
    return h ^ h >> 16


def places(pairs: bool) -> tuple[Array, Array]:
    """In which vector of its block, and in which lane, each element is; in pairs even and odd ones are apart."""
    e = np.arange(BLOCK)
    if not pairs:
        return e // LANES, e % LANES
    return e // (2 * LANES) * 2 + e % 2, e % (2 * LANES) // 2
