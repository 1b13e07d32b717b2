"""Hyperparameters: which values are valid, where a value comes from, and what it is at a step."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

import numpy as np

from adamite.language.rule import REQUIRED, Number
from adamite.storage import Format

Schedule = Callable[[int], float]  # steps done so far -> value
NonFinite = Literal["propagate", "raise", "skip"]


def check_nonfinite(value: Any) -> NonFinite:
    """The policy for NaN and infinity in gradients.

    Raises:
        ValueError: for anything else; the message lists the policies.
    """
    if not isinstance(value, str) or value not in get_args(NonFinite):
        raise ValueError(f"nonfinite must be one of {', '.join(get_args(NonFinite))}, got {value!r}")
    return cast(NonFinite, value)


def check_number(
    owner: str, spec: Number, value: Any, formats: Collection[Format] = (), schedules: bool = True
) -> float:
    """The value as a float.

    Raises:
        TypeError, ValueError: if it isn't a number in the allowed range.
    """
    meaning = f" ({spec.name}: {spec.meaning})" if spec.meaning else ""
    allowed = f"a number in {spec.range}" if spec.range else "a finite number"
    value = _without_axes(value)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"{owner}: {spec.name} must be {allowed}{', or a schedule (a function of the step)' if schedules else ''}; "
            f"got {value!r:.60}, a {type(value).__name__}{meaning}"
        )
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result) or not spec.allows(result):
        raise ValueError(f"{owner}: {spec.name} must be {allowed}, got {value!r}{meaning}")
    for format in formats:
        with np.errstate(over="ignore", under="ignore"):
            rounded = float(format.dtype.type(result))
        if (rounded == 0 and result != 0) or math.isinf(rounded):
            raise ValueError(
                f"{owner}: {spec.name}={value!r} becomes {rounded:g} in {format.name}; give a number between "
                f"{format.tiny:.2g} and {float(np.finfo(format.dtype).max):.2g}, or use float64 parameters"
            )
    return result


def _without_axes(value: Any) -> Any:
    """The number in a zero-dimensional array of any library; anything else is returned as it is."""
    if getattr(value, "shape", None) == ():
        with suppress(Exception):  # a traced array has no value
            return np.asarray(value)[()]
    return value


def check_function(owner: str, name: str, function: Callable[..., Any], *arguments: str) -> None:
    """Refuse a function that can't be called with these arguments, if its signature is known."""
    from inspect import signature

    try:
        form = signature(function)
    except (TypeError, ValueError):
        return
    try:
        form.bind(*arguments)
    except TypeError as error:
        call = f"called with the {' and the '.join(arguments)}" if arguments else "called without arguments"
        raise TypeError(
            f"{owner}: {name} must be a number, or a function that is {call}; {function!r:.80}: {error}"
        ) from None


def check_choice(owner: str, name: str, allowed: Collection[bool | str], value: Any) -> None:
    """Refuse a value that isn't among the choices. If none are listed, any string is allowed. 1 counts as True."""
    if not isinstance(value, (int, str, np.bool_)) or (allowed and value not in allowed):
        choice = f"one of {', '.join(map(repr, allowed))}" if allowed else "a string"
        raise TypeError(f"{owner}: {name} must be {choice}, got {value!r}")


# Names in other libraries, and what may be meant by them.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate",),
    "learning_rate": ("lr",),
    "alpha": ("lr", "rho", "decay"),
    "rho": ("decay",),
    "betas": ("beta1 and beta2", "beta_1 and beta_2", "b1 and b2"),
    **dict.fromkeys(("beta1", "beta_1", "b1"), ("beta1", "beta_1", "b1")),
    **dict.fromkeys(("beta2", "beta_2", "b2"), ("beta2", "beta_2", "b2")),
    "eps": ("epsilon",),
    "epsilon": ("eps",),
    "mu": ("momentum",),
    "wd": ("weight_decay",),
    "mask": ("weight_decay_mask",),
    "weight_decay_mask": ("mask",),
    **dict.fromkeys(("lr_schedule", "lr_scheduler", "schedule", "scheduler"), ("lr", "learning_rate")),
    "decay": ("lr", "learning_rate", "weight_decay"),  # both have been called decay
    "clip_norm": ("clipnorm", "global_clipnorm"),
    **dict.fromkeys(("global_clipnorm", "clipnorm"), ("clip_norm",)),
    "max_grad_norm": ("clip_norm", "global_clipnorm"),
    **dict.fromkeys(("grad_clip", "gradient_clip", "clip"), ("clip_norm", "clipnorm", "global_clipnorm", "clipvalue")),
    "max_iter": ("maxiter",),
    "method": ("optimizer",),
}


def unknown(owner: str, name: str, allowed: Collection[str], kind: str = "argument") -> str:
    """The error message for an unknown name, with what may have been meant."""
    from difflib import SequenceMatcher, get_close_matches

    def likeness(other: str) -> float:
        return SequenceMatcher(None, name.lower(), other.lower()).ratio() - 0.05 * abs(len(name) - len(other))

    lower = {n.lower(): n for n in allowed}
    synonyms = _SYNONYMS.get(name.lower(), ())
    meant = [names for names in synonyms if all(n in allowed for n in names.split(" and "))]
    meant = meant or [lower[n] for n in sorted(get_close_matches(name.lower(), lower, n=5), key=likeness)[-1:]]
    hint = f"; did you mean {' or '.join(meant)}?" if meant else "."
    listed = sorted(set(allowed))
    return f"{owner} has no {kind} {name!r}{hint} It takes {', '.join(listed) or 'none'}"


class Settings:
    """The hyperparameters of one parameter group. What it doesn't set comes from its parent.

    Values are numbers or schedules.
    """

    def __init__(
        self,
        owner: str,
        specs: Mapping[str, Number],
        formats: Collection[Format],
        parent: Settings | None = None,
        follows: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.owner, self.specs, self.formats, self.parent = owner, specs, formats, parent
        self.follows = dict(follows)  # numbers that equal another one unless they are set
        self.values: dict[str, float | Schedule | None] = {}

    def check(self, name: str, value: Any) -> float | Schedule | None:
        """The value, validated; a schedule is validated when it is read."""
        if name not in self.specs:
            raise TypeError(unknown(self.owner, name, self.specs, "hyperparameter"))
        spec = self.specs[name]
        if value is REQUIRED:
            raise TypeError(f"{self.owner}: {name} is required here, with no default; give {name}=...")
        if value is None and spec.optional:
            return None
        if callable(value) and not isinstance(value, np.generic):
            check_number(f"{self.owner}, at step 0 of its schedule", spec, value(0), self.formats)
            schedule: Schedule = value
            return schedule
        return check_number(self.owner, spec, value, self.formats)

    def set(self, name: str, value: Any) -> None:
        self.values[name] = self.check(name, value)

    def source(self, name: str) -> float | Schedule | None:
        """What was set here or in a parent: a number, a schedule or None."""
        settings: Settings | None = self
        while settings is not None:
            if name in settings.values:
                return settings.values[name]
            settings = settings.parent
        if name in self.follows:
            return self.source(self.follows[name])
        raise KeyError(name)

    def at(self, name: str, step: int) -> float | None:
        """The value after `step` steps."""
        value = self.source(name)
        if not callable(value):
            return value
        return check_number(
            f"{self.owner}, at step {step} of its schedule", self.specs[name], value(step), self.formats
        )
