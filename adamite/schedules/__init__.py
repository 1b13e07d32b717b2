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

A closed form (closed_forms.py) is one text for Python's numbers and for steps that a framework traces: beside
arithmetic it uses what an `Operations` has. `form.evaluate` is where a front-end says how a step of its framework's is
read.
"""

from adamite.schedules.closed_forms import (
    constant,
    cosine,
    cosine_restarts,
    exponential,
    inverse_sqrt,
    one_cycle,
    piecewise,
    polynomial,
    step_decay,
    warmup,
    warmup_stable_decay,
)
from adamite.schedules.form import Schedule
from adamite.schedules.plateau import ReduceOnPlateau

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
