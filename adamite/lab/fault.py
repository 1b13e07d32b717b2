"""What goes wrong in a user's own code, told by the line in their file."""

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
WHOLE = "ADAMITE_TRACEBACK"  # in the environment: tell every line that an error came through


class Fault(ValueError):
    """A fault in a user's own code; the message says what is wrong, and shows the line."""


def line(function: Callable[..., Any]) -> str:
    """Where a function or a class of a user's begins: "line 3 of mine.py: `def loss():`"; empty, where none can say."""
    made = inspect.unwrap(getattr(function, "func", function))
    try:
        (text, *_), number = inspect.getsourcelines(made)
        return f"line {number} of {inspect.getsourcefile(made)}: `{text.strip()}`"
    except (OSError, TypeError):
        return ""


def not_yield(returned: Any) -> str:
    """The hint of what a function returned that isn't what it should: a generator, since it yields."""
    return "; write return, not yield" if inspect.isgenerator(returned) else ""


def about(function: Callable[..., Any], problem: str) -> Fault:
    """The fault of a function that does something else than it should."""
    return Fault(": ".join(filter(None, [line(function), problem])))


def words(error: BaseException, function: Callable[..., Any] | None = None) -> str:
    """What was raised, behind the last line of the user's that it came through, or else this function's first."""
    where = place(error, lambda file: file.startswith((_OURS, "<")) or is_library(file) or is_python(file))
    if isinstance(error, (Fault, RuleError)):
        said = str(error)  # it names the line itself
    elif isinstance(error, ModuleNotFoundError):
        said = ": ".join(filter(None, [where, extras.advice(error.name)]))
    else:
        kind = "" if type(error).__module__.startswith("adamite.") else type(error).__name__
        parts = where or (line(function) if function else ""), kind, str(error).strip()
        said = ": ".join(filter(None, parts))
    if os.environ.get(WHOLE):
        said += "\n" + "".join(traceback.format_exception(error))
    return said


@contextmanager
def blamed_on(function: Callable[..., Any]) -> Iterator[None]:
    """What is raised inside becomes a fault, with the last line of the user's on its way or else this function's."""
    try:
        yield
    except (Fault, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too, which is no way to leave a training
        raise Fault(words(error, function)) from error
