"""Errors in a user's code, reported with the line in their file."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import adamite
from adamite.errors import RuleError, is_library, is_python, place
from adamite.lab import extras

_OURS = str(Path(adamite.__file__).parent) + os.sep
STILL = "the loss never moved: does the problem update its arrays in place?"
WHOLE = "ADAMITE_TRACEBACK"  # an environment variable: print whole tracebacks


class Fault(ValueError):
    """An error in a user's code; the message says what is wrong and shows the line."""


def line(function: Callable[..., Any]) -> str:
    """Where a user's function or class begins: "line 3 of mine.py: `def loss():`"; "" if that is unknown."""
    made = inspect.unwrap(getattr(function, "func", function))
    try:
        (text, *_), number = inspect.getsourcelines(made)
        return f"line {number} of {inspect.getsourcefile(made)}: `{text.strip()}`"
    except (OSError, TypeError):
        return ""


def not_yield(returned: Any) -> str:
    """A hint for a function that returned a generator, since it yields; else ""."""
    return "; write return, not yield" if inspect.isgenerator(returned) else ""


def about(function: Callable[..., Any], problem: str) -> Fault:
    """The error for a function that does something invalid."""
    return Fault(": ".join(filter(None, [line(function), problem])))


def words(error: BaseException, function: Callable[..., Any] | None = None) -> str:
    """An error's message after the last of the user's lines in its traceback, or else after the function's first."""
    where = place(error, lambda file: file.startswith((_OURS, "<")) or is_library(file) or is_python(file))
    if isinstance(error, (Fault, RuleError)):
        message = str(error)  # it names the line itself
    elif isinstance(error, ModuleNotFoundError):
        message = ": ".join(filter(None, [where, extras.advice(error.name)]))
    else:
        kind = "" if type(error).__module__.startswith("adamite.") else type(error).__name__
        parts = where or (line(function) if function else ""), kind, str(error).strip()
        message = ": ".join(filter(None, parts))
    if os.environ.get(WHOLE):
        message += "\n" + "".join(traceback.format_exception(error))
    return message


@contextmanager
def blamed_on(function: Callable[..., Any]) -> Iterator[None]:
    """Turn an error raised inside into a Fault with a line: see `words`."""
    try:
        yield
    except (Fault, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too, since user code mustn't end the program
        raise Fault(words(error, function)) from error
