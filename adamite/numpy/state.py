"""An optimizer's state by name, and what is checked before it is loaded."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from adamite.frontend.loading import Problems
from adamite.frontend.settings import Settings
from adamite.numpy.hyperparameters import Hyperparameters
from adamite.numpy.slots import Slot
from adamite.storage import FORMATS, Array, EightBit, Format, choice
from adamite.storage.choice import StateDtype

History = dict[str, tuple[int, tuple[float, ...]]]  # step number and Scalar states, by parameter


def made(x: Array, format: Format, value: float | None) -> Array:
    """A new state of a parameter: a number in every element, or the parameter's own values."""
    if isinstance(format, EightBit):
        return format.encode(x) if value is None else format.filled(x.size, value)
    if value is None:
        return format.narrow(np.array(x, order="K", subok=False))
    state = np.zeros_like(x, dtype=format.dtype, subok=False)  # all formats have zero's bits for zero
    if value:
        state.fill(format.narrow(np.array(value, format.compute.dtype)))
    return state


def allocate(slot: Slot, hyper: Hyperparameters) -> None:
    """Make a parameter's states, with what they start at."""
    starts = {state.name: state.start for state in hyper.rule.states} | {choice.AVERAGE: "x"}
    update = hyper.update(slot.absent)
    slot.layout = choice.layout(update, slot.format, slot.size, hyper.storage)
    slot.stream = hyper.storage.stream(slot.index)
    for name in update.states:
        value = None if starts[name] == "x" else start(slot, starts[name])
        slot.states[name] = made(slot.x, slot.layout.of(name), value)


def start(slot: Slot, value: float | str) -> float:
    """What a state starts at: a number, or a hyperparameter's."""
    return (slot.settings.at(value, 0) or 0.0) if isinstance(value, str) else value


def numbers(stored: Array, format: Format, shape: tuple[int, ...]) -> Array:
    """A state as numbers in the parameter's shape."""
    if isinstance(format, EightBit):
        return format.decode(stored, math.prod(shape)).reshape(shape)
    return format.widen(stored)


def converted(mine: Array, theirs: Array, here: Format, there: Format, shape: tuple[int, ...]) -> None:
    """Put a state into an array of another format."""
    values = numbers(theirs, there, shape)
    mine[...] = here.encode(values) if isinstance(here, EightBit) else here.narrow(values)


def saved(hyper: Hyperparameters, slots: Sequence[Slot], history: History, skipped: int) -> dict[str, Any]:
    """Everything that a later run needs to continue."""
    scalars = [s.name for s in hyper.rule.states if s.scalar]
    parameters = {}
    for slot in slots:
        step, values = history[slot.name]
        arrays = {name: array.copy() for name, array in slot.states.items()}
        parameters[slot.name] = {"step": step, **dict(zip(scalars, values, strict=True)), **arrays}
    return {
        **_facts(hyper),
        "steps": hyper.steps,
        "skipped": skipped,
        "hyperparameters": _saved(hyper.settings),
        "groups": {group.pattern: _saved(group.settings) for group in hyper.groups},
        "parameters": parameters,
    }


def _facts(hyper: Hyperparameters) -> dict[str, Any]:
    """What must be the same when a state is loaded."""
    return {
        "rule": hyper.rule.name,
        "choices": dict(hyper.choices),
        "decay": hyper.decay,
        "maximize": hyper.maximize,
    }


def _stateful(value: Any) -> list[Any]:
    """What of a hyperparameter has state, if it is a schedule."""
    if not callable(value):
        return []
    from adamite.schedules.plateau import stateful

    return stateful(value)


def _saved(settings: Settings) -> dict[str, Any]:
    """Numbers, and for a schedule what it says of itself."""
    out: dict[str, Any] = {}
    for name, value in settings.values.items():
        parts = _stateful(value)
        if name in _OF_THE_OPTIMIZER and not parts:
            continue
        out[name] = value
        if callable(value):
            out[name] = {"schedule": repr(value)}
        if parts:
            states = [part.state_dict() for part in parts]
            out[name]["state"] = states[0] if parts == [value] else states
    return out


# Belongs to the optimizer that was made, as `nonfinite` does: a state brings at most what its schedule has seen.
_OF_THE_OPTIMIZER = ("clip_norm",)


class Loading:
    """A state dict held against an optimizer: what doesn't fit, and what to do if all does."""

    def __init__(self, hyper: Hyperparameters, slots: Sequence[Slot], history: History, state: Any) -> None:
        self.hyper, self.history = hyper, history
        self.problems = Problems(hyper.owner)
        self.actions: list[Callable[[], Any]] = []
        facts = _facts(hyper)
        keys = {*facts, "steps", "skipped", "hyperparameters", "groups", "parameters"}
        if not self._names("the state dict", keys, state):
            return
        for label, mine in facts.items():
            theirs = state[label]
            if type(mine) is not type(theirs) or mine != theirs:
                self.problems.add(f"{label}: here {mine!r}, in the state {theirs!r}")
        self._count("skipped", state["skipped"])
        if self._count("steps", state["steps"]):
            self.actions.append(partial(setattr, hyper, "steps", int(state["steps"])))
        self._settings("", hyper.settings, state["hyperparameters"])
        if self._names("groups", {g.pattern for g in hyper.groups}, state["groups"]):
            for group in hyper.groups:
                self._settings(f"group {group.pattern!r}, ", group.settings, state["groups"][group.pattern])
        if self._names("parameters", {s.name for s in slots}, state["parameters"]):
            for slot in slots:
                self._parameter(slot, state["parameters"][slot.name])

    def apply(self) -> None:
        """Load, if all fits."""
        self.problems.refuse()
        for action in self.actions:
            action()

    def _format(self, slot: Slot, name: str, array: Array) -> Format | None:
        """The format of a saved state by its type, if states can be of that type."""
        update = self.hyper.update(slot.absent)
        words: dict[Any, StateDtype] = {np.dtype(np.uint8): "8bit", np.dtype(np.uint16): "bfloat16"}
        if array.dtype in words:
            return choice.format_of(update, name, words[array.dtype])
        return FORMATS.get(array.dtype)

    def _names(self, label: str, mine: set[str], theirs: Any) -> bool:
        if not isinstance(theirs, Mapping):
            self.problems.add(f"{label}: expected a dict, got {type(theirs).__name__}")
            return False
        for kind, names in (("missing", mine - set(theirs)), ("unknown", set(theirs) - mine)):
            if names:
                self.problems.add(f"{label}: {kind} {', '.join(sorted(map(repr, names)))}")
        return mine == set(theirs)

    def _count(self, label: str, value: Any) -> bool:
        good = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= int(value) <= 2**53
        if not good:
            self.problems.add(f"{label}: expected a whole number of at least 0, got {value!r:.40}")
        return good

    def _settings(self, where: str, settings: Settings, saved: Any) -> None:
        if not isinstance(saved, Mapping):
            self._names(f"{where}hyperparameters", set(), saved)  # which says so
            return
        stays = {name for name in _OF_THE_OPTIMIZER if not _stateful(settings.values.get(name))}
        saved = {name: value for name, value in saved.items() if name not in stays}
        either = {*_OF_THE_OPTIMIZER, *settings.follows}  # may be there or not
        needed = (settings.values.keys() - either) | (either & saved.keys())
        if not self._names(f"{where}hyperparameters", needed, saved):
            return
        for name in settings.follows.keys() - saved.keys():
            self.actions.append(partial(settings.values.pop, name, None))
        for name, value in saved.items():
            mine = settings.values.get(name)
            if isinstance(value, Mapping):
                self._schedule(f"{where}{name}", mine, value)
            elif callable(mine):
                self.problems.add(
                    f"{where}{name} was the number {value!r} when saved, here a schedule: load first, then assign it"
                )
            elif (value is None) != (mine is None) and name in self.hyper.rule.numbers:
                self.problems.add(f"{where}{name}: here {mine!r}, in the state {value!r}")
            else:
                try:
                    settings.check(name, value)
                except (TypeError, ValueError) as error:
                    self.problems.add(str(error))
                    continue
                self.actions.append(partial(settings.set, name, value))

    def _schedule(self, label: str, mine: Any, saved: Mapping[str, Any]) -> None:
        then = saved.get("schedule")
        if not callable(mine):
            self.problems.add(
                f"{label} was the schedule {then} when saved, here it is {mine!r}: assign the schedule first"
            )
        else:
            state = saved.get("state", [])
            parts, states = _stateful(mine), state if isinstance(state, list) else [state]
            if len(parts) != len(states):
                self.problems.add(
                    f"{label}: the schedule {mine!r} has state in {len(parts)} of its parts here, and had in "
                    f"{len(states)} when saved"
                )
                return
            # Together: what is within the schedule is one copy. A function isn't copied, and calls what it called.
            loaded, copies = copy.deepcopy((mine, parts))
            try:
                for part, its in zip(copies, states):
                    part.load_state_dict(its)
            except Exception as error:
                self.problems.add(f"{label}, its schedule's own state: {error}")
                return
            if repr(loaded) != then and " at 0x" not in f"{loaded!r}{then}":
                self.problems.add(f"{label}: here the schedule {mine!r}, in the state {then}")
            self.actions += [partial(part.load_state_dict, its) for part, its in zip(parts, states)]

    def _parameter(self, slot: Slot, saved: Any) -> None:
        label = f"parameter {slot.name!r}"
        scalars = [s.name for s in self.hyper.rule.states if s.scalar]
        if not self._names(label, {"step", *scalars, *slot.states}, saved):
            return
        good = self._count(f"{label}, step", saved["step"])
        for name in scalars:
            if not isinstance(saved[name], float):
                self.problems.add(f"{label}, {name}: expected a float, got {saved[name]!r:.40}")
                good = False
        for name, mine in slot.states.items():
            theirs = saved[name]
            if not isinstance(theirs, np.ndarray) or isinstance(theirs, np.ma.MaskedArray):
                self.problems.add(f"{label}, state {name}: expected an array, got {type(theirs).__name__}")
                continue
            here, there = slot.layout.of(name), self._format(slot, name, theirs)
            fits = (there.length(slot.size),) if isinstance(there, EightBit) else slot.shape
            if there is None or there.compute is not here.compute or theirs.shape != fits:
                self.problems.add(
                    f"{label}, state {name}: here {mine.shape} {mine.dtype}, in the state {theirs.shape} {theirs.dtype}"
                )
            elif here is there:
                self.actions.append(partial(np.copyto, mine, theirs))
            else:
                self.problems.convert(there.name, here.name, slot.name)
                self.actions.append(partial(converted, mine, theirs, here, there, slot.shape))
        if good:
            entry = int(saved["step"]), tuple(saved[name] for name in scalars)
            self.actions.append(partial(self.history.__setitem__, slot.name, entry))
