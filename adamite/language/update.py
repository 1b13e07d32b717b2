"""The one place where a parameter moves: x <- x - (step + lr * weight_decay * x).

Everything that surrounds a rule (clipping, maximizing, coupled and decoupled weight decay, the cautious mask, the
average of the weights) is written here, once, and traced in only if it is turned on.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal, NamedTuple

from adamite.language.bounds import nonnegative
from adamite.language.expression import Expression, number, tensor
from adamite.language.maths import where
from adamite.language.rule import Number, Rule
from adamite.language.trace import Trace, trace

Decay = Literal["l2", "decoupled"]

# The hyperparameters of the surroundings.
WEIGHT_DECAY = Number(
    "weight_decay",
    0.0,
    low=0.0,
    range="[0, inf)",
    meaning="how fast weights shrink toward zero. 0.01 to 0.1 for transformers; leave biases and norms out.",
)
EMA = Number(
    "ema",
    None,
    low=0.0,
    high=1.0,
    range="[0, 1)",
    meaning="decay of the running average of the weights; 0.999 averages the last thousand steps.",
)

CLIP_NORM = Number(
    "clip_norm",
    None,
    optional=True,
    low=0.0,
    range="(0, inf)",
    meaning="gradients whose norm over all parameters is larger are scaled down to it; 1 is usual",
)


class Surroundings(NamedTuple):
    """What is wrapped around a rule."""

    decay: Decay | None = None
    clip: bool = False
    maximize: bool = False
    ema: bool = False
    cautious: bool = False
    moves: bool = True  # else the negated step takes the gradient's place, and the parameter stays: optax's update


class Update:
    """A rule with its choices and surroundings, as expressions."""

    def __init__(self, rule: Rule, surroundings: Surroundings, outputs: Mapping[str, Expression], trace: Trace) -> None:
        self.rule, self.surroundings = rule, surroundings
        self.outputs = outputs  # "x" or "g", the tensor states, "average"
        self.scalars = trace.scalars  # Scalar states
        self.named = trace.locals  # the rule's local variables
        self.nonnegative = nonnegative(rule, trace.states)  # states that can't be negative

    @property
    def states(self) -> tuple[str, ...]:
        """The tensors that the optimizer keeps for a parameter."""
        return tuple(name for name in self.outputs if name not in ("x", "g"))


@functools.cache
def build(
    rule: Rule,
    choices: tuple[tuple[str, bool | str], ...] = (),
    absent: frozenset[str] = frozenset(),
    around: Surroundings = Surroundings(),  # noqa: B008 - a tuple
) -> Update:
    """Trace the rule with what surrounds it."""
    x, g = tensor("x"), tensor("g")
    lr, weight_decay, ema = number("lr"), number("weight_decay"), number("ema")
    gradient = g
    if around.clip:
        gradient = number("clip") * gradient
    if around.maximize:
        gradient = -gradient
    if around.decay == "l2":
        gradient = gradient + weight_decay * x
    traced = trace(rule, dict(choices), absent, x=x, g=gradient)
    step = traced.step
    if around.cautious:  # Liang et al. 2024, without rescaling: only where the step follows the gradient
        step = where(step * gradient > 0, step, 0)
    if around.decay == "decoupled":
        step = step + lr * weight_decay * x
    outputs = {"x": x - step, **traced.states} if around.moves else {"g": -step, **traced.states}
    if around.ema:
        outputs["average"] = ema * tensor("average") + (1 - ema) * outputs["x"]
    return Update(rule, around, outputs, traced)
