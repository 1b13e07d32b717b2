"""Optimizers for JAX: optax's gradient transformations, names, defaults and states, each update one operation.

>>> import jax
>>> import jax.numpy as jnp
>>> tx = adamw(0.1)
>>> params = {"w": jnp.ones(3)}
>>> state = tx.init(params)
>>> grads = jax.grad(lambda p: (p["w"] ** 2).sum())(params)
>>> updates, state = tx.update(grads, state, params)  # as with optax's own
>>> print(optax.apply_updates(params, updates)["w"].round(2))
[0.9 0.9 0.9]
>>> step = jax.jit(tx.step, donate_argnums=(0, 1))  # the same in one pass, in place
>>> params, state = step(params, tx.init(params), grads)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

import optax

from adamite.frontend.about import Words, spelled
from adamite.frontend.conventions import OPTAX, spelling
from adamite.frontend.named import named
from adamite.frontend.settings import unknown
from adamite.jax.leaves import as_real
from adamite.jax.transformation import Core, State, Transformation, start_of_rule
from adamite.language.rule import REQUIRED, Rule
from adamite.language.update import WEIGHT_DECAY

__all__ = [
    "OPTIMIZERS", "State", "Transformation", "adabelief", "adadelta", "adagrad", "adam", "adamax", "adamaxw", "adamw",
    "adopt", "amsgrad", "lion", "nadam", "nadamw", "optimizer", "radam", "rmsprop", "sgd",
]  # fmt: skip

P = ParamSpec("P")

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


def _spelled(function: Callable[P, Transformation]) -> Callable[P, Transformation]:
    """Print the documentation from the rule, and say what was meant by an argument that isn't there."""
    name, parameters = function.__name__, inspect.signature(function).parameters
    defaults = {p.name: REQUIRED if p.default is p.empty else p.default for p in parameters.values()}

    @functools.wraps(function)
    def make(*args: P.args, **options: P.kwargs) -> Transformation:
        for option in options:
            if option not in parameters:
                raise TypeError(unknown(name, option, parameters))
        return function(*args, **options)

    make.__doc__ = spelled(OPTAX[name], defaults, _WORDS)
    return make


Number = Any  # a float, an array of no axes that may be traced, or for rates a schedule: steps done -> value
Mask = Any  # a tree of bools, a prefix of the parameters', or a function that makes one of them


@_spelled
def sgd(
    learning_rate: Number, momentum: Number | None = None, nesterov: bool = False, accumulator_dtype: Any = None
) -> Transformation:
    return _made("sgd", locals())


@_spelled
def rmsprop(
    learning_rate: Number,
    decay: Number = 0.9,
    eps: Number = 1e-8,
    initial_scale: Number = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Number | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> Transformation:
    return _made("rmsprop", locals())


@_spelled
def adagrad(learning_rate: Number, initial_accumulator_value: Number = 0.1, eps: Number = 1e-7) -> Transformation:
    return _made("adagrad", locals())


@_spelled
def adadelta(
    learning_rate: Number | None = None,
    rho: Number = 0.9,
    eps: Number = 1e-6,
    weight_decay: Number = 0.0,
    weight_decay_mask: Mask | None = None,
) -> Transformation:
    if learning_rate is None:
        raise TypeError("adadelta needs a learning_rate, 1.0 as in the paper; without one optax's climbs")
    return _made("adadelta", locals())


@_spelled
def adam(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> Transformation:
    return _made("adam", locals())


@_spelled
def adamw(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: Any = None,
    weight_decay: Number = 1e-4,
    mask: Mask | None = None,
    *,
    nesterov: bool = False,
) -> Transformation:
    return _made("adamw", locals())


@_spelled
def nadam(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
) -> Transformation:
    return _made("nadam", locals())


@_spelled
def nadamw(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: Any = None,
    weight_decay: Number = 1e-4,
    mask: Mask | None = None,
    *,
    nesterov: bool = True,
) -> Transformation:
    return _made("nadamw", locals())


@_spelled
def amsgrad(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> Transformation:
    return _made("amsgrad", locals())


@_spelled
def adamax(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Transformation:
    return _made("adamax", locals())


@_spelled
def adamaxw(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 1e-4,
    mask: Mask | None = None,
) -> Transformation:
    return _made("adamaxw", locals())


@_spelled
def radam(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    threshold: Number = 5.0,
    *,
    nesterov: bool = False,
) -> Transformation:
    return _made("radam", locals())


@_spelled
def adabelief(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-16,
    eps_root: Number = 1e-16,
    *,
    nesterov: bool = False,
) -> Transformation:
    return _made("adabelief", locals())


@_spelled
def lion(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.99,
    mu_dtype: Any = None,
    weight_decay: Number = 1e-3,
    mask: Mask | None = None,
) -> Transformation:
    return _made("lion", locals())


@_spelled
def adopt(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.9999,
    eps: Number = 1e-6,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Number | None = None,
) -> Transformation:
    return _made("adopt", locals())


OPTIMIZERS: dict[str, Callable[..., Transformation]] = {name: globals()[name] for name in OPTAX}


def _made(kind: str | Rule, given: Mapping[str, Any]) -> Transformation:
    return _core(kind, {name: as_real(value) for name, value in given.items()}).transformation()


def _core(kind: str | Rule, given: Mapping[str, Any]) -> Core:
    """What an optax name stands for, whose states are those that optax itself makes, or a rule."""
    made_by = (_core, (kind, given))
    if isinstance(kind, Rule):
        start = start_of_rule(kind, given)
        return Core(kind.name, spelling(kind), given, start, given["mask"], made_by=made_by)
    peer = optax.contrib.adopt if kind == "adopt" else getattr(optax, kind)
    mask = given.get("mask", given.get("weight_decay_mask"))
    return Core(kind, OPTAX[kind], given, peer(**given).init, mask, _WORDS.ranges, made_by)


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
    return named("adamite.jax", rule, OPTIMIZERS, _factory)


def _factory(rule: Rule) -> Callable[..., Transformation]:
    numbers = {name: number.default for name, number in rule.numbers.items()}
    choices = {name: choice.default for name, choice in rule.choices.items()}
    known = {**numbers, WEIGHT_DECAY.name: 0.0, **choices, "mask": None}

    def make(*args: Any, **options: Any) -> Transformation:
        if len(args) > len(numbers):
            raise TypeError(f"{rule.name} takes {len(numbers)} positional settings at most, got {len(args)}")
        given = {**dict(zip(numbers, args)), **options}
        for name in given:
            if name not in known:
                raise TypeError(unknown(rule.name, name, known))
        return _made(rule, {**known, **given})

    make.__name__ = make.__qualname__ = rule.name
    make.__signature__ = _signature(known, len(numbers))  # type: ignore[attr-defined]
    return make


def _signature(known: Mapping[str, Any], positional: int) -> inspect.Signature:
    """As written out, which is where optax.inject_hyperparams finds what it may inject."""
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD if place < positional else inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if default is REQUIRED else default,
            )
            for place, (name, default) in enumerate(known.items())
        ]
    )
