"""What the classes of every framework share: their signature is their spelling's, their documentation their rule's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from adamite.frontend.about import spelled
from adamite.frontend.spelling import Form, Spelling

T = TypeVar("T", bound=type)


class Documented(type):
    """Classes of a framework whose documentation is printed from their rule, when somebody asks for it.

    The base says `_about` itself and has the framework's `_words`; the others have a `_spelling`.
    """

    @property
    def __doc__(cls: Any) -> str | None:  # type: ignore[override]
        written = cls.__dict__.get("__doc__")
        if written is not None or "_spelling" not in cls.__dict__:
            return inspect.cleandoc(written or cls._about)
        return spelled(cls._spelling, cls._words)


def one_each(spellings: Mapping[str, Spelling], base: T, make: Callable[[Spelling, T], T]) -> dict[str, T]:
    """The classes of these spellings by name, each derived from the class that its spelling names, or from `base`."""
    classes: dict[str, T] = {}
    for name, spelling in spellings.items():
        classes[name] = make(spelling, classes.get(spelling.base, base))
    return classes


def signature(form: Form, *before: str, options: str = "") -> inspect.Signature:
    """A form as Python prints it, after other arguments, and with further options."""
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in before]
    for place, (name, default) in enumerate(form.arguments.items()):
        by_position = place < form.positional
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if by_position else inspect.Parameter.KEYWORD_ONLY
        default = inspect.Parameter.empty if form.required(name) else default
        parameters.append(inspect.Parameter(name, kind, default=default))
    if options:
        parameters.append(inspect.Parameter(options, inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(parameters)
