"""What the classes of every framework share: their signature is their spelling's, their documentation their rule's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from adamite.frontend.spelling import Form, Spelling

if TYPE_CHECKING:
    from adamite.frontend.about import Words

T = TypeVar("T", bound=type)


class Documented(type):
    """Classes whose documentation is printed when somebody asks for it: by the `_document` that they were made with.

    The base has its own text in `_about`, which a class without either has too.
    """

    @property
    def __doc__(cls: Any) -> str | None:  # type: ignore[override]
        written = cls.__dict__.get("__doc__")
        if written is None and "_document" in cls.__dict__:
            text: str = cls.__dict__["_document"]()
            return text
        return inspect.cleandoc(written or cls._about)


def class_of_spelling(
    spelling: Spelling,
    base: type,
    initialize: Callable[..., None],
    form: inspect.Signature,
    words: Words,
    **attributes: Any,
) -> Any:
    """A class that is spelled so, with this `__init__`, whose signature is shown as `form`."""
    from adamite.frontend.about import spelled

    initialize.__signature__ = form  # type: ignore[attr-defined]
    initialize.__qualname__ = f"{spelling.name}.__init__"
    body = {"_spelling": spelling, "__init__": initialize, "_document": functools.partial(spelled, spelling, words)}
    return Documented(spelling.name, (base,), {**body, **attributes})


def one_each(spellings: Mapping[str, Spelling], base: T, make: Callable[[Spelling, T], T]) -> dict[str, T]:
    """The classes of these spellings by name, each derived from the class that its spelling names, or from `base`."""
    classes: dict[str, T] = {}
    for name, spelling in spellings.items():
        classes[name] = make(spelling, classes.get(spelling.base, base))
    return classes


def signature(form: Form, *before: str, options: str = "") -> inspect.Signature:
    """A form as Python prints it, after other arguments, and with further options.

    From the first argument without a default that follows one with a default, arguments are shown as keyword-only.
    """
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in before]
    by_position, optional = True, False
    for place, (name, default) in enumerate(form.arguments.items()):
        by_position = by_position and place < form.positional and not (optional and form.required(name))
        optional = optional or not form.required(name)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if by_position else inspect.Parameter.KEYWORD_ONLY
        default = inspect.Parameter.empty if form.required(name) else default
        parameters.append(inspect.Parameter(name, kind, default=default))
    if options:
        while options in form.arguments:
            options += "_"
        parameters.append(inspect.Parameter(options, inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(parameters)
