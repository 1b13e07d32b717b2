"""Schedules: a hyperparameter (learning rate, weight decay, beta1, ...) as a function of the step.

A schedule is called with the number of steps already done and gives the value for the next update,
so ``schedule(0)`` is the value of the first update (as in Keras, optax and torch's ``LambdaLR``), and of any
step below 0, for which optax's ``join_schedules`` asks before a schedule's turn.
It is a closed form without state: resumed at any step, it gives the same value. It prints as the
call that made it, pickles, and equals another one made with the same arguments.

>>> schedule = warmup(cosine(0.1, steps=900), steps=100)
>>> schedule
warmup(cosine(0.1, steps=900), steps=100)
>>> [schedule(step) for step in (0, 50, 100, 1000)]
[0.0, 0.05, 0.1, 0.0]

In the signatures every argument carries its allowed range. An argument outside it is refused at
once with a ``ValueError``, one of a wrong type with a ``TypeError``; a bool is not a number, NaN
and infinities are refused, and a count of steps may be written as a whole float (``1e4``).
`ReduceOnPlateau` is the one schedule with state: it follows a metric, not the step.

A closed form is one text for Python's numbers and for steps that a framework traces: beside arithmetic it uses what an
`Operations` has. `evaluate` is where a front-end says how a step of its framework's is read.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial, singledispatch, wraps
from inspect import Parameter, Signature, getclosurevars, signature
from numbers import Real
from types import FunctionType, MethodType
from typing import Annotated, Any, Literal, NamedTuple, ParamSpec, SupportsFloat, TypeAlias, overload

__all__ = [
    "ReduceOnPlateau",
    "Schedule",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "inverse_sqrt",
    "one_cycle",
    "piecewise",
    "polynomial",
    "step_decay",
    "warmup",
    "warmup_stable_decay",
]

P = ParamSpec("P")


# What a closed form is made of ---------------------------------------------------------------------


class Operations(NamedTuple):
    """The functions that a closed form uses beside Python's operators."""

    cos: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    floor: Callable[[Any], Any]
    log1p: Callable[[Any], Any]
    expm1: Callable[[Any], Any]
    minimum: Callable[[Any, Any], Any]
    maximum: Callable[[Any, Any], Any]
    where: Callable[[Any, Callable[[], Any], Callable[[], Any]], Any]  # the value of one of two functions
    number: Callable[[Any], Any]  # what another function gave, to compute with
    count: Callable[[Any], Any]  # steps, as another function takes them


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

Function: TypeAlias = Callable[[Any], Any]  # step -> value
Formula: TypeAlias = Callable[[Any, Operations], Any]


# What an argument may be -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """A kind of argument: its range in words, advice, and a reader that raises on anything else."""

    words: str
    advice: str
    read: Callable[[Any], Any]

    def __repr__(self) -> str:  # what help() shows in a signature
        return self.words

    def check(self, owner: str, name: str, given: object) -> Any:
        try:
            return self.read(given)
        except (TypeError, AttributeError, ValueError, OverflowError) as error:
            refusal = ValueError if isinstance(error, (ValueError, OverflowError)) else TypeError
            message = f"{owner}: {name} must be {self.words}, got {given!r}; {self.advice}"
        raise refusal(message)


def _not_nan(given: Any) -> float:
    if getattr(given, "shape", None) == ():  # an array of no axes, as frameworks count steps
        given = given.item() if hasattr(given, "item") else float(given)
    if isinstance(given, bool) or not isinstance(given, Real):
        raise TypeError
    if math.isnan(given):
        raise ValueError
    return float(given)


def _real(given: object) -> float:
    number = _not_nan(given)
    if math.isinf(number):
        raise ValueError
    return number


def _whole(given: object) -> int:
    number = _real(given)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _where(allowed: Callable[[Any], bool], read: Callable[[Any], Any] = _real) -> Function:
    """The reader of what `read` accepts and `allowed` holds for."""

    def read_allowed(given: object) -> Any:
        value = read(given)
        if not allowed(value):
            raise ValueError
        return value

    return read_allowed


def _each(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """The reader of a list (or tuple, range) of what `read` accepts."""

    def read_each(given: object) -> tuple[Any, ...]:
        if not isinstance(given, list | tuple | range):
            raise TypeError
        return tuple(read(item) for item in given)

    return read_each


def _flag(given: object) -> bool:
    if not isinstance(given, bool):
        raise TypeError
    return given


def _mode(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError
    if given not in ("min", "max"):
        raise ValueError
    return given


def _number_or_schedule(given: object) -> float | Function:
    if not callable(given):
        return _real(given)
    _real(given(0))  # refuses at once a maker that was not called, and what gives no number
    return given


def _increasing(items: Sequence[int]) -> bool:
    return all(low < high for low, high in zip((0, *items), items))


_AT_LEAST_0 = _where(lambda n: n >= 0, _whole)
_AT_LEAST_1 = _where(lambda n: n >= 1, _whole)

Number: TypeAlias = Annotated[float, _Kind("a finite number", "give a plain number such as 0.001", _real)]
Positive: TypeAlias = Annotated[
    float, _Kind("a finite number above 0", "give a number such as 0.1", _where(lambda x: x > 0))
]
Growth: TypeAlias = Annotated[
    float,
    _Kind(
        "a finite number of at least 1",
        "1 keeps every period equally long, 2 doubles it at each restart",
        _where(lambda x: x >= 1),
    ),
]
Share: TypeAlias = Annotated[
    float,
    _Kind(
        "a number of at least 0 and below 1",
        "give a share of the whole such as 0.3",
        _where(lambda x: 0 <= x < 1),
    ),
]
Shrink: TypeAlias = Annotated[
    float,
    _Kind(
        "a number above 0 and below 1",
        "each reduction multiplies the value by it, give one such as 0.1",
        _where(lambda x: 0 < x < 1),
    ),
]
NotNegative: TypeAlias = Annotated[
    float,
    _Kind("a finite number of at least 0", "0 sets no bound", _where(lambda x: x >= 0)),
]
Steps: TypeAlias = Annotated[int, _Kind("a whole number of at least 1", "give a length in steps", _AT_LEAST_1)]
Count: TypeAlias = Annotated[int, _Kind("a whole number of at least 0", "give a count, 0 for none", _AT_LEAST_0)]
Boundaries: TypeAlias = Annotated[
    Sequence[int],
    _Kind(
        "an increasing list of whole numbers of at least 1",
        "give the steps at which the value changes, such as [1000, 2000]",
        _where(_increasing, _each(_whole)),
    ),
]
Numbers: TypeAlias = Annotated[
    Sequence[float],
    _Kind("a list of finite numbers", "give numbers such as [0.1, 0.01]", _each(_real)),
]
Flag: TypeAlias = Annotated[bool, _Kind("True or False", "give one of the two", _flag)]
Mode: TypeAlias = Annotated[
    Literal["min", "max"],
    _Kind("'min' or 'max'", "'min' where a lower metric is better, 'max' where a higher", _mode),
]
NumberOrSchedule: TypeAlias = Annotated[
    float | Function,
    _Kind(
        "a finite number or a schedule (step -> finite number)",
        "give one such as 0.1 or cosine(0.1, steps=1000)",
        _number_or_schedule,
    ),
]

_STEP = _Kind(
    "a finite number of steps",
    "give how many are already done, 0 for the first update",
    _real,
)


def _checked(owner: str, form: Signature, given: Mapping[str, object]) -> dict[str, Any]:
    """Every argument read by the kind that its annotation carries."""
    return {
        name: form.parameters[name].annotation.__metadata__[0].check(owner, name, value)
        for name, value in given.items()
    }


def _call_text(owner: str, form: Signature, values: Iterable[object]) -> str:
    """The call as one would write it: the first argument, then by name what is not the default."""
    pairs = list(zip(form.parameters.values(), values))
    named = [f"{p.name}={value!r}" for p, value in pairs[1:] if value != p.default]
    return f"{owner}({', '.join([repr(pairs[0][1]), *named])})"


# A schedule --------------------------------------------------------------------------------------


class Schedule:
    """A closed form ``step -> value``, made by the functions below.

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
        """The value for the update after `step` steps: a number, or what a framework traces."""
        return self._number(step) if type(step) is int else evaluate(step, self)

    def at(self, step: Any, operations: Operations) -> Any:
        """The value, by a framework's operations; before the first update it is the first."""
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
        return _call_text(self._maker.__name__, self._form, self._arguments)

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
    """A schedule's value at a step that is no `int`; a front-end registers what its framework's steps are."""
    return schedule._number(_STEP.check(schedule._maker.__name__, "step", step))


@evaluate.register
def _(step: None, schedule: Schedule) -> Any:
    raise TypeError(
        f"{schedule._maker.__name__}: step must be {_STEP.words}, got None; {_STEP.advice}. Keras's own optimizers, "
        f"which give none, take adamite.keras.Schedule({schedule!r})"
    )


def refuse_metrics(owner: str, argument: str, given: object, instead: str) -> None:
    """Refuse a `ReduceOnPlateau`, and what has one in it, where steps are compiled; say what to do instead."""
    if any(isinstance(part, ReduceOnPlateau) for part in stateful(given)):
        raise TypeError(
            f"{owner}: {argument} can't be {given!r}: it follows a metric, and a step that is compiled would keep its "
            f"first value; {instead}"
        )


def _schedule(formula: Callable[P, Formula]) -> Callable[P, Schedule]:
    """Makes ``formula(*arguments) -> (step, operations -> value)`` a maker of schedules: checked and named."""
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
        arguments = _checked(name, form, bound.arguments)
        build: Callable[..., Formula] = formula
        return Schedule(make, form, tuple(arguments.values()), build(**arguments))

    return make


def _between(first: float, last: float, share: Any) -> Any:
    """From `first` at share 0 to `last` at share 1, exact at both."""
    return first * (1.0 - share) + last * share


def _half_cosine(first: float, last: float, share: Any, on: Operations) -> Any:
    """The same along half a period of the cosine."""
    return _between(first, last, (1.0 - on.cos(math.pi * share)) / 2.0)


# The shapes --------------------------------------------------------------------------------------


@_schedule
def constant(value: Number) -> Formula:
    """The same value at every step.

    Equation: value

    Args:
        value: any finite number.
    Returns: a `Schedule`. Raises: ValueError, TypeError for an argument outside its range or type.

    >>> constant(0.1)(1000)
    0.1
    """
    return lambda step, on: value


@_schedule
def step_decay(value: Number, every: Steps, factor: Positive = 0.1) -> Formula:
    """Multiplies the value by `factor` every `every` steps.

    Equation: value * factor ** floor(step / every)

    Args:
        value: the first value, any finite number.
        every: steps between two changes, at least 1.
        factor: above 0; 0.1 by default; above 1 the value grows.
    Returns: a `Schedule`. Raises: ValueError, TypeError for an argument outside its range or type.

    >>> schedule = step_decay(0.5, every=30, factor=0.5)
    >>> schedule(29), schedule(30), schedule(60)
    (0.5, 0.25, 0.125)

    Source: torch's StepLR, the same numbers.
    """
    return lambda step, on: value * factor ** (step // every)


@_schedule
def piecewise(boundaries: Boundaries, values: Numbers) -> Formula:
    """Constant on pieces: ``values[i]`` while step < ``boundaries[i]``, then the last value.

    Equation: values[number of boundaries <= step]

    Args:
        boundaries: increasing steps, each at least 1.
        values: finite numbers, one more than there are boundaries.
    Returns: a `Schedule`. Raises: ValueError, TypeError for an argument outside its range or type.

    >>> schedule = piecewise([100, 200], values=[0.1, 0.01, 0.001])
    >>> schedule(99), schedule(100), schedule(200)
    (0.1, 0.01, 0.001)

    Source: He et al., Deep Residual Learning (2016), section 4.2. Keras's
    PiecewiseConstantDecay changes one step later (after ``step <= boundary``); optax changes here
    too, but takes factors in place of values.
    """
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"piecewise: values must be one more than the {len(boundaries)} boundaries, "
            f"got {len(values)}; give {len(boundaries) + 1}: one before each boundary and the last"
        )

    def at(step: Any, on: Operations) -> Any:
        def among(first: int, last: int) -> Any:
            if first == last:
                return values[first]
            middle = (first + last) // 2
            return on.where(step < boundaries[middle], lambda: among(first, middle), lambda: among(middle + 1, last))

        return among(0, len(boundaries))

    return at


@_schedule
def exponential(value: Number, rate: Positive, steps: Steps, staircase: Flag = False) -> Formula:
    """Multiplies the value by `rate` over each `steps` steps, smoothly or at once.

    Equation: value * rate ** (step / steps); with staircase, value * rate ** floor(step / steps)

    Args:
        value: the first value, any finite number.
        rate: above 0; above 1 the value grows (a learning-rate range test).
        steps: steps for one factor of `rate`, at least 1.
        staircase: False by default; True changes the value only every `steps` steps.
    Returns: a `Schedule`. Raises: ValueError, TypeError for an argument outside its range or type.

    >>> schedule = exponential(0.5, rate=0.25, steps=100)
    >>> schedule(0), schedule(50), schedule(100)
    (0.5, 0.25, 0.125)

    Source: Keras's ExponentialDecay, the same numbers; torch's ExponentialLR is steps=1.
    """
    if staircase:
        return lambda step, on: value * rate ** (step // steps)
    return lambda step, on: value * rate ** (step / steps)


@_schedule
def polynomial(value: Number, end: Number, steps: Steps, power: Positive = 1.0) -> Formula:
    """From `value` to `end` in `steps` steps, then `end`; a straight line by default.

    Equation: end + (value - end) * (1 - min(step / steps, 1)) ** power

    Args:
        value: the first value, any finite number.
        end: the value from step `steps` on, any finite number.
        steps: the length in steps, at least 1.
        power: above 0; 1 by default.
    Returns: a `Schedule`. Raises: ValueError, TypeError for an argument outside its range or type.

    >>> schedule = polynomial(1.0, end=0.5, steps=100)
    >>> schedule(0), schedule(50), schedule(100), schedule(200)
    (1.0, 0.75, 0.5, 0.5)

    Source: Chen et al., DeepLab (2017), section 4.1 ("poly"); Keras's PolynomialDecay without
    `cycle`, torch's PolynomialLR (end=0), the same numbers.
    """
    return lambda step, on: _between(end, value, (1.0 - on.minimum(step / steps, 1.0)) ** power)


@_schedule
def inverse_sqrt(value: Number, steps: Steps) -> Formula:
    """Constant for `steps` steps, then falling as 1 / sqrt(step).

    Equation: value * sqrt(steps / max(step, steps))

    Args:
        value: the first value, any finite number.
        steps: steps at the first value, at least 1.
    Returns: a `Schedule`. Raises: ValueError, TypeError for an argument outside its range or type.

    >>> schedule = inverse_sqrt(0.5, steps=100)
    >>> schedule(0), schedule(100), schedule(400)
    (0.5, 0.5, 0.25)

    Source: Raffel et al., T5 (2020), section 3.1.2. The Transformer (Vaswani et al. 2017,
    section 5.3) puts a linear warm-up in the place of the constant part.
    """
    return lambda step, on: value * on.sqrt(steps / on.maximum(step, steps))


@_schedule
def cosine(value: Number, steps: Steps, end: Number = 0.0) -> Formula:
    """From `value` to `end` along half a cosine in `steps` steps, then `end`.

    Equation: end + (value - end) * (1 + cos(pi * min(step / steps, 1))) / 2

    Args:
        value: the first value, any finite number.
        steps: the length in steps, at least 1.
        end: the value from step `steps` on; 0 by default.
    Returns: a `Schedule`. Raises: ValueError, TypeError for an argument outside its range or type.

    >>> schedule = cosine(0.5, steps=100, end=0.25)
    >>> schedule(0), schedule(50), schedule(100), schedule(200)
    (0.5, 0.375, 0.25, 0.25)

    Source: Loshchilov & Hutter, SGDR (2017), equation 5, without restarts. Keras and optax give
    `end` as a share of `value` (alpha); torch's CosineAnnealingLR rises again after T_max.
    """
    return lambda step, on: _half_cosine(value, end, on.minimum(step / steps, 1.0), on)


@_schedule
def cosine_restarts(value: Number, steps: Steps, end: Number = 0.0, growth: Growth = 1.0) -> Formula:
    """Cosine periods from `value` towards `end`, each `growth` times as long as the one before.

    Equation: end + (value - end) * (1 + cos(pi * (step - first_n) / length_n)) / 2 in period n,
    with length_n = steps * growth ** n and first_n = length_0 + ... + length_(n-1)

    Args:
        value: the value at the start of each period, any finite number.
        steps: the length of the first period in steps, at least 1.
        end: what each period falls towards, met only at the restart itself; 0 by default.
        growth: at least 1; 1 by default; need not be whole.
    Returns: a `Schedule`. Raises: ValueError, TypeError for an argument outside its range or type.

    >>> schedule = cosine_restarts(0.5, steps=100, growth=2)
    >>> schedule(0), schedule(50), schedule(100), schedule(200), schedule(300)
    (0.5, 0.25, 0.5, 0.25, 0.5)

    Source: Loshchilov & Hutter, SGDR (2017), equation 5. torch's CosineAnnealingWarmRestarts is the
    same for a whole growth; Keras's CosineDecayRestarts doubles the periods by default (t_mul).
    """
    if growth == 1.0:
        return lambda step, on: _half_cosine(value, end, (step % steps) / steps, on)
    log_growth = math.log(growth)

    def at(step: Any, on: Operations) -> Any:
        # A step within 1e-9 of a restart is that restart: logarithms and growth=1.1 are not exact.
        period = on.floor(on.log1p(step / steps * (growth - 1.0)) / log_growth + 1e-9)
        first = steps * on.expm1(period * log_growth) / (growth - 1.0)
        return _half_cosine(value, end, on.maximum(step - first, 0.0) / (steps * growth**period), on)

    return at


@_schedule
def warmup(schedule: NumberOrSchedule, steps: Count, start: Number = 0.0) -> Formula:
    """A line from `start` to the schedule's first value in `steps` steps, then the schedule.

    Equation: start + (schedule(0) - start) * step / steps  for step < steps,
    schedule(step - steps)  from there on

    Args:
        schedule: any schedule, any function ``step -> value``, or a number to be held.
        steps: the length of the warm-up, at least 0 (none).
        start: the value of the first update; 0 by default, an update that moves nothing.
    Returns: a `Schedule`. Raises: ValueError, TypeError for an argument outside its range or type.

    >>> schedule = warmup(cosine(0.5, steps=100), steps=10)
    >>> schedule(0), schedule(5), schedule(10), schedule(60), schedule(110)
    (0.0, 0.25, 0.5, 0.25, 0.0)

    Source: Goyal et al., ImageNet in 1 Hour (2017), section 2.2. The same as Keras's warmup_steps
    and torch's LinearLR before another in SequentialLR. In optax's warmup_cosine_decay_schedule
    decay_steps holds the warm-up too; here the cosine has its own length after it.
    """
    inner: Function = schedule if callable(schedule) else constant(schedule)

    def after(step: Any, on: Operations) -> Any:
        """The schedule's value so many steps after the warm-up."""
        return inner.at(step, on) if isinstance(inner, Schedule) else on.number(inner(on.count(step)))

    return lambda step, on: on.where(
        step < steps,
        lambda: _between(start, after(on.number(0), on), step / steps),
        lambda: after(on.maximum(step - steps, 0), on),
    )


@_schedule
def warmup_stable_decay(value: Number, warmup: Count, stable: Count, decay: Steps, end: Number = 0.0) -> Formula:
    """A line from 0 up to `value`, `value` held, a line to `end`, then `end` (WSD).

    Equation: value * min(step / warmup, 1)  for step < warmup + stable, then
    value + (end - value) * min((step - warmup - stable) / decay, 1)

    Args:
        value: the held value, any finite number.
        warmup: steps of warm-up, at least 0 (none).
        stable: steps at `value`, at least 0.
        decay: steps from `value` to `end`, at least 1.
        end: the value from step warmup + stable + decay on; 0 by default.
    Returns: a `Schedule`. Raises: ValueError, TypeError for an argument outside its range or type.

    >>> schedule = warmup_stable_decay(0.5, warmup=10, stable=80, decay=10)
    >>> schedule(0), schedule(5), schedule(10), schedule(90), schedule(95), schedule(100)
    (0.0, 0.25, 0.5, 0.5, 0.25, 0.0)

    Source: Hu et al., MiniCPM (2024), section 4, where the decay is exponential; the straight one
    is of Haegele et al., Scaling Laws ... Beyond Fixed Training Durations (2024), section 3.
    """
    fall = warmup + stable

    return lambda step, on: on.where(
        step < warmup,
        lambda: value * (step / warmup),
        lambda: _between(value, end, on.minimum(on.maximum(step - fall, 0) / decay, 1.0)),
    )


@_schedule
def one_cycle(
    value: Number,
    steps: Steps,
    pct_start: Share = 0.3,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> Formula:
    """Half a cosine up to the peak `value`, half a cosine down to nearly 0, then held.

    Equation, with first = value / div_factor, last = first / final_div_factor and
    top = pct_start * steps - 1:
    first + (value - first) * (1 - cos(pi * step / top)) / 2  for step < top, then
    last + (value - last) * (1 + cos(pi * min((step - top) / (steps * (1 - pct_start)), 1))) / 2

    Args:
        value: the peak, any finite number.
        steps: the length of the cycle in steps, at least 1.
        pct_start: the share of the steps spent rising, at least 0 and below 1; 0.3 by default.
        div_factor: peak / first value, above 0; 25 by default.
        final_div_factor: first value / last value, above 0; 1e4 by default.
    Returns: a `Schedule`. Raises: ValueError, TypeError for an argument outside its range or type.

    >>> schedule = one_cycle(0.5, steps=100)
    >>> schedule(0), schedule(29), round(schedule(64), 4), f"{schedule(99):.1e}"
    (0.02, 0.5, 0.25, '2.0e-06')

    For a momentum that falls from 0.95 to 0.85 and rises again:
    ``one_cycle(0.85, steps, div_factor=0.85 / 0.95, final_div_factor=1)``.

    Source: Smith & Topin, Super-Convergence (2018), section 3. The numbers are those of torch's
    OneCycleLR, which counts updates from 1: the peak stands at step = pct_start * steps - 1 and the
    last value at step = steps - 1, one step before where the other schedules here end. At
    step = steps torch rises again, and then raises an error; here the last value holds.
    """
    first = value / div_factor
    last = first / final_div_factor
    top = pct_start * steps - 1.0
    fall = steps * (1.0 - pct_start)

    return lambda step, on: on.where(
        step < top,
        lambda: _half_cosine(first, value, step / top, on),
        lambda: _half_cosine(value, last, on.minimum((step - top) / fall, 1.0), on),
    )


def stateful(schedule: Any) -> list[Any]:
    """What of a schedule has state, in order: itself, what it was made from, a plateau that a function of yours calls.

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
    """The plateaus that a callable refers to. What else has a `state_dict`, such as a model, isn't the schedule's."""
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
        with suppress(ValueError):  # a variable that has no value yet
            names = getclosurevars(function)
            referred += names.nonlocals.values()
            # Functions of other modules aren't followed: a library's would lead through all of it.
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


# The schedule that follows a metric --------------------------------------------------------------


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
    Returns: a schedule: called with a step, whatever it is, it gives the current value.
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
        self.__dict__.update(_checked("ReduceOnPlateau", _PLATEAU, given))
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
        """Takes in the next metric (a number or a tensor of one) and says if the value was reduced.

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
        """What the reports have changed, to be loaded into one made with the same arguments."""
        return {name: getattr(self, name) for name in _PLATEAU_STATE}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Goes on from `state`, which `state_dict()` gave; refuses, unchanged, anything else."""
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
        return _call_text("ReduceOnPlateau", _PLATEAU, values)


_PLATEAU = signature(ReduceOnPlateau)
_LOAD = "load what state_dict() gave"
_PLATEAU_STATE = {
    "value": _Kind("a finite number of at least 0", _LOAD, _where(lambda x: x >= 0)),
    "best": _Kind("a number or an infinity", _LOAD, _not_nan),
    "bad_reports": _Kind("a whole number of at least 0", _LOAD, _AT_LEAST_0),
    "cooldown_left": _Kind("a whole number of at least 0", _LOAD, _AT_LEAST_0),
}
