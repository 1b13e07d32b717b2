"""adamite.jax within what JAX and optax do with transformations, against optax itself."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, struct
from flax.training.train_state import TrainState

import adamite.jax as ours
from adamite import rules
from adamite.language.rule import rule
from adamite.schedules import cosine
from tests.jax.test_numbers import peer


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """In float64, where only the same numbers are close."""
    with jax.enable_x64(True):
        yield


TREE = {"a": np.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": {"c": np.array(0.5), "d": np.zeros((0, 3))}, "e": ()}


def close(mine: Any, theirs: Any, rtol: float = 1e-10) -> bool:
    return all(
        np.allclose(a, b, rtol=rtol, atol=1e-12) for a, b in zip(*map(jax.tree.leaves, (mine, theirs)), strict=True)
    )


def grads_at(step: int, tree: Any = TREE) -> Any:
    return jax.tree.map(lambda x: jnp.sin(jnp.asarray(x) * 3 + step) + 0.1, tree)


def run(tx: Any, params: Any = TREE, steps: int = 6) -> tuple[Any, Any]:
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)
    update = jax.jit(tx.update)
    for step in range(steps):
        updates, state = update(grads_at(step, params), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def alike(make: Any) -> None:
    """The same transformation around ours and around optax's ends in the same place, with the same states."""
    (mine, state), (theirs, expected) = run(make(ours)), run(make(optax))
    assert close(mine, theirs) and str(jax.tree.structure(state)) == str(jax.tree.structure(expected))
    assert close(state, expected)


MASK = {"a": True, "b": {"c": False, "d": True}, "e": ()}
WRAPPED: dict[str, Any] = {
    "chain": lambda lib: optax.chain(optax.clip_by_global_norm(0.5), lib.adam(0.1), optax.scale(0.5)),
    "masked": lambda lib: optax.masked(lib.adamw(0.1), MASK),
    "accumulated": lambda lib: optax.MultiSteps(lib.adam(0.1), 2),
    "injected": lambda lib: optax.inject_hyperparams(lib.adamw)(optax.linear_schedule(0.1, 0.01, 5), weight_decay=0.1),
    "partitioned": lambda lib: optax.partition(
        {"fast": lib.adam(0.1), "slow": lib.sgd(0.01, momentum=0.9)}, {"a": "fast", "b": "slow", "e": "slow"}
    ),
    "finite": lambda lib: optax.apply_if_finite(lib.rmsprop(0.1), 3),
    "flattened": lambda lib: optax.flatten(lib.adam(0.1)),
    "decay of some": lambda lib: lib.adamw(0.1, weight_decay=0.3, mask=MASK),
    "decay by a prefix": lambda lib: lib.adamw(0.1, weight_decay=0.3, mask={"a": True, "b": False, "e": False}),
    "decay by a function": lambda lib: lib.lion(
        0.1, weight_decay=0.3, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)
    ),
    "adadelta's decay": lambda lib: lib.adadelta(1.0, weight_decay=0.3, weight_decay_mask=MASK),
    "schedule of decay": lambda lib: lib.adamw(0.1, weight_decay=optax.linear_schedule(0.5, 0.0, 4)),
    "narrow moment": lambda lib: lib.adam(0.1, mu_dtype=jnp.bfloat16),
    "narrow trace": lambda lib: lib.sgd(0.1, momentum=0.9, accumulator_dtype=jnp.bfloat16),
}


def exactly(make: Any) -> Any:
    return optax.adam(0.1) if make is WRAPPED["narrow moment"] else optax.sgd(0.1, momentum=0.9)


def nearer(mine: Any, theirs: Any, exact: Any) -> bool:
    return not exact.size or float(jnp.abs(mine - exact).max()) <= float(jnp.abs(theirs - exact).max())


@pytest.mark.parametrize("make", WRAPPED.values(), ids=list(WRAPPED))
def test_wrapped_by_optax(make: Any) -> None:
    if make in (WRAPPED["narrow moment"], WRAPPED["narrow trace"]):
        (mine, state), (theirs, expected) = run(make(ours)), run(make(optax))
        assert [x.dtype for x in jax.tree.leaves(state)] == [x.dtype for x in jax.tree.leaves(expected)]
        # optax multiplies in the narrow type; we round once, so ours is closer to the exact run.
        assert all(map(nearer, *map(jax.tree.leaves, (mine, theirs, run(exactly(make))[0]))))
    else:
        alike(make)


@pytest.mark.parametrize("name", sorted(ours.OPTIMIZERS))
def test_a_checkpoint_of_optax_goes_on_here_and_back(name: str) -> None:
    theirs = peer(name)(0.05)
    mine = ours.OPTIMIZERS[name](0.05)
    params, state = run(theirs, steps=3)
    for first, second in ((mine, theirs), (theirs, mine)):
        p, s = params, state
        for tx in (first, second):
            updates, s = tx.update(grads_at(9), s, p)
            p = optax.apply_updates(p, updates)
        if first is mine:
            expected = p
    assert close(p, expected)


@pytest.mark.parametrize("name", [*sorted(ours.OPTIMIZERS), "a rule"])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_copies(name: str, how: Any) -> None:
    """Copies of a transformation, and of a train state that contains one, make the same steps."""
    schedule = cosine(0.05, steps=9)
    tx = ours.optimizer(rules.adam)(schedule, mask=MASK) if name == "a rule" else ours.OPTIMIZERS[name](schedule)
    (end, state), (expected, _) = run(how(tx)), run(tx)
    assert all(map(np.array_equal, jax.tree.leaves(end), jax.tree.leaves(expected)))
    trained = TrainState(step=0, apply_fn=np.sin, params=end, tx=tx, opt_state=state)
    ends = [s.apply_gradients(grads=grads_at(9, end)).params for s in (trained, how(trained))]
    assert all(map(np.array_equal, *map(jax.tree.leaves, ends)))


START: dict[str, dict[str, Any]] = {
    "adagrad": {"initial_accumulator_value": 0.1},
    "adopt": {"use_clipping": False},  # clipping isn't defined for complex numbers
    "rmsprop": {"initial_scale": 0.3, "centered": True, "momentum": 0.9},
}


@pytest.mark.parametrize("name", sorted(ours.OPTIMIZERS))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_states_start_as_those_of_a_wide_parameter(name: str, dtype: str) -> None:
    """0.1 is no number of bfloat16's."""
    options, wide = START.get(name, {}), jnp.result_type(dtype, jnp.float32)
    mine = ours.OPTIMIZERS[name](0.1, **options).init(jnp.ones(2, dtype))
    theirs = peer(name)(0.1, **options).init(jnp.ones(2, wide))
    of_a_shape = ours.OPTIMIZERS[name](0.1, **options).init(jax.ShapeDtypeStruct((2,), dtype))
    assert all(map(np.array_equal, *map(jax.tree.leaves, (mine, of_a_shape))))
    assert str(jax.tree.structure(mine)) == str(jax.tree.structure(theirs))
    for a, b in zip(*map(jax.tree.leaves, (mine, theirs)), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    if name == "adagrad":
        assert mine[0].sum_of_squares.tolist() == [np.float32(0.1)] * 2


def test_under_scan_and_vmap() -> None:
    tx, other = ours.adamw(0.1), optax.adamw(0.1)

    def train(tx: Any, x: jax.Array) -> jax.Array:
        def step(carried: Any, k: jax.Array) -> Any:
            params, state = carried
            updates, state = tx.update(jnp.cos(params * k), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (x, tx.init(x)), jnp.arange(1.0, 8.0))[0][0]

    many = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)
    assert close(jax.jit(jax.vmap(functools.partial(train, tx)))(many), jax.vmap(functools.partial(train, other))(many))
    one = jax.vmap(lambda lr, x: train(ours.adam(lr), x), in_axes=(0, None))(jnp.array([0.1, 0.2]), many[0])
    assert close(
        one, jax.vmap(lambda lr, x: train(optax.adam(lr), x), in_axes=(0, None))(jnp.array([0.1, 0.2]), many[0])
    )


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd", "lion", "adabelief"])
def test_derivatives_through_steps(name: str) -> None:
    def loss(lib: Any, x: jax.Array, lr: jax.Array) -> jax.Array:
        options = {"momentum": 0.9} if name == "sgd" else {"eps_root": 1e-3} if name.startswith("adam") else {}
        tx = getattr(lib, name)(lr, **options)
        state = tx.init(x)
        for _ in range(3):
            updates, state = tx.update(jax.grad(lambda x: (x**2).sum())(x), state, x)
            x = optax.apply_updates(x, updates)
        return (x**2).sum()

    x, lr = jnp.array([1.0, -2.0, 0.5]), jnp.array(0.05)
    mine = jax.jit(jax.grad(functools.partial(loss, ours), argnums=(0, 1)))(x, lr)
    assert close(mine, jax.grad(functools.partial(loss, optax), argnums=(0, 1))(x, lr), rtol=1e-9)


def test_equinox() -> None:
    x = jnp.linspace(-1.0, 1.0, 15).reshape(5, 3)

    def trained(tx: Any) -> Any:
        model = eqx.nn.MLP(3, 1, 8, 1, key=jax.random.key(0))
        state = tx.init(eqx.filter(model, eqx.is_inexact_array))

        @eqx.filter_jit
        def step(model: Any, state: Any) -> Any:
            grads = eqx.filter_grad(lambda model: (jax.vmap(model)(x) ** 2).mean())(model)
            updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
            return eqx.apply_updates(model, updates), state

        for _ in range(5):
            model, state = step(model, state)
        return eqx.filter(model, eqx.is_inexact_array)

    assert close(trained(ours.adamw(1e-2)), trained(optax.adamw(1e-2)), rtol=1e-4)


class Model(eqx.Module):
    weight: Any
    bias: Any

    def __call__(self, x: Any) -> Any:
        raise AssertionError("a mask that is a model isn't called")


@struct.dataclass
class Layer:
    weight: Any
    bias: Any

    def __call__(self, x: Any) -> Any:
        raise AssertionError("a mask that is a model isn't called")


@pytest.mark.parametrize("kind", [Model, Layer])
@pytest.mark.parametrize("name", ["adamw", "nadamw", "adamaxw", "lion", "adadelta", "a rule"])
def test_masks_of_the_models_type(kind: Any, name: str) -> None:
    """They are callable, but not functions: their leaves decide."""
    params = kind(jnp.ones((2, 3)), jnp.ones(3))

    def decayed(mask: Any) -> Any:
        if name == "a rule":
            tx = ours.optimizer(rules.adam)(lr=0.1, weight_decay=0.5, mask=mask)
        else:
            argument = "weight_decay_mask" if name == "adadelta" else "mask"
            tx = getattr(ours, name)(0.1, weight_decay=0.5, **{argument: mask})
        still = jax.tree.map(jnp.zeros_like, params)
        updates, _ = jax.jit(tx.update)(still, tx.init(params), params)
        return bool(updates.weight.any()), bool(updates.bias.any())

    assert decayed(kind(True, False)) == (True, False)
    assert decayed(lambda params: kind(False, True)) == (False, True)
    assert decayed(kind(True, True)) == decayed(None) == (True, True)


def test_flax_nnx() -> None:
    x = jnp.linspace(-1.0, 1.0, 15).reshape(5, 3)

    def trained(tx: Any) -> Any:
        model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

        @nnx.jit
        def step(model: Any, optimizer: Any) -> None:
            optimizer.update(model, nnx.grad(lambda model: (model(x) ** 2).mean())(model))

        for _ in range(5):
            step(model, optimizer)
        return nnx.state(model)

    assert close(trained(ours.adam(1e-2)), trained(optax.adam(1e-2)), rtol=1e-4)


def test_a_rule_of_ones_own() -> None:
    @rule
    def averaged(g, m, anchor="x", *, t, lr=0.1, pull=0.5):
        """A step along the average of the gradients, pulled back to the start."""
        m = m + (g - m) / t
        return lr * (m + pull * anchor * 0), m, anchor

    tx = ours.optimizer(averaged)(lr=0.5)
    params = {"x": jnp.array([1.0, 2.0])}
    state = tx.init(params)
    assert state.states["anchor"]["x"].tolist() == [1.0, 2.0]
    for g in (1.0, 3.0):
        params, state = jax.jit(tx.step)(params, state, {"x": jnp.full(2, g)})
    assert int(state.count) == 2 and params["x"].tolist() == [-0.5, 0.5]  # 1 - .5*1 - .5*2


@pytest.mark.parametrize("wide", [True, False])
def test_scalar_states_are_float64(wide: bool) -> None:
    """With any default dtype of JAX, compiled or not."""
    with jax.enable_x64(wide):
        tx = ours.optimizer(rules.nadam)(lr=0.1)
        params = jnp.ones(3)
        state = tx.init(params)
        step: Any = jax.jit(tx.step)
        product = 1.0
        for t in range(1, 7):
            params, state = (step if t % 2 else tx.step)(params, state, jnp.ones(3))
            product *= 0.9 * (1 - 0.5 * 0.96 ** (t * 0.004))
            assert state.scalars["mu_product"].dtype == np.float64 and float(state.scalars["mu_product"]) == product
        assert step._cache_size() == 1
