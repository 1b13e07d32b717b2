"""adamite's own errors, and what messages are made of: counts, lists, the line of a program."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence


class RuleError(TypeError):
    """A rule that can't be read: the message names the rule, the file and the line."""


class StateDictError(ValueError):
    """A state dict that doesn't fit the optimizer; nothing was loaded."""


class NonFiniteError(ArithmeticError):
    """A gradient with NaN or infinity under ``nonfinite="raise"``; nothing was changed."""


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


def place(error: BaseException, others: Callable[[str], bool]) -> str:
    """The last line that an error comes through of a program's own: "line 3 of mine.py: `return m`".

    Args:
        others: whether a file isn't the program's own.

    Returns:
        The words; of source that isn't kept "line 3" alone, and nothing where no line is the program's own.
    """
    import linecache
    import traceback

    lines = [(f.filename, f.lineno, f.line) for f in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:  # of a file that is being read there is no frame
        lines.append((error.filename, error.lineno, error.text))
    own = [line for line in lines if not others(line[0])]
    if not own:
        return ""
    file, number, text = own[-1]
    text = (text or linecache.getline(file, number or 0)).strip()
    return f"line {number} of {file}: `{text}`" if text else f"line {number}"


def is_library(file: str) -> bool:
    """Whether a file is an installed package's."""
    return not {"site-packages", "dist-packages"}.isdisjoint(re.split(r"[\\/]", file))


def is_python(file: str) -> bool:
    """Whether a file is of Python's own library."""
    import sysconfig
    from pathlib import Path

    folders = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
    return file.startswith("<frozen ") or any(Path(file).is_relative_to(folder) for folder in folders)
