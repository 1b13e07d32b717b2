"""Who takes part: an optimizer, and what of it is tuned, in what range."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from adamite.lab.where import load
from adamite.numpy import OPTIMIZERS
from adamite.rule import Rule
from adamite.rules import RULES
from adamite.settings import unknown
from adamite.update import Surroundings, build

DECADES = 2  # of learning rates, on both sides of the rule's own default


class Range(NamedTuple):
    """Where a hyperparameter is looked for."""

    low: float
    high: float
    log: bool = True

    def at(self, share: float) -> float:
        """The value at a share of the way, to four digits: it is what a reader will type."""
        if self.log:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + (self.high - self.low) * share
        return float(f"{value:.4g}")


@dataclass(frozen=True)
class Entrant:
    """A rule with the options that make it this optimizer, and the ranges of what is tuned."""

    name: str
    rule: Rule
    options: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Range] = field(default_factory=dict)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if ".py:" in self.name:  # pickle doesn't find a rule that is in a file
            return find, (self.name, self.space)
        return super().__reduce_ex__(protocol)

    @property
    def state_bytes(self) -> int:
        """Bytes of state a float32 parameter."""
        absent = {n for n, spec in self.rule.numbers.items() if spec.default is None and n not in self.options}
        choices = tuple((n, self.options.get(n, spec.default)) for n, spec in self.rule.choices.items())
        return 4 * len(build(self.rule, choices, frozenset(absent), Surroundings()).states)

    @property
    def mark(self) -> str:
        """What changes where the equations do."""
        text = inspect.getsource(self.rule.function)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


_DECAY = Range(1e-4, 1.0)
_VARIED: dict[str, tuple[str, dict[str, Any], dict[str, Range]]] = {
    "momentum": ("sgd", {"momentum": 0.9}, {}),
    "nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}, {}),
    "adamw": ("adam", {}, {"weight_decay": _DECAY}),
}
NAMES = ("sgd", "momentum", "nesterov", *(n for n in OPTIMIZERS if n in {*RULES, "adamw"} and n != "sgd"))


def find(name: str, ranges: Mapping[str, Range] | None = None) -> Entrant:
    """An entrant by its name, a rule's name, or where one's own rule is: module:rule.

    Args:
        ranges: of hyperparameters, instead of its own.

    Raises:
        ValueError: that says which there are.
    """
    rule_name, options, space = _VARIED.get(name, (name, {}, {}))
    if ":" in name:
        rule = load(name)
        if not isinstance(rule, Rule):
            raise ValueError(f"{name} is {rule!r:.60}, not a rule: a function with @adamite.rule")
    elif rule_name in RULES:
        rule = RULES[rule_name]
    else:
        raise ValueError(unknown("adamite", name, [*NAMES, *RULES], "optimizer"))
    wanted = {**_declared(rule), **space, **(ranges or {})}
    known = {*rule.numbers, "weight_decay"}
    strange = sorted(wanted.keys() - known)
    if strange and ranges and strange[0] in ranges:
        raise ValueError(f"{name} has no {strange[0]} to tune; it has {', '.join(sorted(known))}")
    return Entrant(name, rule, {k: v for k, v in options.items() if k not in wanted}, wanted)


# "Tune 0.8 to 0.99." in what a docstring says of a hyperparameter.
_TUNE = re.compile(r"\bTune ([\d.e+-]+) to ([\d.e+-]*\d)")


def _declared(rule: Rule) -> dict[str, Range]:
    """What the rule's docstring says to tune, and its learning rate in any case."""
    found = {}
    for name, number in rule.numbers.items():
        words = _TUNE.search(number.meaning)
        if words:
            found[name] = span(float(words[1]), float(words[2]))
        elif name == "lr" and number.default:
            found[name] = Range(number.default / 10**DECADES, number.default * 10**DECADES)
    return found


def span(low: float, high: float) -> Range:
    """A range: by decades, if there is one at least."""
    return Range(low, high, log=low > 0 and high / low >= 10)
