"""The NumPy front-end: layouts, settings, options and checkpoints, as a user meets them."""

import copy
import functools
import math
import pickle
import pydoc
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

import adamite
from adamite import schedules
from adamite.frontend.catalogue import CONVENTIONS
from adamite.frontend.spelling import FRAMEWORKS
from adamite.lab import oracles
from adamite.numpy import OPTIMIZERS
from adamite.rules import RULES
from adamite.schedules.plateau import stateful
from tests.support import process_environment


@adamite.rule
def signum(g, m, *, t, lr=1e-2, beta=0.9):
    """A user's own rule, defined at module level."""
    m = beta * m + (1 - beta) * g
    return lr * adamite.sign(m), m


@adamite.rule
def drift(x, g, z="x", n: adamite.Scalar = 1.0, *, t, lr=0.1, half: bool = False, power=0.5):
    """Reads the parameter, starts a state at it and keeps a Scalar."""
    n = n + t**power
    z = z - lr * g / n
    return (x - z) * (0.5 if half else 1.0), z, n


def noise(shape, seed=0, dtype=np.float64):
    return np.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def bits(*arrays):
    return [(a.shape, a.dtype.str, np.ascontiguousarray(a).tobytes()) for a in arrays]


def states(opt, name="x"):
    """A parameter's states in C order, with its step number."""
    saved = opt.state_dict()["parameters"][name]
    return {k: bits(v) if isinstance(v, np.ndarray) else v for k, v in saved.items()}


def snapshot(opt, params):
    saved = opt.state_dict()
    names = saved.pop("parameters")
    return saved, {n: states(opt, n) for n in names}, bits(*leaves(params))


def leaves(nest):
    if isinstance(nest, np.ndarray):
        return [nest]
    return [a for n in (nest.values() if isinstance(nest, dict) else nest) for a in leaves(n)]


def error(x, expected, start):
    """The largest difference over the largest displacement."""
    x, expected, start = (np.ravel(a).astype(float) for a in (x, expected, start))
    return np.abs(x - expected).max() / np.abs(expected - start).max()


# ---- layouts --------------------------------------------------------------------------------------


def every(a, part):
    """An index of this part of every axis, that gives a view of 0-d arrays too."""
    return (*[part] * a.ndim, ...)


def every_other(a):
    out = np.full([2 * n for n in a.shape], np.nan, a.dtype)[every(a, slice(None, None, 2))]
    out[...] = a
    return out


def axes_swapped(a):
    order = (1, 0, *range(2, a.ndim)) if a.ndim > 1 else range(a.ndim)
    return a.transpose(order).copy().transpose(order)


def backwards(a):
    flip = every(a, slice(None, None, -1))
    return a[flip].copy()[flip]


def unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    out = raw[1:].view(a.dtype).reshape(a.shape) if a.size else a.copy()
    out[...] = a
    return out


def inner(a):
    out = np.full([n + 2 for n in a.shape], np.nan, a.dtype)[every(a, slice(1, -1))]
    out[...] = a
    return out


class Sub(np.ndarray):
    """Some library's array type."""


LAYOUTS: dict[str, Any] = {
    "contiguous": np.copy,
    "fortran": lambda a: np.array(a, order="F"),
    "axes swapped": axes_swapped,
    "every other": every_other,
    "backwards": backwards,
    "unaligned": unaligned,
    "inner view": inner,
    "subclass": lambda a: a.copy().view(Sub),
}
SHAPES = [(3, 4, 5), (5,), (1, 7, 1), (1, 1), (), (0, 3), (9, 1000)]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def train(x, lay=np.copy, steps=3):
    """A run that reads x, g, tensor states, a Scalar state, weight decay and the average."""
    options: dict[str, Any] = {"weight_decay": 0.1, "decay": "decoupled", "ema": 0.9}
    opt = adamite.NAdam(x, lr=0.1, **options)
    for k in range(steps):
        opt.step(lay(noise(x.shape, k + 1, x.dtype)))
    return bits(x), states(opt)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_parameters_and_gradients(layout, shape, dtype):
    lay, start = LAYOUTS[layout], noise(shape, 0, dtype)
    plain = train(start.copy())
    assert start.size == 0 or plain[0] != bits(start)
    x = lay(start)
    around = x.base if layout in ("every other", "inner view") else None
    assert train(x) == plain
    assert train(lay(start), lay) == plain
    assert train(start.copy(), lay) == plain
    if around is not None:  # the elements between weren't touched
        assert np.isnan(around).sum() == around.size - x.size


@pytest.mark.parametrize("g_layout", LAYOUTS)
@pytest.mark.parametrize("x_layout", LAYOUTS)
def test_any_layout_with_any_other(x_layout, g_layout):
    start = noise((3, 4, 5))
    assert train(LAYOUTS[x_layout](start), LAYOUTS[g_layout]) == train(start.copy())


@pytest.mark.parametrize(
    "lay",
    [
        read_only,
        lambda a: np.broadcast_to(a, (2, *a.shape))[1],
        lambda a: np.lib.stride_tricks.as_strided(a.copy(), a.shape, a.strides),
        lambda a: np.ma.getdata(np.ma.array(a)),
        lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    ],
    ids=["read-only", "of a broadcast", "as_strided", "of a masked array", "frombuffer"],
)
def test_gradients_from_anywhere(lay):
    start = noise((3, 4))
    assert train(start.copy(), lay) == train(start.copy())


def test_a_broadcast_gradient_is_read_as_its_values():
    x, plain = noise((3, 4)), noise((3, 4))
    adamite.SGD(x).step(np.broadcast_to(2.0, (3, 4)))
    adamite.SGD(plain).step(np.full((3, 4), 2.0))
    assert bits(x) == bits(plain)


def test_the_layout_of_the_gradient_may_change_between_steps():
    start = noise((3, 4, 5))
    kinds = iter([*LAYOUTS.values(), *LAYOUTS.values()])
    steps = 2 * len(LAYOUTS)
    assert train(start.copy(), lambda a: next(kinds)(a), steps) == train(start.copy(), steps=steps)


def test_memmap(tmp_path):
    start = noise((3, 4))
    x = np.memmap(tmp_path / "x", np.float64, "w+", shape=(3, 4))
    x[...] = start
    g = np.memmap(tmp_path / "g", np.float64, "w+", shape=(3, 4))
    opt, plain = adamite.Adam(x, ema=0.5), start.copy()
    other = adamite.Adam(plain, ema=0.5)
    for k in range(3):
        g[...] = noise((3, 4), k)
        opt.step(g)
        other.step(np.array(g))
    x.flush()
    assert (np.fromfile(tmp_path / "x") == plain.ravel()).all()
    assert states(opt) == states(other)
    assert {type(v) for v in opt.state_dict()["parameters"]["x"].values()} == {int, np.ndarray}


@pytest.mark.parametrize("lay", [np.copy, LAYOUTS["fortran"], every_other, backwards, unaligned])
def test_the_parameter_as_its_own_gradient(lay):
    start = noise((30, 300))
    x, plain = lay(start), start.copy()
    opt, other = adamite.Adam(x, lr=0.1), adamite.Adam(plain, lr=0.1)
    for _ in range(3):
        opt.step(x)
        other.step(plain.copy())
    assert bits(x) == bits(plain)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["0-d array", "scalar", "python float"])
def test_gradients_of_0_d_parameters(kind, dtype):
    x, plain = np.array(1.5, dtype), np.array([1.5], dtype)
    opt, other = adamite.Adam(x), adamite.Adam(plain)
    for k in range(1, 4):
        value = dtype(1 / k)
        kinds = {"0-d array": np.array(value), "scalar": value, "python float": float(value)}
        opt.step(kinds[kind])
        other.step(np.array([value]))
    assert x.tobytes() == plain.tobytes()


def test_nesting():
    def nest():
        return {
            "encoder": [{"w": noise((2, 3)), "b": noise(3, 1)}, (noise(2, 2), noise((), 3))],
            3: np.zeros(0),
            "none": {},
            "head": (noise((4, 1), 4, np.float32),),
        }

    params, opt_params = nest(), nest()
    opt = adamite.Adam(opt_params, lr=0.1, clip_norm=1.0)
    names = ["encoder.0.w", "encoder.0.b", "encoder.1.0", "encoder.1.1", "3", "head.0"]
    assert list(opt.state_dict()["parameters"]) == names
    flat = dict(zip(names, leaves(params), strict=True))
    other = adamite.Adam(flat, lr=0.1, clip_norm=1.0)
    for _ in range(3):
        opt.step(nest())
        other.step(dict(zip(names, leaves(nest()), strict=True)))
    assert bits(*leaves(opt_params)) == bits(*flat.values())
    assert bits(*leaves(opt_params)) != bits(*leaves(nest()))
    reordered = dict(reversed(list(nest().items())))
    opt.step(reordered)
    other.step(dict(zip(names, leaves(nest()), strict=True)))
    assert bits(*leaves(opt_params)) == bits(*flat.values())


def test_many_tensors_are_each_updated_as_if_alone():
    rng = np.random.default_rng(0)
    shapes = [tuple(rng.integers(0, 6, rng.integers(0, 4))) for _ in range(60)]
    lay, kinds = list(LAYOUTS.values()), [np.float32, np.float64]
    start = [noise(s, i, kinds[i % 2]) for i, s in enumerate(shapes)]
    params = [lay[i % len(lay)](a) for i, a in enumerate(start)]
    alone = [a.copy() for a in start]
    opt, others = adamite.RAdam(params), [adamite.RAdam(a) for a in alone]
    for k in range(8):
        grads = [noise(a.shape, 100 * k + i, a.dtype) for i, a in enumerate(start)]
        opt.step(grads)
        for other, g in zip(others, grads, strict=True):
            other.step(g)
    assert bits(*params) == bits(*alone)


# ---- missing gradients ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_a_gradient_a_parameter_stays_behind(name):
    make = partial(OPTIMIZERS[name], lr=0.1, ema=0.9)
    params = {"early": noise(5), "late": noise(4, 1), "never": noise(2, 2)}
    early, late = params["early"].copy(), params["late"].copy()
    opt, alone, after = make(params), make(early), make(late)
    before = states(opt, "late"), states(opt, "never"), bits(params["late"], params["never"])
    for k in range(9):
        g = noise(5, k), noise(4, 50 + k)
        comes = k in (4, 5, 8)
        opt.step({"early": g[0], "late": g[1] if comes else None, "never": None})
        alone.step(g[0])
        if comes:
            after.step(g[1])
        if k == 3:
            now = states(opt, "late"), states(opt, "never"), bits(params["late"], params["never"])
            assert now == before
    assert bits(params["early"], params["late"]) == bits(early, late)
    assert states(opt, "early") == states(alone) and states(opt, "late") == states(after)
    found = {k: v["step"] for k, v in opt.state_dict()["parameters"].items()}
    assert found == {"early": 9, "late": 3, "never": 0} and opt.steps == 9
    assert bits(params["never"]) == bits(noise(2, 2))


def test_no_gradient_at_all():
    x = noise(3)
    opt = adamite.Adam(x, clip_norm=1.0)
    opt.step(None)
    assert bits(x) == bits(noise(3)) and states(opt)["step"] == 0 and opt.gradient_norm == 0.0


# ---- hyperparameters ------------------------------------------------------------------------------

NUMBERS = [(c, n) for c, cls in OPTIMIZERS.items() for n in cls._conventions["paper"].rule.numbers]
NUMBERS.remove(("adagrad", "s0"))  # what a state starts at is fixed: see test_bad_input


@pytest.mark.parametrize(("name", "number"), NUMBERS, ids="-".join)
def test_every_hyperparameter_reads_and_takes_numbers_and_schedules(name, number):
    optional = OPTIMIZERS[name]._conventions["paper"].rule.numbers[number].optional
    belongs = {"dampening": {"momentum": 0.8}}.get(number, {})
    given = {number: 0.5, **belongs} if optional else belongs
    x, plain = noise(4), noise(4)
    opt, other = OPTIMIZERS[name](x, **given), OPTIMIZERS[name](plain, **given)
    factor = 8.0 if number == "threshold" else 0.5
    schedule = schedules.exponential(factor, rate=0.9, steps=1)
    setattr(opt, number, schedule)
    assert getattr(opt, number) == schedule(0) and opt.schedule(number) == schedule
    for k in range(5):
        assert getattr(opt, number) == schedule(k)
        setattr(other, number, schedule(k))
        assert getattr(other, number) == schedule(k) and other.schedule(number) is None
        opt.step(noise(4, k))
        other.step(noise(4, k))
    assert bits(x) == bits(plain) and states(opt) == states(other)
    setattr(opt, number, np.float32(factor))
    assert getattr(opt, number) == factor and type(getattr(opt, number)) is float


SCHEDULES: dict[str, Any] = {
    "constant": schedules.constant(0.1),
    "step_decay": schedules.step_decay(0.1, every=2, factor=0.5),
    "piecewise": schedules.piecewise([2, 3], [0.1, 0.2, 0.0]),
    "exponential": schedules.exponential(0.1, rate=0.5, steps=3),
    "polynomial": schedules.polynomial(0.1, end=0.0, steps=4),
    "inverse_sqrt": schedules.inverse_sqrt(0.1, steps=2),
    "cosine": schedules.cosine(0.1, steps=4),
    "cosine_restarts": schedules.cosine_restarts(0.1, steps=2, growth=1.5),
    "warmup": schedules.warmup(schedules.cosine(0.1, steps=4), steps=2),
    "warmup_stable_decay": schedules.warmup_stable_decay(0.1, warmup=2, stable=1, decay=2),
    "one_cycle": schedules.one_cycle(0.1, steps=6),
    "lambda": lambda step: 0.1 / (1 + step),
    "numpy": lambda step: np.float32(0.1) / np.float32(1 + step),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_the_number_at_each_step(name):
    schedule, gradients = SCHEDULES[name], [noise(3, k) for k in range(7)]
    x = noise(3)
    opt = adamite.Adam(x, lr=schedule, clip_norm=schedules.constant(10.0))
    for g in gradients:
        opt.step(g)
    numbers: dict[str, Any] = {"lr": schedule, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    run = oracles.run("adam", noise(3), gradients, numbers)
    assert error(x, run.parameters[-1], noise(3)) <= 1e-12


def test_a_plateau_is_followed_through_the_metric():
    plateau = schedules.ReduceOnPlateau(0.5, factor=0.5, patience=0)
    x = np.zeros(1)
    opt = adamite.SGD(x, lr=plateau)
    for metric in (1.0, 1.0, 1.0):
        plateau.report(metric)
        opt.step(np.ones(1))
    assert x[0] == -(0.5 + 0.25 + 0.125)


def test_groups_have_their_own_settings():
    start = {"a": {"w": noise(3), "bias": noise(2, 1)}, "b": {"w": noise(4, 2), "bias": noise(1, 3)}}
    params = copy.deepcopy(start)
    halving = schedules.exponential(0.1, rate=0.5, steps=3)
    groups: dict[str, Any] = {"*.bias": {"weight_decay": 0.0}, "b.w": {"lr": halving, "beta1": 0.5}}
    opt = adamite.AdamW(params, lr=0.01, groups=groups)
    gradients = [{"a": {"w": noise(3, k), "bias": noise(2, k)}, "b": {"w": noise(4, k), "bias": noise(1, k)}}
                 for k in range(10, 16)]  # fmt: skip
    for g in gradients:
        opt.step(g)
    base: dict[str, Any] = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    own: dict[str, Any] = {"a.w": (base, 0.01), "a.bias": (base, 0.0), "b.bias": (base, 0.0),
           "b.w": (base | {"lr": halving, "beta1": 0.5}, None)}  # fmt: skip
    for path, (numbers, decay) in own.items():
        top, leaf = path.split(".")
        grads = [g[top][leaf] for g in gradients]
        decay = 0.01 if decay is None else decay
        run = oracles.run("adam", start[top][leaf], grads, numbers, weight_decay=decay)
        assert error(params[top][leaf], run.parameters[-1], start[top][leaf]) <= 1e-12, path
    group = opt.groups["b.w"]
    assert group.lr == halving(6) and group.beta2 == 0.999 and group.names == ("b.w",)
    opt.beta2, group.lr = 0.9, 0.25
    assert (group.beta2, group.lr, opt.lr) == (0.9, 0.25, 0.01)
    assert "b.w" in repr(group) and "0.25" in repr(group)


@pytest.mark.parametrize(("decay", "name"), [("l2", "l2"), ("decoupled", "weight_decay")])
def test_weight_decay_switched_on_off_and_on(decay, name):
    x, gradients = noise(3), [noise(3, k) for k in range(9)]
    opt = adamite.Adam(x, lr=0.01, decay=decay)
    for k, g in enumerate(gradients):
        if k in (3, 5, 7):
            opt.weight_decay = {3: 0.2, 5: 0, 7: schedules.constant(0.2)}[k]
        opt.step(g)
    numbers: dict[str, Any] = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    # The oracle keeps a constant decay, so the pieces are undone by hand on its first coordinate.
    m = v = 0.0
    y = noise(3)[0]
    for t, g in enumerate((g[0] for g in gradients), start=1):
        w = 0.2 if t in (4, 5, 8, 9) else 0.0
        g = g + w * y if decay == "l2" else g
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        step = 0.01 * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
        y -= step + (0.01 * w * y if decay == "decoupled" else 0.0)
    assert x[0] == pytest.approx(y, rel=1e-12)
    always = noise(3)
    opt = adamite.Adam(always, lr=0.01, decay=decay, weight_decay=0.2)
    for g in gradients:
        opt.step(g)
    options: dict[str, Any] = {name: 0.2}
    run = oracles.run("adam", noise(3), gradients, numbers, **options)
    assert error(always, run.parameters[-1], noise(3)) <= 1e-12


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", CONVENTIONS)
def test_conventions_against_the_oracles(name, framework):
    row = CONVENTIONS[name][framework]
    given = {"lr": 0.01} if framework == "optax" else {}
    x, gradients = noise(3), [noise(3, k) for k in range(12)]
    opt = getattr(adamite, name)(x, convention=framework, **given)
    decay = opt.weight_decay
    keys = [*row.rule.numbers, *row.rule.choices]
    numbers = {key: getattr(opt, key) for key in keys}
    for g in gradients:
        opt.step(g)
    surroundings: dict[str, Any] = {"weight_decay" if row.decay == "decoupled" else "l2": decay}
    run = oracles.run(row.rule.name, noise(3), gradients, numbers, **surroundings)
    assert error(x, run.parameters[-1], noise(3)) <= 1e-12


@pytest.mark.parametrize(
    ("momentum", "nesterov"), [(None, False), (0.0, False), (0.9, False), (0.0, True), (0.9, True)]
)
def test_momentum_none_keeps_no_state(momentum, nesterov):
    x, gradients = noise(3), [noise(3, k) for k in range(5)]
    opt = adamite.SGD(x, momentum=momentum, nesterov=nesterov)
    for g in gradients:
        opt.step(g)
    assert ("b" in states(opt)) == (momentum is not None)
    numbers: dict[str, Any] = {"lr": 0.01, "momentum": momentum, "dampening": 0.0, "nesterov": nesterov}
    run = oracles.run("sgd", noise(3), gradients, numbers)
    assert error(x, run.parameters[-1], noise(3)) <= 1e-12


# ---- clipping, non-finite gradients, averages, ascent ---------------------------------------------


@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e3])
def test_clip_norm(limit):
    start = {"a": noise((2, 3)), "b": noise(4, 1), "c": noise(0)}
    params = copy.deepcopy(start)
    opt = adamite.Adam(params, lr=0.1, clip_norm=limit)
    rows = []
    for k in range(5):
        g = {"a": noise((2, 3), k) * 3, "b": noise(4, 7 * k), "c": noise(0)}
        kept = bits(*g.values())
        rows.append(np.concatenate([g["a"].ravel(), g["b"]]).tolist())
        opt.step(g)
        assert bits(*g.values()) == kept
        assert opt.gradient_norm == pytest.approx(math.hypot(*rows[-1]), rel=1e-14)
    first = np.concatenate([start["a"].ravel(), start["b"]])
    numbers: dict[str, Any] = {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    run = oracles.run("adam", first.tolist(), rows, numbers, clip_norm=limit)
    x = np.concatenate([params["a"].ravel(), params["b"]])
    assert error(x, run.parameters[-1], first) <= 1e-12


def test_options_switched_in_the_middle_of_a_training():
    x, gradients = noise(3), [noise(3, k) for k in range(9)]
    opt, m, y = adamite.Momentum(x), 0.0, noise(3)
    limit: float | None = None
    for k, g in enumerate(gradients):
        if k % 3 == 0:
            limit = opt.clip_norm = (None, 0.5, 2.0)[k // 3]
            opt.nonfinite = ("propagate", "skip", "raise")[k // 3]
        opt.step(g)
        norm = math.hypot(*g)
        m = 0.9 * m + g * (limit / norm if limit and norm > limit else 1.0)
        y = y - 0.01 * m
    np.testing.assert_allclose(x, y, rtol=1e-14)
    assert opt.steps == states(opt)["step"] == 9


@pytest.mark.parametrize("lay", LAYOUTS.values(), ids=LAYOUTS)
def test_clip_norm_over_dtypes_and_layouts(lay):
    params = {"a": np.zeros((30, 301), np.float32), "b": lay(np.zeros((30, 301)))}
    g = {"a": lay(noise((30, 301), 1, np.float32)), "b": lay(noise((30, 301), 2))}
    norm = math.sqrt(math.fsum(float(v) ** 2 for a in g.values() for v in a.flat))
    opt = adamite.SGD(params, lr=1.0, clip_norm=0.5)
    opt.step(g)
    assert opt.gradient_norm == pytest.approx(norm, rel=1e-13)
    np.testing.assert_allclose(params["a"], -g["a"] * np.float32(0.5 / norm), rtol=2e-7)
    np.testing.assert_allclose(params["b"], -g["b"] * (0.5 / norm), rtol=1e-13)


@pytest.mark.parametrize("nonfinite", ["propagate", "raise", "skip"])
@pytest.mark.parametrize("size", [1e200, 1.7e308, 1e-200])
def test_squares_out_of_range_are_no_nan(size, nonfinite):
    x = np.zeros(4)
    g = np.array([1.0, -1.0, 0.5, 0.0]) * size
    opt = adamite.SGD(x, lr=1.0, clip_norm=1.0, nonfinite=nonfinite)
    opt.step(g)
    expected = -g / size / 1.5 if size > 1 else -g
    np.testing.assert_allclose(x, expected, rtol=1e-15)
    assert opt.steps == 1 and opt.skipped == 0


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_gradients_change_nothing(bad, dtype, nonfinite):
    def grads(k):
        return {"a": noise(3, k, dtype), "b": {"c": noise((2, 5), k, dtype)[:, ::2]}, "d": noise(2, k)}

    params, plain = grads(100), grads(100)
    options: dict[str, Any] = {"ema": 0.9, "lr": schedules.cosine(0.1, steps=10), "weight_decay": 0.1}
    opt = adamite.AdamW(params, nonfinite=nonfinite, **options)
    other = adamite.AdamW(plain, **options)
    for k in range(3):
        opt.step(grads(k))
        other.step(grads(k))
    before = snapshot(opt, params)
    g = grads(3)
    g["b"]["c"][1, 2] = bad
    if nonfinite == "raise":
        with pytest.raises(adamite.NonFiniteError, match=r"'b\.c'") as caught:
            opt.step(g)
        assert "'a'" not in str(caught.value) and "'d'" not in str(caught.value)
    else:
        opt.step(g)
        assert opt.skipped == 1
        before[0]["skipped"] = 1
    assert snapshot(opt, params) == before and opt.lr == other.lr
    opt.step(grads(4))
    other.step(grads(4))
    assert bits(*leaves(params)) == bits(*leaves(plain))


def test_propagate_is_the_default_and_only_touches_its_element():
    x = noise(3)
    opt = adamite.SGD(x, lr=1.0)
    opt.step(np.array([1.0, np.nan, np.inf]))
    assert x[0] == noise(3)[0] - 1 and np.isnan(x[1]) and x[2] == -np.inf and opt.skipped == 0
    opt.nonfinite = "skip"
    opt.step(np.full(3, np.nan))
    assert opt.skipped == 1 and opt.steps == 1


def test_the_average_begins_at_what_was_assigned_before_the_first_step():
    """As in torch, where states are made by the first step: weights may be loaded after the optimizer is made."""
    x = np.zeros(3)
    opt = adamite.SGD(x, lr=0.0, ema=0.5)
    x[...] = 4.0
    for _ in range(2):
        opt.step(np.ones(3))
    with opt.averaged():
        assert x.tolist() == [4.0, 4.0, 4.0]


def test_the_average_of_each_parameter_begins_at_its_own_first_step():
    params = {"a": np.ones(2), "b": np.ones(2), "c": np.ones(2)}
    opt = adamite.SGD(params, lr=0.0, ema=0.5)
    opt.step({"a": np.ones(2), "b": None, "c": None})
    params["b"][...] = 5.0
    copied, copy_of_params = pickle.loads(pickle.dumps((opt, params)))
    for o, p in ((opt, params), (copied, copy_of_params)):
        o.step({"a": None, "b": np.ones(2), "c": None})
        p["c"][...] = 3.0  # not moved yet: what is averaged is what it is
        with o.averaged():
            assert [x[0] for x in p.values()] == [1.0, 5.0, 3.0]


@pytest.mark.parametrize("name", ["sgd", "adam", "lion"])
def test_ema_and_averaged(name):
    start = {"a": noise((2, 3)), "b": every_other(noise(4, 1))}
    params = {k: v.copy() if k == "a" else every_other(v) for k, v in start.items()}
    decay = schedules.piecewise([4], [0.5, 0.9])
    opt = OPTIMIZERS[name](params, lr=0.1, ema=decay)
    average = {k: v.copy() for k, v in start.items()}
    for k in range(8):
        opt.step({"a": noise((2, 3), k), "b": noise(4, k)})
        assert opt.ema == decay(k + 1)
        average = {n: decay(k) * average[n] + (1 - decay(k)) * params[n] for n in params}
    live = bits(*params.values())
    with opt.averaged():
        for n in params:
            np.testing.assert_allclose(params[n], average[n], rtol=1e-13)
        with pytest.raises(RuntimeError, match="averaged"):
            opt.step({"a": noise((2, 3)), "b": noise(4)})
    assert bits(*params.values()) == live
    with pytest.raises(ZeroDivisionError), opt.averaged():
        raise ZeroDivisionError
    assert bits(*params.values()) == live
    opt.step({"a": noise((2, 3)), "b": noise(4)})
    assert bits(*params.values()) != live


def test_averaged_within_averaged_and_checkpoints_in_it():
    x = noise(3)
    opt = adamite.SGD(x, lr=0.1, ema=0.5)
    opt.step(np.ones(3))
    live, saved = bits(x), states(opt)
    with opt.averaged():
        shown = bits(x)
        with pytest.raises(RuntimeError), opt.averaged():
            raise AssertionError("nested averages swapped the raw weights back in")
        with pytest.raises(RuntimeError, match="the averages are swapped in"):
            opt.state_dict()  # which would hold the raw weights for averages
        assert bits(x) == shown
    assert bits(x) == live and states(opt) == saved


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n != "adamw"])
def test_maximize(name):
    cls = OPTIMIZERS[name]
    x, gradients = noise(3), [noise(3, k) for k in range(6)]
    opt = cls(x, lr=0.1, maximize=True)
    numbers = {n: getattr(opt, n) for n in opt._hyper.names}
    rule = cls._conventions["paper"].rule
    numbers = {n: numbers[n] for n in [*rule.numbers, *rule.choices]}
    for g in gradients:
        opt.step(g)
    run = oracles.run(rule.name, noise(3), gradients, numbers, maximize=True)
    assert error(x, run.parameters[-1], noise(3)) <= 1e-12


# ---- checkpoints ----------------------------------------------------------------------------------


def nest(seed=0):
    return {"w": noise((2, 3), seed), "late": [noise(4, seed + 1, np.float32)], "s": noise((), seed + 2)}


def some(k):
    """Gradients, of which one is missing every third step."""
    g = nest(1000 + 3 * k)
    return {**g, "late": [None if k % 3 == 0 else g["late"][0]]}


OWN = {"signum": adamite.optimizer(signum), "drift": adamite.optimizer(drift)}
CLASSES: dict[str, Any] = {**OPTIMIZERS, **OWN, **{n: adamite.optimizer(n) for n in RULES if n not in OPTIMIZERS}}
WHOLE: dict[str, Any] = {
    "momentum": {"nesterov": True},
    "rmsprop": {"centered": True, "momentum": 0.5},
    "adam": {"clip_norm": 0.5, "ema": 0.9, "nonfinite": "skip"},
    "adamw": {"weight_decay": schedules.cosine(0.1, steps=99), "groups": {"late.*": {"lr": 0.5}}},
    "nadam": {"lr": schedules.cosine(0.1, steps=2000)},
    "drift": {"half": True},
}


def through_state_dict(opt, params):
    fresh = copy.deepcopy(params)
    other = type(opt)(fresh, **WHOLE.get(type(opt).__name__.lower(), {}))
    other.load_state_dict(opt.state_dict())
    return fresh, other


def through_pickled_state(opt, params):
    fresh, other = through_state_dict(opt, params)
    other.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
    return fresh, other


WAYS: dict[str, Any] = {
    "state_dict": through_state_dict,
    "pickled state_dict": through_pickled_state,
    "pickle": lambda opt, params: pickle.loads(pickle.dumps((params, opt))),
    "deepcopy": lambda opt, params: copy.deepcopy((params, opt)),
}


# A thousand steps where something depends on the step number.
LENGTHS = [(n, k) for n in CLASSES for k in (0, 1, 1000) if k < 1000 or n in ("nadam", "radam", "adam", "drift")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "steps"), LENGTHS)
def test_going_on_from_a_checkpoint(name, way, steps):
    params = nest()
    opt = CLASSES[name](params, **WHOLE.get(name, {}))
    for k in range(steps):
        opt.step(some(k))
    before = snapshot(opt, params)
    fresh, other = WAYS[way](opt, params)
    assert snapshot(other, fresh) == before and type(other) is type(opt)
    for k in range(steps, steps + 5):
        opt.step(some(k))
    changed = bits(*leaves(fresh))
    assert changed == before[2], "the copy shares memory with the original"
    for k in range(steps, steps + 5):
        other.step(some(k))
    assert snapshot(other, fresh) == snapshot(opt, params) != before


def nested():
    """Schedules that are made from one with state, at every depth."""
    plateau = schedules.ReduceOnPlateau(0.5, factor=0.5, patience=0)
    return plateau, [
        plateau,
        schedules.warmup(plateau, 4, 0.1),
        schedules.warmup(schedules.warmup(plateau, 2, 0.1), 3, 0.1),
        schedules.warmup(lambda step: plateau(step) / 2, 4, 0.1),
        functools.partial(lambda inner, step: inner(step) / 2, plateau),
        Half(plateau),
    ]


class Half:
    """A schedule of the user's own, which says what it is made of."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, step):
        return self.inner(step) / 2

    def __repr__(self):
        return f"Half({self.inner!r})"


@pytest.mark.parametrize("depth", range(6))
@pytest.mark.parametrize("name", ["lr", "weight_decay", "clip_norm", "groups"])
def test_schedules_with_state_go_on_from_a_checkpoint(name, depth):
    def made():
        plateau, each = nested()
        options: dict[str, Any] = {"groups": {"x": {"lr": each[depth]}}} if name == "groups" else {name: each[depth]}
        x = {"x": noise(5), "y": noise(5)}
        return plateau, adamite.AdamW(x, **options), x

    plateau, opt, params = made()
    other_plateau, other, fresh = made()
    for k in range(12):
        opt.step({"x": noise(5, k), "y": noise(5, k)})
        plateau.report(1.0)
    for key in params:
        fresh[key][...] = params[key]
    other.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
    assert other_plateau.state_dict() == plateau.state_dict() and plateau.value < 0.5
    for k in range(5):
        for o, p in ((opt, plateau), (other, other_plateau)):
            o.step({"x": noise(5, k), "y": noise(5, k)})
            p.report(1.0)
    assert bits(*leaves(fresh)) == bits(*leaves(params))


def test_a_schedule_with_state_of_another_form_is_refused():
    _, (_, one, *_) = nested()
    opt = adamite.SGD(noise(3), lr=one)
    other = adamite.SGD(noise(3), lr=schedules.warmup(schedules.ReduceOnPlateau(0.5, factor=0.5, patience=0), 5, 0.1))
    with pytest.raises(adamite.StateDictError, match=r"lr: here the schedule warmup.*steps=5.*in the state.*steps=4"):
        other.load_state_dict(opt.state_dict())
    plain = adamite.SGD(noise(3), lr=schedules.warmup(0.5, steps=4))
    with pytest.raises(adamite.StateDictError, match=r"lr: .*warmup\(0.5.* in 0 of its parts here, and had in 1"):
        plain.load_state_dict(opt.state_dict())


def test_a_schedule_refers_to_what_has_no_end():
    """Functions that call each other, and a variable that isn't there yet."""

    def even(step):
        return odd(step - 1) if step else plateau(step) / later

    def odd(step):
        return even(step - 1)

    plateau = schedules.ReduceOnPlateau(0.5)
    assert stateful(odd) == [] and stateful(np.cos) == []
    later = 2.0
    assert stateful(odd) == [plateau]


@pytest.mark.parametrize("mine", [None, 0.5])
@pytest.mark.parametrize("theirs", [None, 0.25])
def test_clipping_and_the_policy_belong_to_the_optimizer_that_was_made(mine, theirs):
    """As in `adamite.torch`: a checkpoint doesn't turn them on or off."""
    saved = adamite.AdamW(noise(3), clip_norm=theirs, nonfinite="skip" if theirs else "raise")
    saved.step(noise(3, 1))
    opt = adamite.AdamW(noise(3), clip_norm=mine, nonfinite="propagate")
    opt.load_state_dict(saved.state_dict())
    assert opt.clip_norm == mine and opt.nonfinite == "propagate" and opt.steps == 1
    opt.step(1e3 * noise(3, 2))
    assert (opt.gradient_norm is None) == (mine is None)


@pytest.mark.parametrize("given", [{}, {"eps_root": 1e-6}])
def test_adabeliefs_epsilons_are_one_unless_both_are_given(given):
    """One epsilon in the paper's algorithm, and in its authors' code; two in optax."""
    x, start = noise(5), noise(5)
    opt = adamite.AdaBelief({"x": x, "y": noise(5)}, eps=1e-10, groups={"y": {"eps": 1e-4}}, **given)
    assert opt.eps_root == given.get("eps_root", 1e-10) and opt.groups["y"].eps_root == given.get("eps_root", 1e-4)
    both = adamite.AdaBelief({"x": start, "y": noise(5)}, eps=1e-10, eps_root=given.get("eps_root", 1e-10))
    for k in range(3):
        g = {"x": 1e-4 * noise(5, k), "y": noise(5, k)}
        opt.step(g)
        both.step(g)
    assert bits(x) == bits(start)
    opt.eps = 1e-5
    assert opt.eps_root == given.get("eps_root", 1e-5)
    other = adamite.AdaBelief({"x": x, "y": noise(5)}, eps_root=0.5, groups={"y": {"eps": 1e-4}})
    other.load_state_dict(opt.state_dict())
    assert other.eps == 1e-5 and other.eps_root == opt.eps_root
    assert adamite.AdaBelief(noise(3), lr=0.1, eps=1e-10, convention="optax").eps_root == 1e-16


def test_a_state_dict_is_a_copy():
    x = noise(3)
    opt = adamite.Adam(x)
    opt.step(noise(3, 1))
    saved, before = opt.state_dict(), states(opt)
    saved["parameters"]["x"]["m"][:] = 7.0
    saved["hyperparameters"]["lr"] = 7.0
    assert states(opt) == before and opt.lr == 1e-3
    opt.load_state_dict(saved)
    opt.step(noise(3, 1))
    assert (saved["parameters"]["x"]["m"] == 7.0).all()


def test_a_copy_of_an_optimizer_whose_rule_is_a_closure():
    @adamite.rule
    def local(g, m, *, t, lr=0.1):
        m = m + g
        return lr * m, m

    x = noise(3)
    opt = adamite.optimizer(local)(x)
    opt.step(noise(3, 1))
    y, other = copy.deepcopy((x, opt))
    opt.step(noise(3, 2))
    other.step(noise(3, 2))
    assert bits(x) == bits(y)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(opt)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_copies_of_any_layout_go_on(layout, copied):
    x = LAYOUTS[layout](noise((2, 3, 4)))
    opt = adamite.Adam(x, lr=0.1)
    opt.step(noise((2, 3, 4), 1))
    y, other = copied((x, opt))
    for lay in LAYOUTS.values():
        g = lay(noise((2, 3, 4), 2))
        opt.step(g)
        other.step(g)
    assert bits(x) == bits(y)


class Mine(adamite.Adam):
    """A user's subclass."""

    def twice(self, g):
        self.step(g)
        self.step(g)


def test_a_subclass_stays_one():
    x = noise(3)
    opt = Mine(x, lr=0.1)
    for copied in (copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))):
        y, other = copied((x, opt))
        other.twice(noise(3))
        assert type(other) is Mine and other.steps == 2 and bits(y) != bits(x)
    assert "A user's subclass" in (Mine.__doc__ or "")


PROCESS = """
import pickle, sys
import numpy as np
import adamite
from adamite import schedules
folder, kind = sys.argv[1:]

@adamite.rule
def own(g, m, p: adamite.Scalar = 1.0, *, t, lr=0.1, mode: str = "a"):
    p = p * 0.5
    m = m + g * p
    return lr * m, m, p

def fresh():
    return {"w": np.zeros(3), "b": [np.zeros((2, 2), np.float32)]}

def make(params):
    groups = {"b.*": {"lr": 0.5}}
    if kind == "own":
        return adamite.optimizer(own)(params, groups=groups, ema=0.5)
    lr = schedules.warmup(schedules.cosine(0.1, steps=50), steps=5)
    return adamite.NAdam(params, lr=lr, groups=groups, clip_norm=1.0)

def grads(k):
    rng = np.random.default_rng(k)
    g = {"w": rng.normal(size=3), "b": [rng.normal(size=(2, 2)).astype(np.float32)]}
    return g if k % 3 else {**g, "w": None}
"""
SAVE = """
from own_rule import *
params = fresh()
opt = make(params)
for k in range(7):
    opt.step(grads(k))
np.savez(folder + "/params.npz", w=params["w"], b=params["b"][0])
flat = {}
def flatten(node, path):
    for key, value in node.items():
        if isinstance(value, dict) and value:
            flatten(value, path + (key,))
        else:
            flat["|".join(path + (key,))] = "None" if value is None else value
state = opt.state_dict()
flatten(state, ())
np.savez(folder + "/state.npz", **flat)
pickle.dump(state, open(folder + "/state.pickle", "wb"))
pickle.dump((params, opt), open(folder + "/opt.pickle", "wb"))
for k in range(7, 12):
    opt.step(grads(k))
print(params["w"].tobytes().hex(), params["b"][0].tobytes().hex(), opt.steps, opt.lr)
"""
LOAD = """
from own_rule import *
way = sys.argv.pop()
def unflatten(flat):
    out = {}
    for key, value in flat.items():
        *path, last = key.split("|")
        node = out
        for part in path:
            node = node.setdefault(part, {})
        number = value.ndim == 0 and not key.startswith("parameters|s|")
        value = value.item() if number else value
        node[last] = None if number and value == "None" else value
    return out
params = fresh()
if way == "opt":
    params, opt = pickle.load(open(folder + "/opt.pickle", "rb"))
else:
    stored = np.load(folder + "/params.npz")
    params["w"][:], params["b"][0][:] = stored["w"], stored["b"]
    opt = make(params)
    if way == "npz":
        opt.load_state_dict(unflatten(dict(np.load(folder + "/state.npz", allow_pickle=True))))
    else:
        opt.load_state_dict(pickle.load(open(folder + "/state.pickle", "rb")))
for k in range(7, 12):
    opt.step(grads(k))
print(params["w"].tobytes().hex(), params["b"][0].tobytes().hex(), opt.steps, opt.lr)
"""


@pytest.mark.parametrize("kind", ["nadam", "own"])
def test_going_on_in_a_new_process(kind, tmp_path):
    (tmp_path / "own_rule.py").write_text(PROCESS)

    def run(text, *more):
        code = text.replace("way = sys.argv.pop()", f"way = {more[0]!r}" if more else "")
        command = [sys.executable, "-c", code, str(tmp_path), kind]
        done = subprocess.run(command, capture_output=True, text=True, env=process_environment(tmp_path))
        assert done.returncode == 0, done.stderr
        return done.stdout

    expected = run(SAVE)
    assert {way: run(LOAD, way) for way in ("npz", "pickle", "opt")} == dict.fromkeys(
        ("npz", "pickle", "opt"), expected
    )


# ---- names, text ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Adam", "adam", "ADAM", "adamw", "NAdam"])
def test_optimizers_by_name(name):
    assert adamite.optimizer(name) is getattr(adamite, {"adam": "Adam", "adamw": "AdamW"}.get(name.lower(), name))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_by_name_or_itself_is_its_oracle(name):
    rule = RULES[name]
    for given in {name, *([] if name in OPTIMIZERS else [rule])}:
        x, gradients = noise(3), [noise(3, k) for k in range(10)]
        opt = adamite.optimizer(given)(x, lr=0.1)
        numbers = {k: getattr(opt, k) for k in [*rule.numbers, *rule.choices]}
        for g in gradients:
            opt.step(g)
        run = oracles.run(rule.name, noise(3), gradients, numbers)
        assert error(x, run.parameters[-1], noise(3)) <= 1e-12
    assert adamite.optimizer(rule) is adamite.optimizer(rule)


def test_an_own_rule_is_a_full_citizen():
    x, plain = noise(4), noise(4)
    opt = adamite.optimizer(signum)(x, lr=schedules.cosine(0.1, steps=9), weight_decay=0.1, clip_norm=1.0, ema=0.9)
    m = np.zeros(4)
    for k in range(6):
        g = noise(4, k)
        opt.step(g)
        g = g * min(1.0, 1.0 / math.hypot(*g))
        m = 0.9 * m + (1 - 0.9) * g
        lr = 0.1 * (1 + math.cos(math.pi * k / 9)) / 2
        plain = plain - (lr * np.sign(m) + lr * 0.1 * plain)
    np.testing.assert_allclose(x, plain, rtol=1e-13)
    assert repr(opt).startswith("Signum(1 parameter, lr=cosine(") and "beta=0.9" in repr(opt)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_repr_dir_help(name):
    cls = OPTIMIZERS[name]
    opt = cls([noise(2), noise(3)], clip_norm=1.0)
    rule = cls._conventions["paper"].rule
    assert repr(opt).startswith(f"{cls.__name__}(2 parameters, lr=") and repr(opt).endswith("steps=0)")
    assert {*rule.numbers, *rule.choices, "weight_decay", "step", "state_dict"} <= set(dir(opt))
    assert not {n for n in dir(opt) if not hasattr(opt, n)}
    text = pydoc.plain(pydoc.render_doc(cls))
    assert cls.__doc__ and cls.__doc__.splitlines()[0] in text
    for spec in rule.numbers.values():
        assert spec.name in text and spec.meaning[:20] in text
    assert "params" in cls.__doc__ and "Args:" in cls.__doc__


REPRS: dict[str, dict[str, Any]] = {
    "ema=0.99": dict(ema=0.99),
    "nonfinite='skip'": dict(nonfinite="skip"),
    "maximize=True": dict(maximize=True),
    "sparse='lazy'": dict(sparse="lazy"),
    "weight_decay=0.1, decay='l2'": dict(weight_decay=0.1, decay="l2"),
    "convention='torch'": dict(convention="torch"),
    "groups=['x']": dict(groups={"x": {"lr": 0.5}}),
}


def test_repr_shows_what_isnt_default():
    plain = "Adam(1 parameter, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08, steps=0)"
    assert repr(adamite.Adam(noise(2))) == plain
    for words, options in REPRS.items():
        assert repr(adamite.Adam(noise(2), **options)) == plain.replace(", steps=0", f", {words}, steps=0")


def test_repr_never_raises():
    x = np.ones(1)
    opt = adamite.SGD(x, lr=lambda step: 1.0 - step)
    opt.step(np.ones(1))
    opt.step(np.ones(1))
    assert "SGD" in repr(opt)


def test_docs_and_repr_of_the_base():
    assert "params" in (adamite.Optimizer.__doc__ or "")
    with pytest.raises(TypeError, match="Adam"):
        adamite.Optimizer(noise(3))
