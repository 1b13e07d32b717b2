"""What a rule declares by its signature: states, numbers and choices. Nothing is traced here."""

from __future__ import annotations

import functools
import math
import numbers as kinds
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, overload

from adamite.errors import RuleError

_VARARGS, _VARKEYWORDS, _GENERATOR = 0x04, 0x08, 0x20 | 0x80 | 0x200  # flags of a function's code

# Names that belong to what surrounds a rule.
_TAKEN_STATES = frozenset({"x", "g", "t", "step", "average"})
_TAKEN = frozenset({
    "params", "convention", "conventions", "groups", "weight_decay", "decay", "clip", "clip_norm", "nonfinite", "ema",
    "maximize", "state", "seed", "sparse", "step", "steps", "update", "skipped", "gradient_norm", "schedule",
    "averaged", "flush", "state_dict", "load_state_dict", "self",
})  # fmt: skip


class _Mark:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def __reduce__(self) -> str:
        return self.text.upper()


REQUIRED: Any = _Mark("required")  # the default of a number that has none
DEFAULT: Any = _Mark("default")  # an argument that wasn't given


if typing.TYPE_CHECKING:
    Scalar: typing.TypeAlias = float
    Unsigned: typing.TypeAlias = float
else:

    class Scalar(float):
        """Annotation for a state that is one float64 number a parameter: `mu_product: Scalar = 1.0`."""

    class Unsigned(float):
        """Annotation for a state that can't be negative, such as a second moment: `v: Unsigned`.

        It is checked: a rule that may make such a state negative is refused. Without the annotation, states that are
        found to be nonnegative are stored in the same way.
        """


class State(NamedTuple):
    """One state: `start` is a number, the name of a hyperparameter, or "x" (the parameter)."""

    name: str
    scalar: bool
    start: float | str
    unsigned: bool = False  # declared so


class Number(NamedTuple):
    """One hyperparameter; an `optional` one may be None, which removes its part of the rule."""

    name: str
    default: float | None
    optional: bool = False
    low: float = -float("inf")
    high: float = float("inf")
    range: str = ""  # as the docstring writes it: "[0, 1)"
    meaning: str = ""

    def within(self, allowed: str) -> Number:
        """The same number in another range, written as "[0, 1)"."""
        low, high = _bounds(self.name, allowed)
        return self._replace(low=low, high=high, range=allowed)

    def allows(self, value: float) -> bool:
        above = value > self.low if self.range.startswith("(") else value >= self.low
        below = value < self.high if self.range.endswith(")") else value <= self.high
        return above and below


class Choice(NamedTuple):
    """A keyword fixed before tracing: a bool, or one of some strings (`allowed` is empty for any)."""

    name: str
    default: bool | str
    allowed: tuple[bool | str, ...]
    meaning: str = ""


class Argument(NamedTuple):
    """One argument of a rule's function, as it is written."""

    name: str
    default: Any  # REQUIRED where there is none
    hint: Any


class Rule:
    """An optimizer's equations: a function that is run once, on symbols."""

    def __init__(
        self,
        function: types.FunctionType,
        doc: str,
        uses_x: bool,
        states: tuple[State, ...],
        numbers: Mapping[str, Number],
        choices: Mapping[str, Choice],
        variant_of: Rule | None,
    ) -> None:
        self.function, self.name = function, function.__name__
        self.title, self.summary = doc.partition("\n")[0], doc  # the docstring without its list of arguments
        self.uses_x, self.states, self.variant_of = uses_x, states, variant_of
        self.numbers, self.choices = types.MappingProxyType(numbers), types.MappingProxyType(choices)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the equations inside another rule, on its symbols."""
        return self.function(*args, **kwargs)

    @property
    def place(self) -> str:
        """Its file and line."""
        return _place(self.function)

    def __repr__(self) -> str:
        return f"<rule {self.name}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Rule:
        return self  # as functions do

    def __reduce__(self) -> Any:
        # By reference to where it is defined, as functions do.
        where = (self.function.__module__, self.function.__qualname__)
        try:
            loaded = _load(*where)
        except (ImportError, AttributeError):
            loaded = None
        if loaded is not self:
            import pickle

            raise pickle.PicklingError(f"rule {self.name} isn't found as {'.'.join(where)}; define it in a module")
        return (_load, where)


def _load(module: str, qualname: str) -> Any:
    import importlib

    return functools.reduce(getattr, qualname.split("."), importlib.import_module(module))


@overload
def rule(function: Callable[..., Any], /) -> Rule: ...
@overload
def rule(*, variant_of: Rule) -> Callable[[Callable[..., Any]], Rule]: ...
def rule(function: Callable[..., Any] | None = None, /, *, variant_of: Rule | None = None) -> Any:
    """Make a function of the gradient and the states an optimizer.

    Positional arguments: the gradient `g`, then the states (a rule that needs the parameter names it `x`,
    first). Keyword-only: the step number `t` (from 1) and the hyperparameters with their defaults. Returned:
    the step that is subtracted from the parameter, then the new states.

    A keyword with a bool or str default is a choice, fixed before tracing. `name: float | None = None` is a
    number that may be left out. A state starts at 0 or at its default: a number, a hyperparameter's name, or
    "x", the parameter. `name: Scalar = 1.0` is a state of one number a parameter, `name: Unsigned` one that can't be
    negative.

    Inside: + - * / **, comparisons, & | ~, and sqrt, abs, maximum, minimum, sign, where of adamite. Numbers may be
    raised to any power, tensors to whole numbers and 0.5. `help(adamite.optimizer(rule))` prints the equations.

    A line `lr in [0, inf): learning rate` in the docstring states a hyperparameter's range and meaning. `Tune
    1e-4 to 1.` in a meaning says where `adamite compare` looks for the best.

    Args:
        variant_of: the rule whose docstring speaks for the arguments that this one doesn't describe.

    Returns:
        A `Rule`: give it to `adamite.optimizer`, or call it inside another rule.

    Raises:
        RuleError: where the signature isn't of that form.

    >>> @rule
    ... def signum(g, m, *, t, lr=1e-3, beta=0.9):
    ...     m = beta * m + (1 - beta) * g
    ...     return lr * sign(m), m
    >>> signum.states[0].name, signum.numbers["beta"].default
    ('m', 0.9)
    """
    if function is None:
        return functools.partial(_read, variant_of=variant_of)
    return _read(function, variant_of)


def _place(function: Any) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code else "no function of Python's"


def _read(function: Callable[..., Any], variant_of: Rule | None = None) -> Rule:
    name = getattr(function, "__name__", repr(function))
    try:
        if not isinstance(function, types.FunctionType):
            raise ValueError("a rule is a plain function")
        positional, keywords = signature(function)
        _check_names(name, [p.name for p in positional], [p.name for p in keywords])
        doc, about = _docstring(function.__doc__ or "", [p.name for p in keywords])
        specs = [_keyword(p, about.get(p.name), variant_of) for p in keywords if p.name != "t"]
        numbers = {spec.name: spec for spec in specs if isinstance(spec, Number)}
        choices = {spec.name: spec for spec in specs if isinstance(spec, Choice)}
        uses_x = positional[0].name == "x"
        states = tuple(_state(p, numbers) for p in positional[uses_x + 1 :])
    except ValueError as error:
        raise RuleError(
            f"rule {name} ({_place(function)}): {error}. "
            f"A rule reads `def {name}(g, m, *, t, lr=1e-3): ... return step, m`"
        ) from None
    return Rule(function, doc, uses_x, states, numbers, choices, variant_of)


def signature(function: types.FunctionType) -> tuple[list[Argument], list[Argument]]:
    """The positional and the keyword-only arguments of a function, read from its code: `inspect` takes long to import.

    Raises:
        ValueError: for a generator, a coroutine, and *args or **kwargs.
    """
    written: Any = function
    while hasattr(written, "__wrapped__"):  # as functools.wraps leaves it
        written = written.__wrapped__
    code = written.__code__
    count, named = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    if code.co_flags & _GENERATOR:
        raise ValueError("a rule is a plain function, not a generator or a coroutine")
    if code.co_flags & (_VARARGS | _VARKEYWORDS):
        raise ValueError(f"*{code.co_varnames[named]} hides what the rule needs; name each argument")
    given = written.__defaults__ or ()
    defaults = dict(zip(code.co_varnames[count - len(given) : count], given, strict=True))
    defaults |= written.__kwdefaults__ or {}
    hints = {name: _annotation(hint, written.__globals__) for name, hint in written.__annotations__.items()}
    every = [Argument(name, defaults.get(name, REQUIRED), hints.get(name)) for name in code.co_varnames[:named]]
    return every[:count], every[count:]


def _check_names(rule: str, positional: list[str], keywords: list[str]) -> None:
    """Refuse arguments that are missing, in a wrong place, or named like something else.

    Raises:
        ValueError: says which.
    """
    uses_x = positional[:1] == ["x"]
    if positional[uses_x : uses_x + 1] != ["g"]:
        raise ValueError(f"the first argument is the gradient g (or x, then g), not {', '.join(positional) or 'none'}")
    if "x" in positional[1:]:
        raise ValueError(f"the parameter x comes first, `def {rule}(x, g, ...)`")
    if "t" not in keywords:
        behind = ": write * before it" if "t" in positional else ""
        raise ValueError(f"the step number t is missing among the keyword-only arguments{behind}")
    if "lr" in positional:
        raise ValueError("lr is no state but a hyperparameter, which is keyword-only: write * before it")
    taken = [name for name in positional[uses_x + 1 :] if name in _TAKEN_STATES or name in keywords]
    taken += [name for name in keywords if name in _TAKEN or name.startswith("_")]
    taken += [name for name in positional if name.startswith("_")]
    if taken:
        raise ValueError(f"the name {taken[0]} means something else to every optimizer; choose another")


def _state(p: Argument, numbers: Mapping[str, Number]) -> State:
    start = 0.0 if p.default is REQUIRED else p.default
    scalar = p.hint is Scalar
    if isinstance(start, bool) or not (isinstance(start, str) or _finite(start)):
        raise ValueError(f"state {p.name} can't start at {start!r}; a number, a hyperparameter's name or 'x'")
    if isinstance(start, str) and start not in numbers and (start != "x" or scalar):
        raise ValueError(f"state {p.name} starts at {start!r}, which is no hyperparameter and not 'x'")
    return State(p.name, scalar, start if isinstance(start, str) else float(start), p.hint is Unsigned)


def _keyword(p: Argument, about: tuple[str, str] | None, variant_of: Rule | None) -> Number | Choice:
    inherited: Number | Choice | None = None
    if variant_of is not None:
        inherited = variant_of.numbers.get(p.name) or variant_of.choices.get(p.name)
    range_, meaning = about or ("", "")
    if inherited is not None and about is None:
        range_, meaning = getattr(inherited, "range", ""), inherited.meaning

    literal = typing.get_origin(p.hint) is Literal
    if literal or p.hint in (bool, str) or isinstance(p.default, (bool, str)):
        allowed = typing.get_args(p.hint) if literal else () if isinstance(p.default, str) else (False, True)
        if not all(isinstance(a, (bool, str)) for a in allowed):
            raise ValueError(f"{p.name} is a choice among {allowed}, and choices are strings or booleans")
        if p.default is REQUIRED or (allowed and p.default not in allowed):
            raise ValueError(f"{p.name} is a choice and needs a default among {allowed or 'strings'}")
        return Choice(p.name, p.default, allowed, meaning)

    low, high = _bounds(p.name, range_)
    default: float | None = p.default
    if p.default is not REQUIRED and p.default is not None:
        if not isinstance(p.default, kinds.Real):
            raise ValueError(f"{p.name}={p.default!r} is neither a number, a bool nor a str")
        default = float(p.default)
    optional = p.default is None or type(None) in typing.get_args(p.hint)
    number = Number(p.name, default, optional, low, high, range_, meaning)
    if isinstance(default, float) and not (math.isfinite(default) and number.allows(default)):
        raise ValueError(f"the default {p.name}={default:g} is outside of {range_ or 'the finite numbers'}")
    return number


def _finite(value: Any) -> bool:
    return isinstance(value, kinds.Real) and math.isfinite(value)


def _annotation(hint: Any, names: dict[str, Any]) -> Any:
    """What an annotation means; None if it can't be evaluated, since then it isn't one of ours."""
    if not isinstance(hint, str):
        return hint
    try:
        # What typing.get_type_hints does, one by one.
        return eval(hint, {**names, "Scalar": Scalar, "Unsigned": Unsigned})
    except Exception:
        return None


def _bounds(name: str, range_: str) -> tuple[float, float]:
    if not range_:
        return -math.inf, math.inf
    try:
        low, high = (float(part) for part in range_[1:-1].split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not low <= high:
        raise ValueError(f"the range {name} in {range_} can't be read; write it as [0, 1) or (0, inf)")
    return low, high


# "lr in [0, inf): meaning", and the lines that go on: not blank, and not another argument's.
_ARGUMENT = re.compile(
    r"^ *(?P<name>\w+)(?: in (?P<range>[\[(][^\])]*[\])]))?: "
    r"(?P<meaning>.*(?:\n(?! *\w+(?: in [\[(].*)?: )(?! *$).+)*)\n?",
    re.MULTILINE,
)


def _docstring(doc: str, names: list[str]) -> tuple[str, dict[str, tuple[str, str]]]:
    """The text, and for each argument described in it its range and meaning."""
    about: dict[str, tuple[str, str]] = {}

    def take(argument: re.Match[str]) -> str:
        name, allowed, meaning = argument.group("name", "range", "meaning")
        if name not in names and allowed:
            raise ValueError(f"its docstring describes {name}, which is no argument of it")
        if name not in names or name in about:
            return argument[0]
        about[name] = (allowed or "", " ".join(meaning.split()))
        return ""

    first, *rest = _ARGUMENT.sub(take, doc.expandtabs()).splitlines() or [""]
    margin = min((len(line) - len(line.lstrip()) for line in rest if line.strip()), default=0)
    text = "\n".join([first.strip(), *(line[margin:].rstrip() for line in rest)])
    return re.sub(r"\n\n+", "\n\n", text).strip(), about
