"""What is kept for a parameter: made when its first gradient comes, or adopted from a checkpoint."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adamite.errors import StateDictError
from adamite.frontend.spelling import Spelling
from adamite.language.rule import Rule
from adamite.language.update import Update
from adamite.storage import COMPENSATION, Array, EightBit, Format, Layout, choice
from adamite.storage.choice import Storage
from adamite.torch.batch import Batch
from adamite.torch.settings import Resolved
from adamite.torch.tensors import format_of, kept_type, view

EMA = "ema"  # the averaged weights


def keys(spelling: Spelling) -> dict[str, str]:
    """What is kept for a parameter, by torch's names."""
    return {**spelling.states, "average": EMA, COMPENSATION: COMPENSATION}


def tensors_of(update: Update, layout: Layout, spelling: Spelling) -> dict[str, tuple[str, Format]]:
    """The tensors that are kept for a parameter, by torch's names: the rule's name of each, and its format."""
    spelled = keys(spelling)
    return {spelled[name]: (name, format) for name, format in layout.formats(update.states).items()}


def required(update: Update, spelling: Spelling) -> list[str]:
    """The states that a parameter needs to continue."""
    counted = ["step"] * spelling.counts
    return [*counted, *(keys(spelling)[name] for name in (*update.states, *update.scalars) if name != "average")]


def one_number(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, numbers.Real)


def stored(p: Tensor, update: Update, storage: Storage) -> Layout:
    """How a parameter and its states are stored."""
    possible = storage._replace(state="float32") if p.is_complex() else storage
    return choice.layout(update, format_of(p), p.numel(), possible)


def refusal(owner: str, storage: Storage, name: str, kind: str) -> str:
    """Why a parameter of this kind can't have such states."""
    return (
        f"{owner}: state={storage.state!r}, rounding={storage.rounding!r} is for plain tensors on the CPU, and "
        f"{name} is {kind}; leave it out"
    )


def numbers_of(update: Update, spelling: Spelling) -> set[str]:
    """The numbers that are kept for a parameter, by torch's names."""
    spelled = keys(spelling)
    return {"step", *(spelled[name] for name in update.scalars)}


def create(p: Tensor, start: float | str, numbers: Mapping[str, float], format: Format) -> Tensor:
    """A new state: zero, a number, a hyperparameter's value, or the parameter's."""
    with torch.no_grad():
        if start == "x":
            return as_state(p.detach(), p, format)
        value = numbers[start] if isinstance(start, str) else start
        if isinstance(format, EightBit):
            return tensor(format.filled(p.numel(), value))
        made = torch.zeros_like(p, dtype=kept_type(p, format), requires_grad=False)
        if value:  # a complex number is a pair, and both begin there
            (torch.view_as_real(made) if made.is_complex() else made).fill_(value)
        return made


def tensor(array: Array) -> Tensor:
    """An array's numbers in memory of torch's own, which can be resized and shared; unlike what `from_numpy` makes."""
    made = torch.empty(array.shape, dtype=torch.uint8 if array.dtype == np.uint8 else torch.float32, device="cpu")
    view(made)[...] = array
    return made


def as_state(values: Tensor, p: Tensor, format: Format) -> Tensor:
    """Numbers as a state of the parameter's."""
    if isinstance(format, EightBit):
        plain = values.detach().float().contiguous()
        return tensor(format.encode(view(plain)))
    return values.detach().to(device=p.device, dtype=kept_type(p, format), copy=True)


def _kind(t: Tensor, placements: Any) -> str:
    return type(t).__name__ + (f" of {placements}" if placements is not None else "")


def adapted(old: Any, p: Tensor, name: str, format: Format, update: Update) -> Tensor:
    """A state of another format or on another device, as it is kept here.

    Raises:
        ValueError: where it isn't of the parameter's size, or distributed in another way.
    """
    if not isinstance(old, Tensor):
        raise ValueError(f"here a tensor, in the state a {type(old).__name__}")
    here, there = (getattr(t, "placements", None) for t in (p, old))
    if here != there:
        raise ValueError(
            f"here a {_kind(p, here)}, in the state a {_kind(old, there)}; torch.distributed.checkpoint loads what is "
            "distributed"
        )
    codes = choice.format_of(update, name, "8bit") if old.dtype is torch.uint8 else None
    wanted: Any = (codes.length(p.numel()),) if isinstance(codes, EightBit) else p.shape
    if old.shape != wanted:
        kind = f" of {old.dtype}, whose parameter needs {tuple(wanted)}" if codes else ""
        raise ValueError(f"here {tuple(p.shape)}, in the state {tuple(old.shape)}{kind}")
    if old.is_complex() and not p.is_complex():
        raise ValueError("here real, in the state complex")
    if old.dtype is kept_type(p, format) and old.device == p.device:
        unchanged: Tensor = old
        return unchanged
    if isinstance(codes, EightBit):
        held = old.detach().cpu()
        old = tensor(codes.decode(view(held), p.numel())).view(p.shape)
    return as_state(old, p, format)


def complete(
    p: Tensor, state: dict[str, Any], reading: Resolved, spelling: Spelling, name: str, layout: Layout
) -> bool:
    """Make the tensor states that are missing, convert those of another type; whether any of the rule's was there."""
    starts = {s.name: s.start for s in reading.update.rule.states} | {"average": "x", COMPENSATION: 0.0}
    there = False
    for key, (rule_name, format) in tensors_of(reading.update, layout, spelling).items():
        old = state.get(key)
        if old is None:
            state[key] = create(p, starts[rule_name], reading.numbers, format)
            continue
        there = there or rule_name in spelling.states
        try:
            state[key] = adapted(old, p, rule_name, format, reading.update)
        except ValueError as error:
            raise StateDictError(
                f"state {key} of {name}: {error}; give the state that belongs to this parameter"
            ) from None
    for key in numbers_of(reading.update, spelling):
        if state.get(key) is not None and not one_number(state[key]):
            raise StateDictError(f"state {key} of {name}: here one number, in the state {state[key]!r:.60}; give that")
    return there


def bind(batch: Batch, rule: Rule, spelling: Spelling, started: Sequence[bool]) -> None:
    """Let the step numbers and Scalar states of a batch lie in one array each, of which the states hold views."""
    states, scalars = [m.state for m in batch.members], batch.graph.scalars
    defaults = {s.name: s.start for s in rule.states}
    keys = {spelling.states[name]: defaults[name] for name in scalars}
    double = torch.get_default_dtype() is torch.float64
    counts = spelling.counts or batch.layout.blocks  # random bits are drawn by the step's number
    if counts:
        for state, began in zip(states, started, strict=True):
            if not spelling.counts and "step" not in state:
                state["step"] = torch.tensor(float(began))
        steps = _together(states, {"step": 0.0}, torch.float64 if double else torch.float32)[:, 0]
    else:
        steps = torch.tensor([float(began) for began in started], dtype=torch.float64, device="cpu")
    table = _together(states, keys, torch.float64) if scalars else None
    for row, state in enumerate(states):
        if counts:
            state["step"] = steps[row]
        if table is not None:
            state.update(zip(keys, table[row].unbind(), strict=True))
    batch.watch([*["step"] * counts, *keys, *batch.names], steps, table)


def _together(states: Sequence[Mapping[str, Any]], keys: Mapping[str, float | str], dtype: torch.dtype) -> Tensor:
    """One array of numbers of all states: that in which they lie, which processes may share, or a new one."""
    values = [state.get(key) for state in states for key in keys]
    shape = len(states), len(keys)
    if all(isinstance(k, Tensor) and k.dtype == dtype and k.device.type == "cpu" and k.dim() == 0 for k in values):
        first: Any = values[0]
        size = first.element_size()
        ends = first.storage_offset() + len(values) <= first.untyped_storage().nbytes() // size
        places = [k.data_ptr() for k in values if k is not None]
        if ends and places == [first.data_ptr() + size * n for n in range(len(values))]:
            array: Tensor = first.detach().as_strided(shape, (len(keys), 1))
            return array
    starts = [*keys.values()] * len(states)
    numbers = [float(start if k is None else k) for k, start in zip(values, starts, strict=True)]
    return torch.tensor(numbers, dtype=dtype, device="cpu").view(shape)
