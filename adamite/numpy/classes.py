"""The classes: one for each optimizer of the catalogue, and one for a rule of your own."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from adamite.frontend.catalogue import CONVENTIONS
from adamite.frontend.classes import Documented
from adamite.frontend.named import named
from adamite.frontend.spelling import Convention, class_name
from adamite.language.rule import Rule
from adamite.numpy.base import Optimizer, blank


def _make(name: str, conventions: Mapping[str, Convention], module: str, **more: Any) -> type[Optimizer]:
    body = {"_conventions": conventions, "__module__": module, **more}
    made: Any = Documented(name, (Optimizer,), {**body, "_document": functools.partial(_document, name, conventions)})
    cls: type[Optimizer] = made
    return cls


def _document(name: str, conventions: Mapping[str, Convention]) -> str:
    from adamite.frontend.about import Words, about, documentation  # when somebody asks for it

    words = Words(
        before=("    params: an array, or any nesting of dicts, lists and tuples of arrays.",),
        after=("", "The arguments of every optimizer (convention, groups, clip_norm, ...): help(adamite.Optimizer)."),
    )
    return documentation(conventions["paper"], about(name, conventions).arguments, words)


CLASSES = {name: _make(name, conventions, "adamite.numpy") for name, conventions in CONVENTIONS.items()}
OPTIMIZERS = {name.lower(): cls for name, cls in CLASSES.items()}


def optimizer(rule: Rule | str) -> type[Optimizer]:
    """The optimizer class of a rule, your own or one of adamite's, or of a name.

    Args:
        rule: a function decorated with `@adamite.rule`, or a name such as "adamw" or "radam_eps_hat".

    Returns:
        A class like `adamite.Adam`: the same speed, options and checks.

    Raises:
        ValueError: for a name that isn't known.

    >>> import adamite
    >>> optimizer("AdamW") is adamite.AdamW
    True
    """
    return named("adamite", rule, OPTIMIZERS, class_of)


@functools.cache
def class_of(rule: Rule) -> type[Optimizer]:
    """The optimizer class of a rule."""
    conventions: Mapping[str, Convention] = {"paper": Convention(rule, decay="decoupled")}
    return _make(class_name(rule), conventions, __name__, _made_from=rule, _pickled=(_blank_of, (rule,)))


def _blank_of(rule: Rule) -> Optimizer:
    return blank(class_of(rule))
