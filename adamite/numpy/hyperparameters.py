"""An optimizer's hyperparameters, choices and groups: what can be passed, read and assigned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, get_args

from adamite.errors import counted
from adamite.frontend.settings import Schedule, Settings, unknown
from adamite.frontend.spelling import Convention, Framework
from adamite.graph.lowering import lower
from adamite.language.update import CLIP_NORM, EMA, WEIGHT_DECAY, Decay, Surroundings, Update, build
from adamite.storage import Format, choice
from adamite.storage.choice import Storage

_OPTIONS = (
    "convention", "groups", "weight_decay", "decay", "clip_norm", "nonfinite", "ema", "maximize", "state", "seed",
    "sparse",
)  # fmt: skip


class Hyperparameters:
    """The settings of an optimizer, and which of them can be changed.

    `steps` counts the steps that were done, since schedules read it; `stale` says that something was assigned.
    """

    def __init__(
        self,
        owner: str,
        conventions: Mapping[str, Convention],
        framework: Framework,
        *,
        formats: Collection[Format],
        storage: Storage,
        decay: Decay | None,
        maximize: bool,
        ema: float | Schedule | None,
        weight_decay: float | Schedule | None,
        clip_norm: float | Schedule | None,
        given: Mapping[str, Any],
    ) -> None:
        if not isinstance(framework, str) or framework not in conventions:
            raise ValueError(f"{owner}: convention must be one of {', '.join(conventions)}, got {framework!r}")
        if decay is not None and decay not in list(get_args(Decay)):
            raise ValueError(f"{owner}: decay must be 'l2' or 'decoupled', got {decay!r}")
        if not isinstance(maximize, bool):
            raise TypeError(f"{owner}: maximize must be True or False, got {maximize!r}")
        choice.check(owner, storage, formats)
        convention = conventions[framework]
        self.storage = storage
        self.owner, self.framework, self.rule = owner, framework, convention.rule
        self.maximize, self.ema = maximize, ema is not None
        self.decay = decay or convention.decay
        if self.decay == "decoupled" and "lr" not in self.rule.numbers:
            if decay:
                raise ValueError(f"{owner}: decoupled decay is lr * weight_decay * x, and the rule has no lr")
            self.decay = None
        self.steps = 0
        self.stale = True
        self.thread: int | None = None  # the thread that is in a step
        self.groups: list[Group] = []

        rule = self.rule
        for name in given:
            if name not in rule.numbers and name not in rule.choices:
                raise TypeError(unknown(owner, name, [*rule.numbers, *rule.choices, *_OPTIONS]))
        specs = {**rule.numbers, "weight_decay": WEIGHT_DECAY, "ema": EMA, "clip_norm": CLIP_NORM}
        self.settings = Settings(owner, specs, formats, follows=convention.follows)
        self.choices = {name: self._choice(name, given.get(name, convention.default(name))) for name in rule.choices}
        for name in rule.numbers:
            if name in given or name not in convention.follows:
                self.settings.set(name, given.get(name, convention.default(name)))
        if ema is not None:
            self.settings.set("ema", ema)
        self.assign(self.settings, "clip_norm", clip_norm)
        if weight_decay is None:
            weight_decay = convention.default("weight_decay")
        self.assign(self.settings, "weight_decay", weight_decay)

    # ---- reading and assigning

    @property
    def names(self) -> list[str]:
        """The names that can be read."""
        return [*self.rule.numbers, *self.choices, "weight_decay", "clip_norm", *["ema"] * self.ema]

    def get(self, settings: Settings, name: str) -> Any:
        """The value of a hyperparameter in the next step, or a choice."""
        if name in self.choices:
            return self.choices[name]
        if name not in self.names:
            raise AttributeError(unknown(self.owner, name, self.names, "hyperparameter"))
        return settings.at(name, self.steps)

    def set(self, settings: Settings, name: str, value: Any) -> None:
        """Assign a hyperparameter after construction. What determines the states is fixed."""
        starts = [state.start for state in self.rule.states]
        if name in self.choices or name in starts or (name == "ema" and not self.ema):
            raise AttributeError(
                f"{self.owner}: {name} decides how states are made, so it is fixed; "
                f"make a new optimizer with {name}=..."
            )
        if name not in self.names:
            raise AttributeError(unknown(self.owner, name, self.names, "hyperparameter"))
        spec = self.rule.numbers.get(name)
        if spec is not None and spec.optional and (value is None) != (settings.source(name) is None):
            raise ValueError(
                f"{self.owner}: {name} can't change between None and a number, which decides what states are kept; "
                f"make a new optimizer with {name}={value!r}"
            )
        self.assign(settings, name, value)

    def assign(self, settings: Settings, name: str, value: Any) -> None:
        if name == "clip_norm" and settings is not self.settings:
            raise ValueError(
                f"{self.owner}: clip_norm applies to the whole optimizer and can't be set per group; "
                "set it on the optimizer"
            )
        if name == "weight_decay" and self.decay is None and (callable(value) or value != 0):
            kinds = ['decay="decoupled" (as in AdamW)'] if "lr" in self.rule.numbers else []
            kinds += ['decay="l2" (added to the gradient)']
            raise ValueError(
                f"{self.owner} has no weight decay in the {self.framework} convention; say which kind: "
                f"{' or '.join(kinds)}"
            )
        settings.set(name, value)
        self.stale = True

    def _choice(self, name: str, value: Any) -> bool | str:
        allowed = self.rule.choices[name].allowed
        if allowed and not any(value is a or (value == a and isinstance(a, str)) for a in allowed):
            raise ValueError(f"{self.owner}: {name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
        if not isinstance(value, (bool, str)):
            raise TypeError(f"{self.owner}: {name} must be a str, got {value!r}")
        return value

    # ---- groups

    def group(self, groups: Any, parameters: Sequence[str]) -> dict[str, Settings]:
        """Make the groups, and return the settings of each parameter by its name."""
        if not isinstance(groups, Mapping):
            raise TypeError(
                f"{self.owner}: groups must be a dict of {{pattern: settings}}, got {type(groups).__name__}"
            )
        by_parameter = dict.fromkeys(parameters, self.settings)
        patterns: dict[str, str] = {}
        for pattern, values in groups.items():
            settings = self._settings(pattern, values)
            matched = [name for name in parameters if fnmatchcase(name, pattern)]
            if not matched:
                deeper = f"*.{pattern}"
                hint = f"; did you mean {deeper!r}?" if any(fnmatchcase(n, deeper) for n in parameters) else "."
                more = ", ..." * (len(parameters) > 6)
                raise ValueError(
                    f"{self.owner}: group {pattern!r} matches no parameter{hint} "
                    f"The parameters' names: {', '.join(parameters[:6])}{more}"
                )
            for name in matched:
                if name in patterns:
                    raise ValueError(
                        f"{self.owner}: parameter {name!r} matches two groups, {patterns[name]!r} and {pattern!r}"
                    )
                patterns[name] = pattern
                by_parameter[name] = settings
            self.groups.append(Group(self, pattern, settings, matched))
        return by_parameter

    def _settings(self, pattern: Any, values: Any) -> Settings:
        if not isinstance(pattern, str):
            raise TypeError(
                f"{self.owner}: a group's pattern is a string, a glob on parameters' names such as '*.bias' or '0'; "
                f"got {pattern!r}"
            )
        if not isinstance(values, Mapping):
            raise TypeError(f"{self.owner}: the settings of group {pattern!r} must be a dict, got {values!r:.40}")
        top = self.settings
        settings = Settings(f"{self.owner}, group {pattern!r}", top.specs, top.formats, top, top.follows)
        for name, value in values.items():
            if name in self.choices:
                raise ValueError(f"{self.owner}: {name} is a choice of the whole optimizer; set it there")
            if name not in self.names:
                raise TypeError(unknown(settings.owner, name, self.names))
            self.assign(settings, name, value)
        return settings

    # ---- what is run

    def absent(self, settings: Settings) -> frozenset[str]:
        """The numbers that are None."""
        return frozenset(name for name in self.rule.numbers if settings.source(name) is None)

    def update(self, absent: frozenset[str]) -> Update:
        """The rule with its choices and its present surroundings."""
        return build(self.rule, tuple(self.choices.items()), absent, self.surroundings())

    def surroundings(self) -> Surroundings:
        every = [self.settings, *(group.settings for group in self.groups)]
        decays = any(callable(v) or v != 0 for v in (s.source("weight_decay") for s in every))
        return Surroundings(
            decay=self.decay if decays else None,
            clip=self.settings.source("clip_norm") is not None,
            maximize=self.maximize,
            ema=self.ema,
        )

    def refuse_idle(self, given: Mapping[str, Any]) -> None:
        """Refuse arguments that have no effect with the others."""
        every = {self.absent(settings) for settings in (self.settings, *(g.settings for g in self.groups))}
        graphs = {absent: lower(self.update(absent)) for absent in every}
        starts = [state.start for state in self.rule.states]
        for name, value in given.items():
            if name in self.choices:
                default = self.rule.choices[name].default
                other = tuple({**self.choices, name: default}.items())
                plain = {absent: lower(build(self.rule, other, absent, self.surroundings())) for absent in every}
                idle = value != default and all(plain[a].nodes == graphs[a].nodes for a in every)
            else:
                read = any(name in graph.numbers for graph in graphs.values()) or name in starts
                idle = value not in (None, self.rule.numbers[name].default) and not read
            if idle:
                raise ValueError(
                    f"{self.owner}: {name}={value!r} has no effect with the other arguments; "
                    "leave it out, or give what it belongs to"
                )


class Group:
    """The settings of the parameters whose names match a pattern."""

    hyper: Hyperparameters
    pattern: str
    settings: Settings
    names: Sequence[str]

    def __init__(self, hyper: Hyperparameters, pattern: str, settings: Settings, names: Sequence[str]) -> None:
        self.__dict__.update(hyper=hyper, pattern=pattern, settings=settings, names=tuple(names))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.hyper.get(self.settings, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.hyper.set(self.settings, name, value)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.settings.values.items())
        return f"Group({self.pattern!r}, {values}; {counted(len(self.names), 'parameter')})"

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
