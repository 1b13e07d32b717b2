"""What rows of memory hold, in a word each: whether somebody has written to them since.

A fingerprint is the sum of a row's words times odd numbers that depend on their places, modulo 2**64: where one word is
another, so is the sum. Columns: length (1), how many words, where they lie, where the fingerprint goes.
"""

from __future__ import annotations

import numpy as np

from adamite.emit import Lanes, Text
from adamite.readers.job import Kernel
from adamite.readers.llvm import frame
from adamite.readers.numpy import claims, view
from adamite.storage import Format
from adamite.storage.random import hashed, hashed_text

LENGTH, WORDS, PLACE, RESULT = range(4)
COLUMNS = 4


def word_size(format: Format) -> int:
    """Bytes of a word: an element has one, or two."""
    return min(format.itemsize, 4)


def text(format: Format, machine: str) -> str:
    """The kernel as LLVM's text."""
    out = Text()
    kind = f"i{8 * word_size(format)}"
    words, place, result = out.cell(WORDS), out.cell(PLACE, "ptr"), out.cell(RESULT, "ptr")
    out.line(f"%some = icmp sgt i64 {words}, 0")
    out.line("br i1 %some, label %word, label %sum")

    out.label("word")
    out.line("%i = phi i64 [ 0, %body ], [ %i.next, %word ]")
    out.line("%partial = phi i64 [ 0, %body ], [ %partial.next, %word ]")
    factor = out.value(f"or i32 {hashed_text(Lanes(out, 0), out.value('trunc i64 %i to i32'), '0')}, 1")
    word = out.value(f"zext {kind} {out.load(place, '%i', kind)} to i64")
    out.line(
        f"%partial.next = add i64 %partial, {out.value(f'mul i64 {word}, ' + out.value(f'zext i32 {factor} to i64'))}"
    )
    out.line("%i.next = add nsw i64 %i, 1")
    out.line(f"%more.words = icmp slt i64 %i.next, {words}")
    out.line("br i1 %more.words, label %word, label %sum")

    out.label("sum")
    out.line("%total.of.row = phi i64 [ 0, %body ], [ %partial.next, %word ]")
    out.line(f"store i64 %total.of.row, ptr {result}")
    out.line("br label %next")
    return frame(out, machine)


def interpreted(format: Format) -> Kernel:
    """The kernel in NumPy."""
    kind = np.dtype(f"u{word_size(format)}")

    def kernel(address: int) -> None:
        for (_, words, place, result), _begin, _end in claims(address, COLUMNS):
            factors = (hashed(np.arange(words), 0) | np.uint32(1)).astype(np.uint64)
            products = view(place, words, kind).astype(np.uint64) * factors
            view(result, 1, np.dtype(np.uint64))[0] = products.sum(dtype=np.uint64)

    return kernel
