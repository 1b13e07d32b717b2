"""Optimizers for Keras 3: Keras's names, arguments, defaults and numbers, on TensorFlow, JAX and torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adamite.frontend.conventions import KERAS
from adamite.frontend.named import named
from adamite.keras.base import Extras, Optimizer, Options, class_of, register
from adamite.keras.schedules import Schedule
from adamite.language.rule import Rule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "ADOPT", "OPTIMIZERS", "SGD", "AdaBelief", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Extras", "Lion",
    "Nadam", "Optimizer", "Options", "RAdam", "RMSprop", "Schedule", "optimizer",
]  # fmt: skip


class SGD(Optimizer):
    _spelling = KERAS["SGD"]

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        **options: Unpack[Extras],
    ) -> None:
        super().__init__(_given(locals()), options)


class RMSprop(Optimizer):
    _spelling = KERAS["RMSprop"]

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
        **options: Unpack[Extras],
    ) -> None:
        super().__init__(_given(locals()), options)


class Adagrad(Optimizer):
    _spelling = KERAS["Adagrad"]

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        **options: Unpack[Extras],
    ) -> None:
        super().__init__(_given(locals()), options)


class Adadelta(Optimizer):
    _spelling = KERAS["Adadelta"]

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        **options: Unpack[Extras],
    ) -> None:
        super().__init__(_given(locals()), options)


class Adam(Optimizer):
    _spelling = KERAS["Adam"]

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        **options: Unpack[Extras],
    ) -> None:
        super().__init__(_given(locals()), options)


class AdamW(Adam):
    _spelling = KERAS["AdamW"]

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[Extras],
    ) -> None:
        if weight_decay is None:
            raise ValueError("AdamW: weight_decay must be a number in [0, inf), got None; for none take Adam")
        Optimizer.__init__(self, _given(locals()), options)


class Adamax(Optimizer):
    _spelling = KERAS["Adamax"]

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        **options: Unpack[Extras],
    ) -> None:
        super().__init__(_given(locals()), options)


class Nadam(Optimizer):
    _spelling = KERAS["Nadam"]

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        **options: Unpack[Extras],
    ) -> None:
        super().__init__(_given(locals()), options)


class Lion(Optimizer):
    _spelling = KERAS["Lion"]

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        weight_decay: float | None = None,
        **options: Unpack[Extras],
    ) -> None:
        super().__init__(_given(locals()), options)


class AdaBelief(Optimizer):
    _spelling = KERAS["AdaBelief"]

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-16,
        weight_decay: float | None = None,
        *,
        epsilon_root: float | None = None,
        **options: Unpack[Extras],
    ) -> None:
        super().__init__(_given(locals()), options)


class RAdam(Optimizer):
    _spelling = KERAS["RAdam"]

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float | None = None,
        **options: Unpack[Extras],
    ) -> None:
        super().__init__(_given(locals()), options)


class ADOPT(Optimizer):
    _spelling = KERAS["ADOPT"]

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.9999,
        epsilon: float = 1e-6,
        weight_decay: float | None = None,
        **options: Unpack[Extras],
    ) -> None:
        super().__init__(_given(locals()), options)


OPTIMIZERS: dict[str, type[Any]] = {
    cls.__name__.lower(): register(cls)
    for cls in (SGD, RMSprop, Adagrad, Adadelta, Adam, AdamW, Adamax, Nadam, Lion, AdaBelief, RAdam, ADOPT)
}


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among a constructor's local variables."""
    return {k: v for k, v in arguments.items() if k not in ("self", "options", "__class__")}


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
