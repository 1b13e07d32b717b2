"""The schedules in closed form."""

import math
from typing import Any

from adamite.schedules.arguments import (
    Boundaries,
    Count,
    Flag,
    Function,
    Growth,
    Number,
    NumberOrSchedule,
    Numbers,
    Positive,
    Share,
    Steps,
)
from adamite.schedules.form import Formula, Operations, Schedule, closed_form


def _between(first: float, last: float, share: Any) -> Any:
    """From `first` at share 0 to `last` at share 1, exact at both."""
    return first * (1.0 - share) + last * share


def _half_cosine(first: float, last: float, share: Any, on: Operations) -> Any:
    """The same, along half a period of the cosine."""
    return _between(first, last, (1.0 - on.cos(math.pi * share)) / 2.0)


# The shapes --------------------------------------------------------------------------------------


@closed_form
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


@closed_form
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


@closed_form
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


@closed_form
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


@closed_form
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


@closed_form
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


@closed_form
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


@closed_form
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


@closed_form
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
        """The schedule's value at a step counted from the end of the warm-up."""
        return inner.at(step, on) if isinstance(inner, Schedule) else on.number(inner(on.count(step)))

    return lambda step, on: on.where(
        step < steps,
        lambda: _between(start, after(on.number(0), on), step / steps),
        lambda: after(on.maximum(step - steps, 0), on),
    )


@closed_form
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


@closed_form
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
