"""The part of an update that depends only on numbers: a straight-line program in float64, run once a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from adamite.language.expression import Expression
from adamite.language.maths import DEFINITIONS
from adamite.language.operations import OPERATIONS
from adamite.language.trace import walk

ON_NUMBERS = {name: operation.on_numbers for name, operation in OPERATIONS.items() if operation.on_numbers is not None}


class Program:
    """The program, one line per operation; `ON_NUMBERS` says what each operation means."""

    def __init__(
        self,
        numbers: Sequence[str] = (),
        constants: Mapping[str, Any] = MappingProxyType({}),
        lines: Sequence[tuple[str, str, tuple[str, ...]]] = (),  # variable, operation, operands
        results: Sequence[str] = (),
    ) -> None:
        self.numbers, self.constants, self.lines, self.results = numbers, constants, lines, results
        self.source, self.evaluate = self._compile()

    def run(self, operations: Mapping[str, Callable[..., Any]], numbers: Sequence[Any]) -> tuple[Any, ...]:
        """Run it with a framework's operations, on float64 numbers, which the framework may trace."""
        values = {**self.constants, **{f"n_{name}": value for name, value in zip(self.numbers, numbers, strict=True)}}
        for variable, op, operands in self.lines:
            values[variable] = operations[op](*(values[o] for o in operands))
        return tuple(values[r] for r in self.results)

    def _compile(self) -> tuple[str, Callable[..., tuple[float, ...]]]:
        """Its source and the compiled function, for Python's numbers: several times as fast as `run`."""
        body = []
        for variable, op, operands in self.lines:
            text = OPERATIONS[op].text or f"{op}({', '.join(['{}'] * len(operands))})"
            body.append(f"{variable} = {text.format(*operands)}")
        returned = "".join(f"{r}, " for r in self.results)
        source = "\n    ".join(
            [f"def coefficients({', '.join(f'n_{n}' for n in self.numbers)}):", *body, f"return ({returned})"]
        )
        namespace: dict[str, Any] = dict(ON_NUMBERS)
        exec(source, namespace)  # straight-line arithmetic generated above
        evaluate: Callable[..., tuple[float, ...]] = namespace["coefficients"]
        return source, evaluate


class Scalars:
    """Builds the program from expressions; equal operations share a line, constants are folded."""

    def __init__(self) -> None:
        self.lines: dict[tuple[Any, ...], str] = {}  # operation -> the variable that holds it
        self.done: dict[Expression, str] = {}
        self.constants: dict[str, Any] = {}

    def numbers(self, exclude: Sequence[str]) -> tuple[str, ...]:
        names = (key[1] for key in self.lines if key[0] == "number")
        return tuple(dict.fromkeys(n for n in names if n not in exclude))

    def value(self, root: Expression) -> str:
        for e in walk(root):
            if e not in self.done:
                if e.op in DEFINITIONS:
                    self.done[e] = self.value(DEFINITIONS[e.op](*e.args))
                else:
                    self.done[e] = self.variable(e)
        return self.done[root]

    def variable(self, e: Expression) -> str:
        if e.op == "const":
            return self.constant(e.args[0])
        if e.op == "number":
            return self.lines.setdefault(("number", e.args[0]), f"n_{e.args[0]}")
        args = [self.done[a] for a in e.args]
        if all(a in self.constants for a in args):
            return self.constant(ON_NUMBERS[e.op](*(self.constants[a] for a in args)))
        return self.lines.setdefault((e.op, *args), f"v{len(self.lines)}")

    def constant(self, value: Any) -> str:
        name = repr(value) if value in (True, False) or math.isfinite(value) else f'float("{value}")'
        self.constants[name] = value
        return name

    def program(self, numbers: tuple[str, ...], results: Sequence[str]) -> Program:
        lines = ((variable, op, tuple(operands)) for (op, *operands), variable in self.lines.items() if op != "number")
        return Program(numbers, self.constants, tuple(lines), results)
