"""Our optimizers against Keras's: numbers, states, files, training, mistakes. Run by test_backends.py."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import json
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import FunctionType
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import adamite
import adamite.keras as ours
from adamite.errors import StateDictError
from adamite.frontend.catalogue import KERAS
from adamite.lab import differences
from adamite.language.rule import Scalar
from adamite.schedules import ReduceOnPlateau, cosine, cosine_restarts, exponential, piecewise, warmup
from tests.support import ROOT, process_environment

Array = np.ndarray[Any, np.dtype[Any]]
theirs = keras.optimizers
BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow

    tensorflow.config.set_logical_device_configuration(
        tensorflow.config.list_physical_devices("CPU")[0], [tensorflow.config.LogicalDeviceConfiguration()] * 2
    )
RATE = 2.0**-7  # exact in float32, in which Keras keeps it
NAMES = [name for name in KERAS if hasattr(theirs, name)]  # the optimizers that Keras has too

Options = dict[str, Any]
# Exact in float32 too: Keras on TensorFlow rounds the numbers of float64 variables to it.
EXACT: Options = {
    "beta_1": 0.875,
    "beta_2": 0.984375,
    "epsilon": 2.0**-20,
    "rho": 0.75,
    "initial_accumulator_value": 0.25,
}
MORE: dict[str, list[Options]] = {
    "SGD": [{}, {"momentum": 0.75}, {"momentum": 0.75, "nesterov": True}],
    "RMSprop": [{}, {"momentum": 0.75}, {"centered": True}, {"momentum": 0.75, "centered": True}],
    "Adam": [{}, {"amsgrad": True}],
    "AdamW": [{"weight_decay": 0.0625}, {"amsgrad": True, "weight_decay": 0.25}],
}


def every(name: str) -> list[Options]:
    """An optimizer's options: those of its arguments that are in EXACT, with each of its flags."""
    arguments = inspect.signature(getattr(ours, name)).parameters
    exact = {argument: EXACT[argument] for argument in arguments if argument in EXACT}
    return [exact | more for more in MORE.get(name, [{}])]


EVERY = {name: every(name) for name in NAMES}
AROUND: list[Options] = [
    {"clipnorm": 0.5},
    {"global_clipnorm": 0.5},
    {"clipvalue": 0.25},
    {"gradient_accumulation_steps": 3},
    {"use_ema": True, "ema_momentum": 0.875, "ema_overwrite_frequency": 4},
    {"loss_scale_factor": 4.0},
    {"gradient_accumulation_steps": 2, "clipnorm": 0.5, "weight_decay": 0.25},
]
FEW = [(name, options[-1] | {"weight_decay": 0.125}) for name, options in EVERY.items()]
CASES = [(name, options) for name in NAMES for options in EVERY[name]] + FEW
CASES += [("Adam", EVERY["Adam"][-1] | around) for around in AROUND]
CASES += [("Nadam", EVERY["Nadam"][0] | AROUND[3]), ("SGD", EVERY["SGD"][1] | AROUND[6])]

SHAPES: list[tuple[int, ...]] = [(5, 3), (7,), ()]
GENERATOR = np.random.default_rng(0)
STARTS = [GENERATOR.normal(size=shape) for shape in SHAPES]
GRADIENTS = [[GENERATOR.normal(size=shape) * scale for shape in SHAPES] for scale in GENERATOR.uniform(0.01, 3, 100)]


# ---- running optimizers -----------------------------------------------------------------------------


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """JAX has float64 only if it is enabled."""
    if BACKEND == "jax" and dtype == "float64":
        import jax

        with jax.enable_x64(True):
            yield
    else:
        yield


def variables(dtype: str = "float32", starts: Sequence[Array] = STARTS) -> list[Any]:
    return [keras.Variable(start, dtype=dtype, name=f"w{i}") for i, start in enumerate(starts)]


def numpy(value: Any) -> Array:
    return np.array(ops.convert_to_numpy(ops.cast(value, "float64") if BACKEND != "jax" else value), np.float64)


def stepper(optimizers: Sequence[Any], sets: Sequence[Sequence[Any]]) -> Callable[[Sequence[Any]], None]:
    """A step of all optimizers with the same gradients, compiled as one program if the backend compiles."""
    for optimizer, trained in zip(optimizers, sets, strict=True):
        optimizer.build(list(trained))

    def step(gradients: Sequence[Any]) -> None:
        for optimizer, trained in zip(optimizers, sets, strict=True):
            optimizer.apply(list(gradients), list(trained))

    if BACKEND == "tensorflow":
        import tensorflow as tf

        compiled: Callable[[Sequence[Any]], None] = tf.function(step)
        return compiled
    if BACKEND == "jax":
        import jax

        @jax.jit
        def pure(states: Any, values: Any, gradients: Any) -> Any:
            found = [o.stateless_apply(s, gradients, v) for o, s, v in zip(optimizers, states, values, strict=True)]
            return [new for _, new in found], [new for new, _ in found]

        def jitted(gradients: Sequence[Any]) -> None:
            states = [[v.value for v in o.variables] for o in optimizers]
            values = [[v.value for v in trained] for trained in sets]
            for kept, new in zip((*optimizers, *sets), chain(*pure(states, values, list(gradients))), strict=True):
                for variable, value in zip(getattr(kept, "variables", kept), new, strict=True):
                    variable.assign(value)

        return jitted
    return step


def tensors(gradients: Sequence[Array], dtype: str) -> list[Any]:
    return [ops.convert_to_tensor(g, dtype=dtype) for g in gradients]


def distance(found: Sequence[Any], wanted: Sequence[Any], starts: Sequence[Array] = STARTS) -> float:
    """The largest difference, relative to the largest displacement."""
    moved = max(float(np.abs(numpy(w) - s).max()) for w, s in zip(wanted, starts, strict=True))
    return max(float(np.abs(numpy(f) - numpy(w)).max()) for f, w in zip(found, wanted, strict=True)) / moved


@pytest.mark.parametrize(("dtype", "cases"), [("float64", CASES), ("float32", FEW)], ids=["float64", "float32"])
def test_kerass_numbers(dtype: str, cases: list[tuple[str, Options]]) -> None:
    with precision(dtype):
        sets, optimizers = [], []
        for name, options in cases:
            for package in (ours, theirs):
                optimizer = getattr(package, name)(RATE, **options)
                if "weight_decay" in options:
                    optimizer.exclude_from_weight_decay(var_names=["w1"])
                optimizers.append(optimizer)
                sets.append(variables(dtype))
        step = stepper(optimizers, sets)
        for gradients in GRADIENTS:
            step(tensors(gradients, dtype))
        for index, (name, options) in enumerate(cases):
            mine, other = sets[2 * index], sets[2 * index + 1]
            bar = 1e-12 if dtype == "float64" else 2e-5
            if name == "Nadam" and BACKEND == "tensorflow":
                bar = max(bar, 1e-7)  # there Keras's 0.96 is a float32
            assert distance(mine, other) <= bar, (name, options, distance(mine, other))


def test_numpys_numbers() -> None:
    """The defaults, and the optimizers that Keras doesn't have."""
    names = list(KERAS)
    with precision("float64"):
        sets = [variables("float64") for _ in names]
        step = stepper([getattr(ours, name)(RATE) for name in names], sets)
        arrays = [[start.copy() for start in STARTS] for _ in names]
        plain = [
            adamite.optimizer(name.lower())(x, convention="keras", lr=RATE)
            for name, x in zip(names, arrays, strict=True)
        ]
        for gradients in GRADIENTS:
            step(tensors(gradients, "float64"))
            for optimizer in plain:
                optimizer.step(gradients)
        for name, found, wanted in zip(names, sets, arrays, strict=True):
            assert distance(found, wanted) <= 1e-12, (name, distance(found, wanted))
            if BACKEND != "tensorflow":  # machine code, the reference's bits
                assert all((numpy(f) == w).all() for f, w in zip(found, wanted, strict=True)), name


GOLDEN: list[tuple[str, Options, float]] = [
    ("SGD", {"momentum": 0.5}, 0.921875),
    ("SGD", {"momentum": 0.5, "nesterov": True}, 0.9140625),
    ("RMSprop", {}, 0.694688830789),
    ("RMSprop", {"centered": True, "momentum": 0.5}, 0.453261285853),
    ("Adagrad", {}, 0.919131891655),
    ("Adadelta", {}, 0.999875332728),
    ("Adam", {}, 0.799155440602),
    ("Adam", {"weight_decay": 0.0625}, 0.778106145829),
    ("AdamW", {"weight_decay": 0.0625}, 0.778106145829),
    ("Adam", {"amsgrad": True}, 0.799155440602),
    ("Adamax", {}, 0.820465015368),
    ("Nadam", {}, 0.883308701962),
    ("Lion", {"weight_decay": 0.0625}, 0.852714061737),
]


def test_golden_values() -> None:
    with precision("float64"):
        sets = [variables("float64", [np.array([1.0])]) for _ in GOLDEN]
        step = stepper([getattr(ours, name)(0.125, **options) for name, options, _ in GOLDEN], sets)
        for gradient in (0.5, -0.25, 0.125):
            step(tensors([np.array([gradient])], "float64"))
        for (name, options, wanted), (x,) in zip(GOLDEN, sets, strict=True):
            assert numpy(x)[0] == pytest.approx(wanted, abs=1e-11), (name, options)


# ---- states and settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), CASES)
def test_kerass_layout(name: str, options: Options) -> None:
    mine, other = (getattr(package, name)(RATE, **options, name="o") for package in (ours, theirs))
    for optimizer in (mine, other):
        optimizer.build(variables())
    found, wanted = ([(v.path, tuple(v.shape), v.dtype) for v in o.variables] for o in (mine, other))
    if name == "Nadam":  # Keras's product has no name
        (*found, product), (*wanted, _) = found, wanted
        assert product[1] == ()
    assert found == wanted
    assert mine.get_config().keys() == other.get_config().keys()
    assert theirs.deserialize(theirs.serialize(mine)).get_config() == mine.get_config()
    assert type(mine).from_config(other.get_config()).get_config() == other.get_config()


@pytest.mark.parametrize("name", NAMES)
def test_kerass_arguments(name: str) -> None:
    mine, other = (inspect.signature(getattr(package, name)).parameters for package in (ours, theirs))
    known = {p.name: p.default for p in other.values() if p.name != "kwargs"}
    own = {p.name: p.default for p in mine.values() if p.name != "options"}
    assert list(own) == list(known)[: len(own)]
    assert own == {name: known[name] for name in own}
    assert known.keys() - own.keys() == ours.Options.__annotations__.keys()
    text = getattr(ours, name).__doc__
    assert "xₜ = " in text and all(f"    {argument}" in text for argument in own)


def test_states_go_from_keras_and_back() -> None:
    for name, options in CASES:
        sets = variables(), variables()
        for first, second in ((ours, theirs), (theirs, ours)):
            old = getattr(first, name)(RATE, **options)
            for gradients in GRADIENTS[:3]:
                old.apply(tensors(gradients, "float32"), sets[0])
            store: dict[str, Any] = {}
            old.save_own_variables(store)
            new = getattr(second, name).from_config(old.get_config())
            for mine, value in zip(sets[1], sets[0], strict=True):
                mine.assign(value)
            new.build(sets[1])
            new.load_own_variables(store)
            for optimizer, trained in ((old, sets[0]), (new, sets[1])):
                optimizer.apply(tensors(GRADIENTS[3], "float32"), trained)
            assert distance(sets[1], sets[0]) <= 1e-4, (name, options)


def test_states_that_dont_fit_are_refused() -> None:
    trained = ours.Adam()
    trained.apply(tensors(GRADIENTS[0], "float32"), variables())
    store: dict[str, Any] = {}
    trained.save_own_variables(store)
    for other, message in (
        (ours.Adam(amsgrad=True), r"this Adam, nothing of it was loaded: 8 variables in it, 11 here"),
        (ours.SGD(), r"this SGD, nothing of it was loaded: 8 variables in it, 2 here"),
    ):
        other.build(variables())
        with pytest.warns(UserWarning, match=message):
            other.load_own_variables(store)
        with pytest.raises(StateDictError, match=message):
            other.set_weights([v.value for v in trained.variables])
    with pytest.warns(UserWarning, match=r"8 variables in it, 2 here; it isn't built yet"):
        ours.Adam().load_own_variables(store)
    turned = ours.Adam()
    turned.build(variables(starts=[STARTS[0].T, *STARTS[1:]]))
    with pytest.warns(UserWarning, match=r"w0_momentum has the shape \(3, 5\) here and \(5, 3\) in it"):
        turned.load_own_variables(store)
    assert int(numpy(turned.iterations)) == 0
    unbuilt: dict[str, Any] = {}
    ours.Adam(0.5).save_own_variables(unbuilt)  # nothing is lost
    turned.load_own_variables(unbuilt)
    assert float(numpy(turned.learning_rate)) == 0.5


MISTAKES: list[tuple[str, Options, type[Exception], str]] = [
    ("Adam", {"lr": 0.1}, TypeError, "Adam has no argument 'lr'; did you mean learning_rate"),
    ("Adam", {"beta1": 0.9}, TypeError, "did you mean beta_1"),
    ("Adam", {"decay": 0.1}, TypeError, r"Adam has no argument 'decay'; did you mean learning_rate or weight_decay\?"),
    ("Adam", {"clip_norm": 1.0}, TypeError, r"did you mean clipnorm or global_clipnorm\?"),
    ("Adam", {"grad_clip": 1.0}, TypeError, r"did you mean clipnorm or global_clipnorm or clipvalue\?"),
    ("Adam", {"lr_schedule": 0.1}, TypeError, r"did you mean learning_rate\?"),
    ("Adam", {"betas": (0.9, 0.99)}, TypeError, r"did you mean beta_1 and beta_2\?"),
    ("SGD", {"momentun": 0.9}, TypeError, "did you mean momentum"),
    ("Adam", {"learning_rate": -1.0}, ValueError, r"learning_rate must be a number in \[0, inf\), got -1"),
    ("Adam", {"learning_rate": "fast"}, TypeError, r"learning_rate must be a number in \[0, inf\)"),
    ("Adam", {"beta_1": 1.0}, ValueError, r"Adam: beta_1 must be a number in \[0, 1\), got 1.0"),
    ("Adam", {"epsilon": float("nan")}, ValueError, "epsilon"),
    ("Adam", {"amsgrad": "yes"}, TypeError, "amsgrad must be one of False, True"),
    ("Adam", {"clipnorm": -1.0}, ValueError, r"clipnorm must be a number in \[0, inf\), got -1.0"),
    ("Adam", {"clipvalue": -1.0}, ValueError, "clipvalue"),
    ("Adam", {"clipnorm": 1.0, "clipvalue": 1.0}, ValueError, "Only one of"),
    ("Adam", {"weight_decay": -0.1}, ValueError, r"weight_decay must be a number in \[0, inf\)"),
    ("AdamW", {"weight_decay": None}, ValueError, "weight_decay must be a number"),
    ("Adam", {"gradient_accumulation_steps": 1}, ValueError, "a whole number of at least 2"),
    ("Adam", {"loss_scale_factor": 0.0}, ValueError, "loss_scale_factor"),
    ("Adam", {"ema_momentum": 2.0, "use_ema": True}, ValueError, "ema_momentum"),
    ("Lion", {"epsilon": 1e-7}, TypeError, "Lion has no argument 'epsilon'"),
]


@pytest.mark.parametrize(("name", "options", "error", "message"), MISTAKES)
def test_mistakes_are_refused(name: str, options: Options, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        getattr(ours, name)(**options)


ALLOWED: list[tuple[str, str, list[float], list[float]]] = [
    ("Lion", "beta_1", [0.5, 1.0], [0.0, 1.5]),
    ("Lion", "beta_2", [0.0, 0.5], [1.5]),
    ("SGD", "momentum", [0.0, 1.0], [1.5, -0.5]),
    ("RMSprop", "rho", [0.0, 1.0], [1.5]),
    ("Adam", "epsilon", [0.0, 1.0], [-1.0]),
]


@pytest.mark.parametrize(("name", "argument", "allowed", "refused"), ALLOWED)
def test_what_keras_takes_is_taken(name: str, argument: str, allowed: list[float], refused: list[float]) -> None:
    """Values at the ends of the ranges give Keras's numbers."""
    for value in allowed:
        ends = []
        for package in (ours, theirs):
            x = variables(starts=[np.ones(3)])
            optimizer = getattr(package, name)(RATE, **{argument: value})
            for gradient in (0.5, -0.25, 2.0):
                optimizer.apply(tensors([np.full(3, gradient)], "float32"), x)
            ends.append(numpy(x[0]))
        np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)
    for value in refused:
        with pytest.raises(ValueError, match=rf"{name}: {argument} must be a number in "):
            getattr(ours, name)(RATE, **{argument: value})


def test_assignments_are_checked() -> None:
    optimizer, x = ours.Adam(RATE), variables()
    optimizer.apply(tensors(GRADIENTS[0], "float32"), x)
    for name, value in (("beta_1", 1.5), ("learning_rate", -1.0), ("clipnorm", -1.0)):
        with pytest.raises(ValueError, match=name):
            setattr(optimizer, name, value)
    optimizer.beta_1 = 0.5
    other, y = theirs.Adam(RATE), variables()
    other.apply(tensors(GRADIENTS[0], "float32"), y)
    other.beta_1 = 0.5
    for trained, o in ((x, optimizer), (y, other)):
        o.learning_rate = RATE / 2
        o.apply(tensors(GRADIENTS[1], "float32"), trained)
    assert distance(x, y) <= 2e-5
    optimizer.amsgrad = True
    with pytest.raises(ValueError, match="built with the states m, v, and needs m, v, v_max"):
        optimizer.apply(tensors(GRADIENTS[2], "float32"), x)


# ---- gradients and types -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_variables_move(dtype: str) -> None:
    """Where Keras's own stand still (bfloat16's 0.999 is 1): as in float32, rounded once a step."""
    options: list[Options] = [{}, {"clipnorm": 10.0}, {"gradient_accumulation_steps": 2}, {"use_ema": True}]
    optimizers = [ours.Adam(0.0625, **more) for more in options]
    sets = [variables(dtype, [np.ones(64)]) for _ in optimizers]
    wide = variables("float32", [np.ones(64)])
    step = stepper([*optimizers, ours.Adam(0.0625)], [*sets, wide])
    gradient = np.linspace(0.5, 1.0, 64)
    for _ in range(8):
        step(tensors([gradient], dtype if BACKEND != "jax" else "float32"))
    for optimizer, (x,) in zip(optimizers, sets, strict=True):
        kept = [v for v in optimizer.variables if "iteration" not in v.path]
        assert {v.dtype for v in kept} == {"float32"}
        assert x.dtype == dtype
        expected = 0.75 if optimizer.gradient_accumulation_steps else numpy(wide[0])
        np.testing.assert_allclose(numpy(x), expected, atol=0.01)


@pytest.mark.parametrize("options", [{}, {"clipvalue": 1e6}, {"global_clipnorm": 1e6}], ids=str)
def test_gradients_that_a_narrow_variable_cannot_hold(options: Options) -> None:
    """Computed in float32, and rounded once."""
    (x,) = variables("float16", [np.zeros(4)])
    ours.SGD(2.0**-10, **options).apply(tensors([np.full(4, 1e5)], "float32"), [x])
    np.testing.assert_array_equal(numpy(x), np.full(4, -1e5 / 2**10, np.float16))


def test_adabeliefs_epsilons_are_one_unless_both_are_given() -> None:
    ends = []
    cases: list[Options] = [{"epsilon": 2.0**-10}, {"epsilon": 2.0**-10, "epsilon_root": 2.0**-10}]
    for given in cases:
        (x,) = variables("float32", [np.ones(3)])
        optimizer = ours.AdaBelief(RATE, **given)
        optimizer.apply(tensors([np.full(3, 0.01)], "float32"), [x])
        ends.append(numpy(x))
        assert ours.AdaBelief.from_config(optimizer.get_config()).epsilon_root == given.get("epsilon_root")
    np.testing.assert_array_equal(ends[0], ends[1])


def test_missing_gradients_are_skipped() -> None:
    optimizer, x = ours.Adam(RATE), variables()
    optimizer.build(x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer.apply([None, *tensors(GRADIENTS[0][1:], "float32")], x)
    assert any("Gradients do not exist" in str(w.message) for w in caught)
    assert (numpy(x[0]) == STARTS[0].astype(np.float32)).all() and (numpy(x[1]) != STARTS[1]).all()
    optimizer.apply(tensors(GRADIENTS[1], "float32"), x)
    other, y = theirs.Adam(RATE), variables()
    other.build(y)
    other.apply([None, *tensors(GRADIENTS[0][1:], "float32")], y)
    other.apply(tensors(GRADIENTS[1], "float32"), y)
    assert distance(x, y) <= 2e-5


def test_nan_isnt_hidden() -> None:
    for name in ours.OPTIMIZERS:
        optimizer = ours.OPTIMIZERS[name](RATE)
        x = variables(starts=[np.ones(4)])
        for value in (1.0, np.nan):
            optimizer.apply(tensors([np.array([1.0, 1.0, value, 1.0])], "float32"), x)
        for _ in range(2):
            optimizer.apply(tensors([np.ones(4)], "float32"), x)
        assert np.isnan(numpy(x[0])).tolist() == [False, False, True, False], name


def sparse_and_dense() -> tuple[Any, Array]:
    """A gradient of two rows, as the backend has it from embeddings."""
    dense = np.zeros((5, 3))
    dense[[1, 4]] = 1.0
    return of_rows([1, 4], np.ones((2, 3), "float32")), dense


TABLE, WORDS = np.ones((5, 3), "float32"), [[1, 4], [1, 1], [3]]  # with a row that is twice in a batch


def of_rows(words: Sequence[int], values: Array) -> Any:
    """The gradient of some rows, as an embedding has it."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.IndexedSlices(tf.constant(values), tf.constant(words), tf.constant(TABLE.shape))
    if BACKEND == "jax":
        from jax.experimental import sparse as jax_sparse

        return jax_sparse.BCOO(
            (ops.convert_to_tensor(values), ops.convert_to_tensor(words)[:, None]), shape=TABLE.shape
        )
    import torch

    return torch.sparse_coo_tensor(torch.tensor([words]), torch.tensor(values), TABLE.shape)


# By what is assigned rows alone: what a gradient of zero leaves as it is. States that decay are assigned as a whole.
ROWS: list[tuple[str, Options, set[str]]] = [
    ("SGD", {}, {"x"}),
    ("Adagrad", {}, {"x", "accumulator"}),
    ("RMSprop", {}, {"x"}),
    ("Adadelta", {}, {"x"}),
    ("SGD", {"momentum": 0.5}, set()),
    ("SGD", {"weight_decay": 0.5}, set()),
    ("Adam", {}, set()),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "options", "expected"), ROWS, ids=lambda value: str(value))
def test_rows_alone_where_that_is_the_dense_step(name: str, options: Options, expected: set[str], dtype: str) -> None:
    by_rows: set[str] = set()
    cls = getattr(ours, name)

    class Watched(cls):  # type: ignore[misc, valid-type]
        def assign(self, variable: Any, value: Any) -> None:
            if hasattr(value, "indices"):
                by_rows.add(next(v.name for v in (x, *self.variables) if v is variable or v.value is variable))
            super().assign(variable, value)

    x, same = (keras.Variable(TABLE, dtype=dtype, name="x") for _ in range(2))
    rows, dense = Watched(0.125, **options), cls(0.125, **options)
    for optimizer, variable in ((rows, x), (dense, same)):
        optimizer.build([variable])
    for words in WORDS:
        values = np.arange(3.0 * len(words), dtype="float32").reshape(-1, 3) / 4  # whose sums are exact
        whole = np.zeros_like(TABLE)
        np.add.at(whole, words, values)
        rows.apply([ops.cast(of_rows(words, values), dtype) if BACKEND == "torch" else of_rows(words, values)], [x])
        dense.apply(tensors([whole], "float32"), [same])
    for mine, other in zip((x, *rows.variables), (same, *dense.variables), strict=True):
        np.testing.assert_array_equal(numpy(mine), numpy(other))
    assert {n.rpartition("_")[2] for n in by_rows} == (expected if BACKEND != "torch" else set())


def test_rows_alone_in_compiled_training() -> None:
    """A model with an embedding, beside one whose gradients are made dense by clipping that clips nothing."""
    tokens = np.random.default_rng(0).integers(0, 20, (32, 6))
    ends = []
    cases: list[Options] = [{}, {"clipvalue": 1e9}]
    for options in cases:
        keras.utils.set_random_seed(1)
        network = keras.Sequential([keras.Input((6,), dtype="int32"), layers.Embedding(20, 4), layers.Flatten()])
        network.add(layers.Dense(1))
        network.compile(optimizer=ours.Adagrad(0.125, **options), loss="mse", jit_compile=BACKEND != "torch")
        network.fit(tokens, tokens[:, :1] / 8.0, batch_size=16, epochs=2, shuffle=False, verbose=0)
        ends.append([numpy(w) for w in network.weights])
    for mine, other in zip(*ends, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [None, (5, 3), [5, 3], np.array([5, 3])], ids=str)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_slices_without_a_shape_or_with_one_in_any_form(name: str, shape: Any) -> None:
    if BACKEND != "tensorflow":
        pytest.skip("IndexedSlices are TensorFlow's")
    import tensorflow as tf

    ends = []
    for gradient in (tf.IndexedSlices(tf.ones((2, 3)), (1, 4), shape), tensors([sparse_and_dense()[1]], "float32")[0]):
        (x,) = variables(starts=[TABLE])
        getattr(ours, name)(RATE).apply([gradient], [x])
        ends.append(numpy(x))
    np.testing.assert_array_equal(ends[0], ends[1])


@pytest.mark.parametrize(("name", "options"), [("SGD", {}), ("SGD", {"momentum": 0.5}), ("Adam", {}), ("Nadam", {})])
def test_a_variable_that_is_listed_twice_moves_twice(name: str, options: Options) -> None:
    ends = []
    for package in (ours, theirs):
        (x,) = variables(starts=[np.ones(3)])
        optimizer = getattr(package, name)(0.125, **options)
        optimizer.build([x])
        for _ in range(2):
            optimizer.apply(tensors([np.full(3, 1.0), np.full(3, 2.0)], "float32"), [x, x])
        ends.append(numpy(x))
    if name == "SGD" and not options:
        assert ends[0].tolist() == [1 - 0.125 * 6] * 3
    # Keras on torch steps on all at once, so that the last moment counts.
    if BACKEND != "torch" or (name == "SGD" and not options):
        np.testing.assert_allclose(ends[0], ends[1], rtol=1e-4)


@functools.cache
def mirrored() -> Any:
    """Two replicas; another strategy would take the same numbers for its collectives."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.mark.parametrize("compiled", [False, True])
def test_two_replicas(compiled: bool) -> None:
    """Every class under MirroredStrategy, as without it."""
    if BACKEND != "tensorflow":
        pytest.skip("MirroredStrategy is TensorFlow's")
    import tensorflow as tf

    ends = []
    for strategy in (mirrored(), tf.distribute.get_strategy()):
        with strategy.scope():
            optimizers = [cls(RATE, weight_decay=0.125) for cls in ours.OPTIMIZERS.values()]
            sets = [variables() for _ in optimizers]
            for optimizer, trained in zip(optimizers, sets, strict=True):
                optimizer.build(trained)

        def step(optimizers: Any = optimizers, sets: Any = sets, count: int = strategy.num_replicas_in_sync) -> None:
            for optimizer, trained in zip(optimizers, sets, strict=True):  # the sum over replicas is taken
                optimizer.apply(tensors([g / count for g in GRADIENTS[0]], "float32"), trained)

        def run(strategy: Any = strategy, step: Any = step) -> None:
            strategy.run(step)

        runs = tf.function(run) if compiled else run
        for _ in range(3):
            runs()
        ends.append([numpy(v) for trained in sets for v in trained])
    for mine, other in zip(*ends, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_model_of_two_replicas(eagerly: bool) -> None:
    if BACKEND != "tensorflow":
        pytest.skip("MirroredStrategy is TensorFlow's")
    losses = []
    for scope in (mirrored().scope(), contextlib.nullcontext()):
        with scope:
            network = model()
            network.compile(ours.Nadam(RATE), "mse", run_eagerly=eagerly, jit_compile=False)
        losses.append(fit(None, 1, network=network)[1])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.parametrize("shape", [(1,), (5, 3), (16,)], ids=str)
def test_gradients_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    optimizer, x = ours.Adam(RATE), [keras.Variable(np.zeros((3, 5), "float32"), name="x")]
    with pytest.raises(ValueError, match=r"the gradient of x has shape .*, and the variable \(3, 5\)"):
        optimizer.apply([ops.ones(shape)], x)
    assert not numpy(x[0]).any()


def test_fewer_gradients_than_variables_are_refused() -> None:
    x = variables()
    with pytest.raises(ValueError, match="gradients for"):
        ours.SGD(RATE).apply(tensors(GRADIENTS[0], "float32")[:1], x)


def test_names_of_papers_are_not_taken_for_keras_names() -> None:
    with pytest.raises(AttributeError, match="Adam has no beta1: it is beta_1 here"):
        ours.Adam(RATE).beta1 = 0.5
    with pytest.raises(AttributeError, match="SGD has no lr: it is learning_rate here"):
        ours.SGD(RATE).lr = 0.5


def test_float64_as_far_as_the_backend_has_it() -> None:
    x = [keras.Variable(np.ones(37), dtype="float64")]
    for name in NAMES:
        before = numpy(x[0]).copy()
        getattr(ours, name)(RATE).apply([ops.ones(37, "float64")], x)
        assert np.isfinite(numpy(x[0])).all() and (numpy(x[0]) < before).all(), name


def test_stateless_apply_changes_nothing() -> None:
    if BACKEND == "tensorflow":
        pytest.skip("Keras has none on TensorFlow")
    optimizer, x = ours.Nadam(RATE), variables()
    optimizer.build(x)
    before = [numpy(v) for v in (*x, *optimizer.variables)]
    new, _ = optimizer.stateless_apply(
        [v.value for v in optimizer.variables], tensors(GRADIENTS[0], "float32"), [v.value for v in x]
    )
    for value, old in zip((*x, *optimizer.variables), before, strict=True):
        assert (numpy(value) == old).all()
    optimizer.apply(tensors(GRADIENTS[0], "float32"), x)
    assert distance(x, new) <= 1e-6


def test_in_place_on_torch() -> None:
    if BACKEND != "torch":
        pytest.skip("torch's")
    import torch

    optimizer, x = ours.Adam(RATE), variables()
    y = variables()
    other = ours.Adam(RATE)
    for step, gradients in enumerate(GRADIENTS[:6]):
        given = tensors(gradients, "float32")
        if step == 3:  # tensors elsewhere, and a gradient of other strides
            x[0].value.data = x[0].value.data.clone()
            given[0] = given[0].t().contiguous().t()
        places = [v.value.data_ptr() for v in x]
        optimizer.apply(given, x)
        assert [v.value.data_ptr() for v in x] == places
        other.apply(tensors(gradients, "float32"), y)
        assert all((numpy(a) == numpy(b)).all() for a, b in zip(x, y, strict=True))
    with pytest.raises(ValueError, match="has shape"):
        optimizer.apply([torch.ones(3, 5), *tensors(GRADIENTS[0], "float32")[1:]], x)


# ---- rules of one's own --------------------------------------------------------------------------------


@adamite.rule
def lookahead(g, z="x", s="s0", n: Scalar = 1.0, *, t, lr=0.1, s0=0.5, power: float | None = None, fast: bool = True):
    """A rule with every kind of state.

    fast: without brakes.
    """
    n = n * 0.5
    s = s + g**2
    z = z - lr * g / s**0.5
    return (lr * n * g + 0.0 * z if fast else lr * g), z, s, n


def test_a_rule_of_ones_own() -> None:
    cls = ours.optimizer(lookahead)
    assert cls is ours.optimizer(lookahead) and issubclass(cls, theirs.Optimizer)
    with precision("float64"):
        optimizer, x = cls(RATE, s0=0.25), variables("float64")
        step = stepper([optimizer], [x])
        arrays = [start.copy() for start in STARTS]
        plain = adamite.optimizer(lookahead)(arrays, lr=RATE, s0=0.25)
        for gradients in GRADIENTS[:10]:
            step(tensors(gradients, "float64"))
            plain.step(gradients)
        assert distance(x, arrays) <= 1e-12
        assert [v.path.partition("/")[2] for v in optimizer.variables][2:] == [
            *(f"w{i}_{state}" for i in range(3) for state in "zs"),
            "n",
        ]
    again = theirs.deserialize(theirs.serialize(optimizer))
    assert type(again) is cls and again.get_config() == optimizer.get_config()
    assert ours.optimizer("AdamW") is ours.AdamW and ours.optimizer("radam_eps_hat")(0.1).beta1 == 0.9
    with pytest.raises(ValueError, match="did you mean adam"):
        ours.optimizer("adamv")
    with pytest.raises(TypeError, match="takes a rule"):
        ours.optimizer(print)  # type: ignore[arg-type]


@adamite.rule
def fixed(g, *, t, size=0.5):
    """Without a learning rate."""
    return size * g


def test_a_rule_without_a_learning_rate() -> None:
    optimizer, x = ours.optimizer(fixed)(), variables(starts=[np.ones(2)])
    optimizer.apply(tensors([np.ones(2)], "float32"), x)
    assert numpy(x[0]).tolist() == [0.5, 0.5]
    with pytest.raises(TypeError, match="has no learning_rate: its rule has no lr"):
        optimizer.learning_rate = 0.1
    assert "learning_rate" not in optimizer.get_config()


# ---- training ------------------------------------------------------------------------------------------

INPUTS = GENERATOR.normal(size=(64, 6)).astype(np.float32)
TARGETS = (INPUTS @ GENERATOR.normal(size=(6, 1))).astype(np.float32)


def model() -> Any:
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(1)])


def fit(optimizer: Any, epochs: int = 3, callbacks: Sequence[Any] = (), network: Any = None) -> tuple[Any, list[float]]:
    network = network or model()
    if optimizer is not None:
        network.compile(optimizer=optimizer, loss="mse")
    known = network.fit(
        INPUTS, TARGETS, batch_size=16, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks)
    )
    return network, known.history["loss"]


def test_training_as_with_keras() -> None:
    """A schedule, weight decay, accumulation and averages at once; and callbacks that set the rate."""
    decays = theirs.schedules.ExponentialDecay(0.0625, 8, 0.5)
    options = {"weight_decay": 0.01, "gradient_accumulation_steps": 2, "use_ema": True, "ema_momentum": 0.5}
    found, wanted = (fit(package.Adam(decays, **options), 4)[1] for package in (ours, theirs))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    for make in (
        lambda: keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=100.0, factor=0.5),
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.0625 / (epoch + 1)),
    ):
        (one, found), (two, wanted) = (fit(package.AdamW(0.0625), 4, [make()]) for package in (ours, theirs))
        assert float(numpy(one.optimizer.learning_rate)) == float(numpy(two.optimizer.learning_rate)) < 0.0625
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_a_function_as_learning_rate() -> None:
    optimizer, x = ours.SGD(lambda: 0.5), variables(starts=[np.ones(2)])
    optimizer.apply(tensors([np.ones(2)], "float32"), x)
    assert numpy(x[0]).tolist() == [0.5, 0.5]


SCHEDULES = [
    warmup(cosine(RATE, steps=9, end=RATE / 8), steps=5),
    cosine_restarts(RATE, steps=3, growth=1.5),
    exponential(RATE, rate=0.5, steps=4, staircase=True),
    warmup(piecewise([4, 9], [RATE, RATE / 4, RATE / 2]), steps=3, start=RATE / 2),
    warmup(theirs.schedules.CosineDecay(RATE, 9), steps=4),
]


def test_adamites_schedules() -> None:
    """Compiled or not, the schedule's own numbers: those of the NumPy step."""
    expected = []
    for schedule in SCHEDULES:
        x = [np.array(start, np.float32) for start in STARTS]
        reference = adamite.SGD(x, lr=schedule)
        for gradients in GRADIENTS[:16]:
            reference.step([np.array(g, np.float32) for g in gradients])
        expected.append(x)
    for compiled in (False, True):
        optimizers, sets = [ours.SGD(schedule) for schedule in SCHEDULES], [variables() for _ in SCHEDULES]
        step = stepper(optimizers, sets)
        for gradients in GRADIENTS[:16]:
            given = tensors(gradients, "float32")
            if compiled:
                step(given)
                continue
            for optimizer, x in zip(optimizers, sets, strict=True):
                optimizer.apply(list(given), x)
        for optimizer, x, wanted, schedule in zip(optimizers, sets, expected, SCHEDULES, strict=True):
            assert max(float(np.abs(numpy(v) - e).max()) for v, e in zip(x, wanted, strict=True)) <= 3e-7
            assert float(ops.convert_to_numpy(optimizer.learning_rate)) == pytest.approx(schedule(16), rel=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES[-2:], ids=["ours", "Keras's within"])
def test_a_model_is_saved_with_adamites_schedule(schedule: Any, tmp_path: Path) -> None:
    network, _ = fit(ours.AdamW(schedule), 1)
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = loaded.optimizer._learning_rate
    assert isinstance(again, ours.Schedule) and again.get_config() == ours.Schedule(schedule).get_config()
    assert str(schedule).startswith("warmup(<") or again.schedule == schedule
    assert fit(None, 1, network=loaded)[1] == fit(None, 1, network=network)[1]


def test_every_schedule_is_written_and_read() -> None:
    for schedule in SCHEDULES[:-1]:
        config = json.loads(json.dumps(ours.Schedule(schedule).get_config()))
        assert ours.Schedule.from_config(config).schedule == schedule


def test_schedules_elsewhere() -> None:
    optimizer = ours.SGD(0.5)
    optimizer.learning_rate = cosine(0.25, steps=10)
    assert float(ops.convert_to_numpy(optimizer.learning_rate)) == 0.25
    _, found = fit(theirs.SGD(ours.Schedule(SCHEDULES[0])))  # Keras's own takes it so
    np.testing.assert_allclose(found, fit(ours.SGD(SCHEDULES[0]))[1], rtol=1e-5)
    twin = pickle.loads(pickle.dumps(ours.Schedule(SCHEDULES[0])))
    assert twin.schedule == SCHEDULES[0] and repr(twin) == f"Schedule({SCHEDULES[0]!r})"


PLATEAU = ReduceOnPlateau(0.1)
FALLING: Any = cosine(0.5, steps=3)
NUMBER: Any = 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ours.Adam(PLATEAU),
            r"^Adam: learning_rate can't be ReduceOnPlateau\(0.1\): it follows a metric.*ReduceLROnPlat",
        ),
        (lambda: ours.Adam(warmup(PLATEAU, steps=3)), r"learning_rate can't be warmup\(ReduceOnPlateau"),
        (lambda: setattr(ours.Adam(), "learning_rate", PLATEAU), r"learning_rate can't be ReduceOnPlateau"),
        (lambda: ours.Adam(cosine(-0.5, steps=3)), r"learning_rate must be a number in \[0, inf\), got -0.5"),
        (lambda: ours.Adam(cosine), "learning_rate must be a number, or a function that is called without arguments"),
        (lambda: ours.Adam(lambda step: 0.5), "learning_rate must be a number, or a function that is called without"),
        (lambda: ours.Adam(weight_decay=FALLING), r"weight_decay must be a number in .* got cosine\(0.5"),
        (lambda: ours.Adam(beta_1=FALLING), r"beta_1 must be a number in .* got cosine\(0.5"),
        (lambda: ours.Schedule(warmup(PLATEAU, steps=3)), r"^Schedule: schedule can't be warmup\(Reduce.*ReduceLROnPl"),
        (lambda: stepped(theirs.Adam(FALLING), 0.0, [1.0]), r"take adamite.keras.Schedule\(cosine\(0.5, steps=3\)\)"),
        (lambda: ours.Schedule(NUMBER), "Schedule takes one of adamite.schedules"),
    ],
)
def test_schedules_that_are_refused_when_they_are_given(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        (one, found), (_, wanted) = (fit(package.Adam(0.0625), 2) for package in (ours, theirs))
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(one.optimizer, theirs.LossScaleOptimizer)
    assert type(one.optimizer.inner_optimizer) is ours.Adam
    np.testing.assert_allclose(found, wanted, rtol=1e-2)


GO_ON = """
import json, sys
from tests.keras import checks
model = checks.keras.models.load_model(sys.argv[1])
print(json.dumps([type(model.optimizer).__module__, *checks.fit(None, 2, network=model)[1]]))
"""


def test_going_on_in_a_new_process(tmp_path: Path) -> None:
    network, _ = fit(ours.Nadam(0.0625, use_ema=True, weight_decay=0.01), 2)
    network.save(tmp_path / "model.keras")
    command = [sys.executable, "-c", GO_ON, str(tmp_path / "model.keras")]
    done = subprocess.run(command, env=process_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    module, *losses = json.loads(done.stdout.splitlines()[-1])
    assert module == "adamite.keras"
    assert losses == fit(None, 2, network=network)[1]


def test_a_file_that_was_saved_untrained(tmp_path: Path) -> None:
    network = model()
    network.compile(optimizer=ours.Adam(0.0625), loss="mse")
    network.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert fit(None, 1, network=again)[1] == fit(None, 1, network=network)[1]


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "adam": lambda package: package.Adam(0.0625),
    "amsgrad": lambda package: package.Adam(0.0625, amsgrad=True),
    "sgd": lambda package: package.SGD(0.0625),
}


@pytest.mark.parametrize(
    ("saves", "loads", "built"),
    [
        ("adam", "adam", False),
        ("adam", "sgd", False),
        ("adam", "amsgrad", True),
        ("sgd", "sgd", False),
        ("sgd", "adam", False),
    ],
)
def test_weights_are_loaded_whatever_the_optimizer(saves: str, loads: str, built: bool, tmp_path: Path) -> None:
    """Into a compiled model; its optimizer goes on, or begins anew and says so, as Keras's."""
    ends = []
    for package in (ours, theirs):
        network, _ = fit(OPTIMIZERS[saves](package), 1)
        network.save_weights(tmp_path / "model.weights.h5")
        other = model()
        other.set_weights([np.zeros(w.shape) for w in other.weights])
        other.compile(optimizer=OPTIMIZERS[loads](package), loss="mse")
        if built:
            other.optimizer.build(other.trainable_variables)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            other.load_weights(tmp_path / "model.weights.h5")
        told = any("optimizer" in str(warning.message) for warning in said)
        for mine, saved in zip(other.weights, network.weights, strict=True):
            np.testing.assert_array_equal(numpy(mine), numpy(saved))
        steps = int(numpy(other.optimizer.iterations))
        assert told != bool(steps)
        ends.append((steps, told, fit(None, 1, network=other)[1]))
    if saves == "sgd" != loads:
        assert ends[0][0] == 0 < ends[1][0]  # Keras takes the number of steps, and has no moments of them
        return
    assert ends[0][:2] == ends[1][:2]
    np.testing.assert_allclose(ends[0][2], ends[1][2], rtol=1e-4)


COPIED: dict[str, type[Any]] = {
    **ours.OPTIMIZERS,
    "a rule of adamite's": ours.optimizer(adamite.rules.adam),
    "a name": ours.optimizer("radam_eps_hat"),
    "a subclass": type("Mine", (ours.Adam,), {}),
}


@pytest.mark.filterwarnings("error:the optimizer's state")
@pytest.mark.parametrize("name", sorted(COPIED))
@pytest.mark.parametrize("how", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_a_copy_is_made_from_the_config_unbuilt(name: str, how: Callable[[Any], Any]) -> None:
    """As Keras's own are, and without a warning: a copy isn't meant to have the states."""
    if name == "a subclass" and how is not copy.deepcopy:
        pytest.skip("pickle finds no class that was made in a function")
    optimizer = COPIED[name](learning_rate=RATE, weight_decay=0.125)
    optimizer.apply(tensors(GRADIENTS[0], "float32"), variables())
    again = how(optimizer)
    assert type(again) is type(optimizer) and again.get_config() == optimizer.get_config()
    assert not again.built
    if known := getattr(theirs, type(optimizer).__name__, None):
        original = known(RATE)
        original.apply(tensors(GRADIENTS[0], "float32"), variables())
        assert not how(original).built
        assert int(numpy(how(original).iterations)) == int(numpy(again.iterations))
    again.apply(tensors(GRADIENTS[0], "float32"), variables())
    assert int(numpy(optimizer.iterations)) == 1


def test_a_file_that_doesnt_fit(tmp_path: Path) -> None:
    """The model is loaded, and the optimizer begins anew, as Keras's do."""
    network, _ = fit(ours.Adam(0.0625), 1)
    network.save(tmp_path / "model.keras")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ours.Adam, "from_config", classmethod(lambda cls, config: cls(amsgrad=True)))
        with pytest.warns(UserWarning, match="state doesn't fit this Adam, nothing of it was loaded"):
            again = keras.models.load_model(tmp_path / "model.keras")
    for mine, saved in zip(again.weights, network.weights, strict=True):
        np.testing.assert_array_equal(numpy(mine), numpy(saved))
    assert int(numpy(again.optimizer.iterations)) == 0 and again.optimizer.amsgrad


# ---- what differs: each check says its difference, and shows it on both -----------------------------------


def stepped(optimizer: Any, value: Any, gradients: Sequence[Any], dtype: str = "float32") -> Array:
    """A variable of four numbers after some steps by as many equal ones."""
    (x,) = variables(dtype, [np.full(4, value)])
    for gradient in gradients:
        optimizer.apply(tensors([np.full(4, gradient)], dtype), [x])
    return numpy(x)


def test_differs_in_states_that_dont_fit() -> None:
    """a saved state of other shapes is left out with a warning, as one of another number of variables is"""
    for package in (theirs, ours):
        trained, store = package.Adam(), dict[str, Any]()
        trained.apply(tensors(GRADIENTS[0], "float32"), variables())
        trained.save_own_variables(store)
        more, turned = package.Adam(amsgrad=True), package.Adam()
        more.build(variables())
        turned.build(variables(starts=[STARTS[0], STARTS[1][:6], STARTS[2]]))
        with pytest.warns(UserWarning, match="nothing of it was loaded" if package is ours else "Skipping variable"):
            more.load_own_variables(store)
        if package is ours:
            with pytest.warns(UserWarning, match="nothing of it was loaded"):
                turned.load_own_variables(store)
        else:
            with pytest.raises(ValueError, match="must match"):
                turned.load_own_variables(store)
        assert int(numpy(more.iterations)) == 0
        assert int(numpy(turned.iterations)) == (package is theirs)  # and so with the first moments


def test_differs_in_narrow_variables() -> None:
    """float16 and bfloat16 variables have float32 states, and are computed in float32 and rounded once"""
    for dtype, gradient in (("bfloat16", 1.0), ("float16", 1e-4)):
        for package in (theirs, ours):
            optimizer = package.Adam(0.0625)
            end = stepped(optimizer, 1.0, [gradient] * 8, dtype)
            _, _, *moments = optimizer.variables
            assert {v.dtype for v in moments} == {dtype if package is theirs else "float32"}
            if package is ours:
                np.testing.assert_allclose(end, 0.5, atol=0.01)
            elif dtype == "bfloat16":
                assert (end == 1.0).all()
            else:
                assert (end < -10).all() and (numpy(moments[1]) == 0).all()


def test_differs_in_bias_corrections() -> None:
    """bias corrections are float64, rounded once"""
    assert abs((1 - np.float32(0.999)) / 0.001 - 1) > 1e-5
    wanted, found = (stepped(package.Adam(RATE, epsilon=1e-20), 0.0, [1.0]) for package in (theirs, ours))
    assert (abs(wanted / -RATE - 1) > 5e-6).all() and (abs(found / -RATE - 1) < 2e-7).all()


def test_differs_in_small_states() -> None:
    """where the machine code runs, a state below 16 times the smallest normal number counts as zero"""
    for package in (theirs, ours):
        optimizer = package.Adam()
        stepped(optimizer, 0.0, [1e-36])  # of which the momentum keeps a tenth
        kept = package is theirs or BACKEND == "tensorflow"
        assert ((numpy(optimizer.variables[2]) > 9e-38) == kept).all()


def test_differs_in_ranges() -> None:
    """every hyperparameter has its range, also when it is assigned"""
    assert np.isnan(stepped(theirs.RMSprop(rho=1.5), 0.0, [1.0])).all()
    assigned = theirs.RMSprop()
    assigned.rho = 1.5
    assert np.isnan(stepped(assigned, 0.0, [1.0])).all()
    with pytest.raises(ValueError, match="rho must be a number in"):
        ours.RMSprop(rho=1.5)
    with pytest.raises(ValueError, match="rho must be a number in"):
        ours.RMSprop().rho = 1.5


def test_differs_in_nadams_product() -> None:
    """Nadam's product of momenta is a float64 variable, with no attribute of its own"""
    for package in (theirs, ours):
        optimizer = package.Nadam()
        optimizer.build([])
        assert hasattr(optimizer, "_u_product") == (package is theirs)
    single = BACKEND == "jax"  # which has no float64, unless it is asked for
    assert keras.backend.standardize_dtype(optimizer.variables[-1].dtype) == ("float32" if single else "float64")


def test_differs_in_assignments() -> None:
    """after an assignment that would need other states (momentum, amsgrad) the next step is refused"""
    for package, error in ((theirs, (IndexError, AttributeError)), (ours, ValueError)):
        for optimizer, name, value in ((package.SGD(), "momentum", 0.9), (package.Adam(), "amsgrad", True)):
            x = variables()
            optimizer.apply(tensors(GRADIENTS[0], "float32"), x)
            before = [numpy(v) for v in (*optimizer.variables, *x)]
            setattr(optimizer, name, value)
            with pytest.raises(error, match="built with the states" if package is ours else None):
                optimizer.apply(tensors(GRADIENTS[1], "float32"), x)
            same = [(numpy(v) == old).all() for v, old in zip((*optimizer.variables, *x), before, strict=True)]
            assert all(same) == (package is ours or name == "momentum")


def test_differs_in_sparse_gradients() -> None:
    """what a row of a sparse gradient has more than once is summed"""
    given = []

    class Watched(keras.optimizers.SGD):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            given.append(gradient)
            super().update_step(gradient, variable, learning_rate)

    sparse, dense = sparse_and_dense()
    (x,) = variables(starts=STARTS[:1])
    Watched(RATE).apply([sparse], [x])
    assert type(given[0]) is type(sparse) and getattr(given[0], "is_sparse", True)
    for name in NAMES:
        (found,), (same,), (wanted,) = (variables(starts=STARTS[:1]) for _ in range(3))
        getattr(ours, name)(RATE).apply([sparse], [found])
        getattr(ours, name)(RATE).apply(tensors([dense], "float32"), [same])
        assert (numpy(found) == numpy(same)).all()
        if BACKEND == "torch" and name in ("RMSprop", "Adagrad", "Adadelta", "Adamax"):
            with pytest.raises(RuntimeError, match="Sparse"):
                getattr(theirs, name)(RATE).apply([sparse], [wanted])
        else:
            getattr(theirs, name)(RATE).apply([sparse], [wanted])
            assert distance([found], [wanted], STARTS[:1]) <= 2e-5, name
    if BACKEND == "tensorflow":
        import tensorflow as tf

        twice = tf.IndexedSlices(tf.ones((2, 3)), tf.constant([1, 1]), tf.constant([5, 3]))
        (found,), (wanted,), (other,) = (variables(starts=STARTS[:1]) for _ in range(3))
        for package, x, given in (
            (ours, found, twice),
            (theirs, wanted, tf.convert_to_tensor(twice)),
            (theirs, other, twice),
        ):
            optimizer = package.Adam(RATE)
            for _ in range(3):
                optimizer.apply([given], [x])
        assert distance([found], [wanted], STARTS[:1]) <= 2e-5 < distance([other], [wanted], STARTS[:1])


def test_differs_in_isinstance() -> None:
    """isinstance(optimizer, keras.optimizers.Adam) is False, of keras.optimizers.Optimizer True"""
    assert isinstance(theirs.AdamW(), theirs.Adam)
    assert not isinstance(ours.Adam(), theirs.Adam) and isinstance(ours.Adam(), theirs.Optimizer)


def test_the_page_lists_what_differs() -> None:
    page = (ROOT / "docs" / "keras.md").read_text(encoding="utf-8")
    assert re.findall(r"^- (.*)\.$", page, re.MULTILINE) == [f"{d.what}: {d.why}" for d in differences.KERAS]
    checks = [f for f in globals().values() if isinstance(f, FunctionType) and f.__name__.startswith("test_differs")]
    assert [f.__doc__ for f in checks] == [d.what for d in differences.KERAS]
