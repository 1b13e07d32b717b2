"""A rule run once on symbols."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple

from adamite.errors import RuleError, counted, is_library, is_python, place
from adamite.language import expression, maths
from adamite.language.expression import Expression, Unread, constant, number, tensor
from adamite.language.rule import Rule

_OURS = (expression.__file__, maths.__file__, sys.modules[Rule.__module__].__file__, __file__)


class Trace(NamedTuple):
    """What a rule leaves behind: the step, the new states, and the names of its local variables."""

    step: Expression
    states: Mapping[str, Expression]  # tensor states that the rule reads or changes
    scalars: Mapping[str, Expression]  # Scalar states
    locals: Mapping[str, Expression]


def trace(
    rule: Rule,
    choices: Mapping[str, bool | str],
    absent: Collection[str] = (),
    *,
    x: Expression | None = None,
    g: Expression | None = None,
) -> Trace:
    """Run the rule on symbols, its choices fixed and its absent numbers None.

    States that the rule neither reads nor changes under these choices are dropped.
    """
    x = tensor("x") if x is None else x
    inputs = {s.name: number(s.name) if s.scalar else tensor(s.name) for s in rule.states}
    keywords: dict[str, Any] = {"t": number("t"), **choices}
    keywords |= {name: None if name in absent else number(name) for name in rule.numbers}
    positional = [x] * rule.uses_x + [tensor("g") if g is None else g, *inputs.values()]

    named: dict[str, Expression] = {}
    returned = _run(rule, positional, keywords, named)
    expected = ", ".join(["step", *inputs])
    if not isinstance(returned, (tuple, list)):
        returned = (returned,)
    if len(returned) == 1 and returned[0] is None:
        raise RuleError(f"rule {rule.name} returns nothing; write `return {expected}` at its end ({rule.place})")
    if len(returned) != 1 + len(rule.states):
        raise RuleError(
            f"rule {rule.name} must return {counted(1 + len(rule.states), 'value')} ({expected}), not {len(returned)}: "
            f"the step that is subtracted, then each new state in the order of the arguments ({rule.place})"
        )
    try:
        step, *news = (constant(value) for value in returned)
    except RuleError as error:
        raise RuleError(f"rule {rule.name} returned something that is no symbol: {error} ({rule.place})") from None
    for label, value in zip(["step", *inputs], [step, *news], strict=True):
        if value.boolean:
            raise RuleError(f"rule {rule.name}: its {label} is a comparison; use where(condition, a, b) ({rule.place})")

    new = dict(zip(inputs, news, strict=True))
    scalars = {s.name: new[s.name] for s in rule.states if s.scalar}
    for name, value in scalars.items():
        if not value.scalar:
            raise RuleError(
                f"rule {rule.name}: the new {name} depends on a tensor, but it is declared Scalar, one number "
                f"a parameter; drop the annotation, or compute it from numbers alone ({rule.place})"
            )
    tensors = {name: value for name, value in new.items() if name not in scalars}
    changed = [value for name, value in tensors.items() if value is not inputs[name]]
    read = {node for root in (step, *changed) for node in walk(root)}
    used = {n: value for n, value in tensors.items() if value is not inputs[n] or inputs[n] in read}
    return Trace(step, used, scalars, named)


def walk(root: Expression) -> Iterator[Expression]:
    """Each expression that this one is made of, and this one: arguments before what uses them."""
    seen: set[Expression] = set()
    stack = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args) if isinstance(a, Expression))


def _run(rule: Rule, positional: list[Any], keywords: dict[str, Any], named: dict[str, Expression]) -> Any:
    """Call the function, record the names of its local variables, and say which line an error comes from."""

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_code.co_filename not in _OURS:
            named.update((k, v) for k, v in frame.f_locals.items() if type(v) is Expression)

    profiler = sys.getprofile()
    sys.setprofile(note)
    try:
        return rule.function(*positional, **keywords)
    except Exception as error:
        sys.setprofile(profiler)
        line = place(error, lambda file: file in _OURS or is_library(file) or is_python(file)) or "its arguments"
        raise RuleError(f"rule {rule.name}, {line}: {_problem(error, line)}") from error
    finally:
        sys.setprofile(profiler)


def _problem(error: Exception, line: str) -> str:
    """What went wrong. If a library was given a symbol, its own message says little, so we say what to use instead.

    The name of the library's function is taken from the line, since a symbol doesn't always see it (math's functions
    call `__float__`).
    """
    import traceback

    last = next(f.filename for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename not in _OURS)
    text = str(error) if isinstance(error, RuleError) else f"{type(error).__name__}: {error}"
    unread = isinstance(error, Unread) and not error.functions
    if unread or is_library(last) or repr(Expression) in text:  # jax removes its own frames
        return str(Unread(*re.findall(r"(?<!adamite)\.(\w+)\(", line)))
    return text
