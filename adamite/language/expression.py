"""Symbols: what a rule is run on, and the expressions that it leaves behind.

An `Expression` is one operation with its arguments. It is *scalar* if it depends only on numbers
(hyperparameters, the step number); otherwise it stands for one element of a tensor. `boolean` marks comparisons.
"""

from __future__ import annotations

import numbers
from typing import Any, ClassVar, NoReturn

from adamite.errors import RuleError, listed
from adamite.language.operations import gives_truth

Operand = Any  # an Expression or a number

_OPERATORS = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "power": "pow",
    "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le", "equal": "eq", "not_equal": "ne",
}  # fmt: skip
_FUNCTIONS = ("sqrt", "abs", "maximum", "minimum", "sign", "where")  # that a rule may use
# What a rule writes instead of another library's function of this name.
_INSTEAD = {
    **{name: f"adamite.{name}" for name in _FUNCTIONS},
    **dict.fromkeys(("absolute", "fabs"), "adamite.abs"),
    **dict.fromkeys(("max", "fmax"), "adamite.maximum"),
    **dict.fromkeys(("min", "fmin"), "adamite.minimum"),
    **dict.fromkeys(("clip", "clamp"), "adamite.maximum(low, adamite.minimum(v, high))"),
    **dict.fromkeys(("pow", "float_power"), "v**n"),
    "square": "v**2",
    "rsqrt": "1 / adamite.sqrt(v)",
    "reciprocal": "1 / v",
}


class Expression:
    """One operation of a rule: `op` and its `args` (expressions; names and numbers at the leaves)."""

    __slots__ = ("args", "op", "scalar")
    __hash__: ClassVar[Any] = object.__hash__

    def __init__(self, op: str, *args: Any, scalar: bool | None = None) -> None:
        self.op, self.args = op, args
        self.scalar = all(a.scalar for a in args) if scalar is None else scalar

    @property
    def boolean(self) -> bool:
        return gives_truth(self.op)

    def __repr__(self) -> str:
        kind = "boolean" if self.boolean else "number" if self.scalar else "tensor"
        return f"<{kind} symbol: {self.op}>"

    # arithmetic
    def __add__(self, other: Operand) -> Expression:
        return apply("add", self, other)

    def __radd__(self, other: Operand) -> Expression:
        return apply("add", other, self)

    def __sub__(self, other: Operand) -> Expression:
        return apply("sub", self, other)

    def __rsub__(self, other: Operand) -> Expression:
        return apply("sub", other, self)

    def __mul__(self, other: Operand) -> Expression:
        return apply("mul", self, other)

    def __rmul__(self, other: Operand) -> Expression:
        return apply("mul", other, self)

    def __truediv__(self, other: Operand) -> Expression:
        return apply("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expression:
        return apply("div", other, self)

    def __pow__(self, other: Operand) -> Expression:
        return apply("pow", self, other)

    def __rpow__(self, other: Operand) -> Expression:
        return apply("pow", other, self)

    def __neg__(self) -> Expression:
        return apply("neg", self)

    def __pos__(self) -> Expression:
        return self

    def __abs__(self) -> Expression:
        return apply("abs", self)

    # comparisons, for `where`
    def __gt__(self, other: Operand) -> Expression:
        return apply("gt", self, other)

    def __ge__(self, other: Operand) -> Expression:
        return apply("ge", self, other)

    def __lt__(self, other: Operand) -> Expression:
        return apply("lt", self, other)

    def __le__(self, other: Operand) -> Expression:
        return apply("le", self, other)

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return apply("eq", self, other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return apply("ne", self, other)

    def __and__(self, other: Operand) -> Expression:
        return apply("and", self, other)

    def __or__(self, other: Operand) -> Expression:
        return apply("or", self, other)

    def __invert__(self) -> Expression:
        return apply("not", self)

    # what would need a value: refused, with what to write instead
    def __bool__(self) -> NoReturn:
        raise RuleError(
            "a rule is run once, on symbols, so it can't branch on a value (`if`, `and`, `min`, `max`, "
            "a chained comparison): use adamite.where(condition, a, b), maximum, minimum, `&` or `|`"
        )

    def __float__(self) -> NoReturn:
        raise Unread()

    __int__ = __index__ = __complex__ = __float__

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise Unread()

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Expression:
        if ufunc.__name__ not in _OPERATORS:
            raise Unread(ufunc.__name__)
        return apply(_OPERATORS[ufunc.__name__], *args)  # a NumPy number on the left of an operator

    def __array_function__(self, function: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise Unread(function.__name__)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Expression:
        if function.__name__ not in _OPERATORS.values():
            raise Unread(function.__name__)
        return apply(function.__name__, *args)  # a tensor on the left of an operator, which is refused as such

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        instead = f": use {_INSTEAD[name]}" if name in _INSTEAD else ", no sums, no shapes"
        raise RuleError(f"a rule computes element by element, and a symbol has no .{name}{instead}")

    def _refuse(self, *args: Any) -> NoReturn:
        raise RuleError(
            "this operation can't be traced; a rule may use + - * / **, comparisons, `&`, `|`, `~` and adamite's "
            f"{', '.join(_FUNCTIONS)}"
        )

    __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __matmul__ = __rmatmul__ = _refuse
    __divmod__ = __round__ = __xor__ = __rxor__ = __lshift__ = __rshift__ = _refuse
    __getitem__ = __len__ = __iter__ = __contains__ = _refuse


class Unread(RuleError):
    """A function of another library was given a symbol; the message says what to use instead.

    Args:
        functions: its name, or several that it may be; none if we don't know it.
    """

    def __init__(self, *functions: str) -> None:
        self.functions = functions
        replacements = list(dict.fromkeys(_INSTEAD[name] for name in functions if name in _INSTEAD))
        super().__init__(
            "a symbol has no value yet, so float(), math, numpy, torch and the like can't read it: use "
            + (listed(replacements, "or") if replacements else f"adamite.{listed(_FUNCTIONS, 'or')}")
        )


def constant(value: Any) -> Expression:
    """A number written in a rule."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise RuleError(
            f"a rule computes with symbols and plain numbers, not with {type(value).__name__} ({value!r:.40})"
        )
    return Expression("const", float(value), scalar=True)


def tensor(name: str) -> Expression:
    """An input that has a value for each element: the parameter, its gradient, a state."""
    return Expression("tensor", name, scalar=False)


def number(name: str) -> Expression:
    """An input that has one value per step: a hyperparameter, the step number, a Scalar state."""
    return Expression("number", name, scalar=True)


def apply(op: str, *operands: Operand) -> Expression:
    """The operation on its operands; what can be checked without values is checked."""
    args = tuple(constant(a) for a in operands)
    wants = [op in ("and", "or", "not") or (op == "where" and i == 0) for i in range(len(args))]
    for want, arg in zip(wants, args, strict=True):
        if want and not arg.boolean:
            raise RuleError(f"{op} takes a comparison here (such as v > 0), not a number or a tensor")
        if arg.boolean and not want:
            raise RuleError("a comparison has no numeric value: use where(condition, 1, 0)")
    if op == "pow" and not (args[0].scalar and args[1].scalar):
        _check_power(*args)
    return Expression(op, *args)


def _check_power(base: Expression, exponent: Expression) -> None:
    value = exponent.args[0] if exponent.op == "const" else None
    if base.scalar or value is None or not (value == 0.5 or (value.is_integer() and abs(value) <= 64)):
        shown = "a symbol" if value is None else f"{value:g}"
        raise RuleError(
            "a tensor can be raised to a whole number from -64 to 64 or to 0.5 (its square root), "
            f"not to {shown}; numbers may be raised to any power"
        )
