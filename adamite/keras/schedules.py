"""adamite's schedules as Keras takes them: functions of the backend's step count, saved with the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from adamite import schedules
from adamite.keras import arrays
from adamite.schedules.form import Operations, evaluate
from adamite.schedules.plateau import refuse_metrics

FOR_METRICS = "use keras.callbacks.ReduceLROnPlateau"
_TRACED: type | None = None  # the type of a step number inside a compiled program
if arrays.BACKEND == "jax":
    import jax

    _TRACED = jax.core.Tracer
elif arrays.BACKEND == "tensorflow":
    import tensorflow as tf

    with tf.Graph().as_default():
        _TRACED = type(tf.constant(0.0))


def _wide(value: Any) -> Any:
    """A float64 tensor; a Python number isn't rounded to float32 on the way."""
    return ops.cast(value, "float64") if ops.is_tensor(value) else ops.convert_to_tensor(value, "float64")


_ON_TRACED = Operations(
    ops.cos,
    ops.sqrt,
    ops.floor,
    ops.log1p,
    ops.expm1,
    ops.minimum,
    ops.maximum,
    where=lambda condition, a, b: ops.where(condition, _wide(a()), _wide(b())),
    number=_wide,
    count=lambda step: ops.cast(step, "int32"),
)


def _evaluated(step: Any, schedule: schedules.Schedule) -> Any:
    widest = arrays.scalar_type()
    with arrays.in_float64():
        return ops.cast(_wide(schedule.at(_wide(step), _ON_TRACED)), widest)


if _TRACED is not None:
    evaluate.register(_TRACED, _evaluated)


@keras.saving.register_keras_serializable("adamite")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A schedule of `adamite.schedules` for Keras's optimizers. adamite's optimizers take the schedule itself.

    Args:
        schedule: one of `adamite.schedules` that is a function of the step alone.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`, with the schedule's own numbers.

    Raises:
        TypeError: for anything else, a `ReduceOnPlateau` too.

    >>> from adamite.schedules import cosine
    >>> Schedule(cosine(0.1, steps=100))(50)
    0.05
    """

    def __init__(self, schedule: schedules.Schedule) -> None:
        refuse_metrics("Schedule", "schedule", schedule, FOR_METRICS)
        if not isinstance(schedule, schedules.Schedule):
            raise TypeError(
                f"Schedule takes one of adamite.schedules, such as cosine(0.1, steps=100); got {schedule!r:.60}"
            )
        self.schedule = schedule

    def __call__(self, step: Any) -> Any:
        step = arrays.number(step)
        with arrays.in_float64():
            return self.schedule(step if isinstance(step, float) else ops.cast(step, "float64"))

    def __repr__(self) -> str:
        return f"Schedule({self.schedule!r})"

    def get_config(self) -> dict[str, Any]:
        """The call that made the schedule, as JSON."""
        return {"schedule": _written(self.schedule)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Schedule:
        """The schedule that a config describes."""
        return cls(_read(config["schedule"]))


_MAKER = "maker"


def _written(value: Any) -> Any:
    if isinstance(value, schedules.Schedule):
        maker, arguments = value.__reduce__()
        return {_MAKER: maker.__name__, "arguments": [_written(argument) for argument in arguments]}
    if isinstance(value, tuple):
        return list(value)
    return keras.saving.serialize_keras_object(value) if callable(value) else value


def _read(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if _MAKER not in value:
        return keras.saving.deserialize_keras_object(value)
    makers = {name: getattr(schedules, name) for name in schedules.__all__}
    return makers[value[_MAKER]](*map(_read, value["arguments"]))
