"""A schedule as a closed form of the step, which a framework may trace."""

import math
from collections.abc import Callable
from functools import singledispatch, wraps
from inspect import Parameter, Signature, signature
from typing import Any, NamedTuple, ParamSpec, TypeAlias, overload

from adamite.schedules.arguments import STEP, call_text, checked

P = ParamSpec("P")


class Operations(NamedTuple):
    """The functions that a closed form uses in addition to Python's operators."""

    cos: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    floor: Callable[[Any], Any]
    log1p: Callable[[Any], Any]
    expm1: Callable[[Any], Any]
    minimum: Callable[[Any, Any], Any]
    maximum: Callable[[Any, Any], Any]
    where: Callable[[Any, Callable[[], Any], Callable[[], Any]], Any]  # the value of one of two functions
    number: Callable[[Any], Any]  # the result of a user's function, as a number to compute with
    count: Callable[[Any], Any]  # a step, as a user's function takes it


ON_NUMBERS = Operations(
    math.cos,
    math.sqrt,
    math.floor,
    math.log1p,
    math.expm1,
    min,
    max,
    where=lambda condition, a, b: a() if condition else b(),
    number=float,
    count=lambda step: int(step) if step % 1 == 0 else step,
)

Formula: TypeAlias = Callable[[Any, Operations], Any]


class Schedule:
    """A closed form ``step -> value``, made by the functions below.

    >>> from adamite.schedules import cosine
    >>> schedule = cosine(0.1, steps=1000)
    >>> schedule(500)
    0.05
    >>> schedule == cosine(value=0.1, steps=1000, end=0.0)
    True
    """

    __slots__ = ("__weakref__", "_arguments", "_at", "_form", "_maker")

    def __init__(
        self,
        maker: Callable[..., "Schedule"],
        form: Signature,
        arguments: tuple[Any, ...],
        at: Formula,
    ) -> None:
        self._maker = maker
        self._form = form
        self._arguments = arguments
        self._at = at

    @overload
    def __call__(self, step: float) -> float: ...
    @overload
    def __call__(self, step: Any) -> Any: ...
    def __call__(self, step: Any = None) -> Any:
        """The value for the update after `step` steps: a number, or a framework's traced value."""
        return self._number(step) if type(step) is int else evaluate(step, self)

    def at(self, step: Any, operations: Operations) -> Any:
        """The value, computed with a framework's operations; at negative steps it is the first."""
        return self._at(operations.maximum(step, 0), operations)

    def _number(self, step: float) -> float:
        try:
            value: float = self.at(step, ON_NUMBERS)
        except OverflowError:
            value = math.inf
        if math.isfinite(value):
            return value
        raise OverflowError(f"{self!r} has no finite value at step {step}; stop it before that step")

    def __repr__(self) -> str:
        return call_text(self._maker.__name__, self._form, self._arguments)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return self._maker is other._maker and self._arguments == other._arguments

    def __hash__(self) -> int:
        return hash((self._maker, self._arguments))

    def __reduce__(self) -> tuple[Callable[..., "Schedule"], tuple[Any, ...]]:
        return self._maker, self._arguments


@singledispatch
def evaluate(step: Any, schedule: Schedule) -> Any:
    """A schedule's value at a step that isn't an `int`; front-ends register the types of their framework's steps."""
    return schedule._number(STEP.check(schedule._maker.__name__, "step", step))


@evaluate.register
def _(step: None, schedule: Schedule) -> Any:
    raise TypeError(
        f"{schedule._maker.__name__}: step must be {STEP.words}, got None; {STEP.advice}. Keras's own optimizers, "
        f"which give none, take adamite.keras.Schedule({schedule!r})"
    )


def closed_form(formula: Callable[P, Formula]) -> Callable[P, Schedule]:
    """Turns ``formula(*arguments) -> (step, operations -> value)`` into a maker of schedules that checks arguments."""
    form = signature(formula)
    name = formula.__name__
    usage = form.replace(
        parameters=[p.replace(annotation=Parameter.empty) for p in form.parameters.values()],
        return_annotation=Signature.empty,
    )

    @wraps(formula)
    def make(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        try:
            bound = form.bind(*args, **kwargs)
        except TypeError as error:
            message = f"{name}: {error}; call it as {name}{usage}"
            raise TypeError(message) from None
        bound.apply_defaults()
        arguments = checked(name, form, bound.arguments)
        build: Callable[..., Formula] = formula
        return Schedule(make, form, tuple(arguments.values()), build(**arguments))

    return make
