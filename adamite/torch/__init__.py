"""Optimizers for PyTorch: torch's names, arguments, defaults and numbers, in one native call a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adamite.frontend.conventions import TORCH
from adamite.frontend.named import named
from adamite.language.rule import Rule
from adamite.torch import threads
from adamite.torch.base import Extras, Optimizer, class_of
from adamite.torch.groups import param_groups
from adamite.torch.step_in_backward import StepInBackward

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

    Number = float | torch.Tensor
    Betas = tuple[Number, Number]

__all__ = [
    "ADOPT", "OPTIMIZERS", "SGD", "AdaBelief", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "NAdam",
    "Optimizer", "RAdam", "RMSprop", "StepInBackward", "optimizer", "param_groups",
]  # fmt: skip


threads.employ()


class SGD(Optimizer):
    _spelling = TORCH["SGD"]

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: Number = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(params, _given(locals()), extras)


class RMSprop(Optimizer):
    _spelling = TORCH["RMSprop"]

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(params, _given(locals()), extras)


class Adagrad(Optimizer):
    _spelling = TORCH["Adagrad"]

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(params, _given(locals()), extras)
        self._make_states()  # as torch does, before the first gradient


class Adadelta(Optimizer):
    _spelling = TORCH["Adadelta"]

    def __init__(
        self,
        params: Any,
        lr: Number = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(params, _given(locals()), extras)


class Adam(Optimizer):
    _spelling = TORCH["Adam"]

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(params, _given(locals()), extras)


class AdamW(Adam):
    _spelling = TORCH["AdamW"]

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **extras: Unpack[Extras],
    ) -> None:
        Optimizer.__init__(self, params, {**_given(locals()), "decoupled_weight_decay": True}, extras)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True  # whatever was loaded, as in torch


class Adamax(Optimizer):
    _spelling = TORCH["Adamax"]

    def __init__(
        self,
        params: Any,
        lr: Number = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(params, _given(locals()), extras)


class NAdam(Optimizer):
    _spelling = TORCH["NAdam"]

    def __init__(
        self,
        params: Any,
        lr: Number = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(params, _given(locals()), extras)


class RAdam(Optimizer):
    _spelling = TORCH["RAdam"]

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(params, _given(locals()), extras)


class AdaBelief(Optimizer):
    _spelling = TORCH["AdaBelief"]

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = True,
        *,
        eps_root: float | None = None,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(params, _given(locals()), extras)


class Lion(Optimizer):
    _spelling = TORCH["Lion"]

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-4,
        betas: Betas = (0.9, 0.99),
        weight_decay: float = 0,
        decoupled_weight_decay: bool = True,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(params, _given(locals()), extras)


class ADOPT(Optimizer):
    _spelling = TORCH["ADOPT"]

    def __init__(
        self,
        params: Any,
        lr: Number = 1e-3,
        betas: Betas = (0.9, 0.9999),
        eps: float = 1e-6,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = True,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
        differentiable: bool = False,
        **extras: Unpack[Extras],
    ) -> None:
        super().__init__(params, _given(locals()), extras)


OPTIMIZERS: dict[str, type[Any]] = {
    cls.__name__.lower(): cls
    for cls in (SGD, RMSprop, Adagrad, Adadelta, Adam, AdamW, Adamax, NAdam, RAdam, AdaBelief, Lion, ADOPT)
}


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among a constructor's local variables."""
    return {k: v for k, v in arguments.items() if k not in ("self", "params", "extras", "__class__")}


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
