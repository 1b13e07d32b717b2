"""The functions: one for each of optax's optimizers in the catalogue, and one for a rule of your own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import optax

from adamite.frontend.about import Words, spelled
from adamite.frontend.catalogue import OPTAX
from adamite.frontend.classes import signature
from adamite.frontend.named import named
from adamite.frontend.settings import unknown
from adamite.frontend.spelling import Spelling, of_rule
from adamite.jax.leaves import as_real
from adamite.jax.transformation import Core, Transformation, start_of_rule
from adamite.language.rule import REQUIRED, Rule
from adamite.language.update import WEIGHT_DECAY

_WORDS = Words(
    ranges={"eps": "[0, inf)"},  # as in optax
    after=(
        "    learning_rate, weight_decay: schedules too, functions of the steps done. Every number may be traced;",
        "        traced ones aren't checked.",
        "    mu_dtype, accumulator_dtype: the type of the first moment, or of the trace; float32 at least by default.",
        "    mask, weight_decay_mask: a tree of bools (or a prefix, or a function that makes it): what decays.",
        "",
        "Returns:",
        "    A Transformation: optax's `init` and `update`, with states as optax's own, and `step`, which moves the",
        "    parameters too, in one pass and in place where they are donated.",
        "",
        "Raises:",
        "    ValueError, TypeError: for numbers out of range, here; for leaves that aren't real floating-point",
        "    arrays, and for gradients, parameters and states that don't fit, when they are given.",
    ),
)


def _make(kind: str | Rule) -> Callable[..., Transformation]:
    """A function of optax's form, `adam(learning_rate, ...)`, or of a rule's own arguments."""
    spelling = _spelling(kind)
    form, rule = spelling.form, spelling.convention.rule
    # Numbers that the rule needs, though the function has None as their default.
    needed = {
        argument: rule.numbers[name].default
        for argument, (name,) in spelling.arguments.items()
        if isinstance(kind, str) and form.arguments[argument] is None and not rule.numbers[name].optional
    }

    def make(*args: Any, **options: Any) -> Transformation:
        given, others = form.given(args, options)
        for name in others:
            raise TypeError(unknown(form.name, name, form.arguments))
        for name, default in form.arguments.items():
            if given[name] is REQUIRED:
                raise TypeError(f"{form.name}() missing 1 required positional argument: {name!r}")
            if given[name] is None is default and name in needed:
                raise TypeError(f"{form.name} needs a {name}, {needed[name]} as in the paper; optax's climbs without")
        return _core(kind, {name: as_real(value) for name, value in given.items()}).transformation()

    written: Any = make
    make.__name__ = make.__qualname__ = form.name
    written.__signature__ = signature(form)  # optax.inject_hyperparams looks here for what it can inject
    if isinstance(kind, str):
        make.__module__, make.__doc__ = "adamite.jax", spelled(spelling, _WORDS)
    return make


@functools.cache
def _spelling(kind: str | Rule) -> Spelling:
    if isinstance(kind, str):
        return OPTAX[kind]
    numbers = {name: number.default for name, number in kind.numbers.items()}
    choices = {name: choice.default for name, choice in kind.choices.items()}
    spelling = of_rule(kind, {**numbers, WEIGHT_DECAY.name: 0.0, **choices, "mask": None}, len(numbers))
    return spelling._replace(form=spelling.form._replace(name=kind.name))


def _core(kind: str | Rule, given: Mapping[str, Any]) -> Core:
    """The transformation of an optax function, whose first state optax itself makes, or of a rule."""
    spelling, made_by = _spelling(kind), (_core, (kind, given))
    if isinstance(kind, Rule):
        return Core(spelling, given, start_of_rule(kind, given), given["mask"], made_by=made_by)
    peer = getattr(optax, kind, None) or getattr(optax.contrib, kind)
    mask = given.get("mask", given.get("weight_decay_mask"))
    return Core(spelling, given, peer(**given).init, mask, _WORDS.ranges, made_by)


FUNCTIONS = {name: _make(name) for name in OPTAX}
OPTIMIZERS: dict[str, Callable[..., Transformation]] = {name.lower(): make for name, make in FUNCTIONS.items()}


def optimizer(rule: Rule | str) -> Callable[..., Transformation]:
    """The factory of a rule's transformations, your own or one of adamite's, or of a name.

    Args:
        rule: a function decorated with `@adamite.rule`, or a name such as "adamw" or "radam_eps_hat".

    Returns:
        A function of the rule's own hyperparameters and choices, of `weight_decay` in [0, inf) (decoupled) and of
        `mask`, a tree of bools that says what decays.

    Raises:
        ValueError: for a name that isn't known.

    >>> import jax.numpy as jnp
    >>> from adamite import rules
    >>> tx = optimizer(rules.adam)(lr=0.5)
    >>> params = {"w": jnp.ones(2)}
    >>> updates, state = tx.update({"w": jnp.ones(2)}, tx.init(params), params)
    >>> updates["w"].tolist(), int(state.count)
    ([-0.5, -0.5], 1)
    """
    return named("adamite.jax", rule, OPTIMIZERS, _of_rule)


def _of_rule(rule: Rule) -> Callable[..., Transformation]:
    return _make(rule)
