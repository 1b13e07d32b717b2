"""The kinds of arguments that schedules take."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Signature
from numbers import Real
from typing import Annotated, Any, Literal, TypeAlias

Function: TypeAlias = Callable[[Any], Any]  # step -> value


@dataclass(frozen=True)
class Kind:
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


def not_nan(given: Any) -> float:
    if getattr(given, "shape", None) == ():  # an array without axes: frameworks count steps in one
        given = given.item() if hasattr(given, "item") else float(given)
    if isinstance(given, bool) or not isinstance(given, Real):
        raise TypeError
    if math.isnan(given):
        raise ValueError
    return float(given)


def real(given: object) -> float:
    number = not_nan(given)
    if math.isinf(number):
        raise ValueError
    return number


def whole(given: object) -> int:
    number = real(given)
    if not number.is_integer():
        raise ValueError
    return int(number)


def where_allowed(allowed: Callable[[Any], bool], read: Callable[[Any], Any] = real) -> Function:
    """A reader of what `read` accepts, if `allowed` holds for it."""

    def read_allowed(given: object) -> Any:
        value = read(given)
        if not allowed(value):
            raise ValueError
        return value

    return read_allowed


def _each(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """A reader of a list (or tuple, range) of what `read` accepts."""

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
        return real(given)
    real(given(0))  # refuses a maker that wasn't called, and a function that returns no number
    return given


def _increasing(items: Sequence[int]) -> bool:
    return all(low < high for low, high in zip((0, *items), items))


AT_LEAST_0 = where_allowed(lambda n: n >= 0, whole)
_AT_LEAST_1 = where_allowed(lambda n: n >= 1, whole)

Number: TypeAlias = Annotated[float, Kind("a finite number", "give a plain number such as 0.001", real)]
Positive: TypeAlias = Annotated[
    float, Kind("a finite number above 0", "give a number such as 0.1", where_allowed(lambda x: x > 0))
]
Growth: TypeAlias = Annotated[
    float,
    Kind(
        "a finite number of at least 1",
        "1 keeps every period equally long, 2 doubles it at each restart",
        where_allowed(lambda x: x >= 1),
    ),
]
Share: TypeAlias = Annotated[
    float,
    Kind(
        "a number of at least 0 and below 1",
        "give a share of the whole such as 0.3",
        where_allowed(lambda x: 0 <= x < 1),
    ),
]
Shrink: TypeAlias = Annotated[
    float,
    Kind(
        "a number above 0 and below 1",
        "each reduction multiplies the value by it, give one such as 0.1",
        where_allowed(lambda x: 0 < x < 1),
    ),
]
NotNegative: TypeAlias = Annotated[
    float,
    Kind("a finite number of at least 0", "0 sets no bound", where_allowed(lambda x: x >= 0)),
]
Steps: TypeAlias = Annotated[int, Kind("a whole number of at least 1", "give a length in steps", _AT_LEAST_1)]
Count: TypeAlias = Annotated[int, Kind("a whole number of at least 0", "give a count, 0 for none", AT_LEAST_0)]
Boundaries: TypeAlias = Annotated[
    Sequence[int],
    Kind(
        "an increasing list of whole numbers of at least 1",
        "give the steps at which the value changes, such as [1000, 2000]",
        where_allowed(_increasing, _each(whole)),
    ),
]
Numbers: TypeAlias = Annotated[
    Sequence[float],
    Kind("a list of finite numbers", "give numbers such as [0.1, 0.01]", _each(real)),
]
Flag: TypeAlias = Annotated[bool, Kind("True or False", "give one of the two", _flag)]
Mode: TypeAlias = Annotated[
    Literal["min", "max"],
    Kind("'min' or 'max'", "'min' where a lower metric is better, 'max' where a higher", _mode),
]
NumberOrSchedule: TypeAlias = Annotated[
    float | Function,
    Kind(
        "a finite number or a schedule (step -> finite number)",
        "give one such as 0.1 or cosine(0.1, steps=1000)",
        _number_or_schedule,
    ),
]

STEP = Kind(
    "a finite number of steps",
    "give how many are already done, 0 for the first update",
    real,
)


def checked(owner: str, form: Signature, given: Mapping[str, object]) -> dict[str, Any]:
    """The arguments, each read by the kind in its annotation."""
    return {
        name: form.parameters[name].annotation.__metadata__[0].check(owner, name, value)
        for name, value in given.items()
    }


def call_text(owner: str, form: Signature, values: Iterable[object]) -> str:
    """The call as one would write it: the first argument, then by name those that aren't the default."""
    pairs = list(zip(form.parameters.values(), values))
    named = [f"{p.name}={value!r}" for p, value in pairs[1:] if value != p.default]
    return f"{owner}({', '.join([repr(pairs[0][1]), *named])})"
