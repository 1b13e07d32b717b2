"""The settings of a parameter group: checked when they are given, read in every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch

from adamite.frontend.settings import check_choice
from adamite.frontend.spelling import Spelling
from adamite.language.rule import REQUIRED, Number
from adamite.language.update import Surroundings, Update

# What torch calls an argument in its error messages, and the range that it allows.
RANGES: dict[str, tuple[str, str]] = {
    "lr": ("learning rate", "[0, inf)"),
    "eps": ("epsilon value", "[0, inf)"),
    "weight_decay": ("weight_decay value", "[0, inf)"),
    "momentum": ("momentum value", "[0, inf)"),
    "alpha": ("alpha value", "[0, inf)"),
    "rho": ("rho value", "[0, 1]"),
    "lr_decay": ("lr_decay value", "[0, inf)"),
    "initial_accumulator_value": ("initial_accumulator_value value", "[0, inf)"),
    "momentum_decay": ("momentum_decay value", "[0, inf)"),
    "dampening": ("dampening value", "(-inf, inf)"),
    "eps_root": ("eps_root value", "[0, inf)"),
    "ema": ("ema value", "[0, 1)"),
    "clip_norm": ("clip_norm value", "(0, inf)"),
}
_FLAGS = ("maximize", "decoupled_weight_decay")
# adamite's options of a group; a group has them only if they were asked for.
OPTIONS: dict[str, Any] = {"ema": None, "cautious": False}
WHOLE = ("clip_norm", "nonfinite", "state", "rounding", "seed", "sparse")  # adamite's options of the whole optimizer
ACCEPTED = ("foreach", "fused")  # accepted without effect, since there is one engine
REFUSED = {  # torch's arguments that are refused; a checkpoint or torch.compile may put them into a group
    "differentiable": "the step is machine code",
    "capturable": "step numbers and coefficients are computed on the host, and a replayed graph would repeat old ones",
}


def as_float(value: Any) -> float:
    """Anything that torch accepts as a number, such as a tensor of one element, as a float.

    Raises:
        TypeError: for anything else, strings included.
    """
    try:
        if isinstance(value, torch.Tensor):
            value = value.detach()  # torch warns when a tensor that requires a gradient is converted
        return float("" if isinstance(value, (str, bytes)) else value)
    except (TypeError, ValueError, RuntimeError):  # torch raises RuntimeError for a tensor of several elements
        raise TypeError(f"not a number: {value!r:.60}") from None


class Resolved(NamedTuple):
    """A group's settings in the form that its kernel needs."""

    update: Update
    numbers: Mapping[str, float]


class GroupSettings:
    """Checks and reads the parameter groups of one optimizer."""

    def __init__(self, owner: str, spelling: Spelling, defaults: Mapping[str, Any]) -> None:
        self.owner, self.spelling = owner, spelling
        self.arguments = tuple(spelling.arguments)
        self.choices = tuple(name for name in spelling.convention.rule.choices if name in defaults)
        self.flags = tuple(name for name in (*_FLAGS, *spelling.switches) if name in defaults)
        keys = [*self.arguments, "weight_decay", *self.choices, *self.flags]
        self._values = itemgetter(*keys)

    def values(self, group: Mapping[str, Any]) -> tuple[Any, ...]:
        """Everything that `read` depends on, to see whether it has changed."""
        return self._values(group), group.get("ema"), group.get("cautious", False)

    def check(self, group: Mapping[str, Any]) -> None:
        """Refuse invalid settings: those that torch refuses with torch's message."""
        for name, why in REFUSED.items():
            if group.get(name):
                raise RuntimeError(
                    f"{self.owner}: {name}=True isn't supported, since {why}; leave it out, or use torch.optim's"
                )
        for name in (*self.arguments, "weight_decay"):
            if group[name] is REQUIRED:
                raise TypeError(f"{self.owner}: {name} is required; give {name}=...")
            self._number(name, group[name], group)
        if group.get("ema") is not None:
            self._number("ema", group["ema"], group)
        for name in (*self.flags, *self.choices):
            self._choice(name, group[name])
        self._choice("cautious", group.get("cautious", False))
        if group.get("fused") and group.get("foreach"):
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        if group.get("nesterov") and "dampening" in group and (not group["momentum"] or group["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def parts(self, argument: str, value: Any) -> tuple[Any, ...]:
        """The numbers in an argument that holds several, such as `betas`."""
        count = len(self.spelling.arguments[argument])
        sequence = hasattr(value, "__getitem__") and not isinstance(value, (str, bytes, Mapping))
        parts = tuple(value) if sequence and getattr(value, "ndim", 1) == 1 else ()
        if len(parts) != count:
            raise ValueError(self._no_pair(argument, value))
        return parts

    def _no_pair(self, argument: str, value: Any) -> str:
        return f"{self.owner}: {argument} must be two numbers in [0, 1), got {value!r}"

    def tidied(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The group's arguments that hold several numbers, as tuples, which every file format can store."""
        several = [a for a, names in self.spelling.arguments.items() if len(names) > 1 and a in group]
        return {
            a: tuple(p if isinstance(p, torch.Tensor) else float(p) for p in self.parts(a, group[a])) for a in several
        }

    def option(self, name: str, value: Any) -> float:
        """An option of the whole optimizer that is a number, checked. A bool isn't one."""
        self._tensor(name, value, {})
        if isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{self.owner}: {name} must be a number in {RANGES[name][1]}, got {value!r}")
        self._range(name, value, *RANGES[name])
        return as_float(value)

    def _number(self, name: str, value: Any, group: Mapping[str, Any]) -> None:
        if len(self.spelling.arguments.get(name, ())) > 1:
            betas = self.parts(name, value)
            if isinstance(betas[0], torch.Tensor) != isinstance(betas[1], torch.Tensor):
                raise ValueError(f"betas must be either both floats or both Tensors, got {value!r}")
            for index, beta in enumerate(betas):
                self._tensor(f"{name}[{index}]", beta, group)
                self._range(f"{name}[{index}]", beta, f"beta parameter at index {index}", "[0, 1)")
            return
        self._tensor(name, value, group)
        label, allowed = RANGES.get(name, (f"{name} value", self._own_range(name)))
        self._range(name, value, label, allowed)

    def _own_range(self, name: str) -> str:
        spec = self.spelling.convention.rule.numbers.get(name)
        return (spec.range if spec else "") or "(-inf, inf)"

    def _tensor(self, name: str, value: Any, group: Mapping[str, Any]) -> None:
        if not isinstance(value, torch.Tensor):
            return
        # torch's Adam classes refuse this, so a drop-in replacement does too.
        if group.get("foreach") and "capturable" in group and not group["capturable"] and self.spelling.switches:
            raise ValueError(f"{name} as a Tensor is not supported for capturable=False and foreach=True")
        if value.numel() != 1:
            raise ValueError(f"Tensor {name} must be 1-element, got one of shape {tuple(value.shape)}")

    def _range(self, name: str, value: Any, label: str, allowed: str) -> None:
        if value is None and self._optional(name):
            return
        try:
            number = as_float(value)
        except TypeError:
            more = "; for a schedule take one of torch.optim.lr_scheduler" if callable(value) else ""
            raise TypeError(
                f"{self.owner}: {name} must be a number in {allowed}, got {value!r:.60}, a {type(value).__name__}{more}"
            ) from None
        if not (math.isfinite(number) and Number(name, None).within(allowed).allows(number)):
            raise ValueError(f"Invalid {label}: {value}. {self.owner} takes {name} in {allowed}")

    def _optional(self, name: str) -> bool:
        spec = self.spelling.convention.rule.numbers.get(name)
        return spec is not None and (spec.optional or name in self.spelling.convention.follows)

    def _choice(self, name: str, value: Any) -> None:
        spec = self.spelling.convention.rule.choices.get(name)
        check_choice(self.owner, name, spec.allowed if spec else (False, True), value)

    def read(self, group: Mapping[str, Any], clip: bool) -> Resolved:
        """The update that a group asks for, and its numbers."""
        convention = self.spelling.convention
        given = {argument: self._floats(argument, group[argument]) for argument in self.arguments}
        given |= {flag: group[flag] for flag in self.spelling.switches}
        given |= {name: type(convention.rule.choices[name].default)(group[name]) for name in self.choices}
        meaning = self.spelling.read(given)
        decay, ema = as_float(group["weight_decay"]), group.get("ema")
        decoupled = group.get("decoupled_weight_decay", convention.decay == "decoupled")
        around = Surroundings(
            decay=None if decay == 0 else "decoupled" if decoupled else "l2",
            clip=clip,
            maximize=bool(group["maximize"]),
            ema=ema is not None,
            cautious=bool(group.get("cautious", False)),
        )
        numbers = {**meaning.numbers, "weight_decay": decay}
        if ema is not None:
            numbers["ema"] = as_float(ema)
        return Resolved(meaning.update(around), numbers)

    def _floats(self, argument: str, value: Any) -> Any:
        """The value of an argument as a float, or as a tuple of floats."""
        names = self.spelling.arguments[argument]
        if len(names) == 1:
            if value is None and self._optional(names[0]):
                return None
            return self._float(argument, value)
        numbers = tuple(self._float(argument, part) for part in self.parts(argument, value))
        if not all(0 <= number < 1 for number in numbers):  # the group was changed after the check
            raise ValueError(self._no_pair(argument, value))
        return numbers

    def _float(self, argument: str, value: Any) -> float:
        if value is None or isinstance(value, (str, bytes)):
            raise TypeError(f"{self.owner}: {argument} must be a number, got {value!r}")
        return as_float(value)
