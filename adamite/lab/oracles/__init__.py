"""The independent oracle: every optimizer from its paper, over single Python floats.

Nothing here is shared with, or derived from, the library's own rules: only the module ``math``, one coordinate at a
time, plain ``if`` and float64. Each file has one family of optimizers. A function there that returns a `Stepper` is
the oracle of the rule of the same name.

In variable names a hat means "corrected for its bias": divided by 1 - beta**t. Python's own float rules apply: with
eps = 0 and a gradient that has always been zero, 0/0 raises ``ZeroDivisionError``.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import NamedTuple, get_type_hints

from adamite.lab.oracles.stepper import Stepper

Value = float | bool | None
Hyperparameter = Value | Callable[[int], Value]


def _oracles() -> Iterator[tuple[str, Callable[[], Stepper]]]:
    """The functions in the files of this folder that return a stepper, by name."""
    for file in iter_modules(__path__, f"{__name__}."):
        for name, function in inspect.getmembers(import_module(file.name), inspect.isfunction):
            if get_type_hints(function).get("return") == Stepper:
                yield name, function


ORACLES: dict[str, Callable[[], Stepper]] = dict(_oracles())


class Run(NamedTuple):
    """What `run` returns."""

    parameters: list[list[float]]
    """The coordinates after each step."""
    ema: list[float] | None
    """The moving average of the coordinates after the last step; None where not asked for."""


def run(
    name: str,
    start: Sequence[float],
    gradients: Sequence[Sequence[float]],
    hyperparameters: Mapping[str, Hyperparameter],
    *,
    l2: float = 0.0,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    maximize: bool = False,
    ema_decay: float | None = None,
) -> Run:
    """Run the oracle ``name`` from ``start`` over ``gradients``, one list of numbers per step.

    A hyperparameter is a value, or a function of the number of steps already done. In each step:
    clip by the global norm; negate if maximize; add l2*x; the rule; then subtract its displacement
    and lr*weight_decay*x, both from the old x; then move the average.
    """
    steppers = [ORACLES[name]() for _ in start]
    x = [float(value) for value in start]
    ema = list(x)
    parameters: list[list[float]] = []
    for t, gradient in enumerate(gradients, start=1):
        values = {key: value(t - 1) if callable(value) else value for key, value in hyperparameters.items()}
        lr = values["lr"]
        if lr is None:
            raise TypeError("lr must be a number")
        factor = 1.0
        if clip_norm is not None:
            norm = math.hypot(*gradient)
            if norm > clip_norm:
                factor = clip_norm / norm
        new_x: list[float] = []
        for step, x_i, g_i in zip(steppers, x, gradient, strict=True):
            g = factor * g_i
            if maximize:
                g = -g
            g = g + l2 * x_i
            displacement = step(t, g, **values)
            new_x.append(x_i - (displacement + lr * weight_decay * x_i))
        x = new_x
        parameters.append(x)
        if ema_decay is not None:
            ema = [ema_decay * e + (1 - ema_decay) * x_i for e, x_i in zip(ema, x, strict=True)]
    return Run(parameters, ema if ema_decay is not None else None)
