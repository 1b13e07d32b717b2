"""Fingerprints of rows of memory, a word each: they show whether somebody has written to a row.

A fingerprint is the sum of a row's words times odd numbers that depend on their places, modulo 2**64. If one word
changes, so does the sum. Columns: jobs.py.
"""

from __future__ import annotations

from adamite.backends.jobs import PLACE, RESULT, WORDS, word_size
from adamite.codegen.frame import frame
from adamite.codegen.text import Text
from adamite.storage import Format
from adamite.storage.random import hashed_text


def fingerprints_text(format: Format, machine: str) -> str:
    """The kernel as LLVM's text."""
    out = Text()
    kind = f"i{8 * word_size(format)}"
    words, place, result = out.cell(WORDS), out.cell(PLACE, "ptr"), out.cell(RESULT, "ptr")
    out.line(f"%some = icmp sgt i64 {words}, 0")
    out.line("br i1 %some, label %word, label %sum")

    out.label("word")
    out.line("%i = phi i64 [ 0, %body ], [ %i.next, %word ]")
    out.line("%partial = phi i64 [ 0, %body ], [ %partial.next, %word ]")
    factor = hashed_text(out.named("%i").cast("trunc", "i32"), 0) | 1
    word = out.load(place, "%i", kind).cast("zext", "i64")
    out.line(f"%partial.next = add i64 %partial, {word * factor.cast('zext', 'i64')}")
    out.line("%i.next = add nsw i64 %i, 1")
    out.line(f"%more.words = icmp slt i64 %i.next, {words}")
    out.line("br i1 %more.words, label %word, label %sum")

    out.label("sum")
    out.line("%total.of.row = phi i64 [ 0, %body ], [ %partial.next, %word ]")
    out.line(f"store i64 %total.of.row, ptr {result}")
    out.line("br label %next")
    return frame(out, machine)
