"""The schedule that follows a metric, and the stateful parts of schedules."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from inspect import getclosurevars, signature
from types import FunctionType, MethodType
from typing import Any, SupportsFloat

from adamite.schedules.arguments import (
    AT_LEAST_0,
    Count,
    Kind,
    Mode,
    NotNegative,
    Number,
    Share,
    Shrink,
    call_text,
    checked,
    not_nan,
    where_allowed,
)
from adamite.schedules.form import Schedule


def stateful(schedule: Any) -> list[Any]:
    """The stateful parts of a schedule, in order: itself, its arguments, plateaus that a function of yours calls.

    >>> from adamite.schedules import cosine, warmup
    >>> stateful(warmup(ReduceOnPlateau(0.1), steps=10))
    [ReduceOnPlateau(0.1)]
    >>> stateful(warmup(cosine(0.1, steps=90), steps=10))
    []
    >>> plateau = ReduceOnPlateau(0.1)
    >>> stateful(lambda step: plateau(step) / 2)
    [ReduceOnPlateau(0.1)]
    """
    if hasattr(schedule, "state_dict"):
        return [schedule]
    if isinstance(schedule, Schedule):
        return [inner for part in schedule._arguments for inner in stateful(part)]
    return _plateaus(schedule, set())


def _plateaus(function: Any, seen: set[int]) -> list["ReduceOnPlateau"]:
    """The plateaus that a callable refers to; not other objects with a `state_dict`, such as a model."""
    if id(function) in seen:
        return []
    seen.add(id(function))
    if isinstance(function, ReduceOnPlateau):
        return [function]
    referred: list[Any] = []
    if isinstance(function, Schedule):
        referred = [*function._arguments]
    elif isinstance(function, FunctionType):
        referred = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        with suppress(ValueError):  # a variable without a value yet
            names = getclosurevars(function)
            referred += names.nonlocals.values()
            # Functions of other modules aren't followed: they might lead through a whole library.
            referred += (
                value
                for value in names.globals.values()
                if not isinstance(value, FunctionType) or value.__module__ == function.__module__
            )
    elif isinstance(function, MethodType):
        referred = [function.__self__, function.__func__]
    elif isinstance(function, partial):
        referred = [function.func, *function.args, *function.keywords.values()]
    elif callable(function) and not isinstance(function, type):
        referred = [*getattr(function, "__dict__", {}).values()]
    return [plateau for value in referred if callable(value) for plateau in _plateaus(value, seen)]


@dataclass(repr=False)
class ReduceOnPlateau:
    """Multiplies the value by `factor` when a metric has stopped improving.

    Equation: a report is good if metric < best * (1 - threshold) (mode "max": metric >
    best * (1 + threshold)), else bad; NaN is bad. After more than `patience` bad reports in a row,
    value = max(value * factor, minimum); the next `cooldown` reports are not counted as bad.

    Args:
        value: the first value, at least `minimum`; the attribute holds the current one.
        factor: above 0 and below 1; 0.1 by default.
        patience: bad reports in a row that are tolerated, at least 0; 10 by default.
        mode: "min" (default) or "max": whether a lower or a higher metric is better.
        threshold: relative improvement below which a report is bad, in [0, 1); 1e-4 by default.
        cooldown: reports after a reduction that are not counted as bad, at least 0 (default).
        minimum: the value is never reduced below it, at least 0 (default).
    Returns: a schedule: called with any step, it returns the current value.
    Raises: ValueError, TypeError for an argument outside its range or type.

    >>> plateau = ReduceOnPlateau(0.5, factor=0.5, patience=1)
    >>> [plateau.report(loss) for loss in (3.0, 2.0, 2.0, 2.0)]
    [False, False, False, True]
    >>> plateau(4)
    0.25

    Source: torch's ReduceLROnPlateau in threshold_mode "rel" (Keras drops one report earlier and
    measures improvement absolutely). As in torch, a relative threshold suits metrics above 0.
    torch also leaves out reductions smaller than its eps=1e-8; here none is left out.
    """

    value: Number
    factor: Shrink = 0.1
    patience: Count = 10
    mode: Mode = "min"
    threshold: Share = 1e-4
    cooldown: Count = 0
    minimum: NotNegative = 0.0
    best: float = field(init=False)
    bad_reports: int = field(init=False, default=0)
    cooldown_left: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in _PLATEAU.parameters}
        self.__dict__.update(checked("ReduceOnPlateau", _PLATEAU, given))
        if self.value < self.minimum:
            raise ValueError(
                f"ReduceOnPlateau: value must be at least minimum={self.minimum}, "
                f"got {self.value}; give a larger value or a smaller minimum"
            )
        self.best = math.inf if self.mode == "min" else -math.inf

    def __call__(self, step: float = 0) -> float:
        """The current value, whatever the step."""
        try:
            float(step)
        except (TypeError, ValueError):
            raise TypeError(
                f"ReduceOnPlateau: step must be a number, got {step!r:.60}; "
                "in a step that is compiled the value would never change"
            ) from None
        return self.value

    def report(self, metric: SupportsFloat) -> bool:
        """Takes the next metric (a number or a tensor of one) and returns whether the value was reduced.

        Raises TypeError if the metric is not a number.
        """
        if isinstance(metric, bool) or not hasattr(metric, "__float__"):
            raise TypeError(f"ReduceOnPlateau: metric must be a number, got {metric!r}; give the loss, say")
        metric = float(metric)
        if self._improves(metric):
            self.best = metric
            self.bad_reports = 0
        else:
            self.bad_reports += 1
        if self.cooldown_left > 0:
            self.cooldown_left -= 1
            self.bad_reports = 0
        if self.bad_reports <= self.patience:
            return False
        self.bad_reports = 0
        self.cooldown_left = self.cooldown
        before = self.value
        self.value = max(before * self.factor, self.minimum)
        return self.value < before

    def _improves(self, metric: float) -> bool:
        if self.mode == "min":
            return metric < self.best * (1.0 - self.threshold)
        return metric > self.best * (1.0 + self.threshold)

    def state_dict(self) -> dict[str, float]:
        """The state that reports change, to be loaded into a schedule made with the same arguments."""
        return {name: getattr(self, name) for name in _PLATEAU_STATE}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continues from a `state` of `state_dict()`; refuses anything else, and then changes nothing."""
        if not isinstance(state, Mapping):
            raise TypeError(f"ReduceOnPlateau: state must be a dict, got {state!r}; {_LOAD}")
        if set(state) != set(_PLATEAU_STATE):
            raise ValueError(
                f"ReduceOnPlateau: state must have the keys {', '.join(_PLATEAU_STATE)}, "
                f"got {', '.join(map(str, state))}; {_LOAD}"
            )
        read = {
            name: kind.check("ReduceOnPlateau", f"state[{name!r}]", state[name])
            for name, kind in _PLATEAU_STATE.items()
        }
        self.__dict__.update(read)

    def __repr__(self) -> str:
        values = (getattr(self, name) for name in _PLATEAU.parameters)
        return call_text("ReduceOnPlateau", _PLATEAU, values)


_PLATEAU = signature(ReduceOnPlateau)
_LOAD = "load what state_dict() gave"
_PLATEAU_STATE = {
    "value": Kind("a finite number of at least 0", _LOAD, where_allowed(lambda x: x >= 0)),
    "best": Kind("a number or an infinity", _LOAD, not_nan),
    "bad_reports": Kind("a whole number of at least 0", _LOAD, AT_LEAST_0),
    "cooldown_left": Kind("a whole number of at least 0", _LOAD, AT_LEAST_0),
}


def refuse_metrics(owner: str, argument: str, given: object, instead: str) -> None:
    """Refuse a `ReduceOnPlateau`, also inside other schedules, if steps are compiled; say what to do instead."""
    if any(isinstance(part, ReduceOnPlateau) for part in stateful(given)):
        raise TypeError(
            f"{owner}: {argument} can't be {given!r}: it follows a metric, and a step that is compiled would keep its "
            f"first value; {instead}"
        )
