"""The classes: one for each optimizer of the catalogue, and one for a rule of your own."""

from __future__ import annotations

import functools
from typing import Any

from adamite.frontend.about import Words
from adamite.frontend.catalogue import KERAS
from adamite.frontend.classes import class_of_spelling, one_each, signature
from adamite.frontend.named import named
from adamite.frontend.spelling import Spelling, of_rule
from adamite.keras.base import Optimizer, again, register
from adamite.language.rule import Rule

_WORDS = Words(
    {},
    after=(
        "",
        "learning_rate may be a schedule, of Keras or of adamite.schedules, or a function without arguments. The",
        "arguments of every optimizer (clipnorm, use_ema, state, rounding, ...): help(adamite.keras.Optimizer).",
    ),
)


def _make(spelling: Spelling, base: type[Optimizer], module: str = "adamite.keras", **more: Any) -> type[Optimizer]:
    """A class of Keras's form: `Adam(learning_rate=..., ...)`."""
    defaults = spelling.form.arguments

    def __init__(self: Optimizer, *args: Any, **options: Any) -> None:
        given, extras = spelling.form.given(args, options)
        if given["weight_decay"] is None and defaults["weight_decay"] is not None:
            name = type(self).__name__
            raise ValueError(
                f"{name}: weight_decay must be a number in [0, inf), got None; for none take {base.__name__}"
            )
        Optimizer.__init__(self, given, extras)

    form = signature(spelling.form, "self", options="options")
    made: type[Optimizer] = class_of_spelling(spelling, base, __init__, form, _WORDS, __module__=module, **more)
    return made


CLASSES = one_each(KERAS, Optimizer, _make)
OPTIMIZERS: dict[str, type[Any]] = {name.lower(): register(cls) for name, cls in CLASSES.items()}


def optimizer(rule: Rule | str) -> type[Any]:
    """The Keras optimizer class of a rule, your own or one of adamite's, or of a name.

    Args:
        rule: a function decorated with `@adamite.rule`, or a name such as "adamw" or "radam_eps_hat".

    Returns:
        A subclass of `keras.optimizers.Optimizer` with the rule's own hyperparameters as arguments, and
        `learning_rate` for lr. It must have been made before a model that was saved with it is loaded.

    Raises:
        ValueError: for a name that isn't known.
    """
    return named("adamite.keras", rule, OPTIMIZERS, class_of)


@functools.cache
def class_of(rule: Rule) -> type[Optimizer]:
    """The optimizer class of a rule."""
    names = {"lr": "learning_rate"}
    numbers = {names.get(name, name): number.default for name, number in rule.numbers.items()}
    choices = {name: choice.default for name, choice in rule.choices.items()}
    every = {**numbers, **choices, "weight_decay": None}
    spelling = of_rule(rule, every, len(every), names)
    cls = _make(spelling, Optimizer, __name__, _made_from=rule, _pickled=(_again_of, rule))
    return register(cls, f"{rule.function.__module__}.{rule.name}")


def _again_of(rule: Rule, config: dict[str, Any], steps: int) -> Optimizer:
    return again(class_of(rule), config, steps)
