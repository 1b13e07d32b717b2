"""How optimizer state is stored, chosen by one word: state="float32", "bfloat16" or "8bit"."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Collection
from typing import Any, Literal, NamedTuple, get_args

from adamite.errors import counted
from adamite.language.expression import Expression
from adamite.language.trace import walk
from adamite.language.update import Update
from adamite.storage import BFLOAT16, EIGHT_BIT_SIGNED, EIGHT_BIT_UNSIGNED, FLOAT32, Format, Layout, Rounding
from adamite.storage.random import mixed

StateDtype = Literal["float32", "bfloat16", "8bit"]
# Smaller tensors keep the dtype that is computed in: they have little memory to save, and in the cache no time to gain.
SMALLEST = 4096
AVERAGE = "average"  # of the weights: a step changes it too little for a narrow format


class Storage(NamedTuple):
    """How optimizer state is stored, how bfloat16 parameters are rounded, and the seed of random rounding."""

    state: StateDtype = "float32"
    rounding: Rounding = "nearest"
    seed: int = 0

    def chosen(self) -> dict[str, Any]:
        """What differs from the defaults."""
        return {name: value for name, value in self._asdict().items() if value != self._field_defaults[name]}

    def stream(self, number: int) -> int:
        """The seed of a parameter's random bits, by its number among all parameters."""
        return mixed(mixed(self.seed) + number)


def check(owner: str, storage: Storage, formats: Collection[Format]) -> None:
    """Refuse values that aren't choices, and choices that parameters of these formats can't have."""
    check_choices(owner, storage)
    state, rounding, seed = storage
    if seed and state == "float32" and rounding != "stochastic":
        raise ValueError(f"{owner}: seed={seed!r} has no effect, since nothing is rounded at random; leave it out")
    others = [format.name for format in formats if format.compute is not FLOAT32]
    if state != "float32" and others:
        raise ValueError(
            f"{owner}: state={state!r} is for parameters that are computed in float32, and one is {others[0]}; "
            "leave state out, or convert the parameters"
        )
    if rounding != "nearest" and formats and BFLOAT16 not in formats:
        raise ValueError(f"{owner}: rounding={rounding!r} is for bfloat16 parameters, and there are none; leave it out")


def check_choices(owner: str, storage: Storage) -> None:
    """Refuse values that aren't choices; whether they go together isn't checked."""
    state, rounding, seed = storage
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"{owner}: seed must be a whole number in [0, 2**32), got {seed!r}")
    for name, value, allowed in (("state", state, get_args(StateDtype)), ("rounding", rounding, get_args(Rounding))):
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{owner}: {name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


@functools.cache
def subtracted(update: Update) -> frozenset[str]:
    """States whose difference is under a root, as two averages are for a variance: they aren't stored narrowly.

    Rounding might leave almost nothing of the difference, and make a step that is divided by it too large.
    """
    states = set(update.states)

    def within(e: Expression) -> set[str]:
        """States that an expression is a sum or product of; a comparison or a sign doesn't pass on their rounding."""
        if e.op == "sign" or e.boolean:
            return set()
        if e.op == "tensor":
            return {e.args[0]} & states
        return set().union(*(within(a) for a in e.args if isinstance(a, Expression)))

    roots = {e.args[0] for new in update.outputs.values() for e in walk(new) if e.op == "sqrt"}
    differences = {e for root in roots for e in walk(root) if e.op == "sub" and all(map(within, e.args))}
    return frozenset(name for e in differences for name in within(e))


def layout(update: Update, x: Format, elements: int, storage: Storage) -> Layout:
    """How a parameter of so many elements and its states are stored."""
    rounding = storage.rounding if x is BFLOAT16 else "nearest"
    if storage.state == "float32" or elements < SMALLEST:
        return Layout(x, rounding=rounding)
    wide = {AVERAGE, *subtracted(update), *(name for name, new in update.outputs.items() if new.scalar)}
    narrow = [name for name in update.states if name not in wide]
    return Layout(x, tuple((name, format_of(update, name, storage.state)) for name in narrow), rounding)


def format_of(update: Update, name: str, state: StateDtype) -> Format:
    """The format of one of the update's states."""
    if state == "float32" or name == AVERAGE:
        return FLOAT32
    if state == "bfloat16":
        return BFLOAT16
    return EIGHT_BIT_UNSIGNED if name in update.nonnegative else EIGHT_BIT_SIGNED


def tell_converted(owner: str, there: str, here: str, count: int) -> None:
    """Warn that loaded state is now stored in another format."""
    words = {"eight_bit_signed": "8bit", "eight_bit_unsigned": "8bit"}
    warnings.warn(
        f"{owner}: states of {counted(count, 'parameter')} were {words.get(there, there)} when saved and are "
        f"{words.get(here, here)} here; they were converted",
        UserWarning,
        stacklevel=4,
    )
