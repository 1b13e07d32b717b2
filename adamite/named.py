"""An optimizer by its name or by its rule: the same in every front-end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from adamite.rule import Rule
from adamite.rules import RULES
from adamite.settings import unknown

T = TypeVar("T")


def named(owner: str, rule: Rule | str, known: Mapping[str, T], make: Callable[[Rule], T]) -> T:
    """What a front-end knows by this name, else what it makes of the rule.

    Raises:
        ValueError: for a name that isn't known.
        TypeError: for what is neither a name nor a rule.
    """
    if isinstance(rule, str):
        found = known.get(rule.lower())
        if found is not None:
            return found
        if rule not in RULES:
            raise ValueError(unknown(owner, rule, [*known, *RULES], "optimizer"))
        rule = RULES[rule]
    if not isinstance(rule, Rule):
        raise TypeError(f"optimizer takes a rule (a function with @adamite.rule) or a name, got {rule!r:.60}")
    return make(rule)
