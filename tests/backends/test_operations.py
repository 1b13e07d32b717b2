"""The table of operations: each means on every backend what it means on numbers."""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import numpy as np
import pytest

from adamite.backends import named
from adamite.backends.backend import BackendName
from adamite.codegen.job import COEFFICIENTS, GRAIN, G, Job, X
from adamite.graph.nodes import Graph, Node
from adamite.graph.numbers import Program
from adamite.language.operations import OPERATIONS
from adamite.storage import FLOAT64, Layout

ON_TENSORS = [name for name, operation in OPERATIONS.items() if operation.on_tensors]
SPECIAL = (0.0, -0.0, 1.0, -2.5, 3.0, 1e300, -1e-300, math.inf, -math.inf, math.nan)
NUMBERS = [Node("tensor", value="x"), Node("tensor", value="g")]
TRUTHS = [*NUMBERS, Node("const", value=0.0), Node("gt", (0, 2)), Node("le", (1, 2))]


def graph(op: str) -> Graph:
    """It is applied to x, g or to whether they are positive; what is true gives x, what is false g."""
    arity = OPERATIONS[op].arity
    if op in ("and", "or", "not"):
        nodes = [*TRUTHS, Node(op, (3, 4)[:arity])]
    else:
        nodes = [*TRUTHS, Node(op, (3, 0, 1) if op == "where" else (0, 1)[:arity])]
    if OPERATIONS[op].boolean:
        nodes.append(Node("where", (len(nodes) - 1, 0, 1)))
    program = Program(("t",), results=())
    return Graph(("x", "g"), (("x", len(nodes) - 1),), tuple(nodes), 0, (), (), program)


def on_numbers(op: str, x: float, g: float) -> float:
    operation = OPERATIONS[op]
    operands: tuple[Any, ...] = (x, g)[: operation.arity]
    if op in ("and", "or", "not"):
        operands = (x > 0, g <= 0)[: operation.arity]
    elif op == "where":
        operands = (x > 0, x, g)
    elif op == "flush":
        return x if not abs(x) < FLOAT64.smallest_state else 0.0
    assert operation.on_numbers is not None
    value = operation.on_numbers(*operands)
    return float((x if value else g) if operation.boolean else value)


@pytest.mark.parametrize("op", ON_TENSORS)
@pytest.mark.parametrize("backend", get_args(BackendName))
def test_tensors_as_numbers(backend: BackendName, op: str) -> None:
    pairs = list(itertools.product(SPECIAL, SPECIAL))
    x, g = np.array(pairs).T.copy()
    kernel = named(backend).step(graph(op), Layout(FLOAT64))
    job = Job(1, 4)
    job.lengths([x.size])
    none = np.zeros(1)
    for column, array in ((COEFFICIENTS, none), (X, x), (G, g)):
        job.fill(column, [array.ctypes.data])
    job.cells[GRAIN] = x.size
    kernel.call(job.address)
    np.testing.assert_array_equal(x, [on_numbers(op, *pair) for pair in pairs], strict=True)


@pytest.mark.parametrize("op", [op for op in OPERATIONS if OPERATIONS[op].on_numbers])
def test_python_computes_as_the_table_says(op: str) -> None:
    operands = [f"n_{name}" for name in "abc"[: OPERATIONS[op].arity]]
    program = Program("abc", lines=[("v0", op, tuple(operands))], results=["v0"])
    on = OPERATIONS[op].on_numbers
    assert on is not None
    for values in itertools.product(SPECIAL, repeat=3):
        np.testing.assert_equal(program.evaluate(*values), (on(*values[: len(operands)]),))
