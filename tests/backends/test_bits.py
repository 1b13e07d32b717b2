"""Same bits: the machine code against the NumPy reading of the same graph."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import adamite
from adamite.backends import llvm
from adamite.backends.backend import BackendName
from adamite.codegen import compiler
from adamite.engine import kernels, norms
from adamite.graph.lowering import lower
from adamite.language import maths
from adamite.language.expression import Expression, constant
from adamite.language.update import build
from adamite.storage import FORMATS
from tests.support import (
    LEVELS,
    VARIANTS,
    Case,
    History,
    assert_same_bits,
    awkward,
    cases,
    dtypes,
    history,
    levels,
    same_bits,
    set_states,
    snapshot,
    special,
    tame,
)

SIZES = (0, 1, 2, 15, 16, 17, 1000)
ALL: dict[str, Any] = dict(weight_decay=0.0625, decay="l2", clip_norm=1.0, maximize=True, ema=0.9)
DECOUPLED: dict[str, Any] = dict(weight_decay=0.0625, decay="decoupled", ema=0.9)
ALONE: list[dict[str, Any]] = [
    dict(weight_decay=0.0625, decay="l2"),
    dict(weight_decay=0.0625, decay="decoupled"),
    dict(clip_norm=1.0),
    dict(maximize=True),
    dict(ema=0.9),
]


@dtypes()
@cases({}, ALL, DECOUPLED)
def test_every_rule_and_option(case: Case, dtype: Any) -> None:
    assert_same_bits(history(case, dtype, SIZES), history(case, dtype, SIZES, backend="numpy"))


@dtypes()
@cases(*ALONE, of=[c for c in VARIANTS if c.rule.name in ("adam", "lion")])
def test_each_surrounding_alone(case: Case, dtype: Any) -> None:
    assert_same_bits(history(case, dtype, SIZES), history(case, dtype, SIZES, backend="numpy"))


@dtypes()
@cases()
def test_any_number_of_threads(case: Case, dtype: Any, small_shares: None) -> None:
    sizes = (*SIZES, 100_003)
    expected = history(case, dtype, sizes, backend="numpy", steps=20)
    for count in (1, 2, 3):
        adamite.set_threads(count)
        assert_same_bits(history(case, dtype, sizes, steps=20), expected)


# ---- older processors -----------------------------------------------------------------------------


@pytest.fixture(params=LEVELS)
def older_processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are compiled for an older processor of the family."""
    if request.param not in levels():
        pytest.skip("not a level of this processor")
    monkeypatch.setattr(llvm, "compile", functools.partial(compiler.compile, cpu=request.param))
    for name in ("step_kernel", "squares_kernel"):  # with caches of their own
        monkeypatch.setattr(kernels, name, functools.cache(getattr(kernels, name).__wrapped__))


SURROUNDED = [Case(case.rule, case.options, ALL) for case in VARIANTS]


@functools.cache
def expected_of(index: int, dtype: Any) -> History:
    return history(SURROUNDED[index], dtype, (17, 1000), backend="numpy", steps=20)


@dtypes()
def test_older_processors(dtype: Any, older_processor: None) -> None:
    for index, case in enumerate(SURROUNDED):
        assert_same_bits(history(case, dtype, (17, 1000), steps=20), expected_of(index, dtype))


# ---- sums of squares ------------------------------------------------------------------------------

LENGTHS = [0, 1, 31, 32, 33, 8191, 8192, 8193, 100_003]


def squares(dtype: Any, backend: BackendName, scale: float) -> Any:
    rng = np.random.default_rng(3)
    tensors = [awkward(rng, size, dtype, share=0.5 if size < 100 else 0.0) for size in LENGTHS]
    kernel = norms.Squares(FORMATS[np.dtype(dtype)], LENGTHS, backend)
    return kernel.run([t.ctypes.data for t in tensors], scale).copy()


@dtypes()
@pytest.mark.parametrize("scale", [1.0, 0.3, 2.0**-600])
def test_sums_of_squares(dtype: Any, scale: float, small_shares: None) -> None:
    expected = squares(dtype, "numpy", scale)
    assert np.isfinite(expected).sum() > 15
    for count in (1, 2, 3):
        adamite.set_threads(count)
        assert same_bits(squares(dtype, "llvm", scale), expected).all()


@dtypes()
def test_sums_of_squares_on_older_processors(dtype: Any, older_processor: None) -> None:
    assert same_bits(squares(dtype, "llvm", 0.3), squares(dtype, "numpy", 0.3)).all()


def test_sums_of_squares_are_right() -> None:
    x = np.random.default_rng(4).normal(size=100_003)
    kernel = norms.Squares(FORMATS[x.dtype], [x.size], "llvm")
    assert norms.total(kernel.run([x.ctypes.data])) == pytest.approx(float(x @ x), rel=1e-13)


# ---- the caller's floating-point mode -------------------------------------------------------------


@pytest.fixture
def flushing() -> Iterator[Callable[[bool], None]]:
    """Turns flushing of denormals on and off for this thread."""
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor can't flush denormals")
    torch.set_flush_denormal(False)
    yield torch.set_flush_denormal
    torch.set_flush_denormal(False)


def flushes() -> bool:
    return bool(np.multiply(np.array([1e-310]), 1.0)[0] == 0.0)


@dtypes()
@cases(ALL)
def test_flushing_denormals_changes_nothing(
    case: Case, dtype: Any, flushing: Callable[[bool], None], small_shares: None
) -> None:
    assert not flushes()
    rng = np.random.default_rng(5)
    start, gradients = awkward(rng, 5_000, dtype, 0.5), tame(awkward(rng, 5_000, dtype, 0.5))
    results = []
    for flush in (False, True):
        x = {"x": start.copy()}
        optimizer = case.optimizer(x)
        set_states(optimizer, dict.fromkeys("mvsub", np.abs(start)) | {"g_bar": start})
        flushing(flush)
        for _ in range(3):
            optimizer.step({"x": gradients})
            assert flushes() is flush
        flushing(False)
        results.append(snapshot(optimizer, x))
    assert_same_bits(results[1:], results[:1])


# ---- arbitrary graphs -----------------------------------------------------------------------------

TENSORS, NUMBERS = ("x", "g", "m", "v"), ("t", "a", "b")
BINARY: list[Callable[[Any, Any], Any]] = [
    lambda p, q: p + q,
    lambda p, q: p - q,
    lambda p, q: p * q,
    lambda p, q: p / q,
    maths.maximum,
    maths.minimum,
]
UNARY: list[Callable[[Any], Any]] = [
    lambda p: -p,
    maths.abs,
    maths.sqrt,
    maths.sign,
    lambda p: p**2,
    lambda p: p**3,
    lambda p: p**-1,
    lambda p: p**-4,
    lambda p: p**0,
    lambda p: p**0.5,
]
COMPARISONS: list[Callable[[Any, Any], Any]] = [
    lambda p, q: p > q,
    lambda p, q: p >= q,
    lambda p, q: p < q,
    lambda p, q: p <= q,
    lambda p, q: p == q,
    lambda p, q: p != q,
    lambda p, q: ~(p > q),
    lambda p, q: (p > q) & (q > 0),
    lambda p, q: (p > q) | (q != q),
]

Build = Callable[[dict[str, Any]], Any]  # from the inputs by name to an expression


def leaf() -> st.SearchStrategy[Build]:
    names = st.sampled_from(TENSORS + NUMBERS).map(lambda name: lambda at: at[name])
    values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 0.1, 1e-30, 1e30, float("inf"), float("nan")])
    return names | names | values.map(lambda value: lambda at: constant(value))


def bigger(part: st.SearchStrategy[Build]) -> st.SearchStrategy[Build]:
    def binary(f: Callable[[Any, Any], Any], p: Build, q: Build) -> Build:
        return lambda at: f(p(at), q(at))

    def unary(f: Callable[[Any], Any], p: Build) -> Build:
        return lambda at: f(p(at))

    def choice(f: Callable[[Any, Any], Any], p: Build, q: Build, r: Build, s: Build) -> Build:
        return lambda at: maths.where(f(p(at), q(at)), r(at), s(at))

    return st.one_of(
        st.builds(binary, st.sampled_from(BINARY), part, part),
        st.builds(unary, st.sampled_from(UNARY), part),
        st.builds(choice, st.sampled_from(COMPARISONS), part, part, part, part),
    )


EXPRESSIONS = st.recursive(leaf(), bigger, max_leaves=12)
FINITE = [0.0, -0.0, 1.0, -3.0, 0.1, 1e-30, -1e30, 1e-3]


def assert_agree(dtype: Any, builds: Sequence[Build], a: float, b: float, seed: int) -> None:
    """A rule of three expressions has the same bits in both readings, on special numbers."""

    @adamite.rule
    def drawn(x: Any, g: Any, m: Any, v: Any, *, t: Any, a: float = 0.0, b: float = 0.0) -> Any:
        at = dict(x=x, g=g, m=m, v=v, t=t, a=a, b=b)
        return tuple(build(at) for build in builds)

    rng = np.random.default_rng(seed)
    start, g, m, v = (rng.choice(special(dtype), 301) * rng.choice(dtype([1, 0.7]), 301) for _ in range(4))
    results = []
    for backend in ("llvm", "numpy"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ADAMITE_BACKEND", backend)
            x = {"x": start.copy()}
            optimizer = adamite.optimizer(drawn)(x)
            optimizer.a, optimizer.b = a, b
            set_states(optimizer, dict(m=m, v=v))
            optimizer.step({"x": g})
        results.append(snapshot(optimizer, x))
    assert_same_bits(results[:1], results[1:])


NUMBER = st.sampled_from(FINITE)


@dtypes()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.tuples(EXPRESSIONS, EXPRESSIONS, EXPRESSIONS), NUMBER, NUMBER, st.integers(0, 99))
def test_arbitrary_graphs(dtype: Any, builds: Sequence[Build], a: float, b: float, seed: int) -> None:
    assert_agree(dtype, builds, a, b, seed)


# What a compiler would like to simplify. By threes: the step, and two states.
TEMPTING: list[Callable[[Any, Any, Any], Any]] = [
    lambda x, g, a: (x + 1e30) - 1e30,
    lambda x, g, a: (x - g) + g,
    lambda x, g, a: x + g - x,
    lambda x, g, a: x + (g + x) + g,
    lambda x, g, a: x * g / g,
    lambda x, g, a: x / g * g,
    lambda x, g, a: x / 3.0,
    lambda x, g, a: x * a * a,
    lambda x, g, a: x * a + g * a,
    lambda x, g, a: x * x - g * g,
    lambda x, g, a: x * g + 1.0,
    lambda x, g, a: x - x,
    lambda x, g, a: x / x,
    lambda x, g, a: x * 0.0,
    lambda x, g, a: x + 0.0,
    lambda x, g, a: x - 0.0,
    lambda x, g, a: 0.0 - x,
    lambda x, g, a: -(x - g),
    lambda x, g, a: -(-x * g),
    lambda x, g, a: maths.sqrt(x) ** 2,
    lambda x, g, a: maths.sqrt(x * x),
    lambda x, g, a: maths.sqrt(x) * maths.sqrt(g),
    lambda x, g, a: 1.0 / maths.sqrt(x),
    lambda x, g, a: g / maths.sqrt(x * x + g * g),
    lambda x, g, a: maths.maximum(x, g) - maths.minimum(x, g),
    lambda x, g, a: maths.where(x == g, x, g),
    lambda x, g, a: maths.where(x > 0, x, 0.0),
    lambda x, g, a: maths.where(x != x, 0.0, x),
    lambda x, g, a: maths.abs(x) * maths.sign(x),
    lambda x, g, a: maths.maximum(x, -x),
]


@dtypes()
@pytest.mark.parametrize("first", range(0, len(TEMPTING), 3))
def test_nothing_is_simplified(dtype: Any, first: int) -> None:
    def inputs(f: Callable[[Any, Any, Any], Any]) -> Build:
        return lambda at: f(at["x"], at["g"], at["a"])

    assert_agree(dtype, [inputs(f) for f in TEMPTING[first : first + 3]], 0.1, 0.0, seed=first)


@dtypes()
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_loop_that_only_fills(dtype: Any, value: float) -> None:
    """LLVM would make it a call of memset, which a kernel may not call."""
    builds: list[Build] = [lambda at: constant(0.0), lambda at: constant(value), lambda at: at["v"]]
    assert_agree(dtype, builds, 0.0, 0.0, seed=0)


@dtypes()
@pytest.mark.parametrize("name", ["maximum", "minimum", "sign"])
def test_primitives_on_special_values(name: str, dtype: Any) -> None:
    """NaN where either is NaN; a zero keeps its sign."""

    @adamite.rule
    def drawn(x: Any, g: Any, m: Any, *, t: Any) -> Any:
        return 0.0 * g, getattr(maths, name)(*(x, g)[: 1 if name == "sign" else 2])

    values = special(dtype)
    values = values[~(np.abs(values) < 16 * np.finfo(dtype).smallest_normal) | (values == 0)]
    x, g = (a.ravel().copy() for a in np.meshgrid(values, values))
    expected = np.sign(x) if name == "sign" else getattr(np, name)(x, g)
    signs = np.signbit(x)
    optimizer = adamite.optimizer(drawn)(x)
    optimizer.step(g)
    results = optimizer.state_dict()["parameters"]["x"]["m"]
    np.testing.assert_array_equal(results, expected)
    if name == "sign":
        finite = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(results)[finite], signs[finite])


# ---- numbers --------------------------------------------------------------------------------------


def power(a: Any, b: Any) -> Any:
    try:
        return np.float64(math.pow(a, b))
    except (ValueError, OverflowError):  # what NumPy knows: infinities and NaN
        return np.power(a, b)


NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "sqrt": np.sqrt, "abs": np.abs, "pow": power, "where": lambda p, a, b: a if p else b,
    "gt": np.greater, "ge": np.greater_equal, "lt": np.less, "le": np.less_equal,
    "eq": np.equal, "ne": np.not_equal,
    "and": np.logical_and, "or": np.logical_or, "not": np.logical_not,
    "maximum": lambda a, b: a if a > b or np.isnan(a) else b,
    "minimum": lambda a, b: a if a < b or np.isnan(a) else b,
    "sign": lambda a: np.float64(1 if a > 0 else -1) if a > 0 or a < 0 else a * 0.0,
}  # fmt: skip


def in_float64(e: Expression, at: dict[str, float]) -> Any:
    """A number's value by NumPy's float64 scalars, which are IEEE's."""
    if e.op in ("const", "number"):
        return np.float64(at[e.args[0]] if e.op == "number" else e.args[0])
    return NUMPY[e.op](*(in_float64(a, at) for a in e.args))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(EXPRESSIONS, st.sampled_from(FINITE), st.sampled_from(FINITE), st.integers(1, 10**6))
def test_numbers_are_ieee(p: Build, a: float, b: float, t: int) -> None:
    symbols: list[Any] = []

    @adamite.rule
    def drawn(g: Any, *, t: Any, a: float = 0.0, b: float = 0.0) -> Any:
        symbols.append(p(dict(t=t, a=a, b=b) | dict.fromkeys(TENSORS, t)))
        return g + symbols[-1]

    graph = lower(build(drawn))
    values = dict(t=float(t), a=a, b=b)
    constants = [n.value for n in graph.nodes if n.op == "const"]
    results, *_ = graph.evaluate(values["t"], *(values[name] for name in graph.numbers)) or constants
    with np.errstate(all="ignore"):
        expected = in_float64(symbols[-1], values)
    assert same_bits(np.float64(results)[None], np.float64(expected)[None]).all()
