"""What is compared: an optimizer, and the ranges of its tuned hyperparameters."""

from __future__ import annotations

import hashlib
import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from adamite.frontend.named import absent
from adamite.lab.where import plain
from adamite.lab.where import rule as load_rule
from adamite.language.rule import REQUIRED, Number, Rule
from adamite.language.update import WEIGHT_DECAY, Surroundings, build
from adamite.numpy import OPTIMIZERS
from adamite.rules import RULES

DECADES = 2  # of learning rates, on each side of the rule's default
USUAL = 1e-3  # the default of a rule that has none


class Range(NamedTuple):
    """The search range of a hyperparameter."""

    low: float
    high: float
    log: bool = True

    def at(self, share: float) -> float:
        """The value at this fraction of the range, rounded so that it is easy to type.

        It has four digits, of the value or of the range's width, whichever is finer: between 0.9999 and 0.99999 four
        digits of the value aren't enough.
        """
        value: float
        if self.log:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + (self.high - self.low) * share
        digits = 3 - math.floor(math.log10(min(abs(value) or math.inf, self.high - self.low)))
        return min(max(round(value, digits), self.low), self.high)


@dataclass(frozen=True)
class Entrant:
    """A rule with this optimizer's options, and the ranges of its tuned hyperparameters."""

    name: str
    rule: Rule
    options: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Range] = field(default_factory=dict)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if ".py:" in self.name:  # pickle doesn't find a rule that is in a file
            return find, (self.name, self.space)
        return super().__reduce_ex__(protocol)

    @property
    def label(self) -> str:
        """A short name: that of a user's rule without its file."""
        return self.name.rpartition(":")[2]

    @property
    def state_bytes(self) -> int:
        """Bytes of state a float32 parameter."""
        absent = {n for n, spec in self.rule.numbers.items() if spec.default is None and n not in self.options}
        choices = tuple((n, self.options.get(n, spec.default)) for n, spec in self.rule.choices.items())
        return 4 * len(build(self.rule, choices, frozenset(absent), Surroundings()).states)

    @property
    def mark(self) -> str:
        """A hash of the equations' source."""
        text = inspect.getsource(self.rule.function)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class TuneError(ValueError):
    """There is no such hyperparameter to tune, or the range isn't allowed."""


_DECAY = Range(1e-4, 1.0)
_VARIED: dict[str, tuple[str, dict[str, Any], dict[str, Range]]] = {
    "momentum": ("sgd", {"momentum": 0.9}, {}),
    "nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}, {}),
    "adamw": ("adam", {}, {"weight_decay": _DECAY}),
}
NAMES = ("sgd", "momentum", "nesterov", *(n for n in OPTIMIZERS if n in {*RULES, "adamw"} and n != "sgd"))


def find(name: str, ranges: Mapping[str, Range] | None = None) -> Entrant:
    """Find an entrant by its name, a rule's name, or the place of a user's rule: module:rule, path/to/file.py:rule.

    Args:
        ranges: ranges of hyperparameters, instead of the entrant's own.

    Raises:
        ValueError: there is none, or something is wrong with the rule; the message says what.
        TuneError: it has no such hyperparameter, or the range isn't allowed.
    """
    name = plain(name) if ":" in name else name if name in RULES else name.lower()
    rule_name, options, space = _VARIED.get(name, (name, {}, {}))
    if ":" in name:
        rule = load_rule(name)
    elif rule_name in RULES:
        rule = RULES[rule_name]
    else:
        raise ValueError(absent("adamite", name, [*NAMES, *RULES]))
    specs = {**rule.numbers, WEIGHT_DECAY.name: WEIGHT_DECAY}
    for tuned, range_ in (ranges or {}).items():
        if tuned not in specs:
            raise TuneError(f"{name} has no {tuned} to tune; it has {', '.join(sorted(specs))}")
        _within(name, specs[tuned], range_)
    wanted = {**_declared(name, rule), **space, **(ranges or {})}
    for number in rule.numbers.values():
        if number.default is REQUIRED and number.name not in {**options, **wanted}:
            raise TuneError(f"{number.name} of {name} has no default; give it one, or --tune {number.name}=LOW:HIGH")
    return Entrant(name, rule, {k: v for k, v in options.items() if k not in wanted}, wanted)


def _within(name: str, number: Number, range_: Range) -> None:
    """Refuse a range with values that the rule would refuse in a trial."""
    if not (number.allows(range_.low) and number.allows(range_.high)):
        raise TuneError(
            f"{number.name} of {name} must lie in {number.range or 'the finite numbers'}; "
            f"got {range_.low:g} to {range_.high:g}"
        )


# "Tune 0.8 to 0.99." in the docstring's description of a hyperparameter.
_TUNE = re.compile(r"\bTune ([\d.e+-]+) to ([\d.e+-]*\d)")


def _declared(name: str, rule: Rule) -> dict[str, Range]:
    """The ranges that the rule's docstring says to tune, and always the learning rate's."""
    ranges = {}
    for number in rule.numbers.values():
        words = _TUNE.search(number.meaning)
        if words:
            low, high = float(words[1]), float(words[2])
            if not low < high:
                raise TuneError(f"{name} says of {number.name}: {words[0]}; the first must be below the second")
            ranges[number.name] = span(low, high)
            _within(name, number, ranges[number.name])
        elif number.name == "lr" and number.default:
            middle = USUAL if number.default is REQUIRED else number.default
            ranges["lr"] = Range(middle / 10**DECADES, middle * 10**DECADES)
    return ranges


def span(low: float, high: float) -> Range:
    """A range, logarithmic if it spans at least a decade."""
    return Range(low, high, log=low > 0 and high / low >= 10)
