"""The NumPy front-end: arrays in any nesting, updated in place."""

from __future__ import annotations

from adamite.frontend.conventions import CONVENTIONS
from adamite.frontend.named import named
from adamite.language.rule import Rule
from adamite.numpy.base import Optimizer, class_of
from adamite.numpy.hyperparameters import Group

__all__ = [
    "ADOPT", "OPTIMIZERS", "SGD", "AMSGrad", "AdaBelief", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax",
    "Group", "Lion", "Momentum", "NAdam", "Optimizer", "RAdam", "RMSprop", "optimizer",
]  # fmt: skip


class SGD(Optimizer):
    _conventions = CONVENTIONS["SGD"]


class Momentum(Optimizer):
    _conventions = CONVENTIONS["Momentum"]


class RMSprop(Optimizer):
    _conventions = CONVENTIONS["RMSprop"]


class Adagrad(Optimizer):
    _conventions = CONVENTIONS["Adagrad"]


class Adadelta(Optimizer):
    _conventions = CONVENTIONS["Adadelta"]


class Adam(Optimizer):
    _conventions = CONVENTIONS["Adam"]


class AdamW(Optimizer):
    _conventions = CONVENTIONS["AdamW"]


class AMSGrad(Optimizer):
    _conventions = CONVENTIONS["AMSGrad"]


class AdaBelief(Optimizer):
    _conventions = CONVENTIONS["AdaBelief"]


class Adamax(Optimizer):
    _conventions = CONVENTIONS["Adamax"]


class NAdam(Optimizer):
    _conventions = CONVENTIONS["NAdam"]


class RAdam(Optimizer):
    _conventions = CONVENTIONS["RAdam"]


class Lion(Optimizer):
    _conventions = CONVENTIONS["Lion"]


class ADOPT(Optimizer):
    _conventions = CONVENTIONS["ADOPT"]


OPTIMIZERS: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls
    for cls in (
        SGD, Momentum, RMSprop, Adagrad, Adadelta, Adam, AdamW, AMSGrad, AdaBelief, Adamax, NAdam, RAdam, Lion, ADOPT
    )
}  # fmt: skip


def optimizer(rule: Rule | str) -> type[Optimizer]:
    """The optimizer class of a rule, your own or one of adamite's, or of a name.

    Args:
        rule: a function decorated with `@adamite.rule`, or a name such as "adamw" or "radam_eps_hat".

    Returns:
        A class like `adamite.Adam`: the same speed, options and checks.

    Raises:
        ValueError: for a name that isn't known.

    >>> optimizer("AdamW") is AdamW
    True
    """
    return named("adamite", rule, OPTIMIZERS, class_of)
