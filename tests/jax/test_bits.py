"""The machine code within a program of XLA: NumPy's bits, for every rule, in place, and where it isn't used."""

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
from adamite.backends.llvm import xla
from adamite.engine import threads
from adamite.jax import call
from adamite.rules import RULES
from tests.support import special

SHAPES: dict[str, tuple[int, ...]] = {"a": (3, 5), "b": (), "c": (7,), "d": (0, 2), "e": (2, 1, 3, 2, 2)}
STEPS = 12
CASES: list[tuple[Any, dict[str, float]]] = [(rule, {}) for rule in RULES.values()]
CASES += [(rule, {"momentum": 0.9}) for rule in RULES.values() if "momentum" in rule.numbers]


def drawn(seed: int, dtype: Any = np.float32) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {name: np.asarray(draw.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


def numpys(rule: Any, dtype: Any, gradients: Any, **options: Any) -> dict[str, Any]:
    x = {name: array.copy() for name, array in drawn(0, dtype).items()}
    optimizer = adamite.optimizer(rule)(x, **options)
    for g in gradients:
        optimizer.step({name: np.array(array) for name, array in g.items()})
    return x


def same(mine: Any, theirs: Any) -> bool:
    return all(np.array_equal(np.asarray(mine[k]), theirs[k], equal_nan=True) for k in theirs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
@pytest.mark.parametrize(("rule", "momentum"), CASES, ids=str)
def test_numpys_bits_under_jit(rule: Any, momentum: dict[str, float], dtype: Any) -> None:
    options = {**momentum, "lr": 0.01, "weight_decay": 0.1}
    gradients = [drawn(k, dtype) for k in range(1, STEPS)]
    expected = numpys(rule, dtype, gradients, **options)
    with jax.enable_x64(dtype is np.float64):
        tx = ours.optimizer(rule)(**options)
        moved = added = jax.tree.map(jnp.asarray, drawn(0, dtype))
        state = other = tx.init(moved)
        step = jax.jit(tx.step)

        @jax.jit
        def update(params: Any, state: Any, grads: Any) -> Any:
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        for g in gradients:
            moved, state = step(moved, state, g)
            added, other = update(added, other, g)
        assert same(moved, expected) and same(added, expected)


def test_special_values() -> None:
    values = special(np.float32)
    g, x = (part.ravel() for part in np.meshgrid(values, values))
    tx = ours.optimizer(rules.adam)(lr=0.01, weight_decay=0.1)
    moved, _ = jax.jit(tx.step)({"x": x}, tx.init({"x": x}), {"x": g})
    expected = {"x": x.copy()}
    with np.errstate(all="ignore"):
        adamite.optimizer(rules.adam)(expected, lr=0.01, weight_decay=0.1).step({"x": g.copy()})
    assert same(moved, expected)


def test_large_arrays_are_shared_among_threads() -> None:
    draw = np.random.default_rng(0)
    x, g = (draw.standard_normal(1_300_001, dtype=np.float32) for _ in range(2))
    tx = ours.optimizer(rules.adam)(lr=0.01)
    params, state = {"x": jnp.asarray(x)}, tx.init({"x": jnp.asarray(x)})
    expected = {"x": x.copy()}
    optimizer = adamite.optimizer(rules.adam)(expected, lr=0.01)
    with threads.using_threads(4):
        step = jax.jit(tx.step, donate_argnums=(0, 1))
        for _ in range(5):
            params, state = step(params, state, {"x": g})
            optimizer.step({"x": g})
    assert same(params, expected)


def test_donated_arrays_are_written_in_place() -> None:
    params = {"x": jnp.ones(1000)}
    tx = ours.adam(0.1)
    step = jax.jit(tx.step, donate_argnums=(0, 1))
    params, state = step(params, tx.init(params), {"x": jnp.ones(1000)})
    places = [leaf.unsafe_buffer_pointer() for leaf in (params["x"], state[0].mu["x"], state[0].nu["x"])]
    params, state = step(params, state, {"x": jnp.ones(1000)})
    assert places == [leaf.unsafe_buffer_pointer() for leaf in (params["x"], state[0].mu["x"], state[0].nu["x"])]


def test_what_is_not_donated_stays() -> None:
    params, grads = {"x": jnp.ones(10)}, {"x": jnp.full(10, 2.0)}
    tx = ours.adamw(0.1)
    state = tx.init(params)
    jax.jit(tx.step)(params, state, grads)
    jax.jit(tx.update)(grads, state, params)
    tx.update(grads, state, params)
    assert params["x"].tolist() == [1.0] * 10 and grads["x"].tolist() == [2.0] * 10
    assert not state[0].mu["x"].any() and not state[0].nu["x"].any()


def program(tx: Any, x: Any, **how: Any) -> str:
    lowered = jax.jit(tx.step, **how).lower(x, tx.init(x), x)
    return str(lowered.compile().as_text())


def test_one_call_for_all_leaves_of_a_type() -> None:
    leaves = {str(k): jnp.ones((k, 2), jnp.float32) for k in range(1, 20)} | {"h": jnp.ones(3, jnp.bfloat16)}
    assert program(ours.adamw(0.1), leaves).count('custom_call_target="adamite_') == 2


def test_a_new_number_compiles_nothing() -> None:
    tx = optax.inject_hyperparams(ours.adam)(learning_rate=0.1)
    x = jnp.ones(3)
    state = tx.init(x)
    update: Any = jax.jit(tx.update)
    for rate in (0.1, 0.2, 0.3):
        state.hyperparams["learning_rate"] = jnp.asarray(rate)
        _, state = update(x, state, x)
    assert update._cache_size() == 1


@pytest.mark.parametrize("unknown", ["version", "header", "backend"])
def test_array_operations_where_the_interface_is_unknown(unknown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, tx = jnp.linspace(-1.0, 1.0, 9), ours.adam(0.1)
    with monkeypatch.context() as patch:
        if unknown == "version":
            patch.setattr(xla, "SUPPORTED", {(99, 0)})
        elif unknown == "header":
            patch.setattr(jax.ffi, "include_dir", lambda: "/nowhere")
        else:
            patch.setenv("ADAMITE_BACKEND", "numpy")
        forget()
        assert "adamite_" not in program(tx, x)
        moved, _ = jax.jit(tx.step)(x, tx.init(x), x)
    forget()
    assert "adamite_" in program(tx, x)
    assert np.allclose(moved, jax.jit(tx.step)(x, tx.init(x), x)[0], rtol=1e-6)


def forget() -> None:
    call._target.cache_clear()
    jax.clear_caches()


@pytest.mark.parametrize("rule", [rules.adam, rules.lion, rules.nadam, rules.adopt], ids=lambda rule: rule.name)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=str)
def test_narrow_parameters_have_wide_moments(rule: Any, dtype: Any) -> None:
    tx = ours.optimizer(rule)(lr=0.01)
    params = {"x": jnp.linspace(0.5, 2.0, 33).astype(dtype)}
    wide, other = {"x": params["x"].astype(jnp.float32)}, ours.optimizer(rule)(lr=0.01)
    state, reference = tx.init(params), other.init(wide)
    step, widely = jax.jit(tx.step), jax.jit(other.step)
    for k in range(1, 4):
        g = jnp.sin(k * jnp.arange(33.0)).astype(dtype)
        rounded = {"x": wide["x"].astype(dtype).astype(jnp.float32)}
        params, state = step(params, state, {"x": g})
        wide, reference = widely(rounded, reference, {"x": g.astype(jnp.float32)})
        assert params["x"].dtype == dtype and state.states["m"]["x"].dtype == jnp.float32
        assert np.array_equal(params["x"].astype(jnp.float32), wide["x"].astype(dtype).astype(jnp.float32))
