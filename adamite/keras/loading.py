"""Saved states back into an optimizer's variables: all of them, or none where one doesn't fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from adamite.errors import StateDictError
from adamite.frontend.loading import Problems
from adamite.keras import arrays
from adamite.storage import EIGHT_BIT_SIGNED

EIGHT_BIT = "uint8"  # Keras's type of 8-bit states
_NARROW = {EIGHT_BIT: "8bit", "bfloat16": "bfloat16"}  # types of states, as they are asked for


class Target(NamedTuple):
    """A variable of the optimizer's that is assigned to."""

    variable: Any
    state: str  # the rule's name, where it is the state of one of the model's variables
    of: Any  # that variable


def stepped(iterations: Any) -> bool:
    """Whether a count of steps, a variable or a saved one, isn't zero."""
    return bool(ops.convert_to_numpy(iterations).any())


def check_count(owner: str, saved: int, here: int, complete: bool) -> None:
    """Refuse states of another number.

    Args:
        complete: whether all variables have been made.
    """
    if complete and saved == here:
        return
    more = "" if complete else "; it isn't built yet: call build(model.trainable_variables) first"
    raise StateDictError(
        f"the optimizer's state doesn't fit this {owner}, nothing of it was loaded: {saved} variables in it, {here} "
        f"here{more}. Was it saved by another optimizer, or with other options?"
    )


def load(
    owner: str, targets: Sequence[Target], saved: Callable[[int], Any], adapted: Callable[[Any, str, Any], Any]
) -> None:
    """Assign what was saved, one value a target, if all of it fits.

    Args:
        adapted: a saved state in the format that it has here, by its name and the model's variable.
    """
    for index, target in enumerate(targets):
        _check_fits(owner, saved(index), target)
    problems = Problems(owner)
    for index, (variable, name, of) in enumerate(targets):
        value = saved(index)
        there, here = map(_type, (value, variable))
        if of is not None and there != here:
            if here in _NARROW or (there in _NARROW and there != _type(of)):  # Keras's are of the variable's type
                problems.convert(_NARROW.get(there, there), _NARROW.get(here, here), id(of))
            if EIGHT_BIT in (there, here):
                value = adapted(value, name, of)
        variable.assign(value)
    problems.tell()


def _check_fits(owner: str, value: Any, target: Target) -> None:
    """Refuse a value of another size than the target's."""
    variable = target.variable
    wrong = f"the optimizer's state doesn't fit this {owner}, nothing of it was loaded: {variable.path}"
    is_state = target.of is not None
    expected, note = tuple((target.of if is_state else variable).shape), ""
    if is_state and _type(value) == EIGHT_BIT:
        if arrays.BACKEND != "torch":
            raise StateDictError(f"{wrong} is of 8 bits, which are read on Keras's torch backend alone")
        expected, note = (EIGHT_BIT_SIGNED.length(math.prod(expected)),), ", of 8 bits"
    shape = tuple(value.shape)
    if shape != expected:
        raise StateDictError(f"{wrong} has the shape {expected} here and {shape} in it{note}")


def _type(value: Any) -> str:
    """The type of what was saved, or of a variable."""
    name: str = keras.backend.standardize_dtype(value.dtype)
    return name
