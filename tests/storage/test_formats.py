"""bfloat16 and 8-bit states against what their docstrings say, in plain Python; how each state is stored, and why."""

from __future__ import annotations

import copy
import math
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adamite
from adamite import RuleError
from adamite.frontend.catalogue import CONVENTIONS, OPTAX
from adamite.language import maths
from adamite.language.bounds import nonnegative
from adamite.language.rule import Unsigned
from adamite.language.update import Surroundings, Update, build
from adamite.rules import RULES
from adamite.storage import (
    BFLOAT16,
    EIGHT_BIT_SIGNED,
    EIGHT_BIT_UNSIGNED,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    EightBit,
    Format,
    Layout,
    choice,
)
from adamite.storage.choice import SMALLEST, Storage
from adamite.storage.random import BLOCK, VECTORS, hashed, mixed, places
from tests.support import VARIANTS, Array, Case

EIGHT = pytest.mark.parametrize("format", [EIGHT_BIT_SIGNED, EIGHT_BIT_UNSIGNED], ids=lambda f: f.name)

# ---- the docstring of eight_bit.py, a number at a time ---------------------------------------------

ZERO = 2.0**-119  # "numbers below aren't told apart"


def f(code: int) -> float:
    """A float32 with the exponent 128 + code // 8 and the mantissa code % 8."""
    return 2.0 ** (128 + code // 8 - 127) * (1 + code % 8 / 8)


def meaning(byte: int, scale: float, signed: bool) -> float:
    if not signed:
        return scale * f(byte)
    return scale * (f(byte & 0x7F) - 2) * (-1 if byte & 0x80 else 1)


class Read(NamedTuple):
    """What lies in an array: the numbers, and each one's S."""

    values: Array
    scales: Array


def read(format: EightBit, stored: Array, elements: int) -> Read:
    blocks = -(-elements // 256)
    assert stored.dtype == np.uint8 and stored.shape == (257 * blocks,)
    values, scales = [], []
    for e in range(elements):
        group, within = divmod(e, 64)
        j, lane = divmod(within, 16)
        scale = 2.0 ** (int(stored[256 * blocks + e // 256]) - 120)
        values.append(meaning(int(stored[64 * group + 4 * lane + j]), scale, format.signed))
        scales.append(scale)
    return Read(np.array(values), np.array(scales))


def largest(values: Array) -> Array:
    """The largest magnitude of each element's block."""
    return np.concatenate([np.full(len(b), np.abs(b).max()) for b in blocks(values.astype(float))])


def blocks(values: Array) -> Iterator[Array]:
    return (values[start : start + 256] for start in range(0, len(values), 256))


@EIGHT
def test_every_code_with_every_scale(format: EightBit) -> None:
    top = f(127 if format.signed else 255)
    scales = [s for s in range(256) if 2.0 ** (s - 120) * top < 2.0**128]
    assert len(scales) > 200
    stored = np.zeros(format.length(256 * len(scales)), np.uint8)
    stored[: 256 * len(scales)] = np.tile(np.arange(256), len(scales))
    stored[256 * len(scales) :] = scales
    elements = 256 * len(scales)
    results = format.decode(stored, elements)
    assert results.dtype == np.float32
    np.testing.assert_array_equal(results.astype(float), read(format, stored, elements).values)


@EIGHT
@pytest.mark.parametrize("elements", [1, 63, 64, 255, 256, 257, 511, 4096, 70_001])
def test_lengths(format: EightBit, elements: int) -> None:
    """A byte an element and one a block, of whole blocks."""
    whole = math.ceil(elements / 256)
    assert format.length(0) == 0
    assert format.length(elements) == 256 * whole + whole
    values = np.linspace(0.5, 1, elements, dtype=np.float32)
    stored = format.encode(values)
    assert stored.shape == (format.length(elements),)
    assert format.decode(stored, elements).shape == (elements,)


MAGNITUDES = st.floats(2.0**-149, 2.0**127, exclude_max=True, width=32) | st.sampled_from(
    [0.0, 2.0**-119, 2.0**-126, 1.0, 1.9999999]
)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Up to three blocks, each of magnitudes about one, with outliers of any."""
    size = draw(st.integers(1, 600))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    centers = 2.0 ** np.array(draw(st.lists(st.floats(-120, 110), min_size=3, max_size=3)))
    width = draw(st.floats(0, 14))
    values = rng.normal(size=size) * np.repeat(centers, 256)[:size] * 2.0 ** rng.uniform(-width, width, size)
    for value in draw(st.lists(MAGNITUDES, max_size=4)):
        values[rng.integers(size)] = value * rng.choice([-1, 1])
    return np.where(rng.random(size) < draw(st.sampled_from([0, 0.5])), 0, values).astype(np.float32)


LOWEST, HIGHEST = np.uint32(0xABC00000), np.uint32(0xABCFFFFF)  # of a word, 20 bits count


def bound(format: EightBit, values: Array, scales: Array) -> Array:
    """What one rounding may change, at the most."""
    most: Array = np.abs(values.astype(float)) / 8
    return most + scales / 4 if format.signed else most


@EIGHT
@settings(max_examples=150, deadline=None)
@given(values=arrays(), word=st.integers(0, 2**32 - 1))
def test_a_rounding_is_bounded(format: EightBit, values: Array, word: int) -> None:
    exact = values.astype(float) if format.signed else np.abs(values).astype(float)
    values = exact.astype(np.float32)
    nearest, low, some, high = (
        read(format, format.encode(values, random), values.size) for random in (None, LOWEST, np.uint32(word), HIGHEST)
    )
    smallest = np.zeros_like(exact) if format.signed else 2 * low.scales
    wanted = np.maximum(exact, smallest) if not format.signed else exact  # small ones are raised
    limit = bound(format, wanted, low.scales)
    for results in (nearest, low, some, high):
        np.testing.assert_array_equal(results.scales, low.scales)
        assert (np.abs(results.values - wanted) < limit).all() or (results.values == wanted).all()
    # Cut, and cut after the most was added: the number is between these two.
    assert (np.abs(low.values) <= np.abs(wanted) * (1 + 2.0**-23)).all()
    assert (np.abs(high.values) >= np.abs(wanted) * (1 - 2.0**-20) - low.scales * 2.0**-20).all()
    assert (np.abs(low.values) <= np.abs(some.values)).all() and (np.abs(some.values) <= np.abs(high.values)).all()
    # The nearest of the two, in the middle of which it changes from one to the other.
    assert (np.abs(nearest.values - wanted) <= 0.5 * limit * (1 + 2.0**-18)).all()


@EIGHT
@settings(max_examples=100, deadline=None)
@given(values=arrays())
def test_the_largest_number_just_fits(format: EightBit, values: Array) -> None:
    values = np.abs(values)
    results = read(format, format.encode(values, HIGHEST), values.size)
    most = largest(values)
    top = results.scales * (f(127) - 2 if format.signed else f(255))
    assert (most <= top * (1 + 2.0**-16)).all()
    shares = results.scales[most >= 2.0**-80] / most[most >= 2.0**-80]
    # S/4 is 2^-18 of the largest, the raised 2^-31; where rounding may carry into the next power of two, a 15th more.
    limit = 2.0**-16 if format.signed else 2.0**-32
    assert (shares <= limit * 16 / 15 * (1 + 2.0**-12)).all() and (shares > limit / 2).all()


@EIGHT
def test_on_average_a_number_does_not_change(format: EightBit) -> None:
    """Over words that divide their range evenly, so the mean is known to a part in so many of the spacing."""
    rng = np.random.default_rng(0)
    values = (2.0 ** rng.uniform(-17, 0, 256)).astype(np.float32)
    values *= rng.choice([-1, 1], 256).astype(np.float32) if format.signed else np.float32(1)
    values[0] = 1.0
    words = (np.arange(2048) << 9 | 0x100).astype(np.uint32)
    sums, scales = np.zeros(256), np.zeros(256)
    for word in words:
        stored = format.encode(values, word)
        sums += format.decode(stored, 256)
    scales = read(format, stored, 256).scales
    error = np.abs(sums / len(words) - values.astype(float))
    assert (error <= bound(format, values, scales) * 2 / len(words)).all()
    assert (error < np.abs(values) * 2e-3 + scales / 1000).all()


def test_signed_zero_is_exact() -> None:
    values = np.zeros(600, np.float32)
    values[::3], values[1::3], values[512] = 0.0, -0.0, 2.0**100
    values[300] = -1.0
    for random in (None, LOWEST, HIGHEST):
        results = EIGHT_BIT_SIGNED.decode(EIGHT_BIT_SIGNED.encode(values, random), 600)
        zero = values == 0
        assert (results[zero] == 0).all() and not np.signbit(results[zero]).any() and (results[~zero] != 0).all()


def test_what_is_small_beside_the_largest_keeps_its_sign_or_is_zero() -> None:
    values = np.geomspace(2.0**-60, 1, 256, dtype=np.float32) * np.tile([1, -1], 128).astype(np.float32)
    for random in (LOWEST, HIGHEST):
        results = EIGHT_BIT_SIGNED.decode(EIGHT_BIT_SIGNED.encode(values, random), 256)
        assert (results * values >= 0).all() and (results != 0).sum() >= 128 * 16 // 60


def test_unsigned_is_never_zero_and_raised_to_a_share_of_the_largest() -> None:
    sizes = np.concatenate([[0.0], 2.0 ** np.linspace(-149, 60, 255)]).astype(np.float32)
    for word in (LOWEST, HIGHEST):
        results = EIGHT_BIT_UNSIGNED.decode(EIGHT_BIT_UNSIGNED.encode(sizes, word), 256).astype(float)
        floor = sizes.max() * 2.0**-31
        small = sizes < floor
        assert small.sum() > 200 and (results[small] == floor).all()  # raised, whatever the word
        assert (results[~small] >= sizes[~small] * (7 / 8)).all() and (results[~small] <= sizes[~small] * (9 / 8)).all()
    assert (results > 0).all()
    negative = EIGHT_BIT_UNSIGNED.decode(EIGHT_BIT_UNSIGNED.encode(np.array([-1.0, -0.0, 2.0], np.float32)), 3)
    np.testing.assert_array_equal(negative, [2.0**-30, 2.0**-30, 2.0])


@EIGHT
def test_blocks_of_zeros(format: EightBit) -> None:
    values = np.zeros(3 * 256, np.float32)
    values[256 + 7] = 1.0
    for random in (None, LOWEST, HIGHEST):
        first, _, last = blocks(format.decode(format.encode(values, random), values.size))
        expected = 0.0 if format.signed else ZERO
        assert (first == expected).all() and (last == expected).all()


@EIGHT
def test_nothing_decoded_is_near_the_subnormal_numbers(format: EightBit) -> None:
    values = (2.0 ** np.linspace(-149, -100, 256)).astype(np.float32)
    results = format.decode(format.encode(values, HIGHEST), 256)
    assert ((results == 0) | (results >= 2.0**-122)).all()


@EIGHT
def test_what_is_not_finite_leaves_zero_and_does_not_count(format: EightBit) -> None:
    values = np.linspace(0.1, 1, 512, dtype=np.float32)
    bad, zero = values.copy(), values.copy()
    bad[[3, 4, 300, 301]], zero[[3, 4, 300, 301]] = [np.nan, np.inf, -np.nan, -np.inf], 0.0
    np.testing.assert_array_equal(format.encode(bad), format.encode(zero))


@EIGHT
def test_a_short_last_block_counts_no_more_than_it_holds(format: EightBit) -> None:
    values = np.concatenate([np.full(256, 1.0), np.full(3, 2.0**-40)]).astype(np.float32)
    alone = format.encode(values[256:])
    both = format.encode(values)
    assert (np.abs(format.decode(both, 259) / values - 1) < 2.0**-12).all()
    np.testing.assert_array_equal(both[[*range(256, 512), 513]], alone)


@EIGHT
def test_values_of_any_shape_lie_in_the_order_of_indices(format: EightBit) -> None:
    values = np.abs(np.random.default_rng(1).normal(size=(30, 40))).astype(np.float32)
    np.testing.assert_array_equal(format.encode(values.T), format.encode(values.T.copy()))
    np.testing.assert_array_equal(format.encode(values), format.encode(values.ravel()))


@pytest.mark.parametrize("format", [BFLOAT16, EIGHT_BIT_SIGNED, EIGHT_BIT_UNSIGNED], ids=lambda f: f.name)
def test_a_copied_format_is_the_same_one(format: Format) -> None:
    assert copy.deepcopy(format) is format and pickle.loads(pickle.dumps(format)) is format
    layout = Layout(FLOAT32, (("m", format),))
    assert pickle.loads(pickle.dumps(layout)) == layout


# ---- bfloat16, rounded at random ------------------------------------------------------------------


def neighbours(value: float) -> tuple[float, float]:
    """The numbers of eight bits of mantissa at or below a magnitude, and above it."""
    if value == 0:
        return 0.0, 0.0
    spacing = 2.0 ** (max(math.frexp(value)[1] - 1, -126) - 7)
    low = math.floor(abs(value) / spacing) * spacing
    return math.copysign(low, value), math.copysign(low if low == abs(value) else low + spacing, value)


FLOATS = st.floats(-(2.0**127), 2.0**127, width=32)


@settings(max_examples=300, deadline=None)
@given(value=FLOATS, word=st.integers(0, 2**32 - 1))
def test_bfloat16_is_one_of_two_neighbours(value: float, word: int) -> None:
    low, high = neighbours(value)
    number = np.array([value], np.float32)

    def rounded(word: int) -> float:
        return float(BFLOAT16.widen(BFLOAT16.narrow(number, np.array([word], np.uint32)))[0])

    assert rounded(word) in (low, high) and rounded(0) == low and rounded(0xFFFF) == high
    assert abs(rounded(word) - value) < max(abs(value) / 128, 2.0**-133) or value == 0
    # As many of the words lead upwards as the number is above the lower one.
    share = (value - low) / (high - low) if high != low else 0.0
    first = round(0x10000 * (1 - share)) if share else 0x10000
    assert share == 0 or (rounded(first - 1) == low and (first > 0xFFFF or rounded(first) == high))


def test_bfloat16_keeps_what_has_no_neighbours() -> None:
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan], np.float32)
    for word in (0, 0x8000, 0xFFFF, 0xFFFFFFFF):
        results = BFLOAT16.widen(BFLOAT16.narrow(values, np.full(6, word, np.uint32)))
        np.testing.assert_array_equal(results, values)
        np.testing.assert_array_equal(np.signbit(results[:4]), np.signbit(values[:4]))


# ---- the random words -----------------------------------------------------------------------------


def drawn(step: int, seed: int, blocks: int, output: int = 0, pairs: bool = False) -> Array:
    """The words of a tensor's elements, as random.py says: of block, lane and seed, xor of vector, output and step."""
    vectors, lanes = places(pairs)
    words = hashed(np.arange(VECTORS) + output * VECTORS, mixed(step))[vectors]
    return hashed(np.arange(blocks)[:, None] * VECTORS + np.arange(VECTORS), seed)[:, lanes] ^ words


@pytest.mark.parametrize("pairs", [False, True])
def test_random_words_are_even_and_independent(pairs: bool) -> None:
    """Each bit, and each bit beside that of the next element, step, tensor and output."""

    def steps(seed: int, output: int) -> Array:
        return np.stack([drawn(step, seed, 64, output, pairs).ravel() for step in range(1, 33)])

    words = steps(3, 0)
    others = {
        "element": (words[:, 1:], words[:, :-1]),
        "row": (words[:, 16:], words[:, :-16]),
        "block": (words[:, 256:], words[:, :-256]),
        "step": (words[1:], words[:-1]),
        "tensor": (words, steps(4, 0)),
        "output": (words, steps(3, 1)),
        "itself": (words, np.zeros_like(words)),
    }
    for label, (a, b) in others.items():
        for bit in range(20):
            # Elements share the parts of their words; the fewest independent ones are 16 vectors in each of 32 steps.
            ones = (a ^ b) >> np.uint32(bit) & np.uint32(1)
            assert abs(ones.mean() - 0.5) < 4.5 * 0.5 / (16 * 31) ** 0.5, (label, bit)


def test_places_are_each_vector_and_lane_once() -> None:
    for pairs in (False, True):
        vectors, lanes = places(pairs)
        assert sorted(zip(vectors.tolist(), lanes.tolist())) == [(v, k) for v in range(16) for k in range(16)]
    np.testing.assert_array_equal(places(False)[0] * 16 + places(False)[1], np.arange(BLOCK))


# ---- how each state is stored ---------------------------------------------------------------------

# By hand, from the papers: second moments and maxima. First moments and averages of gradients have signs.
UNSIGNED = {
    "sgd": "",
    "rmsprop": "v",
    "adagrad": "s",
    "adadelta": "v u",
    "adam": "v",
    "amsgrad": "v v_max",
    "adabelief": "s",
    "adamax": "u",
    "nadam": "v",
    "radam": "v",
    "lion": "",
    "adopt": "v",
    "yogi": "v",
}
SIGNED = {"m", "b", "g_bar"}


def family(rule: Any) -> str:
    """The row of the papers' table for a rule: amsgrad is a variant of adam, and has a row of its own."""
    return max((name for name in UNSIGNED if rule.name.startswith(name)), key=len, default="")


def updates(case: Case, around: Surroundings = Surroundings()) -> Update:  # noqa: B008 - a tuple
    choices = tuple((name, case.options[name]) for name in case.rule.choices)
    return build(case.rule, choices, frozenset(n for n, value in case.options.items() if value is None), around)


EVERY = [Surroundings(), Surroundings("l2", True, True, True, True), Surroundings("decoupled", ema=True)]


@pytest.mark.parametrize("around", EVERY, ids=["alone", "l2", "decoupled"])
@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_second_moments_are_unsigned_and_first_ones_signed(case: Case, around: Surroundings) -> None:
    if around.decay == "decoupled" and "lr" not in case.rule.numbers:
        pytest.skip("decoupled decay needs lr")
    if not family(case.rule):
        pytest.skip("no row in this table; the next test holds what is unsigned")
    update = updates(case, around)
    wanted = set(UNSIGNED[family(case.rule)].split())
    for name in update.states:
        if name == "average":
            results = [choice.format_of(update, name, state) for state in ("float32", "bfloat16", "8bit")]
            assert results == [FLOAT32] * 3
            continue
        assert (name in wanted) != (name in SIGNED), name
        expected = EIGHT_BIT_UNSIGNED if name in wanted else EIGHT_BIT_SIGNED
        assert choice.format_of(update, name, "8bit") is expected, name
        assert choice.format_of(update, name, "bfloat16") is BFLOAT16
        assert choice.format_of(update, name, "float32") is FLOAT32


@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_unsigned_states_never_become_negative(case: Case) -> None:
    x, rng = np.ones(200), np.random.default_rng(0)
    options: dict[str, Any] = {**({"lr": 0.01} if "lr" in case.rule.numbers else {}), **case.options}
    optimizer = adamite.optimizer(case.rule)(x, **options)
    for step in range(30):
        optimizer.step(rng.normal(size=200) * 10.0 ** rng.uniform(-4, 2, 200) * (step % 3 != 0))
        for name, state in optimizer.state_dict()["parameters"]["x"].items():
            if name in optimizer.update.nonnegative:
                assert np.min(state) >= 0, name


def test_the_table_is_of_rules() -> None:
    rules = {c.rule for row in CONVENTIONS.values() for c in row.values()} | {s.convention.rule for s in OPTAX.values()}
    assert rules <= set(RULES.values()) and {c.rule for c in VARIANTS} == set(RULES.values())
    assert {family(rule) for rule in rules} >= set(UNSIGNED)


@pytest.mark.parametrize("x", [FLOAT32, FLOAT16, BFLOAT16], ids=lambda x: x.name)
@pytest.mark.parametrize("elements", [0, 1, SMALLEST - 1, SMALLEST, 10**6])
def test_small_parameters_keep_float32_states(x: Format, elements: int) -> None:
    assert SMALLEST == 4096  # as the documentation says
    update = build(RULES["adam"], around=Surroundings(ema=True))
    for state, m, v in (("bfloat16", BFLOAT16, BFLOAT16), ("8bit", EIGHT_BIT_SIGNED, EIGHT_BIT_UNSIGNED)):
        results = choice.layout(update, x, elements, Storage(state))  # type: ignore[arg-type]
        large = elements >= 4096
        assert [results.of(n) for n in ("m", "v", "average")] == ([m, v] if large else [FLOAT32] * 2) + [FLOAT32]
        assert results.blocks == large and results.of("x") is results.of("g") is x
    plain = choice.layout(update, x, elements, Storage())
    assert plain == Layout(x) and not plain.blocks


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
def test_rounding_is_of_bfloat16_parameters(rounding: Any) -> None:
    update = build(RULES["adam"])
    for elements in (1, 10_000):
        results = choice.layout(update, BFLOAT16, elements, Storage("float32", rounding))
        assert results.rounding == rounding and results.blocks and results.of("m") is FLOAT32
        assert ("compensation" in results.more) == (rounding == "kahan")
        for x in (FLOAT32, FLOAT16, FLOAT64):
            assert choice.layout(update, x, elements, Storage("float32", rounding)).rounding == "nearest"


# ---- which states can't be negative, in rules of one's own ----------------------------------------

Body = Callable[..., Any]


def rule_of(body: Body, **hints: Any) -> Any:
    function: Any = body
    copied = types.FunctionType(function.__code__, function.__globals__, body.__name__, function.__defaults__)
    copied.__kwdefaults__, copied.__doc__, copied.__annotations__ = function.__kwdefaults__, body.__doc__, hints
    return adamite.rule(copied)


def results(body: Body, **hints: Any) -> frozenset[str]:
    """The states of a rule with these annotations that can't be negative."""
    return build(rule_of(body, **hints)).nonnegative


def square(g, v, *, t, beta2=0.999):
    """A rule.

    beta2 in [0, 1): decay.
    """
    return g, beta2 * v + (1 - beta2) * g**2


def above_one(g, v, *, t, beta2=0.999):
    """A rule.

    beta2 in [0, 2]: decay.
    """
    return g, beta2 * v + (1 - beta2) * g**2


def unstated(g, v, *, t, beta2=0.999):
    return g, beta2 * v + (1 - beta2) * g**2


def unstated_above_one(g, v, *, t, beta2=1.5):
    return g, beta2 * v + (1 - beta2) * g**2


def from_the_parameter(g, v="x", *, t):
    return g, v + g**2


def from_below(g, v=-1.0, *, t):
    return g, v + g**2


def from_above(g, v=1.0, *, t):
    return g, v + g**2


def from_a_number(g, v="v0", *, t, v0=0.5):
    """A rule.

    v0 in [0, inf): start.
    """
    return g, v + g**2


def from_a_number_that_may_be_negative(g, v="v0", *, t, v0=0.5):
    """A rule.

    v0 in [-1, inf): start.
    """
    return g, v + g**2


def larger(g, v, *, t):
    return g, maths.maximum(0.5 * v, abs(g))


def smaller(g, v, *, t):
    return g, maths.minimum(v + 1.0, abs(g))


def the_larger_of_what_may_be_negative(g, v, *, t):
    return g, maths.maximum(v - 1.0, g)


def larger_than_itself(g, v, *, t):
    return g, maths.maximum(v, g)


def chosen(g, v, *, t):
    return g, maths.where(g > 0, g**2, v)


def chosen_wrongly(g, v, *, t):
    return g, maths.where(g > 0, g, v)  # as numbers: never negative; but intervals don't know why


def root(g, v, *, t):
    return g, maths.sqrt(v + g**2)


def difference(g, v, *, t):
    return g, v - g**2


def toward_a_square(g, v, *, t):
    return g, v - 0.9 * maths.sign(v - g**2) * g**2


def toward_a_square_and_past_it(g, v, *, t):
    return g, v - 4 * maths.sign(v - g**2) * g**2


def toward_anything(g, v, *, t):
    return g, v - 0.9 * maths.sign(v - g) * g


def toward_one_square_by_another(g, v, *, t):
    return g, v - 0.9 * maths.sign(v - g**2) * (2 * g) ** 2


def away_from_a_square(g, v, *, t):
    return g, v - 0.9 * maths.sign(g**2 - v) * g**2


def divided(g, v, *, t):
    return g, v / (1 + g**2)


def divided_by_anything(g, v, *, t):
    return g, v / g


def odd_power(g, v, *, t):
    return g, v + g**3


def product_of_two(g, v, w, *, t):
    return g, v + g * w, w + g


def through_each_other(g, v, w, *, t):
    return g, w, v + g**2


def through_each_other_wrongly(g, v, w, *, t):
    return g, w, v + g


BODIES: list[tuple[Body, set[str]]] = [
    (square, {"v"}),
    (above_one, set()),
    (unstated, {"v"}),
    (unstated_above_one, set()),
    (from_the_parameter, set()),
    (from_below, set()),
    (from_above, {"v"}),
    (from_a_number, {"v"}),
    (from_a_number_that_may_be_negative, set()),
    (larger, {"v"}),
    (smaller, {"v"}),
    (the_larger_of_what_may_be_negative, set()),
    (larger_than_itself, {"v"}),
    (chosen, {"v"}),
    (chosen_wrongly, set()),
    (root, {"v"}),
    (difference, set()),
    (toward_a_square, {"v"}),
    (toward_a_square_and_past_it, set()),
    (toward_anything, {"v"}),
    (toward_one_square_by_another, set()),
    (away_from_a_square, set()),
    (divided, {"v"}),
    (divided_by_anything, set()),
    (odd_power, set()),
    (product_of_two, set()),
    (through_each_other, {"v", "w"}),
    (through_each_other_wrongly, set()),
]


# At their defaults, or since intervals don't know how a condition and a value belong together.
SAFE_BY_CHANCE = (
    above_one,
    divided_by_anything,
    chosen_wrongly,
    from_a_number_that_may_be_negative,
    the_larger_of_what_may_be_negative,
)


@pytest.mark.parametrize("body, expected", BODIES, ids=lambda b: getattr(b, "__name__", ""))
def test_states_that_cannot_be_negative(body: Body, expected: set[str]) -> None:
    assert results(body) == expected


@pytest.mark.parametrize("body, expected", BODIES, ids=lambda b: getattr(b, "__name__", ""))
def test_a_declared_state_is_checked(body: Body, expected: set[str]) -> None:
    if "v" in expected:
        assert results(body, v=Unsigned) == expected
    else:
        with pytest.raises(RuleError, match=rf"rule {body.__name__}: v is declared Unsigned, and may become negative"):
            results(body, v=Unsigned)


@pytest.mark.parametrize("body, expected", BODIES, ids=lambda b: getattr(b, "__name__", ""))
def test_what_is_called_so_stays_so(body: Body, expected: set[str]) -> None:
    """Run on numbers: what is said to be never negative isn't, and nearly all else becomes so."""
    x = {"x": -np.ones(64, np.float32)}
    optimizer = adamite.optimizer(rule_of(body))(x)
    rng = np.random.default_rng(0)
    lowest = {"v": np.inf, "w": np.inf}
    for _ in range(5):
        optimizer.step({"x": rng.normal(size=64).astype(np.float32)})
        for name in lowest.keys() & optimizer.state_dict()["parameters"]["x"].keys():
            lowest[name] = min(lowest[name], float(optimizer.state_dict()["parameters"]["x"][name].min()))
    assert all(lowest[name] >= 0 for name in expected)
    if "v" not in expected and body not in SAFE_BY_CHANCE:
        assert min(lowest.values()) < 0


def test_only_what_is_traced_is_checked() -> None:
    """A state that the rule drops under its choices promises nothing."""

    def dropped(g, v, *, t, keep: bool = False):
        return g, v - g if keep else v

    dropped.__annotations__["v"] = Unsigned
    rule = adamite.rule(dropped)
    assert build(rule, (("keep", False),)).states == ()
    with pytest.raises(RuleError, match="v is declared Unsigned"):
        build(rule, (("keep", True),))
    assert nonnegative(rule, {}) == frozenset()
