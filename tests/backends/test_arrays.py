"""The array reading with NumPy for a framework: the reference's numbers, and no work that isn't needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from adamite import rule
from adamite.backends.arrays import Evaluation, Operations, evaluate
from adamite.backends.numpy import elements as reference
from adamite.graph.lowering import lower
from adamite.graph.nodes import Graph
from adamite.language.maths import maximum, minimum, where
from adamite.language.update import Decay, Surroundings, build
from adamite.rules import RULES
from adamite.storage import FLOAT32, FLOAT64, Format
from tests.support import VARIANTS, Array, Case, awkward, python

Arrays = dict[str, Array]

NUMPY: Operations = {**reference._OPERATIONS, "maximum": np.maximum, "minimum": np.minimum}
AROUND = pytest.mark.parametrize("around", [False, True], ids=["plain", "around"])
FORMATS = pytest.mark.parametrize("format", [FLOAT64, FLOAT32], ids=lambda f: f.name)
CASES = pytest.mark.parametrize("case", VARIANTS, ids=str)


def graph_of(case: Case, around: bool = False) -> Graph:
    """The case's graph, alone or with all that may surround a rule."""
    choices = tuple((name, case.options[name]) for name in case.rule.choices)
    absent = frozenset(name for name, value in case.options.items() if value is None)
    decay: Decay = "decoupled" if "lr" in case.rule.numbers else "l2"
    surroundings = Surroundings(decay, clip=True, maximize=True, ema=True, cautious=True) if around else Surroundings()
    return lower(build(case.rule, choices, absent, surroundings))


def coefficients_of(case: Case, graph: Graph, steps: int = 6) -> Iterator[list[float]]:
    """The coefficients of the first steps."""
    numbers = {n: 0.9 if s.default is None else s.default for n, s in case.rule.numbers.items()}
    numbers |= {"weight_decay": 0.1, "ema": 0.9, "lr": 0.01, "clip": 0.7}
    scalars = [1.0] * len(graph.scalars)
    for t in range(1, steps + 1):
        values = graph.evaluate(float(t), *(numbers[n] for n in graph.numbers if n not in graph.scalars), *scalars)
        scalars = list(values[graph.coefficient_count :])
        yield list(values[: graph.coefficient_count])


def drawn(rng: np.random.Generator, size: int, format: Format) -> Array:
    """Awkward numbers, none that would count as zero in a state or become one."""
    values = awkward(rng, size, format.dtype, share=0.2)
    return np.where(np.abs(values) < 1e-12, 0, values).astype(format.dtype)


def expected(graph: Graph, tensors: Arrays, coefficients: list[float], format: Format) -> Arrays:
    """What the reference stores."""
    with np.errstate(over="ignore"):
        rounded = [format.dtype.type(c) for c in coefficients]
    new: Arrays = {
        name: np.broadcast_to(value, tensors["x"].shape)
        for name, value in reference.evaluate(graph, tensors, rounded, format).items()
    }
    return new


def start(graph: Graph, rng: np.random.Generator, size: int, format: Format) -> Arrays:
    return {name: drawn(rng, size, format) if name in "xg" else np.zeros(size, format.dtype) for name in graph.inputs}


def assert_same(computed: Any, wanted: Arrays) -> None:
    assert computed.keys() == wanted.keys()
    for name, value in wanted.items():  # NaN is NaN; a maximum's zero may have the other sign
        np.testing.assert_array_equal(computed[name], value, err_msg=name)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@AROUND
@FORMATS
@CASES
def test_the_references_numbers(case: Case, format: Format, around: bool) -> None:
    graph, rng = graph_of(case, around), np.random.default_rng(0)
    tensors = start(graph, rng, 500, format)
    for coefficients in coefficients_of(case, graph):
        tensors["g"] = drawn(rng, 500, format)
        for array in tensors.values():
            array.flags.writeable = False  # an input is never written over
        wanted = expected(graph, tensors, coefficients, format)
        assert_same(evaluate(graph, tensors, coefficients, NUMPY), wanted)
        assert_same(Evaluation(graph, coefficients).run(tensors, NUMPY, WRITING), wanted)
        traced = [np.array(c, format.dtype) for c in coefficients]
        assert_same(evaluate(graph, tensors, traced, NUMPY), wanted)
        tensors |= {name: np.array(value) for name, value in wanted.items()}


def writing(function: Any) -> Any:
    return lambda a, *b: function(a, *b, out=a)


WRITING: Operations = {
    name: writing(NUMPY[name]) for name in ("add", "sub", "mul", "div", "neg", "sqrt", "abs", "maximum", "minimum")
}


def counted(graph: Graph, coefficients: list[float]) -> Counter[str]:
    """How often each operation is done."""
    calls: Counter[str] = Counter()

    def counting(name: str) -> Any:
        def function(*args: Any) -> Any:
            calls[name] += 1
            return NUMPY[name](*args)

        return function

    evaluate(graph, {n: np.ones(3) for n in graph.inputs}, coefficients, {n: counting(n) for n in NUMPY})
    return calls


def test_a_branch_that_isnt_taken_isnt_computed() -> None:
    """RAdam's first steps take no root."""
    case = next(c for c in VARIANTS if c.rule.name == "radam")
    graph = graph_of(case)
    *early, sixth = coefficients_of(case, graph)
    assert np.isnan(early[2:4]).any()  # what the other branch would read
    for coefficients in early[:4]:
        assert not {"where", "ne", "sqrt", "div"} & set(counted(graph, coefficients))
    assert counted(graph, sixth)["sqrt"] == counted(graph, sixth)["div"] == 1


@CASES
def test_maximum_and_minimum_are_one_operation(case: Case) -> None:
    graph = graph_of(case)
    [coefficients] = coefficients_of(case, graph, 1)
    comparing = {"where", "gt", "lt", "ne"} & set(counted(graph, coefficients))
    signs = any(node.op == "sign" for node in graph.nodes)  # which these operations lack, as torch's do
    assert bool(comparing) == signs


@pytest.mark.parametrize("number", [2.0, np.nan], ids=str)
def test_maximum_and_minimum_of_numbers(number: float) -> None:
    @rule
    def clamped(g, m, n, o, *, t, lr=1.0):
        return g, maximum(g, lr), minimum(lr, g), maximum(where(t > 0, lr, g), 1.0)

    graph = lower(build(clamped))
    coefficients = list(graph.evaluate(1.0, number))
    tensors = {name: np.array([1.0, 3.0, np.nan]) for name in graph.inputs}
    assert_same(
        {n: np.broadcast_to(v, 3) for n, v in evaluate(graph, tensors, coefficients, NUMPY).items()},
        expected(graph, tensors, coefficients, FLOAT64),
    )
    assert counted(graph, coefficients)["maximum"] == 1


def test_what_is_stored_may_be_a_number_or_an_input() -> None:
    @rule
    def odd(x, g, a, b, c, *, t, lr=1.0):
        return lr * g, b, a, where(t > 0, lr, c)

    graph = lower(build(odd))
    tensors = {name: np.ones(2) for name in graph.inputs}
    computed = evaluate(graph, tensors, [1] * graph.coefficient_count, NUMPY)
    assert computed["a"] is tensors["b"] and computed["b"] is tensors["a"]
    assert computed["c"] == 1 and isinstance(computed["c"], float)  # of a whole number too


def test_either_operand_may_be_written_over() -> None:
    @rule
    def decayed(x, g, m, *, t, lr=1.0):
        return lr * m, g + lr * x

    graph = lower(build(decayed))
    tensors = {name: np.ones(2) for name in graph.inputs}
    without_add = {name: function for name, function in NUMPY.items() if name != "add"}
    assert Evaluation(graph, [2.0]).run(tensors, without_add, WRITING)["m"].tolist() == [3, 3]


class Alive:
    """An array that counts itself."""

    now = most = 0

    def __init__(self) -> None:
        Alive.now += 1
        Alive.most = max(Alive.most, Alive.now)

    def __del__(self) -> None:
        Alive.now -= 1


@pytest.mark.parametrize(("name", "most"), [("sgd", 2), ("adam", 5), ("amsgrad", 6), ("adopt", 5)])
def test_values_are_let_go(name: str, most: int) -> None:
    """Beside the new parameter and states, two: an operation's result and what it reads."""
    case = next(c for c in VARIANTS if c.rule.name == name)
    graph = graph_of(case)
    [coefficients] = coefficients_of(case, graph, 1)
    Alive.most = Alive.now = 0
    new = evaluate(graph, dict.fromkeys(graph.inputs), coefficients, dict.fromkeys(NUMPY, lambda *_: Alive()))
    assert Alive.now == len(set(map(id, new.values())))
    assert Alive.most <= most


def test_no_framework_is_imported() -> None:
    done = python(
        "import sys, adamite.backends.arrays; print({'torch', 'jax', 'keras', 'llvmlite'} & set(sys.modules))"
    )
    assert done.stdout == "set()\n", done.stdout + done.stderr


def test_a_sign_is_the_frameworks_where_it_is_ours() -> None:
    graph = lower(build(RULES["lion"]))
    tensors = {name: np.array([1.0, -2.0, 0.0, np.nan]) for name in graph.inputs}
    coefficients = [0.5] * graph.coefficient_count
    named = Evaluation(graph, coefficients)
    assert named.operations == {"add", "mul", "sub", "sign"}
    assert_same(named.run(tensors, {**NUMPY, "sign": np.sign}), evaluate(graph, tensors, coefficients, NUMPY))
