"""The arguments and attributes of an optimizer: checked when they are set, read in every step."""

from __future__ import annotations

import numbers as kinds
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from adamite import schedules
from adamite.frontend.settings import check_choice, check_function, check_number
from adamite.frontend.spelling import Spelling
from adamite.keras.arrays import constant
from adamite.keras.schedules import FOR_METRICS, Schedule
from adamite.language.rule import REQUIRED, Choice, Number
from adamite.language.update import CLIP_NORM, WEIGHT_DECAY, Surroundings, Update
from adamite.schedules.plateau import refuse_metrics
from adamite.storage import Rounding
from adamite.storage.choice import StateDtype


def _option(name: str, allowed: str, meaning: str) -> Number:
    return Number(name, None, optional=True, meaning=meaning).within(allowed)


_NUMBERS = {
    "weight_decay": WEIGHT_DECAY._replace(optional=True),
    "clipnorm": _option("clipnorm", "[0, inf)", "a gradient whose norm is larger is scaled down to it; 0 for none"),
    "global_clipnorm": _option("global_clipnorm", "[0, inf)", f"{CLIP_NORM.meaning}; 0 for none"),
    "clipvalue": _option("clipvalue", "[0, inf)", "what is larger in a gradient is cut down to it; 0 for none"),
    "ema_momentum": _option("ema_momentum", "[0, 1]", "decay of the running average of the weights"),
    "loss_scale_factor": _option("loss_scale_factor", "(0, inf)", "what the loss was multiplied by"),
}
_COUNTS = {"gradient_accumulation_steps": 2, "ema_overwrite_frequency": 1}  # the smallest value; 0 is None
_FLAG = Choice("", False, (False, True))


class Options(TypedDict, total=False):
    """Keras's options, which every class takes."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    name: str | None


class Extras(Options, total=False):
    """The options that every class takes: Keras's, and adamite's."""

    state: StateDtype
    rounding: Rounding
    seed: int


class Resolved(NamedTuple):
    """The settings in the form that kernels need."""

    plain: Update  # for variables without weight decay
    decaying: Update
    numbers: Mapping[str, float]  # all but lr


class ClassSettings:
    """The arguments of one class, and their meaning."""

    def __init__(self, owner: str, spelling: Spelling) -> None:
        self.owner, self.spelling = owner, spelling
        rule = spelling.convention.rule
        numbers = {
            argument: rule.numbers[name]._replace(name=argument) for argument, (name,) in spelling.arguments.items()
        }
        numbers |= {name: numbers[name].within(allowed) for name, allowed in spelling.ranges.items() if name in numbers}
        follows = [a for a, (name,) in spelling.arguments.items() if name in spelling.convention.follows]
        numbers |= {argument: numbers[argument]._replace(optional=True) for argument in follows}
        self.numbers = {**_NUMBERS, **numbers}
        self.choices = {**rule.choices, **dict.fromkeys([*spelling.switches, "use_ema"], _FLAG)}
        attributes = [*numbers, *rule.choices, *spelling.switches]
        # Attributes that are also in the config.
        self.names = tuple(name for name in attributes if name != "learning_rate")

    def check(self, name: str, value: Any) -> Any:
        """The value to store for an attribute.

        Raises:
            TypeError, ValueError: if it is invalid.
        """
        if name in self.numbers:
            value = constant(value)
        if name == "learning_rate":
            return self._rate(value)
        if name in self.numbers:
            spec = self.numbers[name]
            if value is REQUIRED:
                raise TypeError(f"{self.owner}: {name} is required; give {name}=...")
            if value is None and spec.optional:
                return None
            return check_number(self.owner, spec, value, schedules=False)
        if name in self.choices:
            return self._choice(name, value)
        if name in _COUNTS:
            return self._count(name, value) if value else None
        return value

    def _rate(self, value: Any) -> Any:
        if "learning_rate" not in self.numbers:
            raise TypeError(f"{self.owner} has no learning_rate: its rule has no lr")
        refuse_metrics(self.owner, "learning_rate", value, FOR_METRICS)
        if isinstance(value, schedules.Schedule):
            value = Schedule(value)
            self._rate(value(0))
            return value
        if callable(value) and not isinstance(value, LearningRateSchedule):
            check_function(self.owner, "learning_rate", value)
        if not isinstance(value, (kinds.Real, str, np.ndarray)) and value is not None and value is not REQUIRED:
            return value  # a schedule, a function without arguments, or a tensor
        if value is REQUIRED:
            raise TypeError(f"{self.owner}: learning_rate is required; give learning_rate=...")
        return check_number(self.owner, self.numbers["learning_rate"], value, schedules=False)

    def _choice(self, name: str, value: Any) -> Any:
        spec = self.choices[name]
        check_choice(self.owner, name, spec.allowed, value)
        return type(spec.default)(value)

    def _count(self, name: str, value: Any) -> int:
        least = _COUNTS[name]
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{self.owner}: {name} must be a whole number of at least {least}, or None; got {value!r}")
        return int(value)

    def read(self, values: tuple[Any, ...], weight_decay: float | None) -> Resolved:
        """The updates and numbers for these values of `names`."""
        meaning = self.spelling.read(dict(zip(self.names, values, strict=True)))
        decay = self.spelling.convention.decay if weight_decay else None
        plain, decaying = (meaning.update(Surroundings(decay=kind)) for kind in (None, decay))
        return Resolved(plain, decaying, {**meaning.numbers, "weight_decay": weight_decay or 0.0})
