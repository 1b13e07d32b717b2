"""What an optimizer is, in words and equations, gathered from its rule: for help, the command line and the docs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from adamite.backends.text import Equation, equations, symbol
from adamite.frontend.spelling import Convention, Spelling
from adamite.language.rule import REQUIRED, Rule
from adamite.language.update import WEIGHT_DECAY, Surroundings, Update, build


@dataclass(frozen=True)
class Argument:
    """One hyperparameter or choice."""

    name: str
    symbol: str
    default: str
    allowed: str
    meaning: str


@dataclass(frozen=True)
class Difference:
    """How one framework's optimizer of this name departs from the paper's."""

    framework: str
    title: str  # of its rule, where it is another one
    equations: tuple[Equation, ...]  # those that aren't among the paper's
    defaults: Mapping[str, str]  # those that differ
    decay: str  # what weight_decay means there


@dataclass(frozen=True)
class About:
    """Everything that `adamite show` prints."""

    name: str
    title: str
    summary: str
    update: Update
    arguments: tuple[Argument, ...]
    differences: tuple[Difference, ...]

    @property
    def moved_bytes(self) -> int:
        """Bytes that a step moves for a float32 parameter: all is read, all but the gradient is written."""
        return 4 * (3 + 2 * len(self.update.states))

    @property
    def state_bytes(self) -> int:
        """Bytes of state for a float32 parameter."""
        return 4 * len(self.update.states)


_DECAY = {
    "l2": "weight_decay is L2: added to the gradient",
    "decoupled": "weight_decay is decoupled, times lr",
    None: "no weight_decay",
}


def about(name: str, conventions: Mapping[str, Convention]) -> About:
    """Gather what there is to say of an optimizer."""
    paper = conventions["paper"]
    rule, update = paper.rule, _update(paper)
    choices = [
        Argument(c.name, "", repr(paper.default(c.name)), _allowed(c.allowed), c.meaning) for c in rule.choices.values()
    ]
    numbers = [
        Argument(n.name, symbol(n.name), _shown(paper.default(n.name)), n.range, _follows(paper, n.name) + n.meaning)
        for n in rule.numbers.values()
    ]
    if update.surroundings.decay:
        decay = WEIGHT_DECAY
        numbers.append(
            Argument(decay.name, symbol(decay.name), _shown(paper.default(decay.name)), decay.range, decay.meaning)
        )
    differences = [_difference(framework, c, paper) for framework, c in conventions.items() if framework != "paper"]
    return About(name, _title(paper), _summary(rule), update, (*numbers, *choices), tuple(differences))


class Words(NamedTuple):
    """What the docstrings of a framework's classes say beside the rules' own words."""

    ranges: Mapping[str, str] = MappingProxyType({})  # of arguments, where they aren't the rule's
    before: tuple[str, ...] = ()  # lines ahead of the rule's arguments
    after: tuple[str, ...] = ()


def documentation(convention: Convention, arguments: Iterable[Argument], words: Words) -> str:
    """The docstring of a class or function: its title, its equations, and its arguments."""
    lines = [_title(convention), ""]
    summary = _summary(convention.rule)
    lines += [summary, ""] if summary else []
    lines += [f"    {equation}" for equation in equations(_update(convention))]
    lines += ["", "Args:", *words.before]
    for argument in arguments:
        allowed = f" in {argument.allowed}" if argument.allowed else ""
        text = f"{argument.name}{allowed}, default {argument.default}: {argument.meaning}"
        lines += textwrap.wrap(text, 96, initial_indent="    ", subsequent_indent="        ")
    return "\n".join([*lines, *words.after])


_FLAGS = {
    "weight_decay": "how fast weights shrink toward zero",
    "amsgrad": "AMSGrad: the second moment never shrinks (Reddi, Kale & Kumar 2018)",
    "maximize": "climb instead of descending",
    "decoupled_weight_decay": "weights shrink by lr * weight_decay, as in AdamW; else it is L2, added to the gradient",
}


def spelled(spelling: Spelling, words: Words) -> str:
    """The docstring of a framework's class or function, by the framework's names."""
    return documentation(spelling.convention, _arguments(spelling, words.ranges), words)


def _arguments(spelling: Spelling, ranges: Mapping[str, str]) -> Iterator[Argument]:
    """The hyperparameters and choices of a framework's class, by the framework's names.

    Args:
        ranges: of the framework's arguments, where they aren't the rule's.
    """
    convention = spelling.convention
    rule = convention.rule
    for argument, default in spelling.form.arguments.items():
        numbers = [rule.numbers[name] for name in spelling.arguments.get(argument, ())]
        choice = rule.choices.get(argument)
        if numbers:
            own_ranges = " and ".join(n.range for n in numbers if n.range)
            allowed = spelling.ranges.get(argument) or ranges.get(argument) or own_ranges
            meaning = " ".join(f"{n.name}: {n.meaning}" if len(numbers) > 1 else n.meaning for n in numbers)
            if numbers[0].name in convention.follows:
                default = convention.default(numbers[0].name)
                meaning = _follows(convention, numbers[0].name) + meaning
            yield Argument(argument, "", repr(default), allowed, meaning)
        elif choice or argument in _FLAGS:
            yield Argument(argument, "", repr(default), "", choice.meaning if choice else _FLAGS[argument])


def _title(convention: Convention) -> str:
    return convention.title or convention.rule.title


def _summary(rule: Rule) -> str:
    """What a rule's docstring says after its first line."""
    return rule.summary.removeprefix(rule.title).strip()


def _update(convention: Convention) -> Update:
    rule = convention.rule
    choices = tuple((name, convention.default(name)) for name in rule.choices)
    absent = frozenset(name for name in rule.numbers if convention.default(name) is None)
    decay = convention.decay if convention.default("weight_decay") else None
    return build(rule, choices, absent, Surroundings(decay=decay))


def _difference(framework: str, convention: Convention, paper: Convention) -> Difference:
    of_the_paper = {str(e) for e in equations(_update(paper))}
    other = tuple(e for e in equations(_update(convention)) if str(e) not in of_the_paper)
    names = [*convention.rule.numbers, "weight_decay"]
    defaults = {
        name: _shown(convention.default(name))
        for name in names
        if name in {*paper.rule.numbers, "weight_decay"} and convention.default(name) != paper.default(name)
        if not (name == "weight_decay" and convention.decay is None)
    }
    title = convention.rule.title if convention.rule is not paper.rule else ""
    return Difference(framework, title, other, defaults, _DECAY[convention.decay])


def _follows(convention: Convention, name: str) -> str:
    return f"as {convention.follows[name]} unless it is given; " if name in convention.follows else ""


def _shown(value: object) -> str:
    return "required" if value is REQUIRED else "none" if value is None else f"{value:g}".replace("e-0", "e-")


def _allowed(values: tuple[object, ...]) -> str:
    return "{" + ", ".join(map(str, values)) + "}" if values else "any string"
