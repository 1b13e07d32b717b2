"""Low-precision states under Keras: bits, files, other formats, mistakes. Run by test_backends.py."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import adamite
import adamite.keras
from adamite.frontend.catalogue import KERAS
from adamite.storage import EIGHT_BIT_SIGNED, EIGHT_BIT_UNSIGNED

Array = np.ndarray[Any, np.dtype[Any]]
BACKEND = keras.backend.backend()
ours: Any = adamite.keras  # wrong words are given too
RATE = 2.0**-7
SHAPES: list[tuple[int, ...]] = [(96, 50), (7,), (4097,)]  # the second is small
torch_alone = pytest.mark.skipif(BACKEND != "torch", reason="there are such states on torch alone")
elsewhere = pytest.mark.skipif(BACKEND == "torch", reason="torch has them")


def arrays(seed: int, shapes: list[tuple[int, ...]] = SHAPES) -> list[Array]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=shape).astype(np.float32) for shape in shapes]


def variables(dtype: str = "float32") -> list[Any]:
    return [keras.Variable(x, dtype=dtype, name=f"w{i}") for i, x in enumerate(arrays(0))]


def stepped(optimizer: Any, dtype: str = "float32", steps: int = 3) -> list[Any]:
    x = variables(dtype)
    for step in range(steps):
        optimizer.apply([ops.convert_to_tensor(g, dtype=dtype) for g in arrays(1 + step)], x)
    return x


def bits(value: Any) -> Array:
    array = np.ascontiguousarray(ops.convert_to_numpy(value))
    return array.reshape(-1).view(f"u{array.itemsize}")


def states(optimizer: Any) -> list[Any]:
    found: list[Any] = optimizer.variables[2:]  # after the step number and the learning rate
    return found


def saved(optimizer: Any) -> dict[str, Any]:
    store: dict[str, Any] = {}
    optimizer.save_own_variables(store)
    return store


# ---- numbers -------------------------------------------------------------------------------------


@torch_alone
@pytest.mark.parametrize("state", ["bfloat16", "8bit"])
@pytest.mark.parametrize("name", [name for name in KERAS if name != "SGD"])  # which has no states
def test_the_references_bits(name: str, state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = getattr(ours, name)(RATE, state=state, seed=7)
    found = stepped(optimizer)
    monkeypatch.setenv("ADAMITE_BACKEND", "numpy")
    x = arrays(0)
    plain = adamite.optimizer(name.lower())(x, convention="keras", lr=RATE, state=state, seed=7)
    for step in range(3):
        plain.step(arrays(1 + step))
    for mine, other in zip(found, x, strict=True):
        assert (bits(mine) == bits(other)).all()
    kept = [v for p in plain.state_dict()["parameters"].values() for v in p.values() if isinstance(v, np.ndarray)]
    mine = [v for v in states(optimizer) if v.shape]  # but for Nadam's number
    assert sorted(bits(v).tobytes() for v in mine) == sorted(bits(v).tobytes() for v in kept)


@torch_alone
@pytest.mark.parametrize("state", ["float32", "bfloat16", "8bit"])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "kahan"])
def test_bfloat16_variables_have_torchs_bits(rounding: Any, state: Any) -> None:
    import torch

    import adamite.torch

    optimizer = ours.Lion(RATE, rounding=rounding, state=state)
    found = stepped(optimizer, "bfloat16")
    x = [torch.nn.Parameter(torch.from_numpy(a).bfloat16()) for a in arrays(0)]
    other = adamite.torch.Lion(x, lr=RATE, weight_decay=0, rounding=rounding, state=state)
    for step in range(3):
        for p, g in zip(x, arrays(1 + step), strict=True):
            p.grad = torch.from_numpy(g).bfloat16()
        other.step()
    for mine, p in zip(found, x, strict=True):
        assert torch.equal(mine.value.view(torch.int16), p.view(torch.int16))
    kept = [v for p in x for v in other.state[p].values() if v.dim()]
    assert sum(v.value.nbytes for v in states(optimizer)) == sum(v.nbytes for v in kept)


@torch_alone
def test_formats_and_bytes() -> None:
    for state, dtype, length in (("bfloat16", "bfloat16", 96 * 50), ("8bit", "uint8", EIGHT_BIT_SIGNED.length(4800))):
        optimizer = ours.Adam(RATE, state=state)
        optimizer.build(variables())
        for first in (states(optimizer)[:2], states(optimizer)[4:]):
            assert {v.dtype for v in first} == {dtype}
        assert {v.dtype for v in states(optimizer)[2:4]} == {"float32"}
        assert {int(np.prod(v.shape)) for v in states(optimizer)[:2]} == {length}
        assert [v.path for v in states(optimizer)[:2]] == [f"adam{s}/w0_{n}" for s, n in _paths(optimizer)]
        assert not any(v.trainable for v in states(optimizer))
    optimizer = ours.SGD(RATE, momentum=0.9, rounding="kahan")
    optimizer.build(variables("bfloat16"))
    assert [v.path.rpartition("/")[2] for v in states(optimizer)][3:] == [f"w{i}_compensation" for i in range(3)]
    assert {v.dtype for v in states(optimizer)[3:]} == {"bfloat16"}


@torch_alone
def test_what_was_lost_of_other_weights_is_not_added_to_assigned_ones() -> None:
    x = [keras.Variable(np.linspace(-1, 1, 5000), dtype="bfloat16")]
    optimizer = ours.Adam(0.01, rounding="kahan")
    for _ in range(5):
        optimizer.apply([ops.convert_to_tensor(np.linspace(0.1, 1.0, 5000), dtype="bfloat16")], x)
    x[0].assign(np.linspace(2, 1, 5000))
    expected = bits(x[0])
    optimizer.learning_rate = 0.0
    optimizer.apply([ops.zeros(5000, "bfloat16")], x)
    np.testing.assert_array_equal(bits(x[0]), expected)


@torch_alone
def test_what_was_lost_of_other_weights_is_not_added_to_those_nearby() -> None:
    """Where the number alone doesn't tell: 0.003 is less than half of the last place of 2."""
    x = [keras.Variable(np.ones(5000), dtype="bfloat16")]
    optimizer = ours.SGD(0.001, rounding="kahan")
    optimizer.apply([ops.full((5000,), -3.0, "bfloat16")], x)
    for assigned, rate in ((2.0, 0.0), (1.0, 0.001)):
        x[0].assign(np.full(5000, assigned))
        optimizer.learning_rate = rate
        optimizer.apply([ops.full((5000,), -1.0, "bfloat16")], x)
    np.testing.assert_array_equal(bits(x[0]), bits(keras.Variable(np.ones(5000), dtype="bfloat16")))  # 1.001


def _paths(optimizer: Any) -> list[tuple[str, str]]:
    suffix = optimizer.name.removeprefix("adam")
    return [(suffix, "momentum"), (suffix, "velocity")]


@torch_alone
def test_equal_variables_are_rounded_apart() -> None:
    start, g = np.ones(5000, "float32"), np.linspace(0.1, 1.0, 5000, dtype="float32")

    def run(seed: int) -> Array:
        x = [keras.Variable(start, dtype="bfloat16") for _ in range(2)]
        optimizer = ours.SGD(0.001, rounding="stochastic", seed=seed)
        optimizer.apply([ops.convert_to_tensor(g, dtype="bfloat16")] * 2, x)
        return np.stack([bits(v) for v in x])

    first, again, other = run(0), run(0), run(1)
    assert (first == again).all() and (first != other).any()
    assert (first[0] != first[1]).any()
    moved = 1 - (first.astype(np.uint32) << 16).view(np.float32).mean()
    assert moved == pytest.approx(0.001 * g.mean(), rel=0.2)  # to the nearest it would be 0


# ---- training and files ----------------------------------------------------------------------------


def model(optimizer: Any, policy: str = "float32") -> tuple[Any, Any, Any]:
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(256, 64)).astype("float32")
    dense = [layers.Dense(128, activation="relu", dtype=policy), layers.Dense(1, dtype=policy)]
    made = keras.Sequential([layers.Input((64,)), *dense])
    made.compile(optimizer=optimizer, loss="mse")
    return made, x, x.sum(axis=1)


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("float32", {"state": "bfloat16"}),
    ("float32", {"state": "8bit"}),
    ("float32", {"state": "8bit", "amsgrad": True, "seed": 3}),
    ("float32", {"state": "8bit", "use_ema": True, "gradient_accumulation_steps": 2, "clipnorm": 1.0}),
    ("bfloat16", {"rounding": "stochastic"}),
    ("bfloat16", {"rounding": "kahan", "state": "8bit"}),
    ("mixed_float16", {"state": "8bit"}),
]


@torch_alone
@pytest.mark.parametrize(("policy", "options"), KINDS)
def test_a_saved_model_goes_on(policy: str, options: dict[str, Any], tmp_path: Path) -> None:
    first, x, y = model(ours.Adam(0.01, **options), policy)
    history = first.fit(x, y, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0] / 2
    first.save(tmp_path / "model.keras")
    second = keras.models.load_model(tmp_path / "model.keras")
    inner = getattr(second.optimizer, "inner_optimizer", second.optimizer)
    assert options.items() <= inner.get_config().items()
    for each in (first, second):
        each.fit(x, y, verbose=0, shuffle=False)
    pairs = zip([*first.variables, *first.optimizer.variables], [*second.variables, *second.optimizer.variables])
    assert all((bits(a) == bits(b)).all() for a, b in pairs)


@torch_alone
def test_a_rule_of_ones_own() -> None:
    @adamite.rule
    def heavy(g: Any, m: Any, *, t: Any, lr: Any = 1e-3, beta: Any = 0.9) -> Any:
        """A ball.

        lr in [0, inf): the step.
        beta in [0, 1): its weight.
        """
        m = beta * m + g
        return lr * m, m

    optimizer = ours.optimizer(heavy)(learning_rate=RATE, state="8bit")
    wide = ours.optimizer(heavy)(learning_rate=RATE)
    for mine, other, start in zip(stepped(optimizer), stepped(wide), arrays(0), strict=True):
        moved = np.abs(ops.convert_to_numpy(other) - start).max()
        assert np.abs(ops.convert_to_numpy(mine) - ops.convert_to_numpy(other)).max() < 0.1 * moved
    assert "state" not in wide.get_config() and optimizer.get_config()["state"] == "8bit"


@torch_alone
@pytest.mark.parametrize("here", ["float32", "bfloat16", "8bit"])
@pytest.mark.parametrize("there", ["float32", "bfloat16", "8bit"])
@pytest.mark.parametrize("how", ["load_own_variables", "set_weights"])
def test_other_formats_are_converted(there: Any, here: Any, how: str) -> None:
    old, new = ours.Adam(RATE, state=there), ours.Adam(RATE, state=here)
    stepped(old)
    new.build(variables())
    store = saved(old)
    load: Callable[[], None] = (
        (lambda: new.load_own_variables(store))
        if how == "load_own_variables"
        else (lambda: new.set_weights([v.value for v in old.variables]))
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load()
    said = [str(w.message) for w in caught]
    words = f"Adam: states of 2 parameters were {there} when saved and are {here} here; they were converted"
    assert said == ([words] if there != here else [])
    assert int(ops.convert_to_numpy(new.iterations)) == 3
    # By the bytes alone: codes are at most an eighth of a number and a small share of the block's largest apart.
    error = {"float32": 0.0, "bfloat16": 1 / 256, "8bit": 1 / 8}[here] if there != here else 0.0
    for index, size in ((0, 4800), (1, 4800), (2, 7), (3, 7), (4, 4097), (5, 4097)):
        a, b = (_decoded(states(o)[index], size, index % 2 == 1) for o in (old, new))
        assert (
            np.abs(a - b).max() <= error * np.abs(a).max() + 1e-30 and (np.abs(a - b) <= error * np.abs(a) + 1e-5).all()
        )
    new.apply([ops.convert_to_tensor(g) for g in arrays(9)], new._trainable_variables)


def _decoded(variable: Any, size: int, unsigned: bool) -> Array:
    value = ops.convert_to_numpy(variable)
    if value.dtype == np.uint8:
        return (EIGHT_BIT_UNSIGNED if unsigned else EIGHT_BIT_SIGNED).decode(value, size)
    return np.asarray(value, np.float32).reshape(-1)


# ---- mistakes --------------------------------------------------------------------------------------


@torch_alone
def test_states_that_dont_fit_are_refused() -> None:
    old = ours.Adam(RATE, state="8bit")
    stepped(old)
    for state in ("float32", "bfloat16", "8bit"):
        new = ours.Adam(RATE, state=state)
        new.build([keras.Variable(np.zeros(shape, "float32"), name="x") for shape in [(96, 500), (7,), (4097,)]])
        with pytest.warns(UserWarning, match=r"x_momentum has the shape \(48316,\) here and \(4883,\) in it, of 8"):
            new.load_own_variables(saved(old))
        assert int(ops.convert_to_numpy(new.iterations)) == 0
    wide = ours.Adam(RATE)
    stepped(wide)
    new = ours.Adam(RATE, state="8bit")
    new.build([keras.Variable(np.zeros(shape, "float32"), name="x") for shape in [(50, 96), (7,), (4097,)]])
    with pytest.warns(UserWarning, match=r"x_momentum has the shape \(50, 96\) here and \(96, 50\) in it"):
        new.load_own_variables(saved(wide))
    new = ours.SGD(RATE, rounding="kahan")
    new.build(variables("bfloat16"))
    plain = ours.SGD(RATE)
    stepped(plain, "bfloat16")
    with pytest.warns(UserWarning, match="2 variables in it, 5 here"):
        new.load_own_variables(saved(plain))


@torch_alone
def test_what_cant_be_had_is_refused() -> None:
    for options, message in (
        ({"state": "4bit"}, r"Adam: state must be one of 'float32', 'bfloat16', '8bit', got '4bit'"),
        ({"state": None}, "state must be one of"),
        ({"rounding": "up"}, r"rounding must be one of 'nearest', 'stochastic', 'kahan', got 'up'"),
        ({"seed": -1, "state": "8bit"}, "seed must be a whole number"),
        ({"seed": 1}, "seed=1 has no effect"),
    ):
        with pytest.raises(ValueError, match=message):
            ours.Adam(RATE, **options)
    optimizer = ours.Adam(RATE, state="8bit")
    with pytest.raises(AttributeError, match="state is chosen when an optimizer is made"):
        optimizer.state = "float32"
    with pytest.raises(ValueError, match="computed in float32, and one is float64"):
        optimizer.build(variables("float64"))
    assert not optimizer.built
    with pytest.raises(ValueError, match="rounding='kahan' is for bfloat16 parameters, and there are none"):
        ours.Adam(RATE, rounding="kahan").build(variables())
    with keras.device("meta"), pytest.raises(ValueError, match=r"on the CPU, and w0 is a .* tensor on meta; leave it"):
        ours.Adam(RATE, state="8bit").build([keras.Variable(np.zeros((96, 50), "float32"), name="w0")])
    x = variables()
    optimizer.build(x)
    before = [bits(v) for v in (*x, *optimizer.variables)]
    with pytest.raises(ValueError, match="state='8bit' is for steps in place; call apply"):
        optimizer.stateless_apply(
            [v.value for v in optimizer.variables], [ops.ones(v.shape) for v in x], [v.value for v in x]
        )
    assert all((a == bits(v)).all() for a, v in zip(before, (*x, *optimizer.variables), strict=True))


@elsewhere
def test_other_backends_refuse() -> None:
    for options in ({"state": "8bit"}, {"state": "bfloat16"}, {"rounding": "kahan"}):
        with pytest.raises(ValueError, match=f"is for Keras's torch backend, and this is {BACKEND}; leave it out"):
            ours.Adam(RATE, **options)
    with pytest.raises(ValueError, match="state must be one of"):
        ours.Adam(RATE, state="4bit")
    assert "state" not in ours.Adam(RATE, state="float32").get_config()
    optimizer = ours.Adam(RATE)
    optimizer.build(variables())
    store = saved(optimizer)
    store["2"] = np.zeros(EIGHT_BIT_SIGNED.length(4800), np.uint8)
    with pytest.warns(UserWarning, match="w0_momentum is of 8 bits, which are read on Keras's torch backend alone"):
        optimizer.load_own_variables(store)
