"""The schedules against loops that know only the step before, and against torch's schedulers."""

import cmath
import copy
import json
import math
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from inspect import signature
from itertools import islice, pairwise
from typing import Any, NamedTuple

import pytest

from adamite import schedules
from adamite.schedules import (
    ReduceOnPlateau,
    cosine,
    cosine_restarts,
    exponential,
    one_cycle,
    piecewise,
    polynomial,
    step_decay,
    warmup,
)

NAMES: dict[str, Any] = {name: getattr(schedules, name) for name in schedules.__all__}


# The oracles: each yields the values of steps 0, 1, 2, ... one from the one before ----------------


def multiplied(value: float, factor: float, every: int) -> Iterator[float]:
    while True:
        for _ in range(every):
            yield value
        value *= factor


def held(values: list[tuple[float, int]], last: float) -> Iterator[float]:
    for value, times in values:
        yield from [value] * times
    while True:
        yield last


def line(first: float, last: float, steps: int) -> Iterator[float]:
    """`steps` values, without the last one, by adding exact increments."""
    value, increment = Fraction(first), (Fraction(last) - Fraction(first)) / steps
    for _ in range(steps):
        yield float(value)
        value += increment


def turning(first: float, last: float, steps: float, offset: float = 0.0) -> Iterator[float]:
    """Half a cosine of `steps` steps entered at `offset`, turning a complex number; then last."""
    turn, place = cmath.exp(1j * math.pi / steps), cmath.exp(1j * math.pi * offset / steps)
    done = offset
    while done < steps - 1e-9:
        yield last + (first - last) * (1 + place.real) / 2
        place *= turn
        done += 1
    yield from held([], last)


def restarted(value: float, end: float, steps: int, growth: str) -> Iterator[float]:
    """SGDR by its bookkeeping: T_cur counts up and goes back by T_i, in exact fractions."""
    current, length = Fraction(0), Fraction(steps)
    while True:
        yield end + (value - end) * (1 + math.cos(math.pi * float(current / length))) / 2
        current += 1
        while current >= length:
            current -= length
            length *= Fraction(growth)


def square_line(first: float, last: float, steps: int) -> Iterator[float]:
    for left in range(steps, 0, -1):
        yield last + (first - last) * (left * left) / (steps * steps)
    yield from held([], last)


def t5(value: float, steps: int) -> Iterator[float]:
    done = 0
    while True:
        yield value * steps**0.5 * (1 / max(done, steps)) ** 0.5
        done += 1


def chain(*parts: Iterator[float]) -> Iterator[float]:
    for part in parts:
        yield from part


def rise_and_fall(value: float, first: float, last: float, steps: int, top: float) -> Iterator[float]:
    """One cycle whose peak, at the step `top`, need not be whole."""
    up = islice(turning(first, value, top), math.ceil(top))
    return chain(up, turning(value, last, steps - 1 - top, offset=math.ceil(top) - top))


# The table ---------------------------------------------------------------------------------------


class Case(NamedTuple):
    text: str  # as it prints
    ends: dict[int, float]  # exact values
    shape: str  # "falls", "rises", "flat" or "" where neither
    oracle: Callable[[], Iterator[float]]

    def make(self) -> schedules.Schedule:
        made: schedules.Schedule = eval(self.text, dict(NAMES))
        return made


TABLE = [
    Case("constant(0.3)", {0: 0.3, 10**9: 0.3}, "flat", lambda: held([], 0.3)),
    Case(
        "step_decay(0.5, every=30)",
        {0: 0.5, 29: 0.5, 30: 0.05},
        "falls",
        lambda: multiplied(0.5, 0.1, 30),
    ),
    Case(
        "step_decay(0.5, every=7, factor=2.0)",
        {0: 0.5, 6: 0.5, 7: 1.0, 14: 2.0},
        "rises",
        lambda: multiplied(0.5, 2.0, 7),
    ),
    Case(
        "piecewise((10, 25), values=(0.3, 0.1, 0.2))",
        {0: 0.3, 9: 0.3, 10: 0.1, 24: 0.1, 25: 0.2, 10**9: 0.2},
        "",
        lambda: held([(0.3, 10), (0.1, 15)], 0.2),
    ),
    Case("piecewise((), values=(0.3,))", {0: 0.3, 5: 0.3}, "flat", lambda: held([], 0.3)),
    Case(
        "exponential(0.8, rate=0.25, steps=10)",
        {0: 0.8, 5: 0.4, 10: 0.2},
        "falls",
        lambda: multiplied(0.8, 0.25**0.1, 1),
    ),
    Case(
        "exponential(0.8, rate=0.25, steps=10, staircase=True)",
        {0: 0.8, 9: 0.8, 10: 0.2},
        "falls",
        lambda: multiplied(0.8, 0.25, 10),
    ),
    Case(
        "exponential(1e-06, rate=10.0, steps=20)",
        {0: 1e-6},
        "rises",
        lambda: multiplied(1e-6, 10**0.05, 1),
    ),
    Case(
        "polynomial(0.3, end=0.1, steps=40)",
        {0: 0.3, 40: 0.1, 41: 0.1, 10**9: 0.1},
        "falls",
        lambda: chain(line(0.3, 0.1, 40), held([], 0.1)),
    ),
    Case(
        "polynomial(0.1, end=0.3, steps=40, power=2.0)",
        {0: 0.1, 40: 0.3, 10**9: 0.3},
        "rises",
        lambda: square_line(0.1, 0.3, 40),
    ),
    Case(
        "inverse_sqrt(0.3, steps=16)",
        {0: 0.3, 16: 0.3, 64: 0.15},
        "falls",
        lambda: t5(0.3, 16),
    ),
    Case(
        "cosine(0.3, steps=100)",
        {0: 0.3, 50: 0.15, 100: 0.0, 101: 0.0, 10**9: 0.0},
        "falls",
        lambda: turning(0.3, 0.0, 100),
    ),
    Case(
        "cosine(0.3, steps=7, end=0.1)",
        {0: 0.3, 7: 0.1, 10**9: 0.1},
        "falls",
        lambda: turning(0.3, 0.1, 7),
    ),
    Case("cosine(0.3, steps=1)", {0: 0.3, 1: 0.0}, "falls", lambda: turning(0.3, 0.0, 1)),
    Case(
        "cosine_restarts(0.3, steps=10, end=0.1)",
        {0: 0.3, 10: 0.3, 20: 0.3, 10**9: 0.3},
        "",
        lambda: restarted(0.3, 0.1, 10, "1"),
    ),
    *(
        Case(
            f"cosine_restarts(0.3, steps={steps}, end=0.1, growth={growth})",
            {0: 0.3, steps: 0.3},
            "",
            lambda steps=steps, growth=growth: restarted(0.3, 0.1, steps, growth),  # type: ignore[misc]
        )
        for steps in (1, 3, 10)
        for growth in ("1.01", "1.1", "1.25", "1.37", "1.5", "2.0", "3.0", "10.0")
    ),
    Case(
        "warmup(0.3, steps=10)",
        {0: 0.0, 10: 0.3, 10**9: 0.3},
        "rises",
        lambda: chain(line(0.0, 0.3, 10), held([], 0.3)),
    ),
    Case(
        "warmup(cosine(0.3, steps=50), steps=10, start=0.1)",
        {0: 0.1, 10: 0.3, 35: 0.15, 60: 0.0},
        "",
        lambda: chain(line(0.1, 0.3, 10), turning(0.3, 0.0, 50)),
    ),
    Case("warmup(0.3, steps=0)", {0: 0.3, 1: 0.3}, "flat", lambda: held([], 0.3)),
    Case(
        "warmup(warmup(0.3, steps=5, start=0.2), steps=5)",
        {0: 0.0, 5: 0.2, 10: 0.3},
        "rises",
        lambda: chain(line(0.0, 0.2, 5), line(0.2, 0.3, 5), held([], 0.3)),
    ),
    Case(
        "warmup_stable_decay(0.3, warmup=10, stable=20, decay=30, end=0.1)",
        {0: 0.0, 10: 0.3, 30: 0.3, 60: 0.1, 10**9: 0.1},
        "",
        lambda: chain(line(0, 0.3, 10), iter([0.3] * 20), line(0.3, 0.1, 30), held([], 0.1)),
    ),
    Case(
        "warmup_stable_decay(0.3, warmup=0, stable=0, decay=30)",
        {0: 0.3, 30: 0.0, 10**9: 0.0},
        "falls",
        lambda: chain(line(0.3, 0.0, 30), held([], 0.0)),
    ),
    Case(
        "one_cycle(0.5, steps=100)",
        {0: 0.02, 29: 0.5, 99: 0.02 / 1e4, 100: 0.02 / 1e4, 10**9: 0.02 / 1e4},
        "",
        lambda: rise_and_fall(0.5, 0.02, 2e-6, 100, 29),
    ),
    Case(
        "one_cycle(0.5, steps=33, pct_start=0.25, div_factor=5.0, final_div_factor=10.0)",
        {0: 0.1, 32: 0.01, 33: 0.01},
        "",
        lambda: rise_and_fall(0.5, 0.1, 0.01, 33, 7.25),
    ),
]
each_case = pytest.mark.parametrize("case", TABLE, ids=lambda case: case.text)
RUN = 400


def close(value: float, expected: float, scale: float) -> bool:
    return abs(value - expected) <= 1e-12 * scale


# Properties of every schedule --------------------------------------------------------------------


def test_the_table_holds_every_maker() -> None:
    makers = set(schedules.__all__) - {"Schedule", "ReduceOnPlateau"}
    assert makers == {case.text.split("(")[0] for case in TABLE}


@each_case
def test_agrees_with_the_loop(case: Case) -> None:
    expected = list(islice(case.oracle(), RUN))
    schedule = case.make()
    scale = max(map(abs, expected))
    for step, value in enumerate(expected):
        assert close(schedule(step), value, scale), (step, schedule(step), value)


@each_case
def test_ends_are_exact(case: Case) -> None:
    schedule = case.make()
    for step, value in case.ends.items():
        assert schedule(step) == pytest.approx(value, rel=2e-15, abs=0), step


@each_case
def test_shape(case: Case) -> None:
    schedule = case.make()
    values = [schedule(step / 2) for step in range(RUN)]
    rises = [after - before for before, after in pairwise(values)]
    noise = 1e-15 * max(values)
    if case.shape in ("falls", "flat"):
        assert max(rises) <= noise
    if case.shape in ("rises", "flat"):
        assert min(rises) >= -noise
    if case.shape == "":
        assert max(rises) > noise and min(rises) < -noise


@each_case
def test_resumed_at_any_step_gives_the_same_values(case: Case) -> None:
    schedule = case.make()
    straight = [schedule(step) for step in range(RUN)]
    steps = list(range(RUN))
    random.Random(0).shuffle(steps)
    assert all(schedule(step) == straight[step] for step in steps)
    resumed = case.make()
    assert [resumed(step) for step in range(RUN // 2, RUN)] == straight[RUN // 2 :]


@each_case
def test_prints_as_the_call_that_made_it(case: Case) -> None:
    assert repr(case.make()) == case.text


@each_case
def test_copies_are_equal(case: Case) -> None:
    schedule = case.make()
    for twin in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule), case.make()):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert [twin(step) for step in range(50)] == [schedule(step) for step in range(50)]


def test_unequal_where_anything_differs() -> None:
    made = [case.make() for case in TABLE]
    for i, one in enumerate(made):
        assert [i] == [j for j, other in enumerate(made) if one == other]
    assert cosine(0.1, steps=10) != warmup(0.1, steps=10)
    assert cosine(0.1, steps=10) != 0.1
    assert cosine(1, steps=10) == cosine(value=1.0, steps=1e1, end=0)  # type: ignore[arg-type]


@each_case
def test_takes_any_real_step_and_gives_a_float(case: Case) -> None:
    numpy = pytest.importorskip("numpy")
    schedule = case.make()
    steps: list[Any] = [12.0, Fraction(12), numpy.int64(12), numpy.float32(12)]
    for step in steps:
        assert schedule(step) == schedule(12)
    assert type(schedule(numpy.float64(3.5))) is type(schedule(3)) is float
    assert schedule(-1) == schedule(-0.5) == schedule(-(10**6)) == schedule(0)  # as optax's join_schedules asks


@each_case
@pytest.mark.parametrize(
    ("step", "error"),
    [
        *((step, ValueError) for step in (math.nan, math.inf, -math.inf)),
        *((step, TypeError) for step in (True, "3", None, [3])),
    ],
)
def test_refuses_other_steps(case: Case, step: Any, error: type[Exception]) -> None:
    name = case.text.split("(")[0]
    with pytest.raises(error, match=rf"^{name}: step must be a finite number .*, got .*;"):
        case.make()(step)


def test_a_call_without_a_step_says_what_keras_takes() -> None:
    call: Any = cosine(0.1, steps=9)
    with pytest.raises(
        TypeError, match=r"^cosine: step must be .*take adamite.keras.Schedule\(cosine\(0.1, steps=9\)\)$"
    ):
        call()


WRONG: list[tuple[Any, type[Exception]]] = [
    *((wrong, TypeError) for wrong in (None, "0.1", 1j, True)),
    *((wrong, ValueError) for wrong in (math.nan, math.inf, -math.inf)),
]


@each_case
def test_refuses_a_wrong_argument_naming_it(case: Case) -> None:
    schedule = case.make()
    maker, arguments = schedule.__reduce__()
    for place, name in enumerate(signature(maker).parameters):
        for wrong, error in WRONG:
            if name == "staircase":
                wrong, error = (1, TypeError) if wrong is True else (wrong, TypeError)
            if name in ("boundaries", "values") and wrong is not None:
                wrong = [1, wrong]
            given = list(arguments)
            given[place] = wrong
            with pytest.raises(error) as caught:
                maker(*given)
            said = str(caught.value)
            assert said.startswith(f"{maker.__name__}: {name} must be "), said
            assert f", got {wrong!r}; " in said, said


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (
            "cosine(0.1, steps=0)",
            ValueError,
            "cosine: steps must be a whole number of at least 1, got 0",
        ),
        (
            "cosine(0.1, steps=2.5)",
            ValueError,
            "steps must be a whole number of at least 1, got 2.5",
        ),
        ("polynomial(0.1, 0.0, steps=-5)", ValueError, "steps must be a whole number"),
        ("polynomial(0.1, 0.0, 10, power=0)", ValueError, "power must be a finite number above 0"),
        ("step_decay(0.1, every=0)", ValueError, "every must be a whole number of at least 1"),
        (
            "step_decay(0.1, every=5, factor=0)",
            ValueError,
            "factor must be a finite number above 0",
        ),
        (
            "exponential(0.1, rate=-0.5, steps=5)",
            ValueError,
            "rate must be a finite number above 0",
        ),
        ("exponential(0.1, 0.5, 5, staircase=1)", TypeError, "staircase must be True or False"),
        ("exponential(0.1, 10**400, 5)", ValueError, "rate must be a finite number above 0"),
        (
            "cosine_restarts(0.1, 5, growth=0.5)",
            ValueError,
            "growth must be a finite number of at least 1",
        ),
        ("piecewise([5, 5], [1, 2, 3])", ValueError, "boundaries must be an increasing list"),
        ("piecewise([0], [1, 2])", ValueError, "boundaries must be an increasing list"),
        ("piecewise([1.5], [1, 2])", ValueError, "boundaries must be an increasing list"),
        ("piecewise('12', [1, 2, 3])", TypeError, "boundaries must be an increasing list"),
        (
            "piecewise([5], [1, 2, 3])",
            ValueError,
            "values must be one more than the 1 boundaries, got 3",
        ),
        ("piecewise([5], [1])", ValueError, "values must be one more than the 1 boundaries, got 1"),
        ("warmup(0.1, steps=-1)", ValueError, "steps must be a whole number of at least 0"),
        (
            "warmup(cosine, steps=5)",
            TypeError,
            "warmup: schedule must be a finite number or a schedule",
        ),
        (
            "warmup(lambda step: 'a', 5)",
            TypeError,
            "schedule must be a finite number or a schedule",
        ),
        (
            "warmup(lambda step: 1e999, 5)",
            ValueError,
            "schedule must be a finite number or a schedule",
        ),
        (
            "warmup_stable_decay(1, -1, 0, 1)",
            ValueError,
            "warmup must be a whole number of at least 0",
        ),
        (
            "warmup_stable_decay(1, 0, -1, 1)",
            ValueError,
            "stable must be a whole number of at least 0",
        ),
        (
            "warmup_stable_decay(1, 0, 0, 0)",
            ValueError,
            "decay must be a whole number of at least 1",
        ),
        (
            "one_cycle(0.1, 10, pct_start=1)",
            ValueError,
            "pct_start must be a number of at least 0 and",
        ),
        (
            "one_cycle(0.1, 10, div_factor=0)",
            ValueError,
            "div_factor must be a finite number above 0",
        ),
        (
            "cosine(0.1)",
            TypeError,
            "cosine: missing a required argument: 'steps'; call it as cosine(value, s",
        ),
        (
            "cosine(0.1, 5, alpha=0)",
            TypeError,
            "cosine: got an unexpected keyword argument 'alpha'; call",
        ),
        (
            "ReduceOnPlateau(0.1, factor=1)",
            ValueError,
            "factor must be a number above 0 and below 1",
        ),
        (
            "ReduceOnPlateau(0.1, patience=-1)",
            ValueError,
            "patience must be a whole number of at least 0",
        ),
        ("ReduceOnPlateau(0.1, mode='low')", ValueError, "mode must be 'min' or 'max', got 'low'"),
        ("ReduceOnPlateau(0.1, mode=None)", TypeError, "mode must be 'min' or 'max', got None"),
        (
            "ReduceOnPlateau(0.1, threshold=1)",
            ValueError,
            "threshold must be a number of at least 0 and",
        ),
        (
            "ReduceOnPlateau(0.1, cooldown=0.5)",
            ValueError,
            "cooldown must be a whole number of at least 0",
        ),
        (
            "ReduceOnPlateau(0.1, minimum=0.2)",
            ValueError,
            "value must be at least minimum=0.2, got 0.1",
        ),
        (
            "ReduceOnPlateau(True)",
            TypeError,
            "ReduceOnPlateau: value must be a finite number, got True",
        ),
    ],
)
def test_refuses_with_a_clear_error(text: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        eval(text, dict(NAMES))
    assert said in str(caught.value)
    assert "; " in str(caught.value)  # what to do


def test_a_value_that_leaves_the_floats_is_an_error_not_an_infinity() -> None:
    for schedule in (exponential(1.0, rate=10, steps=1), step_decay(10.0, every=1, factor=10.0)):
        assert schedule(300) > 1e299
        for step in (308, 10**6):
            with pytest.raises(OverflowError, match="no finite value at step") as caught:
                print(schedule(step), schedule(step + 1))
            assert repr(schedule) in str(caught.value)


# Single schedules --------------------------------------------------------------------------------


def test_restarts_are_exact_for_a_long_time() -> None:
    for growth in (2, 3, 7):
        schedule = cosine_restarts(0.3, steps=5, end=0.1, growth=growth)
        restart, length = 0, 5
        while length < 10**8:
            restart, length = restart + length, length * growth
            assert schedule(restart) == 0.3
            assert 0.1 < schedule(restart - 1) < 0.12


def test_warmup_goes_before_any_schedule() -> None:
    for case in TABLE:
        inner = case.make()
        schedule = warmup(inner, steps=8, start=0.05)
        assert schedule(0) == 0.05
        assert schedule(4) == pytest.approx((0.05 + inner(0)) / 2, rel=1e-15)
        assert [schedule(8 + step) for step in range(50)] == [inner(step) for step in range(50)]
    assert warmup(lambda step: 1.0 / (1 + step), steps=4)(7) == 0.25


def test_warmup_goes_before_a_plateau() -> None:
    plateau = ReduceOnPlateau(0.4, factor=0.5, patience=0)
    schedule = warmup(plateau, steps=10)
    assert schedule(5) == 0.2
    plateau.report(1.0)
    assert plateau.report(1.0)
    assert (schedule(5), schedule(10)) == (0.1, 0.2)
    assert pickle.loads(pickle.dumps(schedule)) == schedule


# ReduceOnPlateau ---------------------------------------------------------------------------------


def reductions(metrics: list[float], patience: int, cooldown: int, threshold: float, mode: str) -> list[int]:
    """The reports (from 1) that reduce: more than `patience` after the last that was not bad."""
    found: list[int] = []
    best, fine = math.nan, 0  # the best metric, the last report that was good or cooling
    for report, metric in enumerate(metrics, start=1):
        gain = best - metric if mode == "min" else metric - best
        first = math.isnan(best) and abs(metric) < math.inf
        if first or gain > threshold * best:
            best, fine = metric, report
        if found and report <= found[-1] + cooldown:
            fine = report
        if report - max([fine, *found[-1:]]) > patience:
            found.append(report)
    return found


def random_metrics(seed: int) -> list[float]:
    rng = random.Random(seed)
    metrics = [3.0 * 0.99**step + rng.gauss(0, 0.3) for step in range(200)]
    return [math.nan if rng.random() < 0.05 else metric for metric in metrics]


PLATEAUS = [
    (seed, mode, patience, cooldown, threshold)
    for seed in range(5)
    for mode in ("min", "max")
    for patience, cooldown in ((0, 0), (1, 3), (3, 0), (10, 2))
    for threshold in (0.0, 1e-4, 0.1)
]


@pytest.mark.parametrize(("seed", "mode", "patience", "cooldown", "threshold"), PLATEAUS)
def test_plateau_agrees_with_looking_back(seed: int, mode: Any, patience: int, cooldown: int, threshold: float) -> None:
    metrics = random_metrics(seed)
    plateau = ReduceOnPlateau(1.0, 0.5, patience, mode, threshold, cooldown)
    found = [report for report, metric in enumerate(metrics, start=1) if plateau.report(metric)]
    assert found == reductions(metrics, patience, cooldown, threshold, mode)
    assert plateau(0) == plateau(10**6) == 0.5 ** len(found)
    assert found


def test_plateau_tolerates_patience_bad_reports_and_drops_at_the_next() -> None:
    plateau = ReduceOnPlateau(0.1, patience=10)
    assert [n for n in range(1, 40) if plateau.report(1.0)] == [12, 23, 34]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_takes_the_same_metric_again_as_bad(mode: Any) -> None:
    plateau = ReduceOnPlateau(0.1, patience=1, mode=mode, threshold=0.0)
    assert [n for n in range(1, 8) if plateau.report(2.0)] == [3, 5, 7]


def test_plateau_counts_nan_as_bad() -> None:
    plateau = ReduceOnPlateau(0.1, patience=2)
    assert [plateau.report(math.nan) for _ in range(3)] == [False, False, True]
    assert plateau.best == math.inf


def test_plateau_stops_at_the_minimum_and_says_so() -> None:
    plateau = ReduceOnPlateau(1.0, factor=0.5, patience=0, minimum=0.3)
    assert [plateau.report(1.0) for _ in range(5)] == [False, True, True, False, False]
    assert plateau(0) == 0.3


def test_plateau_goes_on_from_a_saved_state() -> None:
    metrics = random_metrics(1)
    straight = ReduceOnPlateau(1.0, factor=0.5, patience=2, cooldown=2)
    expected = [(straight.report(metric), straight(0)) for metric in metrics]
    for stop in (0, 1, 7, 50, 120):
        first = ReduceOnPlateau(1.0, factor=0.5, patience=2, cooldown=2)
        for metric in metrics[:stop]:
            first.report(metric)
        resumed = ReduceOnPlateau(1.0, factor=0.5, patience=2, cooldown=2)
        resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
        for second in (resumed, pickle.loads(pickle.dumps(first)), copy.deepcopy(first)):
            assert second == first
            assert [(second.report(m), second(0)) for m in metrics[stop:]] == expected[stop:]
            assert stop > 100 or second != first


def test_plateau_refuses_another_state_and_stays_as_it_was() -> None:
    plateau = ReduceOnPlateau(0.1)
    plateau.report(1.0)
    before = plateau.state_dict()
    wrong: list[tuple[Any, type[Exception], str]] = [
        (None, TypeError, "state must be a dict, got None"),
        ({}, ValueError, "state must have the keys value, best, bad_reports, cooldown_left"),
        ({**before, "more": 1}, ValueError, "state must have the keys"),
        ({**before, "value": math.nan}, ValueError, r"state\['value'\] must be a finite number"),
        ({**before, "best": "1"}, TypeError, r"state\['best'\] must be a number"),
        (
            {**before, "value": 0.05, "bad_reports": -1},
            ValueError,
            r"state\['bad_reports'\] must be",
        ),
    ]
    for state, error, said in wrong:
        with pytest.raises(error, match=said):
            plateau.load_state_dict(state)
        assert plateau.state_dict() == before


def test_plateau_prints_and_compares() -> None:
    text = "ReduceOnPlateau(0.1, patience=5, mode='max')"
    plateau = eval(text, dict(NAMES))
    assert repr(plateau) == text
    assert plateau == eval(text, dict(NAMES)) != ReduceOnPlateau(0.1, patience=5)
    plateau.report(1.0)
    assert plateau != eval(text, dict(NAMES))


@pytest.mark.parametrize("metric", [True, "0.1", None, [1.0], 1j])
def test_plateau_refuses_what_is_no_metric(metric: Any) -> None:
    plateau = ReduceOnPlateau(0.1)
    with pytest.raises(TypeError, match="metric must be a number, got "):
        plateau.report(metric)
    assert plateau == ReduceOnPlateau(0.1)


# torch -------------------------------------------------------------------------------------------


TORCH: list[tuple[Any, float, Callable[[Any, Any], Any], int]] = [
    (step_decay(0.5, every=7, factor=0.3), 0.5, lambda s, o: s.StepLR(o, 7, 0.3), 200),
    (exponential(0.5, rate=0.97, steps=1), 0.5, lambda s, o: s.ExponentialLR(o, 0.97), 200),
    (
        piecewise([10, 30], [0.5, 0.05, 0.005]),
        0.5,
        lambda s, o: s.MultiStepLR(o, [10, 30], 0.1),
        200,
    ),
    (polynomial(0.5, 0.0, 90, 2.0), 0.5, lambda s, o: s.PolynomialLR(o, 90, 2.0), 200),
    (cosine(0.5, 90, end=0.1), 0.5, lambda s, o: s.CosineAnnealingLR(o, 90, 0.1), 91),
    (
        cosine_restarts(0.5, 10, end=0.1, growth=3),
        0.5,
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 10, 3, 0.1),
        2000,
    ),
    (warmup(0.5, 20, start=0.05), 0.5, lambda s, o: s.LinearLR(o, 0.1, total_iters=20), 60),
    (
        warmup(cosine(0.5, 90), 20, start=0.05),
        0.5,
        lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.1, total_iters=20), s.CosineAnnealingLR(o, 90)], [20]),
        111,
    ),
    *(
        (one_cycle(0.5, steps), 0.5, lambda s, o, n=steps: s.OneCycleLR(o, 0.5, n), steps)
        for steps in (1, 2, 3, 4, 7, 100, 1001)
    ),
    (
        one_cycle(0.5, 123, pct_start=0.41, div_factor=7, final_div_factor=3),
        0.5,
        lambda s, o: s.OneCycleLR(o, 0.5, 123, pct_start=0.41, div_factor=7, final_div_factor=3, cycle_momentum=False),
        123,
    ),
    (
        one_cycle(0.5, 40, pct_start=0),
        0.5,
        lambda s, o: s.OneCycleLR(o, 0.5, 40, pct_start=0.0),
        40,
    ),
]


@pytest.mark.parametrize(
    ("schedule", "lr", "scheduler", "steps"),
    TORCH,
    ids=[f"{number}: {case[0]!r:.60}" for number, case in enumerate(TORCH)],
)
def test_agrees_with_torch(
    schedule: schedules.Schedule, lr: float, scheduler: Callable[[Any, Any], Any], steps: int
) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of steps without gradients
        theirs = scheduler(torch.optim.lr_scheduler, optimizer)
        for step in range(steps):
            expected = optimizer.param_groups[0]["lr"]
            assert close(schedule(step), expected, lr), (step, schedule(step), expected)
            optimizer.step()
            if step + 1 < steps:
                theirs.step()


def test_one_cycle_gives_torchs_momentum_too() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 77)
    momentum = one_cycle(0.85, 77, div_factor=0.85 / 0.95, final_div_factor=1)
    for step in range(77):
        assert close(momentum(step), optimizer.param_groups[0]["momentum"], 1.0), step
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(("seed", "mode", "patience", "cooldown", "threshold"), PLATEAUS)
def test_plateau_agrees_with_torch(seed: int, mode: Any, patience: int, cooldown: int, threshold: float) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, 0.5, patience, threshold, cooldown=cooldown, min_lr=1e-9, eps=0.0
    )
    plateau = ReduceOnPlateau(1.0, 0.5, patience, mode, threshold, cooldown, minimum=1e-9)
    for metric in random_metrics(seed):
        before = optimizer.param_groups[0]["lr"]
        theirs.step(metric)
        after = optimizer.param_groups[0]["lr"]
        assert plateau.report(metric) == (after < before)
        assert plateau(0) == after
