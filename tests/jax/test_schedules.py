"""Schedules in JAX programs: the numbers of adamite.schedules, and what is refused early."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamite
import adamite.jax as ours
from adamite import rules
from adamite.schedules import ReduceOnPlateau, cosine, exponential, one_cycle, piecewise, warmup
from tests.jax.test_complex import run as steps
from tests.test_schedules import Case, each_case

STEPS = 130
draw = np.random.default_rng(0)
GRADIENTS = [draw.standard_normal(5).astype(np.float32) for _ in range(40)]


def values_of(schedule: Any, steps: Any) -> list[float]:
    return [schedule(int(step)) for step in steps]


@each_case
def test_a_traced_step_gives_the_schedules_own_numbers(case: Case) -> None:
    schedule, steps = case.make(), jnp.arange(STEPS)
    expected = np.array(values_of(schedule, steps))
    every = jax.jit(jax.vmap(schedule))
    narrow = every(steps)
    assert narrow.dtype == np.float32  # computed in float64, and rounded once
    np.testing.assert_allclose(narrow, expected.astype(np.float32), rtol=2e-7, atol=1e-12)
    with jax.enable_x64(True):
        wide = every(steps)
        assert wide.dtype == np.float64
        np.testing.assert_allclose(wide, expected, rtol=0, atol=2e-14 * np.abs(expected).max())
    assert schedule(jnp.int32(12)) == schedule(12) and type(schedule(steps[3])) is float


def numpys(schedule: Any, **options: Any) -> Any:
    x = np.ones(5, np.float32)
    optimizer = adamite.AdamW(x, lr=schedule, **options)
    for g in GRADIENTS:
        optimizer.step(g.copy())
    return x


def run(tx: Any, way: str = "step", jitted: bool = True) -> Any:
    return steps(tx, jnp.ones(5), GRADIENTS, way, jitted)[0]


NESTED: list[Any] = [
    warmup(cosine(0.1, steps=20), steps=10),
    warmup(warmup(piecewise([4], [0.3, 0.1]), steps=3), steps=0, start=0.2),
    one_cycle(0.1, steps=30),
]


@pytest.mark.parametrize("schedule", NESTED, ids=str)
@pytest.mark.parametrize("way", ["step", "update"])
@pytest.mark.parametrize("jitted", [True, False])
def test_numpys_bits(schedule: Any, way: str, jitted: bool) -> None:
    expected = numpys(schedule, weight_decay=schedule, beta1=cosine(0.9, steps=30, end=0.8))
    options: Any = {"weight_decay": schedule, "b1": cosine(0.9, steps=30, end=0.8)}
    assert np.array_equal(run(ours.adamw(schedule, **options), way, jitted), expected)
    options["beta1"] = options.pop("b1")
    assert np.array_equal(run(ours.optimizer(rules.adam)(lr=schedule, **options), way, jitted), expected)


THEIRS = [
    optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 30),
    optax.join_schedules([optax.constant_schedule(0.1), optax.linear_schedule(0.1, 0, 20)], [10]),
    optax.piecewise_constant_schedule(0.1, {5: 0.5}),
    lambda count: jnp.array([0.1, 0.2, 0.3])[count % 3],
]


@pytest.mark.parametrize("schedule", THEIRS, ids=["warmup", "join", "piecewise", "table"])
def test_optaxs_schedules_in_numpy_and_in_ours(schedule: Any) -> None:
    np.testing.assert_allclose(run(ours.adamw(schedule, weight_decay=0.01)), numpys(schedule), rtol=1e-6)
    within = warmup(schedule, steps=7)
    np.testing.assert_allclose(run(ours.adamw(within, weight_decay=0.01)), numpys(within), rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        optax.adam,
        optax.inject_hyperparams(optax.adam),
        optax.inject_hyperparams(ours.adam),
        lambda rate: ours.adam(lambda count: 0.5 * rate(count) + 0.5 * rate(count)),
        lambda rate: optax.chain(ours.adam(1.0), optax.scale_by_schedule(rate)),
    ],
    ids=["optax", "injected into optax's", "injected into ours", "in a function", "chained"],
)
def test_ours_in_optax(make: Any) -> None:
    schedule = warmup(cosine(0.1, steps=20), steps=10)
    assert np.allclose(run(make(schedule), "update"), run(ours.adam(schedule)), rtol=1e-5)


def test_a_program_is_compiled_once() -> None:
    tx = ours.adam(NESTED[0])
    step: Any = jax.jit(tx.step)
    params, state = jnp.ones(5), tx.init(jnp.ones(5))
    for g in GRADIENTS[:4]:
        params, state = step(params, state, g)
    assert step._cache_size() == 1


JOINED = [
    lambda cosine: optax.join_schedules([optax.constant_schedule(0.1), cosine(0.1, 10)], [5]),
    lambda cosine: optax.join_schedules([cosine(0.3, 4), cosine(0.2, 3), cosine(0.1, 2)], [4, 7]),
]


@pytest.mark.parametrize("make", JOINED)
def test_ours_joined_by_optax(make: Any) -> None:
    """It evaluates each part at all steps, also before its turn."""
    mine, theirs = make(cosine), make(optax.cosine_decay_schedule)
    steps = range(12)
    expected = [float(theirs(step)) for step in steps]
    for each in (mine, lambda step: mine(jnp.int32(step)), jax.jit(mine)):
        np.testing.assert_allclose([float(each(step)) for step in steps], expected, rtol=1e-6, atol=1e-8)
    for jitted in (True, False):
        np.testing.assert_allclose(run(ours.adam(mine), "update", jitted), run(optax.adam(theirs), "update"), rtol=1e-5)


@each_case
def test_arrays_of_steps(case: Case) -> None:
    """As under vmap; before step 0 the value is that of step 0."""
    schedule, steps = case.make(), jnp.arange(-3, 20)
    found = schedule(steps)
    assert np.array_equal(found, jax.vmap(schedule)(steps)) and found.dtype == np.float32
    np.testing.assert_allclose(found, values_of(schedule, steps), rtol=2e-7, atol=1e-12)
    assert (found[:3] == found[3]).all()


PLATEAU, PARAMS = ReduceOnPlateau(0.1), jnp.ones(2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ours.adam(PLATEAU),
            r"adam: learning_rate can't be ReduceOnPlateau\(0.1\): it follows a metric, .* chain",
        ),
        (lambda: ours.sgd(warmup(warmup(PLATEAU, 5), 3)), r"learning_rate can't be warmup\(warmup\(Red"),
        (lambda: ours.adamw(0.1, weight_decay=PLATEAU), "weight_decay can't be Reduce"),
        (lambda: ours.optimizer(rules.adam)(beta1=PLATEAU), "beta1 can't be Reduce"),
        (
            lambda: ours.adam(cosine),
            r"adam: learning_rate must be a number, or a function that is called with the step; .*missing",
        ),
        (lambda: ours.adam(lambda: 0.1), "learning_rate must be a number, or a function .* too many positional"),
        (
            lambda: ours.adam(cosine(-0.1, 5)),
            r"adam, at step 0 of its schedule: learning_rate must be .*\[0, inf\), got -0.1",
        ),
        (lambda: ours.adam(0.1, b1=cosine(1.0, 5)), r"b1 must be a number in \[0, 1\), got 1.0"),
        (
            lambda: ours.sgd(0.1, momentum=cosine(0.9, 5)).init(PARAMS),
            "momentum can't be a schedule, since the state counts",
        ),
        (lambda: ours.adagrad(exponential(0.1, 0.9, 5), eps=cosine(0.9, 5)).init(PARAMS), "eps can't be a schedule"),
    ],
)
def test_refused_when_it_is_given(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_plateau_is_not_frozen_in_a_program() -> None:
    """Also where adamite.jax doesn't see it."""
    hidden = {"rate": PLATEAU}
    for tx in (optax.sgd(PLATEAU), ours.sgd(lambda count: hidden["rate"](count))):
        with pytest.raises(TypeError, match=r"ReduceOnPlateau: step must be a number, got .* would never change"):
            jax.jit(tx.update)(PARAMS, optax.sgd(lambda count: 0.1).init(PARAMS))


def test_a_state_that_counts_no_steps() -> None:
    """As from a checkpoint without a schedule, whose count would stay at 0."""
    tx = ours.sgd(cosine(0.1, steps=5))
    with pytest.raises(ValueError, match="learning_rate can't be a schedule, since the state counts no steps"):
        tx.update(PARAMS, optax.sgd(0.1).init(PARAMS))
