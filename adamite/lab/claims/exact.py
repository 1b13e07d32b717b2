"""What an optimizer's equations do to given gradients: exact, with nothing trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def moves(make: Any, gradients: Sequence[Any], **options: Any) -> Array:
    """By how much each step of an optimizer of adamite's lowers parameters that begin at 0."""
    x = np.zeros_like(np.asarray(gradients[0], float))
    optimizer, steps = make(x, **options), []
    for gradient in gradients:
        before = x.copy()
        optimizer.step(np.asarray(gradient, float))
        steps.append(before - x)
    return np.array(steps)


def states(make: Any, gradients: Sequence[Any], **options: Any) -> dict[str, Array]:
    """The states that the optimizer has for its parameter after these gradients."""
    x = np.zeros_like(np.asarray(gradients[0], float))
    optimizer = make(x, **options)
    for gradient in gradients:
        optimizer.step(np.asarray(gradient, float))
    (by_name,) = optimizer.state_dict()["parameters"].values()
    return {name: np.asarray(value) for name, value in by_name.items() if name != "step"}
