"""What narrow states promise: averages go on, no step explodes, weights move, bad gradients stay where they are."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import adamite
import adamite.torch as ours
from adamite import NonFiniteError
from adamite.engine import threads
from adamite.rules import RULES
from adamite.storage import BFLOAT16, EIGHT_BIT_SIGNED, EIGHT_BIT_UNSIGNED, EightBit, choice
from tests.storage.test_formats import UNSIGNED, family
from tests.support import VARIANTS, Array, Case, cases, snapshot

STATES = pytest.mark.parametrize("state", ["8bit", "bfloat16"])


def numbers(optimizer: Any, name: str, key: str = "w") -> Array:
    """A state as numbers."""
    stored = optimizer.state_dict()["parameters"][key][name]
    if stored.dtype == np.uint8:
        format: EightBit = EIGHT_BIT_UNSIGNED if name in optimizer.update.nonnegative else EIGHT_BIT_SIGNED
        return format.decode(stored, optimizer._slots[0].size)
    return BFLOAT16.widen(stored) if stored.dtype == np.uint16 else np.asarray(stored)


# ---- averages -------------------------------------------------------------------------------------

SIZE = 64 * 256


@functools.cache
def fading(rule: str, state: Any, zeros: int = 2000) -> Array:
    """The mean square where gradients are zero for so long, and go on in the other half of each block."""
    options: Any = {"adam": {"beta2": 0.999}, "rmsprop": {"rho": 0.999}, "adadelta": {"rho": 0.999}}[rule]
    optimizer = adamite.optimizer(rule)({"w": np.ones(SIZE, np.float32)}, state=state, **options)
    rng = np.random.default_rng(0)
    quiet = np.arange(SIZE) % 2 == 0
    for step in range(50 + zeros):
        g = rng.normal(size=SIZE).astype(np.float32)
        optimizer.step({"w": np.where(quiet & (step >= 50), np.float32(0), g)})
    v: Array = numbers(optimizer, "v")[quiet].astype(float)
    return v


@STATES
@pytest.mark.parametrize("rule", ["adam", "rmsprop", "adadelta"])
def test_averages_do_not_stall(rule: str, state: Any) -> None:
    results, exact = fading(rule, state), fading(rule, "float32")
    assert exact.mean() < 0.2 * fading(rule, "float32", 0).mean()
    ratio = results / exact
    assert abs(ratio.mean() - 1) < 0.05 and abs(results.mean() / exact.mean() - 1) < 0.05
    assert ratio.std() < 0.6 and (results > 0).all()


@pytest.mark.parametrize("format", [EIGHT_BIT_UNSIGNED, BFLOAT16], ids=lambda f: f.name)
def test_rounded_to_the_nearest_they_would(format: Any) -> None:
    """So the test above can fail: half a spacing is never crossed."""
    v = np.linspace(0.5, 1, 256, dtype=np.float32)
    start = v.copy()
    for _ in range(2000):
        v = v * np.float32(0.999)
        v = format.decode(format.encode(v), 256) if isinstance(format, EightBit) else format.widen(format.narrow(v))
    assert v.mean() > 5 * 0.999**2000 * start.mean()


@STATES
def test_an_average_is_right_and_varies_by_a_fifth(state: Any) -> None:
    """A fifth where the spacing is an eighth; a quarter of that where it is a 16th of it."""
    results = {}
    for kind in (state, "float32"):
        optimizer = adamite.Adam({"w": np.zeros(SIZE, np.float32)}, state=kind)
        rng = np.random.default_rng(1)
        for _ in range(2500):
            optimizer.step({"w": rng.normal(size=SIZE).astype(np.float32)})
        results[kind] = {name: numbers(optimizer, name).astype(float) for name in ("m", "v")}
    less = 1 if state == "8bit" else 4
    ratio = results[state]["v"] / results["float32"]["v"]
    assert abs(ratio.mean() - 1) < 0.01 and 0.12 < less * ratio.std() < 0.25
    off = results[state]["m"] - results["float32"]["m"]
    size = np.sqrt((results["float32"]["m"] ** 2).mean())
    assert abs(off.mean()) < 0.005 * size and off.std() < (0.12 if state == "8bit" else 0.02) * size


# ---- steps ----------------------------------------------------------------------------------------


@functools.cache
def network(steps: int = 300) -> list[Array]:
    """The gradients of a layer of 64 x 128 weights in a small network that learns, most of whose units rest."""
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(600, 64)) * 10.0 ** rng.uniform(-2, 0, 64)
    wanted = np.sin(inputs @ rng.normal(size=(64, 3)))
    w = {
        "a": (rng.normal(size=(64, 128)) / 8).astype(np.float32),
        "bias": np.full(128, -0.5, np.float32),
        "b": (rng.normal(size=(128, 3)) / 11).astype(np.float32),
    }
    optimizer = adamite.Adam(w, lr=3e-3)
    seen = []
    for _ in range(steps):
        rows = rng.integers(600, size=16)
        h = inputs[rows] @ w["a"] + w["bias"]
        active = np.maximum(h, 0)
        error = (active @ w["b"] - wanted[rows]) / 16
        back = (error @ w["b"].T) * (h > 0)
        grads = {"a": inputs[rows].T @ back, "bias": back.sum(0), "b": active.T @ error}
        seen.append(grads["a"].astype(np.float32))
        optimizer.step({name: g.astype(np.float32) for name, g in grads.items()})
    return seen


@functools.cache
def embedding(steps: int = 300) -> list[Array]:
    """Gradients of 256 x 32 weights of which a few rows, some seldom, are used at a time."""
    rng = np.random.default_rng(4)
    shares = 1 / np.arange(1, 257)
    results = []
    for _ in range(steps):
        g = np.zeros((256, 32), np.float32)
        rows = rng.choice(256, 12, p=shares / shares.sum())
        g[rows] = rng.normal(size=(12, 32)) * 10.0 ** rng.uniform(-3, 0, (12, 1))
        results.append(g)
    return results


TRACES: list[Callable[[], list[Array]]] = [network, embedding]


def longest(case: Case, state: Any, gradients: Sequence[Array], lr: float = 1e-6) -> tuple[float, bool]:
    """The longest step of an element by these gradients, in units of lr, and whether m != 0 meets v == 0."""
    x = {"w": np.zeros(gradients[0].shape, np.float32)}
    more = {"lr": lr} if "lr" in case.rule.numbers else {}
    optimizer = case.optimizer(x, state=state, **more)
    second = UNSIGNED[family(case.rule)].split()
    most, met = 0.0, False
    for g in gradients:
        x["w"][...] = 0
        optimizer.step({"w": g})
        most = max(most, float(np.abs(x["w"]).max()) / lr)
        if state == "8bit":
            met = met or any(
                (numbers(optimizer, name) == 0).any()
                for name in second
                if name in optimizer.update.states and optimizer._slots[0].states[name].dtype == np.uint8
            )
    return most, met


@STATES
@pytest.mark.parametrize("trace", TRACES, ids=lambda t: t.__name__)
@cases()
def test_no_step_explodes(case: Case, trace: Callable[[], list[Array]], state: Any) -> None:
    step, met = longest(case, state, trace())
    exact, _ = longest(case, "float32", trace())
    assert not met
    assert 0 < step <= 1.5 * exact, (step, exact)


@pytest.mark.parametrize("trace", TRACES, ids=lambda t: t.__name__)
def test_other_formats_would_explode(trace: Callable[[], list[Array]]) -> None:
    """So the test above can fail: rounded to 255 equal parts, v is zero where m isn't."""
    optimizer = adamite.Adam({"w": np.zeros(trace()[0].shape, np.float32)})
    for g in trace():
        optimizer.step({"w": g})
    m, v = (numbers(optimizer, name).reshape(-1, 256) for name in ("m", "v"))
    linear = np.round(v / v.max(axis=1, keepdims=True) * 255)
    assert ((linear == 0) & (np.abs(m) > 1e-3 * np.abs(m).max(axis=1, keepdims=True))).any()


# ---- bfloat16 weights -----------------------------------------------------------------------------


def moved(dtype: torch.dtype, rounding: Any = None, steps: int = 300, state: Any = "float32") -> torch.Tensor:
    """How far each of 8,192 weights of one has gone."""
    p = torch.nn.Parameter(torch.ones(8192, dtype=dtype))
    options = {"rounding": rounding, "state": state} if rounding else {}
    optimizer = ours.AdamW([p], lr=1e-4, weight_decay=0, **options)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        p.grad = (torch.randn(8192, generator=generator) + 0.5).bfloat16().to(dtype)
        optimizer.step()
    rest = optimizer.state[p].get("compensation", torch.zeros(())).detach().double()
    gone: torch.Tensor = 1 - (p.detach().double() + rest)
    return gone


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
@pytest.mark.parametrize("state", ["float32", "8bit"])
def test_bfloat16_weights_move(rounding: str, state: Any) -> None:
    exact, results = moved(torch.float32), moved(torch.bfloat16, rounding, state=state)
    assert 0.01 < exact.mean() < 0.03
    assert abs(results.mean() / exact.mean() - 1) < 0.02
    if state == "float32":
        off = (results - exact).std()
        assert off < 2.0**-14 if rounding == "kahan" else off < 3 * 2.0**-8


def test_bfloat16_weights_rounded_to_the_nearest_do_not() -> None:
    assert (moved(torch.bfloat16) == 0).all()
    assert (moved(torch.bfloat16, "nearest", state="bfloat16") == 0).all()


def test_what_was_lost_is_kept_beside_the_weights() -> None:
    """The weight and its rest are the float32 weight, to the rest's own spacing."""
    exact, results = moved(torch.float32, steps=20), moved(torch.bfloat16, "kahan", steps=20)
    assert (results - exact).abs().max() < 20 * 2.0**-18


# ---- gradients that aren't finite -----------------------------------------------------------------

BAD = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
HUGE = 1e25  # finite, and its square isn't


@STATES
@pytest.mark.parametrize("policy", ["raise", "skip"])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_refused_step_changes_nothing(bad: float, policy: Any, state: Any) -> None:
    x = {"w": np.ones(5000, np.float32), "b": np.ones(3, np.float32)}
    optimizer = adamite.AdamW(x, state=state, nonfinite=policy, ema=0.9)
    rng = np.random.default_rng(0)
    good = {name: rng.normal(size=a.shape).astype(np.float32) for name, a in x.items()}
    optimizer.step(good)
    before, kept = copy.deepcopy((x, optimizer.state_dict())), optimizer.steps
    wrong = copy.deepcopy(good)
    wrong["w"][4999] = bad
    if policy == "raise":
        with pytest.raises(NonFiniteError, match="'w'"):
            optimizer.step(wrong)
    else:
        optimizer.step(wrong)
    after = optimizer.state_dict()
    assert optimizer.steps == kept and optimizer.skipped == (policy == "skip")
    for name in x:
        np.testing.assert_array_equal(x[name], before[0][name])
        for key, value in after["parameters"][name].items():
            np.testing.assert_array_equal(value, before[1]["parameters"][name][key])
    optimizer.step(good)
    assert (x["w"] != before[0]["w"]).all()


WHERE = np.array([5, 300, 301, 4000, 4999])  # of 5,000: the last block is a short one


def codes(optimizer: Any) -> dict[str, tuple[Array, Array]]:
    """The codes of the elements in their order, and the scales, as they lie."""
    results = {}
    for name, stored in optimizer.state_dict()["parameters"]["w"].items():
        if isinstance(stored, np.ndarray) and stored.dtype == np.uint8:
            blocks = stored.size // 257
            groups = stored[: 256 * blocks].reshape(-1, 16, 4)
            results[name] = groups.transpose(0, 2, 1).reshape(-1)[:5000], stored[256 * blocks :]
    return results


def stepped(case: Case, state: Any, bad: float) -> tuple[Any, list[tuple[Array, dict[str, tuple[Array, Array]]]]]:
    """Six steps, at the fourth of which some gradients are bad; weights, codes and scales after each."""
    x = {"w": np.linspace(-1, 1, 5000, dtype=np.float32)}
    optimizer = case.optimizer(x, state=state)
    rng = np.random.default_rng(6)
    history = []
    for step in range(6):
        g = rng.normal(size=5000).astype(np.float32)
        g[WHERE] = bad if step == 3 else 1e-3 * g[WHERE]  # so that none of these is the largest of its block
        optimizer.step({"w": g})
        history.append((x["w"].copy(), codes(optimizer)))
    return optimizer, history


@cases()
@pytest.mark.parametrize("bad", [*BAD.values(), HUGE], ids=[*BAD, "huge"])
def test_bad_gradients_stay_where_they_are(bad: float, case: Case) -> None:
    """The others in the block go on as they would beside gradients of zero: the same codes, scales and weights."""
    optimizer, results = stepped(case, "8bit", bad)
    if bad == HUGE and not {"v", "s"} & set(optimizer.update.states):
        pytest.skip("nothing overflows in it: it is an outlier, which counts")
    plain = stepped(case, "8bit", 0.0)[1]
    others = np.setdiff1d(np.arange(5000), WHERE)
    for step, ((x, states), (wanted, theirs)) in enumerate(zip(results, plain, strict=True)):
        np.testing.assert_array_equal(x[others], wanted[others])
        assert np.isfinite(x[others]).all() and states.keys() == theirs.keys()
        for name in theirs:
            np.testing.assert_array_equal(states[name][0][others], theirs[name][0][others], err_msg=f"{name}, {step}")
            np.testing.assert_array_equal(states[name][1], theirs[name][1], err_msg=f"scales of {name}, {step}")
    # Their own weights become what the rule makes of them: as with float32 states.
    exact = stepped(case, "float32", bad)[1][3][0][WHERE]
    np.testing.assert_array_equal(np.isnan(results[3][0][WHERE]), np.isnan(exact))
    np.testing.assert_array_equal(np.isinf(results[3][0][WHERE]), np.isinf(exact))
    if case.rule.name == "adam":
        assert np.isnan(exact).all() == (bad != HUGE)


def test_a_weight_whose_gradient_was_huge_goes_on() -> None:
    """With float32 states its mean square would be infinite for ever."""
    case = Case(RULES["adam"], {})
    for state, moves in (("8bit", True), ("float32", False)):
        results = [x[WHERE] for x, _ in stepped(case, state, HUGE)[1]]
        assert (results[3] == results[2]).all() and (results[5] != results[3]).all() == moves


def test_the_states_of_a_bad_gradient_are_zero() -> None:
    for bad in (*BAD.values(), HUGE):
        optimizer = adamite.Adam({"w": np.ones(5000, np.float32)}, state="8bit")
        g = np.random.default_rng(0).normal(size=5000).astype(np.float32)
        optimizer.step({"w": g})
        g[WHERE] = bad
        optimizer.step({"w": g})
        m, v = numbers(optimizer, "m"), numbers(optimizer, "v")
        assert (m[WHERE] == 0).all() and np.isfinite(m).all() and (m != 0).sum() > 4990
        assert (v[WHERE] <= 2.0**-30 * v.max()).all() and (v > 0).all() and v.max() < 1


# ---- the same bits again --------------------------------------------------------------------------


def trained(state: Any, seed: int = 0, steps: int = 5, count: int = 1, first: int = 0, start: Any = None) -> Any:
    """Steps of two parameters that begin alike; `start` is an optimizer's state and parameters to go on from."""
    x = {k: np.ones(100_000, np.float32) for k in ("a", "b")}
    x = start[1] if start else x
    optimizer = adamite.AdamW(x, state=state, seed=seed)
    if start:
        optimizer.load_state_dict(start[0])
    with threads.using_threads(count):
        for step in range(first, first + steps):
            g = np.random.default_rng(step).normal(size=100_000).astype(np.float32)
            optimizer.step({"a": g, "b": g.copy()})
    return optimizer, x


def same(a: Any, b: Any) -> bool:
    mine, theirs = snapshot(*a), snapshot(*b)
    return mine.keys() == theirs.keys() and all(np.array_equal(mine[k], theirs[k]) for k in mine)


@STATES
def test_a_seed_gives_the_same_bits_on_any_number_of_threads(state: Any, small_shares: None) -> None:
    first = trained(state)
    assert same(trained(state, count=3), first) and same(trained(state, count=2), first)
    other = trained(state, seed=7)
    assert same(trained(state, seed=7, count=2), other)
    results, there = snapshot(*first), snapshot(*other)
    narrow = [name for name in results if results[name].dtype in (np.uint8, np.uint16)]
    assert len(narrow) == 4 and all((results[n] != there[n]).mean() > 0.2 for n in narrow)
    assert (results["a.v"] != results["b.v"]).mean() > 0.2  # parameters draw bits of their own


@STATES
@pytest.mark.parametrize("seed", [0, 5])
def test_a_resumed_run_has_the_bits_of_an_unbroken_one(state: Any, seed: int) -> None:
    whole = trained(state, seed, steps=8)
    optimizer, x = trained(state, seed, steps=3)
    saved = copy.deepcopy((optimizer.state_dict(), x))
    assert same(trained(state, seed, steps=5, first=3, start=saved), whole)
    copied, there = copy.deepcopy((optimizer, x))
    for step in range(3, 8):
        g = np.random.default_rng(step).normal(size=100_000).astype(np.float32)
        copied.step({"a": g, "b": g})
    assert same((copied, there), whole)


@pytest.mark.parametrize("there", ["float32", "bfloat16", "8bit"])
@pytest.mark.parametrize("here", ["float32", "bfloat16", "8bit"])
def test_states_are_converted_when_loaded(here: Any, there: Any) -> None:
    optimizer, x = trained(there)
    other = adamite.AdamW(copy.deepcopy(x), state=here)
    saved = optimizer.state_dict()
    if here == there:
        other.load_state_dict(saved)
    else:
        with pytest.warns(UserWarning, match=f"AdamW: states of 2 parameters were {there} .* {here} here"):
            other.load_state_dict(saved)
    for name in ("m", "v"):
        mine, theirs = (numbers(o, name, "a").astype(float) for o in (other, optimizer))
        spread = np.abs(theirs).reshape(-1, 160).max()
        bound = {"8bit": np.abs(theirs) / 8 + spread * 2.0**-17.9, "bfloat16": np.abs(theirs) / 256, "float32": 0}[here]
        assert (np.abs(mine - theirs) <= (bound if here != there else 0)).all()
    other.step({"a": x["a"], "b": x["b"]})


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(state="int8"), "state must be one of 'float32', 'bfloat16', '8bit', got 'int8'"),
        (dict(state=None), "state must be one of"),
        (dict(seed=-1, state="8bit"), "seed must be a whole number"),
        (dict(seed=2**32, state="8bit"), "seed must be a whole number"),
        (dict(seed=True, state="8bit"), "seed must be a whole number"),
        (dict(seed=1), "seed=1 has no effect"),
    ],
)
def test_wrong_values(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adamite.Adam({"w": np.ones(5000, np.float32)}, **wrong)


@STATES
def test_float64_parameters_are_refused(state: Any) -> None:
    with pytest.raises(ValueError, match=r"state='(8bit|bfloat16)' is for parameters that are computed in float32"):
        adamite.Adam({"w": np.ones(5000, np.float32), "b": np.ones(2)}, state=state)


def test_a_state_of_another_size_is_refused() -> None:
    optimizer, x = trained("8bit")
    other = adamite.AdamW({k: v[:50_000].copy() for k, v in x.items()}, state="8bit")
    before = other.state_dict()
    with pytest.raises(adamite.StateDictError, match=r"state m: here .* in the state"):
        other.load_state_dict(optimizer.state_dict())
    assert other.state_dict()["parameters"]["a"]["m"].tobytes() == before["parameters"]["a"]["m"].tobytes()


def test_every_rule_is_here() -> None:
    assert {case.rule for case in VARIANTS} == set(RULES.values())


# ---- differences of averages -----------------------------------------------------------------------


@adamite.rule
def own_variance(g, mean, square, *, t, lr=0.1, beta=0.9):
    """Divided by the deviation of the gradient."""
    mean = beta * mean + (1 - beta) * g
    square = beta * square + (1 - beta) * g**2
    return lr * g / (adamite.sqrt(adamite.maximum(square - mean**2, 0)) + 1e-8), mean, square


@pytest.mark.parametrize("state", ["bfloat16", "8bit"])
@pytest.mark.parametrize("cls", [functools.partial(adamite.RMSprop, centered=True), adamite.optimizer(own_variance)])
def test_a_variance_from_two_averages_is_not_left_to_rounding(cls: Any, state: Any) -> None:
    rng = np.random.default_rng(0)
    gradients = [(1 + 0.3 * rng.standard_normal(5000)).astype(np.float32) for _ in range(50)]
    ends = []
    for format in ("float32", state):
        x = np.zeros(5000, np.float32)
        optimizer = cls(x, lr=0.1, state=format)
        for g in gradients:
            optimizer.step(g)
        ends.append(x)
    assert np.array_equal(ends[0], ends[1])


def test_what_is_only_subtracted_from_a_gradient_may_be_narrow() -> None:
    for cls in (adamite.AdaBelief, adamite.Adam, adamite.RMSprop, adamite.NAdam):
        assert not choice.subtracted(cls(np.zeros(3)).update)
    assert choice.subtracted(adamite.RMSprop(np.zeros(3), centered=True).update) == {"v", "g_bar"}
