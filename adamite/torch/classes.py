"""The classes: one for each optimizer of the catalogue, and one for a rule of your own."""

from __future__ import annotations

import functools
from typing import Any

from adamite.frontend.about import Words
from adamite.frontend.catalogue import TORCH
from adamite.frontend.classes import class_of_spelling, one_each, signature
from adamite.frontend.named import named
from adamite.frontend.spelling import Spelling, of_rule
from adamite.language.rule import Rule
from adamite.torch.base import Optimizer, blank
from adamite.torch.settings import ACCEPTED, RANGES, REFUSED

_WORDS = Words(
    {name: allowed for name, (_, allowed) in RANGES.items()},
    ("    params: tensors, (name, tensor) pairs, or groups of them; as in torch.",),
    (
        "    foreach, fused: accepted where torch has them; there is one engine.",
        "    differentiable, capturable: True is refused; the step is machine code, and is prepared on the host.",
        "",
        "The arguments of every optimizer (clip_norm, nonfinite, ema, cautious, sparse): "
        "help(adamite.torch.Optimizer).",
    ),
)


def _make(spelling: Spelling, base: type[Optimizer], module: str = "adamite.torch", **more: Any) -> type[Optimizer]:
    """A class of torch's form: `Adam(params, lr=..., ...)`."""

    def __init__(self: Optimizer, params: Any, *args: Any, **options: Any) -> None:
        defaults, extras = spelling.form.given(args, options, leading=1)
        Optimizer.__init__(self, params, {**defaults, **spelling.fixed}, extras)
        if spelling.early:
            self._make_states()

    form = signature(spelling.form, "self", "params", options="extras")
    made: type[Optimizer] = class_of_spelling(spelling, base, __init__, form, _WORDS, __module__=module, **more)
    return made


CLASSES = one_each(TORCH, Optimizer, _make)
OPTIMIZERS: dict[str, type[Any]] = {name.lower(): cls for name, cls in CLASSES.items()}


def optimizer(rule: Rule | str) -> type[Any]:
    """The torch optimizer class of a rule, your own or one of adamite's, or of a name.

    Args:
        rule: a function decorated with `@adamite.rule`, or a name such as "adamw" or "radam_eps_hat".

    Returns:
        A subclass of `torch.optim.Optimizer` with the rule's own hyperparameters as arguments.

    Raises:
        ValueError: for a name that isn't known.
    """
    return named("adamite.torch", rule, OPTIMIZERS, class_of)


@functools.cache
def class_of(rule: Rule) -> type[Optimizer]:
    """The optimizer class of a rule."""
    numbers = {name: number.default for name, number in rule.numbers.items()}
    choices = {name: choice.default for name, choice in rule.choices.items()}
    flags = {"maximize": False, "decoupled_weight_decay": "lr" in rule.numbers}
    of_torch = {**dict.fromkeys(ACCEPTED), **dict.fromkeys(REFUSED, False)}
    spelling = of_rule(rule, {**numbers, "weight_decay": 0.0, **choices, **flags, **of_torch}, len(numbers))
    return _make(spelling, Optimizer, __name__, _made_from=rule, _pickled=(_blank_of, (rule,)))


def _blank_of(rule: Rule) -> Optimizer:
    return blank(class_of(rule))
