"""Gradients that were scaled for a narrow type: what a scaler hands to the step, as torch's fused steps take it.

`torch.amp.GradScaler` unscales before a step of ours, and leaves out what has overflown. Other programs set
`optimizer.grad_scale` and `optimizer.found_inf`, and call `step`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from adamite.torch.settings import as_float
from adamite.torch.tensors import local


class Scaled(Protocol):
    """An optimizer that takes such numbers."""

    def _handed(self) -> None:
        """One of them was set, or deleted."""


class Handed:
    """A number that somebody hands to the step; absent until then, and read at every step, since it may be a tensor."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, optimizer: Any, owner: Any = None) -> Any:
        if optimizer is None:
            return self
        if self._name not in vars(optimizer):
            raise AttributeError(f"{type(optimizer).__name__} has no {self._name} until somebody sets it")
        return vars(optimizer)[self._name]

    def __set__(self, optimizer: Scaled, value: Any) -> None:
        vars(optimizer)[self._name] = value
        optimizer._handed()

    def __delete__(self, optimizer: Scaled) -> None:
        self.__get__(optimizer)
        del vars(optimizer)[self._name]
        optimizer._handed()


def overflown(optimizer: Scaled) -> bool:
    """Whether the scaler has found infinity or NaN: the step is to be left out."""
    return _number(optimizer, "found_inf", 0.0) != 0


def scale_of(optimizer: Scaled) -> float:
    """What the gradients were multiplied by."""
    scale = _number(optimizer, "grad_scale", 1.0)
    if not 0 < scale < math.inf:
        raise ValueError(_refusal(optimizer, "grad_scale", scale))
    return scale


_ALLOWED = {
    "found_inf": ("a number", "0 where all gradients are finite"),
    "grad_scale": ("a number in (0, inf)", "what the gradients were multiplied by"),
}


def _number(optimizer: Scaled, name: str, absent: float) -> float:
    given = vars(optimizer).get(name)
    try:
        return absent if given is None else as_float(given)
    except TypeError:
        raise TypeError(_refusal(optimizer, name, given)) from None


def _refusal(optimizer: Scaled, name: str, given: Any) -> str:
    allowed, meaning = _ALLOWED[name]
    return f"{type(optimizer).__name__}: {name} must be {allowed}, got {given!r:.60}; set it to {meaning}, or to None"


def unscale(parameters: Iterable[Tensor], scale: float) -> None:
    """Divide the gradients in place, which torch's fused steps do after they have read them."""
    if scale == 1.0:
        return
    with torch.no_grad():
        for p, g in {id(p.grad): (p, p.grad) for p in parameters if p.grad is not None}.values():
            values = local(g).detach()
            try:
                (values._values() if g.layout is torch.sparse_coo else values).div_(scale)
            except RuntimeError:  # an expanded one, of many elements in one place
                p.grad = g / scale
