"""The optimizer of NumPy arrays: what is common to all classes."""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from adamite import engine
from adamite.arrays import Array, Ranges
from adamite.conventions import Convention, Framework
from adamite.errors import NonFiniteError, StateDictError
from adamite.numpy.batch import Batch, Slot
from adamite.numpy.state import Loading, saved
from adamite.rule import Number, Rule
from adamite.settings import Schedule, Settings, unknown
from adamite.storage import Format
from adamite.tree import Tree
from adamite.update import EMA, WEIGHT_DECAY, Decay, Surroundings, Update, build

NonFinite = Literal["propagate", "raise", "skip"]

CLIP_NORM = Number(
    "clip_norm",
    None,
    optional=True,
    low=0.0,
    range="(0, inf)",
    meaning="gradients whose norm over all parameters is larger are scaled down to it; 1 is usual",
)


class Group:
    """The settings of the parameters whose names match a pattern; the optimizer's hold for the rest."""

    def __init__(self, optimizer: Optimizer, pattern: str, settings: Settings, names: Sequence[str]) -> None:
        self.__dict__.update(_optimizer=optimizer, _settings=settings, pattern=pattern, names=tuple(names))

    def __getattr__(self, name: str) -> Any:
        return self._optimizer._get(self._settings, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._optimizer._set(self._settings, name, value)

    def __repr__(self) -> str:
        own = ", ".join(f"{name}={value!r}" for name, value in self._settings.own())
        return f"Group({self.pattern!r}, {own}; {len(self.names)} parameters)"

    def __reduce__(self) -> Any:
        return (_group, (self._optimizer, self.pattern, self._settings, self.names))


def _group(*args: Any) -> Group:
    return Group(*args)


class _Documented(type):
    """Classes whose documentation is printed from their rule, when somebody asks for it."""

    @property
    def __doc__(cls) -> str | None:  # type: ignore[override]
        convention = cls.__dict__.get("_conventions")
        if convention is None:
            return inspect.cleandoc(cls.__dict__.get("__doc__") or Optimizer._about)
        from adamite.about import documentation

        return documentation(cls.__name__, convention)


class Optimizer(metaclass=_Documented):
    _about = """An optimizer of NumPy arrays, in place.

    Args:
        params: an array, or any nesting of dicts, lists and tuples of arrays; float32 or float64, of any layout.
        convention: whose defaults and equations: "paper", "torch", "keras" or "optax".
        groups: settings for some parameters: {pattern: {name: value}}, the pattern a glob on names such as
            "*.bias"; a parameter's name is its path in the nesting, joined by dots.
        weight_decay: in [0, inf). What it means is `decay`.
        decay: "decoupled" (x shrinks by lr * weight_decay * x, as in AdamW) or "l2" (weight_decay * x is added
            to the gradient); by default what the convention means, and refused where it has none.
        clip_norm: in (0, inf); gradients whose global norm is larger are scaled down to it. They are not changed.
        nonfinite: what to do with NaN or infinity in a gradient: "propagate" it (the default), "raise"
            NonFiniteError, or "skip" the whole step; nothing is changed then, and `skipped` counts.
        ema: in [0, 1), the decay of an average of the weights, kept in the same pass: see `averaged`.
        maximize: climb instead of descending.
        hyperparameters: the rule's own (lr, beta1, ...), each a number or a schedule, a function of the number
            of steps done. All can be read and assigned later: `opt.lr = 0.01`.

    Raises:
        TypeError, ValueError: for parameters that can't be updated in place and settings out of range.
    """
    _conventions: ClassVar[Mapping[str, Convention]]
    __doc__: str | None

    def __init__(
        self,
        params: Any,
        *,
        convention: Framework = "paper",
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        weight_decay: float | Schedule | None = None,
        decay: Decay | None = None,
        clip_norm: float | Schedule | None = None,
        nonfinite: NonFinite = "propagate",
        ema: float | Schedule | None = None,
        maximize: bool = False,
        **hyperparameters: Any,
    ) -> None:
        name = type(self).__name__
        if not hasattr(type(self), "_conventions"):
            raise TypeError("Optimizer is the base: use Adam, SGD, ... or adamite.optimizer(rule)")
        if not isinstance(convention, str) or convention not in self._conventions:
            raise ValueError(f"{name}: convention must be one of {', '.join(self._conventions)}, got {convention!r}")
        if decay is not None and decay not in list(get_args(Decay)):
            raise ValueError(f"{name}: decay must be 'l2' or 'decoupled', got {decay!r}")
        if not isinstance(maximize, bool):
            raise TypeError(f"{name}: maximize must be True or False, got {maximize!r}")
        self._convention: Convention = self._conventions[convention]
        self._framework = convention
        rule = self._convention.rule
        self._decay = decay or self._convention.decay
        if self._decay == "decoupled" and "lr" not in rule.numbers:
            if decay:
                raise ValueError(f"{name}: decoupled decay is lr * weight_decay * x, and the rule has no lr")
            self._decay = None
        self._maximize = maximize
        self._steps = 0
        self._skipped = 0
        self._norm: float | None = None
        self._stale = True
        self._swapped = False
        self.nonfinite = nonfinite

        self._tree = Tree(params)
        self._slots = [Slot(i, n, x) for i, (n, x) in enumerate(zip(self._tree.names, self._tree.leaves, strict=True))]
        if not self._slots:
            raise ValueError(f"{name}: there are no parameters in {params!r:.60}")
        conflict = Ranges([(f"parameter {s.name!r}", s.x) for s in self._slots]).conflict()
        if conflict:
            raise ValueError(
                f"{conflict[0]} and {conflict[1]} share memory, so one step would move it twice; give one of them"
            )

        specs = {**rule.numbers, "weight_decay": WEIGHT_DECAY, "ema": EMA, "clip_norm": CLIP_NORM}
        formats = {s.format for s in self._slots}
        self._settings = Settings(name, specs, formats)
        given = {**hyperparameters}
        self._choices = {
            choice: self._check_choice(choice, given.pop(choice, self._convention.default(choice)))
            for choice in rule.choices
        }
        for number, value in given.items():
            if number not in rule.numbers:
                raise TypeError(self._unknown(number))
            self._settings.set(number, value)
        for number in rule.numbers:
            if number not in given:
                self._settings.set(number, self._convention.default(number))
        if weight_decay is None:
            weight_decay = self._convention.default("weight_decay")
        for number, value in (("weight_decay", weight_decay), ("clip_norm", clip_norm)):
            self._assign(self._settings, number, value)
        self._ema = ema is not None
        if self._ema:
            self._settings.set("ema", ema)

        self._groups = self._make_groups(groups or {})
        for slot in self._slots:
            self._keep(slot)
        self._refuse_idle({**hyperparameters})
        self._history: dict[str, tuple[int, tuple[float, ...]]] = {
            s.name: (0, tuple(self._start(s, state.start) for state in rule.states if state.scalar))
            for s in self._slots
        }
        self._batches: list[Batch] = []
        self._refresh()

    @classmethod
    def conventions(cls) -> Mapping[str, Convention]:
        """What the frameworks mean by this optimizer."""
        return cls._conventions

    # ---- what a step does

    def step(self, grads: Any) -> None:
        """Update the parameters in place.

        Args:
            grads: gradients in the nesting of the parameters, of their shapes and types. A None leaves its
                parameter out: neither it, its states nor its step number change. Gradients are never written.

        Raises:
            TypeError, ValueError: where the gradients don't fit; nothing has changed then.
            NonFiniteError: under nonfinite="raise".
        """
        if self._stale:
            self._refresh()
        found = self._tree.flatten(grads)
        for batch in self._batches:
            batch.look(found, self._guard)
        clip = 1.0
        if self._inspects:
            inspected = self._inspect()
            if inspected is None:
                self._skipped += 1
                return
            clip = inspected
        for batch in self._batches:
            batch.prepare(self._steps, clip)
        after = self._steps + 1
        try:
            self._go(after)
        except KeyboardInterrupt:
            while True:
                with suppress(KeyboardInterrupt):
                    self._go(after)
                    break
            raise

    def _go(self, after: int) -> None:
        """Update everything; called again after an interrupt it does what is left."""
        for batch in self._batches:
            batch.go()
        for batch in self._batches:
            batch.found = []  # lets the gradients go
        self.__dict__["_steps"] = after

    def _guard(self) -> Ranges:
        self._refuse_swapped()
        return Ranges(
            [(f"parameter {s.name!r}", s.x) for s in self._slots]
            + [(f"state {k} of {s.name!r}", v) for s in self._slots for k, v in s.states.items()]
        )

    def _refuse_swapped(self) -> None:
        if self._swapped:
            raise RuntimeError("the averages are swapped in; do this outside of the `with opt.averaged()` block")

    def _inspect(self) -> float | None:
        """The norm's clipping factor; None where the step is to be skipped."""
        limit = self._settings.at("clip_norm", self._steps)
        sums = [(slot, part) for b in self._batches for slot, part in zip(b.slots, b.sums(), strict=True)]
        square = engine.total(np.concatenate([part for _, part in sums]))
        scale = 1.0
        if not math.isfinite(square):
            bad = [slot.name for slot, part in sums if not self._finite(slot, part)]
            if bad and self.nonfinite == "raise":
                shown = ", ".join(repr(n) for n in bad[:5]) + (f" and {len(bad) - 5} more" if bad[5:] else "")
                raise NonFiniteError(
                    f"step {self._steps + 1}: the gradient of {shown} has NaN or infinity. Nothing was changed; "
                    'lower lr or clip, or take nonfinite="skip"'
                )
            if bad and self.nonfinite == "skip":
                return None
            if not bad:  # the squares overflow, the norm needn't
                scale = 2.0**-600
                square = engine.total(np.concatenate([p for b in self._batches for p in b.sums(scale)]))
        scaled = math.sqrt(square)
        self._norm = scaled / scale
        return 1.0 if limit is None else engine.clip_factor(scaled, limit * scale)

    def _finite(self, slot: Slot, sums: Array) -> bool:
        if np.isfinite(sums).all():
            return True
        if slot.format.itemsize == 4:
            return False  # squares of float32 don't overflow float64
        batch = next(b for b in self._batches if slot in b.slots)
        g = batch.found[slot.index]
        return g is None or all(
            np.isfinite(part).all() for part in np.nditer(g, ["external_loop", "buffered", "zerosize_ok"])
        )

    # ---- settings

    @property
    def steps(self) -> int:
        """How many steps were done; schedules read it."""
        return self._steps

    @property
    def skipped(self) -> int:
        """How many steps were left out under nonfinite="skip"."""
        return self._skipped

    @property
    def gradient_norm(self) -> float | None:
        """The global norm of the last gradients, before clipping; None where no option needs it."""
        return self._norm

    @property
    def nonfinite(self) -> NonFinite:
        """What is done with NaN or infinity in a gradient: propagate, raise or skip."""
        return self._nonfinite

    @nonfinite.setter
    def nonfinite(self, value: NonFinite) -> None:
        if value not in get_args(NonFinite):
            raise ValueError(f"nonfinite must be one of {', '.join(get_args(NonFinite))}, got {value!r}")
        self._nonfinite = value
        self._stale = True

    @property
    def groups(self) -> dict[str, Group]:
        """The groups by their pattern: `opt.groups["*.bias"].lr = 0.01`."""
        return {group.pattern: group for group in self._groups}

    def schedule(self, name: str) -> Schedule | None:
        """The schedule of a hyperparameter, None where it is a number."""
        self._get(self._settings, name)
        value = self._settings.source(name) if name not in self._choices else None
        return value if callable(value) else None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._get(self._settings, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        else:
            self._set(self._settings, name, value)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._readable()]

    def _readable(self) -> list[str]:
        return [
            *self._convention.rule.numbers,
            *self._choices,
            "weight_decay",
            "clip_norm",
            *["ema"] * self._ema,
        ]

    def _get(self, settings: Settings, name: str) -> Any:
        """A hyperparameter's number for the next step, or a choice."""
        if name in self._choices:
            return self._choices[name]
        if name not in self._readable():
            raise AttributeError(unknown(type(self).__name__, name, self._readable(), "hyperparameter"))
        return settings.at(name, self._steps)

    def _set(self, settings: Settings, name: str, value: Any) -> None:
        owner = type(self).__name__
        starts = [state.start for state in self._convention.rule.states]
        if name in self._choices or name in starts or (name == "ema" and not self._ema):
            raise AttributeError(
                f"{owner}: {name} decides how states are made, so it is fixed; make a new optimizer with {name}=..."
            )
        if name not in self._readable():
            raise AttributeError(unknown(owner, name, self._readable(), "hyperparameter"))
        spec = self._convention.rule.numbers.get(name)
        if spec is not None and spec.optional and (value is None) != (settings.source(name) is None):
            raise ValueError(
                f"{owner}: {name} can't change between None and a number, which decides what states are kept; "
                f"make a new optimizer with {name}={value!r}"
            )
        self._assign(settings, name, value)

    def _assign(self, settings: Settings, name: str, value: Any) -> None:
        owner = type(self).__name__
        if name == "clip_norm" and settings is not self._settings:
            raise ValueError(f"{owner}: clip_norm is of all parameters together; set it on the optimizer")
        if name == "weight_decay" and self._decay is None and (callable(value) or value != 0):
            kinds = ['decay="decoupled" (as in AdamW)'] if "lr" in self._convention.rule.numbers else []
            kinds += ['decay="l2" (added to the gradient)']
            raise ValueError(
                f"{owner} has no weight decay in the {self._framework} convention; say which kind: {' or '.join(kinds)}"
            )
        settings.set(name, value)
        self._stale = True

    def _check_choice(self, name: str, value: Any) -> bool | str:
        choice = self._convention.rule.choices[name]
        if choice.allowed and not any(value is a or (value == a and isinstance(a, str)) for a in choice.allowed):
            allowed = ", ".join(repr(a) for a in choice.allowed)
            raise ValueError(f"{type(self).__name__}: {name} must be one of {allowed}; got {value!r}")
        if not isinstance(value, (bool, str)):
            raise TypeError(f"{type(self).__name__}: {name} must be a str, got {value!r}")
        return value

    def _unknown(self, name: str) -> str:
        rule = self._convention.rule
        options = [
            "groups",
            "weight_decay",
            "decay",
            "clip_norm",
            "nonfinite",
            "ema",
            "maximize",
            "convention",
        ]
        return unknown(type(self).__name__, name, [*rule.numbers, *rule.choices, *options])

    def _refuse_idle(self, given: Mapping[str, Any]) -> None:
        """An argument that changes nothing under the others is a mistake."""
        rule, update = self._convention.rule, self._update(self._slots[0])
        numbers = engine.graph(update).numbers
        for name, value in given.items():
            if name in rule.choices:
                default = rule.choices[name].default
                other = {**self._choices, name: default}
                plain = build(rule, tuple(other.items()), self._slots[0].absent, update.surroundings)
                idle = value != default and engine.graph(plain).nodes == engine.graph(update).nodes
            else:
                idle = value is not None and name not in numbers and value != rule.numbers[name].default
                idle = idle and not any(name == state.start for state in rule.states)
            if idle and not self._groups:
                raise ValueError(
                    f"{type(self).__name__}: {name}={value!r} has no effect with the other arguments; "
                    "leave it out, or give what it belongs to"
                )

    # ---- groups, states, batches

    def _make_groups(self, groups: Mapping[str, Mapping[str, Any]]) -> list[Group]:
        owner = type(self).__name__
        if not isinstance(groups, Mapping):
            raise TypeError(f"{owner}: groups must be a dict of {{pattern: settings}}, got {type(groups).__name__}")
        made: list[Group] = []
        for slot in self._slots:
            slot.settings = self._settings
        taken: dict[str, str] = {}
        for pattern, values in groups.items():
            settings = Settings(
                f"{owner}, group {pattern!r}", self._settings.specs, self._settings.formats, self._settings
            )
            if not isinstance(pattern, str):
                raise TypeError(
                    f"{owner}: a group's pattern is a string, a glob on parameters' names such as '*.bias' or '0'; "
                    f"got {pattern!r}"
                )
            if not isinstance(values, Mapping):
                raise TypeError(f"{owner}: the settings of group {pattern!r} must be a dict, got {values!r:.40}")
            matched = [s for s in self._slots if fnmatchcase(s.name, pattern)]
            if not matched:
                names = ", ".join(s.name for s in self._slots[:6])
                raise ValueError(f"{owner}: group {pattern!r} matches no parameter; there are {names}")
            for name, value in values.items():
                if name in self._choices:
                    raise ValueError(f"{owner}: {name} is a choice of the whole optimizer; set it there")
                if name not in self._readable():
                    raise TypeError(unknown(settings.owner, name, self._readable()))
                self._assign(settings, name, value)
            for slot in matched:
                if slot.name in taken:
                    raise ValueError(
                        f"{owner}: parameter {slot.name!r} matches two groups, {taken[slot.name]!r} and {pattern!r}"
                    )
                taken[slot.name] = pattern
                slot.settings = settings
            made.append(Group(self, pattern, settings, [s.name for s in matched]))
        return made

    def _update(self, slot: Slot) -> Update:
        return build(self._convention.rule, slot.choices, slot.absent, self._surroundings())

    @property
    def update(self) -> Update:
        """What is run: the rule with its choices and surroundings."""
        return self._update(self._slots[0])

    def _surroundings(self) -> Surroundings:
        every = [self._settings, *(group._settings for group in self._groups)]
        decays = any(callable(v) or v != 0 for v in (s.source("weight_decay") for s in every))
        return Surroundings(
            decay=self._decay if decays else None,
            clip=self._settings.source("clip_norm") is not None,
            maximize=self._maximize,
            ema=self._ema,
        )

    def _keep(self, slot: Slot) -> None:
        """Allocate the parameter's states."""
        rule = self._convention.rule
        slot.choices = tuple(self._choices.items())
        slot.absent = frozenset(n for n in rule.numbers if slot.settings.source(n) is None)
        starts = {state.name: state.start for state in rule.states} | {"average": "x"}
        for name in self._update(slot).states:
            start = starts[name]
            if start == "x":
                slot.states[name] = np.array(slot.x, order="K", subok=False)
                continue
            slot.states[name] = np.zeros_like(slot.x, subok=False)
            value = self._start(slot, start)
            if value:
                slot.states[name].fill(value)

    def _start(self, slot: Slot, start: float | str) -> float:
        """What a state starts at: a number, or a hyperparameter's."""
        return (slot.settings.at(start, 0) or 0.0) if isinstance(start, str) else start

    def _refresh(self) -> None:
        """Follow changed settings; compiles only where an option was turned on or off."""
        kinds: dict[tuple[Update, Format], list[Slot]] = {}
        for slot in self._slots:
            kinds.setdefault((self._update(slot), slot.format), []).append(slot)
        if [engine.graph(update) for update, _ in kinds] != [b.graph for b in self._batches]:
            self._history.update(item for b in self._batches for item in b.history())
            self._batches = [Batch(update, format, slots, self._history) for (update, format), slots in kinds.items()]
        for batch in self._batches:
            for cohort in batch.cohorts:
                cohort.read(self._steps)
        self._inspects = self._settings.source("clip_norm") is not None or self._nonfinite != "propagate"
        self._stale = False

    # ---- averages

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Swap the averaged weights in: `with opt.averaged(): evaluate(params)`.

        Raises:
            ValueError: where the optimizer keeps none (make it with ema=0.999).
        """
        if not self._ema:
            raise ValueError(f"{type(self).__name__} keeps no average of the weights; make it with ema=0.999")
        self._refuse_swapped()
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for slot in self._slots:
            if not slot.x.flags.writeable:
                raise ValueError(f"parameter {slot.name!r} is read-only; nothing was swapped")
        for slot in self._slots:
            for x, average in np.nditer(
                [slot.x, slot.states["average"]],
                ["external_loop", "buffered", "zerosize_ok"],
                [["readwrite"], ["readwrite"]],
            ):
                kept = x.copy()
                x[...] = average
                average[...] = kept
        self._swapped = not self._swapped
        for batch in self._batches:
            batch.xs = []  # the next step looks again

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later run needs to go on: copies, by the parameters' names.

        >>> import adamite
        >>> opt = adamite.Adam({"w": np.zeros(3)}, lr=0.1)
        >>> opt.step({"w": np.ones(3)})
        >>> sorted(opt.state_dict()["parameters"]["w"])
        ['m', 'step', 'v']
        """
        self._refuse_swapped()
        histories = dict(item for b in self._batches for item in b.history())
        scalars = [s.name for s in self._convention.rule.states if s.scalar]
        parameters = {}
        for slot in self._slots:
            t, values = histories[slot.name]
            parameters[slot.name] = {
                "step": t,
                **dict(zip(scalars, values, strict=True)),
                **{name: array.copy() for name, array in slot.states.items()},
            }
        return {
            "rule": self._convention.rule.name,
            "choices": dict(self._choices),
            "decay": self._decay,
            "maximize": self._maximize,
            "steps": self._steps,
            "skipped": self._skipped,
            "hyperparameters": saved(self._settings),
            "groups": {group.pattern: saved(group._settings) for group in self._groups},
            "parameters": parameters,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of the same rule and parameters.

        Numbers are taken over; a schedule must be the same here as when saved, and its own state, if it has one,
        is restored.

        Raises:
            StateDictError: where it doesn't fit: another rule, missing or unknown names, other shapes or types.
                The message lists the differences; nothing was loaded.
        """
        self._refuse_swapped()
        load = Loading(self, state)
        if load.problems:
            more = f"\n  and {len(load.problems) - 8} more" if load.problems[8:] else ""
            listed = "".join(f"\n  {problem}" for problem in load.problems[:8])
            raise StateDictError(f"the state doesn't fit this {type(self).__name__}, nothing was loaded:{listed}{more}")
        for action in load.actions:
            action()
        self._steps, self._skipped = int(state["steps"]), int(state["skipped"])
        self._batches = []
        self._refresh()

    def __deepcopy__(self, memo: dict[int, Any]) -> Optimizer:
        new = object.__new__(type(self))
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    def __getstate__(self) -> dict[str, Any]:
        self._refuse_swapped()
        state = dict(self.__dict__)
        state["_history"] = {**self._history, **dict(item for b in self._batches for item in b.history())}
        state["_batches"] = []
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._refresh()

    def __reduce__(self) -> Any:
        cls = type(self)
        made = cls.__dict__.get("_made_from")
        return (_again, (made or cls,), self.__getstate__())

    def __repr__(self) -> str:
        numbers = {name: self._settings.source(name) for name in self._convention.rule.numbers}
        shown = [f"{name}={value!r}" for name, value in {**numbers, **self._choices}.items() if value is not None]
        return f"{type(self).__name__}({len(self._slots)} parameters, {', '.join(shown)}, steps={self._steps})"


@functools.cache
def class_of(rule: Rule) -> type[Optimizer]:
    """The optimizer class of a rule."""
    name = "".join(part.capitalize() for part in rule.name.split("_"))
    body = {"_conventions": {"paper": Convention(rule, {}, "decoupled")}, "_made_from": rule}
    return type(name, (Optimizer,), {**body, "__module__": __name__})


def _again(kind: Rule | type[Optimizer]) -> Optimizer:
    cls = class_of(kind) if isinstance(kind, Rule) else kind
    new: Optimizer = object.__new__(cls)
    return new
