"""Counts and lists, as sentences have them."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str) -> str:
    """So many of them.

    >>> counted(1, "parameter"), counted(2000, "parameter")
    ('1 parameter', '2,000 parameters')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def listed(names: Sequence[str], word: str = "and") -> str:
    """All of them, the last after the word.

    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else "".join(names)
