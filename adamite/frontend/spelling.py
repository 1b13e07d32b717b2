"""How a framework spells an optimizer: the signature of its class, and what each argument means to the rule."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from adamite.language.rule import REQUIRED, Rule
from adamite.language.update import WEIGHT_DECAY, Decay, Surroundings, Update, build

Framework = Literal["paper", "torch", "keras", "optax"]
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Convention(NamedTuple):
    """The equations and defaults of one optimizer in one framework."""

    rule: Rule
    defaults: Mapping[str, Any] = NOTHING  # where they differ from the rule's
    decay: Decay | None = None  # the kind of `weight_decay`, None where it has none
    title: str = ""  # where the rule's own won't do
    follows: Mapping[str, str] = NOTHING  # numbers that are equal to another one unless they are given

    def default(self, name: str) -> Any:
        """The default of a number or choice of the rule, or of the weight decay."""
        if name in self.follows:
            return self.default(self.follows[name])
        if name in self.defaults:
            return self.defaults[name]
        spec = self.rule.numbers.get(name) or self.rule.choices.get(name)
        return spec.default if spec else 0.0


# "lr=1e-3", "betas=(0.9, 0.999)", "params" or "*": a name, and what stands behind its "=".
_ARGUMENT = re.compile(r"(\*|\w+)(?:=(\([^)]*\)|[^,]+))?(?:, |$)")


@functools.cache
def _value(default: str) -> Any:
    return eval(default) if default else REQUIRED  # the catalogue's own text


class Form(NamedTuple):
    """A signature: the name of a class or function, and its arguments with their defaults (or REQUIRED), in order."""

    name: str
    arguments: Mapping[str, Any]
    positional: int  # how many of them may be given by position

    @classmethod
    def of(cls, text: str) -> Form:
        """The form that is written as a framework's documentation prints it: `Adam(lr=1e-3, *, maximize=False)`."""
        name, _, rest = text.partition("(")
        written = _ARGUMENT.findall(rest.removesuffix(")"))
        names = [argument for argument, _ in written]
        positional = names.index("*") if "*" in names else len(names)
        arguments = {argument: _value(default) for argument, default in written if argument != "*"}
        return cls(name, arguments, positional)

    def required(self, name: str) -> bool:
        """Whether an argument has no default."""
        return self.arguments[name] is REQUIRED

    def given(
        self, args: Sequence[Any], options: Mapping[str, Any], leading: int = 0
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The value of each argument in a call, and the options that aren't arguments of this form.

        Args:
            leading: how many positional arguments come before those of the form.

        Raises:
            TypeError: for too many positional arguments, and for one that is given twice.
        """
        names = list(self.arguments)[: self.positional]
        if len(args) > len(names):
            least, most = (leading + count for count in (sum(map(self.required, names)), len(names)))
            raise TypeError(
                f"{self.name} takes from {least} to {most} positional arguments but {leading + len(args)} were given"
            )
        by_position = dict(zip(names, args))
        for name in by_position:
            if name in options:
                raise TypeError(f"{self.name} got multiple values for argument {name!r}")
        by_name = {name: value for name, value in options.items() if name in self.arguments}
        others = {name: value for name, value in options.items() if name not in self.arguments}
        return {**self.arguments, **by_position, **by_name}, others


class Meaning(NamedTuple):
    """What arguments mean: a rule with its choices, and its numbers; those that are absent leave their part out."""

    rule: Rule
    choices: tuple[tuple[str, Any], ...]
    numbers: dict[str, Any]
    absent: frozenset[str]

    def update(self, around: Surroundings) -> Update:
        """The rule with these choices, and what surrounds it."""
        return build(self.rule, self.choices, self.absent, around)


class Spelling(NamedTuple):
    """How a framework spells one optimizer."""

    form: Form
    convention: Convention
    arguments: Mapping[str, tuple[str, ...]]  # an argument -> the rule's numbers that it gives
    states: Mapping[str, str]  # the rule's state -> its key, in the framework's order
    switches: Mapping[str, Rule] = NOTHING  # a flag -> the rule that it selects
    without: tuple[str, ...] = ()  # numbers that leave their part of the rule out at 0
    ranges: Mapping[str, str] = NOTHING  # of arguments that have another range than the rule's numbers
    plain: Convention | None = None  # of this optimizer under NumPy, where it has fewer options
    ours: bool = False  # whether the framework itself has no optimizer of this name
    base: str = ""  # the class that its class is derived from
    fixed: Mapping[str, Any] = NOTHING  # torch: settings of all groups that aren't arguments
    counts: bool = True  # torch: whether the step number is among the states
    sparse: bool = False  # torch: whether sparse gradients are taken
    early: bool = False  # torch: whether states are made with the optimizer, before the first gradient
    apart: tuple[str, ...] = ()  # Keras: states that come after the others, all parameters' of one, then of the next

    @property
    def name(self) -> str:
        return self.form.name

    def rule(self, given: Mapping[str, Any]) -> Rule:
        """The rule that flags select."""
        selected = [rule for flag, rule in self.switches.items() if given.get(flag)]
        return selected[-1] if selected else self.convention.rule

    def read(self, given: Mapping[str, Any]) -> Meaning:
        """What arguments mean to the rule; those that aren't given, and its other numbers, have their defaults."""
        rule, convention = self.rule(given), self.convention
        numbers: dict[str, Any] = {}
        for argument, names in self.arguments.items():
            if argument in given:
                value = given[argument]
                numbers.update(zip(names, value if len(names) > 1 else (value,), strict=True))
        for name, other in convention.follows.items():
            if numbers.get(name) is None:
                numbers[name] = numbers.get(other, convention.default(other))
        for name in rule.numbers:
            numbers.setdefault(name, convention.default(name))
        absent = frozenset(n for n in rule.numbers if numbers[n] is None or (n in self.without and is_zero(numbers[n])))
        choices = tuple((name, given.get(name, convention.default(name))) for name in rule.choices)
        return Meaning(rule, choices, {n: numbers[n] for n in rule.numbers if n not in absent}, absent)


def is_zero(value: Any) -> bool:
    """Whether a value is known to be zero; a schedule and what JAX traces isn't."""
    return isinstance(value, (int, float)) and value == 0


class Language(NamedTuple):
    """How a framework spells arguments and states, unless an optimizer's row says otherwise."""

    arguments: Mapping[str, tuple[str, ...]]  # the rule's numbers have their own names otherwise
    states: Mapping[str, str]
    ranges: Mapping[str, str] = NOTHING

    def spelling(
        self,
        text: str,
        rule: Rule,
        decay: Decay | None = None,
        *,
        title: str = "",
        follows: Mapping[str, str] = NOTHING,
        states: Mapping[str, str] | None = None,
        ranges: Mapping[str, str] = NOTHING,
        defaults: Mapping[str, Any] = NOTHING,
        plain: Rule | None = None,
        **more: Any,
    ) -> Spelling:
        """An optimizer with this signature; the defaults in it are the convention's.

        Args:
            text: the signature, as the framework's documentation prints it.
            defaults: those that the signature doesn't have.
            plain: the rule under NumPy, where it isn't `rule`.
            more: other fields of `Spelling`.
        """
        form = Form.of(text)
        switched = more.get("switches", NOTHING).values()
        names = {state.name: None for one in (rule, *switched) for state in one.states}
        arguments = self._arguments(form, rule)
        defaults = {**dict(_defaults(form, arguments, rule, follows, more.get("without", ()))), **defaults}
        convention = Convention(rule, defaults, decay, title, follows)
        if plain is not None:
            allowed = {*plain.numbers, *plain.choices, WEIGHT_DECAY.name}
            plain_defaults = {name: value for name, value in defaults.items() if name in allowed}
            more["plain"] = Convention(plain, plain_defaults, decay, title)
        return Spelling(
            form,
            convention,
            arguments,
            states or {name: self.states.get(name, name) for name in names},
            ranges={**self.ranges, **ranges},
            **more,
        )

    def _arguments(self, form: Form, rule: Rule) -> dict[str, tuple[str, ...]]:
        numbers = {argument: self.arguments.get(argument, (argument,)) for argument in form.arguments}
        return {argument: names for argument, names in numbers.items() if rule.numbers.keys() >= {*names}}


def of_rule(rule: Rule, arguments: Mapping[str, Any], positional: int, names: Mapping[str, str] = NOTHING) -> Spelling:
    """The spelling of a user's own rule: the rule's own names.

    Args:
        arguments: all arguments of the class or function, with their defaults.
        positional: how many of them may be given by position.
        names: a number of the rule -> the argument that gives it, where that has another name.
    """
    return Spelling(
        Form(class_name(rule), arguments, positional),
        Convention(rule, decay="decoupled" if "lr" in rule.numbers else "l2"),
        {names.get(name, name): (name,) for name in rule.numbers},
        {state.name: state.name for state in rule.states},
    )


def _defaults(
    form: Form,
    arguments: Mapping[str, tuple[str, ...]],
    rule: Rule,
    follows: Mapping[str, str],
    without: Iterable[str],
) -> Iterable[tuple[str, Any]]:
    """The defaults in a form, by the rule's names."""
    for argument, names in arguments.items():
        default = form.arguments[argument]
        for name, value in zip(names, default if len(names) > 1 else (default,)):
            if name in without and value == 0:
                yield name, None
            elif value is None and not rule.numbers[name].optional and name not in follows:
                yield name, REQUIRED
            elif value is not None or name not in follows:
                yield name, value
    for name in rule.choices:
        if name in form.arguments:
            yield name, form.arguments[name]
    if form.arguments.get(WEIGHT_DECAY.name):
        yield WEIGHT_DECAY.name, form.arguments[WEIGHT_DECAY.name]


def class_name(rule: Rule) -> str:
    """The name of a rule's class."""
    return "".join(part.capitalize() for part in rule.name.split("_"))
