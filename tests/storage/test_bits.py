"""Steps by blocks have the same bits in machine code and in NumPy: parameters, states, scales, what was lost."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import adamite
from adamite.backends import llvm
from adamite.backends.backend import BackendName
from adamite.backends.llvm import blocks
from adamite.codegen import compiler
from adamite.codegen.job import COEFFICIENTS, GRAIN, Job, X
from adamite.engine import kernels, running, threads
from adamite.graph.lowering import lower
from adamite.language.update import Surroundings, Update, build
from adamite.storage import BFLOAT16, COMPENSATION, FLOAT16, FLOAT32, EightBit, Format, Layout, choice
from adamite.storage.choice import Storage
from adamite.storage.random import mixed
from tests.backends.test_bits import EXPRESSIONS
from tests.support import VARIANTS, Array, Case, awkward, levels, same_bits, snapshot

# Every way to store tensors by blocks: the parameter's format, the states', the rounding.
WAYS: list[tuple[Format, Storage]] = [
    (x, Storage(state, rounding))
    for x in (FLOAT32, FLOAT16, BFLOAT16)
    for state in ("8bit", "bfloat16", "float32")
    for rounding in ("nearest", "stochastic", "kahan")
    if (rounding == "nearest" or x is BFLOAT16) and (state != "float32" or rounding != "nearest")
]
LARGE = 5000  # elements of a parameter whose states don't stay float32
SIZES = (1, 15, 64, 255, 256, 257, 300, 511, 1000, 2053)
L2 = Surroundings("l2", clip=True, maximize=True, ema=True)
DECOUPLED = Surroundings("decoupled", ema=True, cautious=True)
ALONE = [Surroundings(clip=True), Surroundings(maximize=True), Surroundings("l2"), Surroundings("decoupled"),
         Surroundings(ema=True), Surroundings(cautious=True)]  # fmt: skip


def named(value: Any) -> str:
    if isinstance(value, Surroundings):
        return "-".join(f"{k}={v}" for k, v in value._asdict().items() if v not in (None, False)) or "alone"
    if isinstance(value, tuple):
        return f"{value[0].name}-{value[1].state}-{value[1].rounding}"
    return str(value)


def built(case: Case, around: Surroundings) -> Update:
    if around.decay == "decoupled" and "lr" not in case.rule.numbers:
        around = around._replace(decay="l2")
    choices = tuple((name, case.options[name]) for name in case.rule.choices)
    return build(case.rule, choices, frozenset(n for n, value in case.options.items() if value is None), around)


def numbers_of(update: Update, **more: float) -> dict[str, float]:
    numbers = {n: 0.9 if s.default is None else s.default for n, s in update.rule.numbers.items()}
    return numbers | {"weight_decay": 0.1, "ema": 0.9, "clip": 0.7, "lr": 0.01} | more


# ---- tensors that rest in a layout, and a kernel on them ------------------------------------------


def formats(update: Update, layout: Layout) -> dict[str, Format]:
    """The formats of the tensors, in the order of the job's columns."""
    results = {name: layout.of(name) for name in lower(update).inputs}
    return results | ({COMPENSATION: BFLOAT16} if COMPENSATION in layout.more else {})


def resting(values: Array, format: Format) -> Array:
    return format.encode(values) if isinstance(format, EightBit) else format.narrow(values).copy()


Row = dict[str, Array]


def made(update: Update, layout: Layout, x: Array, numbers: Mapping[str, float]) -> Row:
    starts: dict[str, Any] = {s.name: s.start for s in update.rule.states} | {"average": "x", "g": 0.0, "x": "x"}
    row = {}
    for name, format in formats(update, layout).items():
        start = starts.get(name, 0.0)
        value = np.full(x.size, numbers.get(start, start), layout.compute.dtype) if start != "x" else x
        row[name] = resting(value, format)
    return row


def run(
    kernel: Callable[[int], None],
    update: Update,
    layout: Layout,
    rows: Sequence[Row],
    sizes: Sequence[int],
    coefficients: Sequence[float],
    t: int,
    grain: int | None = None,
    place: Callable[[Array], int] = lambda array: array.ctypes.data,
) -> None:
    """One step of some tensors as rows of a job, in ranges of so many units; `place` says where arrays lie."""
    memory = np.zeros(len(coefficients) + 1, layout.compute.dtype)
    with np.errstate(over="ignore"):
        memory[:-1] = coefficients
    memory[-1:].view(np.uint32)[0] = mixed(t)
    names = [name for name in formats(update, layout) if name != COMPENSATION]
    columns: dict[str, list[int]] = {n: [place(row[n]) for row in rows] for n in names}
    columns |= {n: [place(row[n]) for row in rows] for n in layout.more if n == COMPENSATION}
    columns |= {"elements": list(sizes), "seed": [mixed(k) for k in range(len(rows))]}
    job = Job(len(rows), job_columns(update, layout))
    job.lengths([layout.units(size) for size in sizes])
    job.fill(COEFFICIENTS, [place(memory)] * len(rows))
    for column, cells in enumerate((columns[n] for n in [*names, *layout.more]), start=X):
        job.fill(column, cells)
    job.rewind()
    job.cells[GRAIN] = grain or job.total
    kernel(job.address)


def job_columns(update: Update, layout: Layout) -> int:
    return X + len(lower(update).inputs) + len(layout.more)


def wild(rng: np.random.Generator, size: int) -> Array:
    """From 1e-30 to 1e30; zeros; blocks in which something, or nearly all, isn't finite or is at the edge."""
    each = -(-size // 256)
    sizes = np.repeat(10.0 ** rng.choice([-44, -30, -19, -6, 0, 0, 3, 18], each), 256)[:size]
    spread = 10.0 ** rng.uniform(-4, 4, size)
    values = np.where(rng.random(size) < 0.1, 0, rng.normal(size=size) * sizes * spread)
    odd = np.repeat(rng.choice([0.0, 0.0, 0.02, 0.9], each), 256)[:size]
    edges = rng.choice(np.array([np.inf, -np.inf, np.nan, 1e25, -1e25, 1e-41, -1e-41, 1e30, -0.0]), size)
    with np.errstate(over="ignore"):
        return np.where(rng.random(size) < odd, edges, values).astype(np.float32)


def steps(
    update: Update,
    layout: Layout,
    compared: Mapping[str, tuple[Callable[[int], None], int | None]],
    *,
    sizes: Sequence[int] = SIZES,
    count: int = 5,
    seed: int = 0,
    own_gradient: bool = False,
    places: Mapping[str, Callable[[Array], int]] = MappingProxyType({}),
    **more: float,
) -> dict[str, list[Row]]:
    """What each of the kernels, with its grain, leaves behind after some steps; `places` of those run elsewhere."""
    graph = lower(update)
    numbers = numbers_of(update, **more)
    rng = np.random.default_rng(seed)
    starts = [layout.x.narrow(wild(rng, s) if s % 2 else awkward(rng, s, np.float32, 0.0)) for s in sizes]
    rows = {label: [made(update, layout, layout.x.widen(x), numbers) for x in starts] for label in compared}
    scalars: list[float] = [float(s.start) for s in update.rule.states if s.name in graph.scalars]
    for t in range(1, count + 1):
        arguments = [numbers[name] for name in graph.numbers if name not in graph.scalars]
        values = graph.evaluate(float(t), *arguments, *scalars)
        scalars = list(values[graph.coefficient_count :])
        gradients = [layout.x.narrow(wild(rng, size)) for size in sizes]
        for label, (kernel, grain) in compared.items():
            for row, g in zip(rows[label], gradients, strict=True):
                row["g"] = row["x"] if own_gradient else g.copy()
            elsewhere = {"place": places[label]} if label in places else {}
            run(kernel, update, layout, rows[label], sizes, values[: graph.coefficient_count], t, grain, **elsewhere)
    return rows


def assert_same(update: Update, layout: Layout, results: Sequence[Row], expected: Sequence[Row]) -> None:
    kinds = formats(update, layout)
    for mine, theirs in zip(results, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for name, format in kinds.items():
            a, b = mine[name], theirs[name]
            if isinstance(format, EightBit):
                np.testing.assert_array_equal(a, b, err_msg=name)
            else:
                same = same_bits(format.widen(a), format.widen(b))
                assert same.all(), (name, a.size, np.flatnonzero(~same)[:5])


def both(update: Update, layout: Layout, grain: int | None = None) -> dict[str, Any]:
    machine = kernels.step_kernel(update, layout, "llvm")
    assert machine.code is not None and machine.unit == 256
    compared: dict[str, Any] = {"numpy": (kernels.step_kernel(update, layout, "numpy").call, None)}
    return compared | {"llvm": (machine.call, None)} | ({"pieces": (machine.call, grain)} if grain else {})


def agree(update: Update, way: tuple[Format, Storage], grain: int | None = 3, **more: Any) -> dict[str, list[Row]]:
    layout = choice.layout(update, way[0], LARGE, way[1])
    assert layout.blocks or {"average", *choice.subtracted(update)}.issuperset(update.states)
    if not layout.blocks:
        return {}
    results = steps(update, layout, both(update, layout, grain), **more)
    for label in results.keys() - {"numpy"}:
        assert_same(update, layout, results[label], results["numpy"])
    return results


# ---- every rule -----------------------------------------------------------------------------------

FIRST, LAST = (FLOAT32, Storage("8bit")), (BFLOAT16, Storage("8bit", "kahan"))
OTHERS = [way for way in WAYS if way not in (FIRST, LAST)]
FEW = [
    next(c for c in VARIANTS if str(c) == name)
    for name in ("adam", "lion", "nadam", "amsgrad_max_hat", "rmsprop-centered=True-momentum=0.9")
]


def surrounded(case: Case) -> Surroundings:
    return L2 if FEW.index(case) % 2 else DECOUPLED


def test_all_ways_to_rest_are_here() -> None:
    assert len(WAYS) == 12 and len({named(r) for r in WAYS}) == 12


@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_every_rule_and_option(case: Case) -> None:
    """With 8-bit states alone and in all surroundings; then alone, each case in one of the other ways."""
    number = VARIANTS.index(case)
    agree(built(case, Surroundings()), FIRST, seed=number)
    agree(built(case, DECOUPLED if number % 2 else L2), LAST, seed=number)
    if not any(case.options.values()):
        agree(built(case, L2 if number % 3 else DECOUPLED), OTHERS[number % len(OTHERS)], seed=number)


@pytest.mark.parametrize("way", WAYS, ids=named)
@pytest.mark.parametrize("case", FEW, ids=str)
def test_every_way_to_store(case: Case, way: tuple[Format, Storage]) -> None:
    agree(built(case, surrounded(case)), way, seed=7)


@pytest.mark.parametrize("around", ALONE, ids=named)
def test_each_surrounding_alone(around: Surroundings) -> None:
    agree(built(FEW[0], around), FIRST)
    agree(built(FEW[1], around), LAST)


@pytest.mark.parametrize("way", [FIRST, LAST, (BFLOAT16, Storage("bfloat16", "stochastic"))], ids=named)
def test_wild_gradients_meet_every_branch(way: tuple[Format, Storage]) -> None:
    """What is compared above isn't all NaN, nor all finite: blocks are mended, and blocks are not."""
    update = built(FEW[0], Surroundings())
    layout = choice.layout(update, way[0], LARGE, way[1])
    results = steps(update, layout, both(update, layout))["numpy"]
    x = np.concatenate([layout.x.widen(row["x"]) for row in results])
    assert 0.02 < np.isnan(x).mean() < 0.8
    if way[1].state == "8bit":
        scales = np.concatenate([row["v"][-(row["v"].size // 257) :] for row in results])
        assert scales.min() < 50 and scales.max() > 200 and len(set(scales)) > 10


@pytest.mark.parametrize("way", WAYS, ids=named)
def test_a_gradient_that_is_the_parameter(way: tuple[Format, Storage]) -> None:
    agree(built(FEW[0], surrounded(FEW[0])), way, own_gradient=True)


# ---- sizes, pieces, threads -----------------------------------------------------------------------


@pytest.mark.parametrize("way", [FIRST, LAST], ids=named)
def test_any_size(way: tuple[Format, Storage]) -> None:
    update = built(FEW[0], L2)
    agree(update, way, sizes=[*range(1, 70), *range(250, 262)], count=2)
    agree(update, way, sizes=[70_000, 65_537, 8_191], grain=37, count=2)


@pytest.mark.parametrize("grain", [1, 2, 5, 1000])
def test_pieces_of_any_size(grain: int) -> None:
    agree(built(FEW[3], L2), FIRST, grain)
    agree(built(FEW[3], L2), LAST, grain)


@pytest.mark.parametrize("way", [FIRST, LAST, (BFLOAT16, Storage("float32", "stochastic"))], ids=named)
def test_any_number_of_threads(way: tuple[Format, Storage]) -> None:
    update = built(FEW[0], L2)
    layout = choice.layout(update, way[0], LARGE, way[1])
    sizes = [250_001, 5, 70_001]
    kernel = kernels.step_kernel(update, layout, "llvm")
    assert sum(sizes) > threads.OWN.worth and sum(sizes) > running.SHARE * 3

    def threaded(count: int) -> Callable[[int], None]:
        def call(address: int) -> None:
            threads.OWN.run(kernel, address, count)

        return call

    compared: dict[str, Any] = {"numpy": (kernels.step_kernel(update, layout, "numpy").call, None)}
    compared |= {f"{count} threads": (threaded(count), 29) for count in (1, 2, 3)}
    results = steps(update, layout, compared, sizes=sizes, count=3)
    for label in results:
        assert_same(update, layout, results[label], results["numpy"])


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("way", [FIRST, LAST, (FLOAT16, Storage("bfloat16"))], ids=named)
def test_older_processors(way: tuple[Format, Storage], level: str) -> None:
    for case in FEW[3:]:
        update = built(case, surrounded(case))
        layout = choice.layout(update, way[0], LARGE, way[1])
        code = compiler.compile(blocks.step_text(lower(update), layout, llvm.machine()), level)
        compared: dict[str, Any] = {**both(update, layout), level: (code.call, 4)}
        results = steps(update, layout, compared, sizes=(1000, 300), seed=3)
        assert_same(update, layout, results[level], results["numpy"])


@pytest.mark.parametrize("way", [FIRST, (BFLOAT16, Storage("8bit", "stochastic"))], ids=named)
def test_loops_use_vectors_and_call_nothing(way: tuple[Format, Storage]) -> None:
    update = built(FEW[0], DECOUPLED)
    text = blocks.step_text(lower(update), choice.layout(update, way[0], LARGE, way[1]), llvm.machine())
    for level in levels():
        assembly = str(compiler.compile(text, level, assembly=True).assembly)
        assert "divps" in assembly and "sqrtps" in assembly and "call" not in assembly, level
        if "v4" in level:
            assert "zmm" in assembly


def test_memory_is_asked_for_where_that_gains() -> None:
    """A kernel is the same but for that, so the tests of its bits are of both."""
    update = built(FEW[0], DECOUPLED)
    layout = choice.layout(update, *FIRST[:1], LARGE, FIRST[1])

    def lines(processor: str) -> list[str]:
        text = blocks.step_text(lower(update), layout, llvm.machine(), processor)
        return text.splitlines()

    asking = lines("znver5")
    lines_of_64 = sum(format.itemsize for format in layout.formats(lower(update).inputs).values())
    assert sum("call void @llvm.prefetch" in line for line in asking) == lines_of_64
    assert lines("skylake") == asking
    assert not any("prefetch" in line for line in lines("znver4"))


# ---- rules that one might write -------------------------------------------------------------------


def swap(g, m, b, *, t):
    """States that change places, and are read only so."""
    return g, b, m


def keep(g, m, *, t, lr=0.1):
    """A state that is read and stays."""
    return lr * g + m, m


def take(g, m, v, *, t):
    """States that are the gradient, and its size."""
    return m, g, abs(g)


def scale_twice(g, m, *, t, a=0.5, b=0.25):
    """A state multiplied by numbers alone, in more than one place."""
    return a * m + g, b * m + a * g


def odd(g, m, v, *, t):
    """A first pass with comparisons and divisions, whose padding would be NaN."""
    return m / v, 0.5 * m + g / abs(g), 0.5 * v + adamite.where(g > m, g * g, 1.0)


def number_only(x, g, m, *, t, lr=0.1):
    """A step that no tensor is in, in which a state is."""
    return lr, 0.5 * m + x


OWN = [swap, keep, take, scale_twice, odd, number_only]


@pytest.mark.parametrize("way", [FIRST, (FLOAT16, Storage("bfloat16")), LAST], ids=named)
@pytest.mark.parametrize("body", OWN, ids=lambda b: b.__name__)
def test_rules_of_ones_own(body: Callable[..., Any], way: tuple[Format, Storage]) -> None:
    around = Surroundings("l2", ema=True) if way == LAST else Surroundings()
    agree(build(adamite.rule(body), around=around), way)


def constant_state(g, m, v, *, t):
    return g + m + v, 2.0, v + t


def counting_state(g, m, v, *, t, lr=0.1):
    return g + m + v, lr * t, 0.5 * v + g


@pytest.mark.parametrize("body", [constant_state, counting_state], ids=lambda b: b.__name__)
@pytest.mark.parametrize(
    "way", [FIRST, LAST, (FLOAT16, Storage("bfloat16")), (BFLOAT16, Storage("bfloat16", "kahan"))], ids=named
)
def test_states_that_depend_on_numbers_alone(body: Callable[..., Any], way: tuple[Format, Storage]) -> None:
    agree(build(adamite.rule(body)), way)


def compared_twice(x, g, m, *, t):
    large = x * g > x
    return adamite.where(large, g, x), adamite.where(large, m, g)


@pytest.mark.parametrize("way", [FIRST, LAST], ids=named)
def test_a_comparison_on_which_a_state_and_the_step_depend(way: tuple[Format, Storage]) -> None:
    agree(build(adamite.rule(compared_twice)), way)


@pytest.mark.parametrize("way", [FIRST, LAST], ids=named)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(builds=st.tuples(EXPRESSIONS, EXPRESSIONS, EXPRESSIONS), seed=st.integers(0, 99))
def test_arbitrary_graphs(way: tuple[Format, Storage], builds: Any, seed: int) -> None:
    @adamite.rule
    def drawn(x: Any, g: Any, m: Any, v: Any, *, t: Any, a: float = 0.1, b: float = -3.0) -> Any:
        at = dict(x=x, g=g, m=m, v=v, t=t, a=a, b=b)
        step, *states = (build(at) for build in builds)
        return (step, *(g * 0.5 + state for state in states))

    update = build(drawn)
    agree(update, way, None, sizes=(700,), count=3, seed=seed)


# ---- NumPy's classes ------------------------------------------------------------------------------

NARROW = pytest.mark.parametrize("state", ["8bit", "bfloat16"])
AROUND: list[dict[str, Any]] = [
    dict(weight_decay=0.0625, decay="l2", clip_norm=1.0, maximize=True, ema=0.9),
    dict(weight_decay=0.0625, decay="decoupled", ema=0.9),
]


def history(case: Case, state: Any, backend: BackendName, starts: Mapping[str, Array]) -> list[dict[str, Array]]:
    x = {name: start.copy() for name, start in starts.items()}
    with kernels.using(backend):
        optimizer = case.optimizer(x, state=state)
    rng = np.random.default_rng(5)
    results = []
    for _ in range(4):
        grads = {name: rng.normal(size=v.shape).astype(np.float32) for name, v in x.items()}
        for g in grads.values():
            g[rng.random(g.shape) < 0.2] = 0
            g *= np.float32(10.0) ** rng.integers(-3, 3)
        optimizer.step(grads)
        results.append(snapshot(optimizer, x))
    return results


def assert_histories(results: list[dict[str, Array]], expected: list[dict[str, Array]]) -> None:
    for mine, theirs in zip(results, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert mine[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


SURROUNDED = [Case(case.rule, case.options, AROUND[k % 2]) for k, case in enumerate(FEW)]


@NARROW
@pytest.mark.parametrize("case", VARIANTS + SURROUNDED, ids=str)
def test_numpys_classes(case: Case, state: Any) -> None:
    rng = np.random.default_rng(1)
    starts = {f"w{size}": rng.normal(size=size).astype(np.float32) for size in (4095, 4096, 4097, 9001)}
    machine = history(case, state, "llvm", starts)
    assert_histories(machine, history(case, state, "numpy", starts))
    kinds = {array.dtype for name, array in machine[-1].items() if name.startswith("w9001") and "." in name}
    narrow = np.dtype(np.uint8 if state == "8bit" else np.uint16)
    names = {name.partition(".")[2] for name in machine[-1] if name.startswith("w9001.")} - {"x", "step", "average"}
    assert (narrow in kinds) == bool(names - ({"v", "g_bar"} if case.options.get("centered") else set()))


@NARROW
def test_numpys_classes_on_threads(state: Any, small_shares: None) -> None:
    rng = np.random.default_rng(1)
    starts = {f"w{size}": rng.normal(size=size).astype(np.float32) for size in (70_001, 4096, 30)}
    case = Case(FEW[0].rule, {}, AROUND[0])
    expected = history(case, state, "numpy", starts)
    for count in (1, 2, 3):
        with threads.using_threads(count):
            assert_histories(history(case, state, "llvm", starts), expected)


# ---- arrays of other layouts ----------------------------------------------------------------------

Made = Callable[[Array], Array]


def fortran(a: Array) -> Array:
    return np.asfortranarray(a)


def strided(a: Array) -> Array:
    wide = np.zeros((a.shape[0], 2 * a.shape[1], *a.shape[2:]), a.dtype)
    wide[:, ::2] = a
    every_other: Array = wide[:, ::2]
    return every_other


def backwards(a: Array) -> Array:
    turned: Array = a[::-1].copy()[::-1]
    return turned


def permuted(a: Array) -> Array:
    axes: Array = a.transpose(1, 2, 0).copy().transpose(2, 0, 1)
    return axes


def unaligned(a: Array) -> Array:
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view: Array = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


PLACES = [fortran, strided, backwards, permuted, unaligned]


def trained(make: Made, give: Made, state: Any, backend: BackendName = "llvm", **more: Any) -> Any:
    rng = np.random.default_rng(2)
    x = make(rng.normal(size=(20, 30, 11)).astype(np.float32))
    with kernels.using(backend):
        optimizer = adamite.AdamW({"w": x}, lr=0.01, ema=0.9, state=state, **more)
    for _ in range(4):
        optimizer.step({"w": give(np.asarray(rng.normal(size=x.shape), np.float32))})
    return x, optimizer.state_dict()["parameters"]["w"]


@functools.cache
def plainly(state: Any) -> Any:
    return trained(np.copy, np.copy, state)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("give", [np.copy, *PLACES], ids=lambda f: f"gradients-{f.__name__}")
@pytest.mark.parametrize("make", [np.copy, *PLACES], ids=lambda f: f.__name__)
def test_eight_bit_states_of_any_layout(make: Made, give: Made, backend: BackendName) -> None:
    """The same bits as of contiguous arrays: 8-bit states lie in the order of indices."""
    x, states = trained(make, give, "8bit", backend)
    expected, others = plainly("8bit")
    np.testing.assert_array_equal(x, expected)
    assert states.keys() == others.keys() and states["m"].dtype == np.uint8
    for name in states:
        np.testing.assert_array_equal(states[name], others[name], err_msg=name)


@pytest.mark.parametrize("give", [np.copy, *PLACES], ids=lambda f: f"gradients-{f.__name__}")
@pytest.mark.parametrize("make", [np.copy, *PLACES], ids=lambda f: f.__name__)
def test_bfloat16_states_of_any_layout(make: Made, give: Made) -> None:
    """Machine code as NumPy; and the bits of contiguous arrays where the memory's order isn't another one."""
    x, states = trained(make, give, "bfloat16")
    there, others = trained(make, give, "bfloat16", "numpy")
    np.testing.assert_array_equal(x, there)
    for name in states:
        np.testing.assert_array_equal(states[name], others[name], err_msg=name)
    if make in (np.copy, strided, unaligned):
        expected, others = plainly("bfloat16")
        np.testing.assert_array_equal(x, expected)
        np.testing.assert_array_equal(states["v"], others["v"])
    assert np.abs(x - plainly("float32")[0]).max() < 4e-3


@NARROW
def test_a_gradient_that_is_the_parameter_in_numpy(state: Any) -> None:
    results = []
    for arguments in (False, True):
        x = np.random.default_rng(3).normal(size=(90, 70)).astype(np.float32)
        optimizer = adamite.Adam({"w": x}, lr=0.01, state=state)
        for _ in range(3):
            optimizer.step({"w": x if arguments else x.copy()})
        results.append(snapshot(optimizer, {"w": x}))
    assert_histories(results[:1], results[1:])
