"""What doesn't fit is refused, in words that help, before anything is changed."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import adamite.jax as adamite_jax
from adamite import rules

ours: Any = adamite_jax

X = {"w": jnp.ones(3)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ours.adam(-1.0), r"adam: learning_rate must be a number in \[0, inf\), got -1.0"),
        (
            lambda: ours.adam("fast"),
            r"learning_rate must be a number in \[0, inf\), or a schedule .* got 'fast', a str",
        ),
        (lambda: ours.adam(0.1, b1=1.0), r"b1 must be a number in \[0, 1\), got 1.0"),
        (lambda: ours.adam(jnp.array(float("nan"))), "learning_rate must be"),
        (lambda: ours.adamw(0.1, weight_decay=-0.1), r"weight_decay must be a number in \[0, inf\)"),
        (lambda: ours.sgd(None), "learning_rate must be a number"),
        (lambda: ours.adadelta(), "adadelta needs a learning_rate, 1.0 as in the paper"),
        (lambda: ours.optimizer("adma"), "adamite.jax has no optimizer 'adma'; did you mean adam"),
        (lambda: ours.optimizer(3), "takes a rule"),
        (
            lambda: ours.optimizer(rules.adam)(learning_rate=0.1),
            "adam has no argument 'learning_rate'; did you mean lr",
        ),
        (lambda: ours.optimizer(rules.rmsprop)(centered="yes"), "centered must be one of False, True, got 'yes'"),
        (lambda: ours.adam(0.1).init({"w": "one"}), "must be arrays of .*, got str; mask or filter"),
        (lambda: ours.adam(0.1).init({"w": jnp.arange(3)}), "float32, float64, complex64, complex128, got int32"),
    ],
)
def test_what_is_made(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize(
    ("grads", "state", "params", "message"),
    [
        ({"w": jnp.ones(2)}, None, X, r"the gradient of \['w'\] has shape \(2,\), and its parameter \(3,\)"),
        (X, ours.adamw(0.1).init({"w": jnp.ones(4)}), X, r"has shape \(3,\), and its state mu \(4,\)"),
        (X, None, {"w": jnp.ones((3, 1))}, r"has shape \(3,\), and its parameter \(3, 1\)"),
        (X, ours.sgd(0.1).init(X), X, "the state has no mu and has no nu; give one that init of the same transf"),
        (X, ours.amsgrad(0.1).init(X), X, "the state has nu_max; give one"),
        (X, X, X, r"the state is a dict; give one .* It is step\(params, state, grads\)"),
        (X, jax.tree.map(lambda a: a.astype(int), ours.adamw(0.1).init(X)), X, "the state mu is of int32"),
        (X, None, None, "params"),
        (
            {"v": jnp.ones(3)},
            None,
            X,
            r"isn't that of the parameter: the gradients lack \['w'\]; the parameter lacks \['v'\]",
        ),
    ],
)
@pytest.mark.parametrize("jitted", [False, True])
def test_what_is_stepped(grads: Any, state: Any, params: Any, message: str, jitted: bool) -> None:
    tx = ours.adamw(0.1)
    update = jax.jit(tx.update) if jitted else tx.update
    with pytest.raises((ValueError, TypeError), match=message):
        update(grads, tx.init(X) if state is None else state, params)


def orders(names: tuple[str, str, str]) -> list[Any]:
    """Every order of three arguments but those whose state is in its place."""
    return [order for order in itertools.permutations(names) if order[1] != "state"]


@pytest.mark.parametrize("make", [ours.adamw, ours.sgd, ours.optimizer(rules.adam), ours.optimizer(rules.sgd)])
@pytest.mark.parametrize(
    "x", [X, [jnp.ones(3)], (jnp.ones(3), jnp.ones(2)), jnp.ones(3)], ids=["dict", "list", "tuple", "array"]
)
def test_arguments_in_another_order(make: Any, x: Any) -> None:
    tx = make(0.1)
    given = {"params": x, "grads": x, "updates": x, "state": tx.init(x)}
    for function, names in ((tx.update, ("updates", "state", "params")), (tx.step, ("params", "state", "grads"))):
        for order in orders(names):
            place = names[order.index("state")]
            said = (
                rf"the state .*; what was given as {place} is one. It is step\(params, state, grads\), and update\(upd"
            )
            with pytest.raises(ValueError, match=said):
                function(*(given[name] for name in order))
        function(**{name: given[name] for name in names})


def test_a_state_that_was_forgotten() -> None:
    for tx in (ours.adamw(0.1), ours.sgd(0.1)):
        with pytest.raises(
            ValueError, match=r"the state is a dict; give one that init .* update\(updates, state, params\)"
        ):
            tx.update(X, X)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda tx: tx.update(X), "update can't be called so, missing a required argument: 'state'"),
        (lambda tx: tx.step(X, tx.init(X)), "step can't be called so, missing a required argument: 'grads'"),
        (lambda tx: tx.step(X, X, X, X), "step can't be called so, too many positional arguments"),
        (lambda tx: tx.init(), "init can't be called so, missing a required argument: 'params'"),
    ],
)
def test_calls_without_an_argument_say_the_order(call: Any, said: str) -> None:
    order = r"It is step\(params, state, grads\), and update\(updates, state, params\); init\(params\) makes the state"
    for make in (ours.adam, ours.optimizer("adam")):
        with pytest.raises(TypeError, match=rf"^adam: {said}. {order}$"):
            call(make(0.1))


@pytest.mark.parametrize(
    ("name", "wrong", "meant"),
    [
        *((name, "learning_rat", "learning_rate") for name in ours.OPTIMIZERS),
        *((name, "lr", "learning_rate") for name in ours.OPTIMIZERS),
        ("adam", "betas", "b1 and b2"),
        ("adamw", "beta1", "b1"),
        ("lion", "beta_2", "b2"),
        ("radam", "epsilon", "eps"),
        ("adamaxw", "weightdecay", "weight_decay"),
        ("adamw", "wd", "weight_decay"),
        ("adamw", "decay", "learning_rate or weight_decay"),
        ("adam", "lr_schedule", "learning_rate"),
        ("rmsprop", "rho", "decay"),
        ("adadelta", "mask", "weight_decay_mask"),
        ("sgd", "nestrov", "nesterov"),
        ("adopt", "use_cliping", "use_clipping"),
    ],
)
def test_misspelled_arguments(name: str, wrong: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name} has no argument '{wrong}'; did you mean {meant}\? It takes "):
        getattr(ours, name)(0.1, **{wrong: 0.5})


def test_arguments_that_are_missing_or_too_many() -> None:
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'learning_rate'"):
        ours.adam()
    with pytest.raises(TypeError, match=r"takes from 1 to 3 positional arguments but 4 were given|from 1 to 4 "):
        ours.sgd(0.1, 0.9, True, None, 1)


def test_traced_numbers_are_not_checked() -> None:
    update = jax.jit(lambda lr, x: ours.sgd(lr).update(x, ours.sgd(lr).init(x), x)[0])
    assert update(-1.0, jnp.ones(2)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("rate", [jnp.ones(2), None])
def test_a_schedule_that_gives_no_number(rate: Any) -> None:
    with pytest.raises(ValueError, match=r"the schedule of learning_rate gave .*, and must give a number"):
        ours.adam(lambda count: rate).init(X)


def test_leaves_without_gradients_are_left_alone() -> None:
    tx, params = ours.adamw(0.1), {"w": jnp.ones(3), "act": jax.nn.relu}
    state, grads = tx.init({"w": jnp.ones(3), "act": None}), {"w": jnp.ones(3), "act": None}
    updates, _ = tx.update(grads, state, params)
    moved, _ = tx.step(params, state, grads)
    assert updates["act"] is None and moved["act"] is jax.nn.relu
    theirs, _ = optax.adamw(0.1).update(grads, optax.adamw(0.1).init({"w": jnp.ones(3), "act": None}), params)
    assert jnp.allclose(updates["w"], theirs["w"], atol=1e-6)


def test_float64_where_jax_has_none_is_float32() -> None:
    with jax.enable_x64(True):
        wide = {"w": jnp.ones(5, jnp.float64)}
    for tx in (ours.sgd(0.1), ours.adam(0.1), ours.lion(0.1)):
        for moved, _ in (tx.step(wide, tx.init(wide), wide), jax.jit(tx.step)(wide, tx.init(wide), wide)):
            assert moved["w"].dtype == jnp.float32 and jnp.allclose(moved["w"], 0.9, atol=1e-3)


def test_without_jit() -> None:
    tx, g = ours.adam(0.1), {"w": jnp.ones(3)}
    with jax.disable_jit():
        updates, _ = tx.update(g, tx.init(g), g)
    assert jnp.array_equal(updates["w"], tx.update(g, tx.init(g), g)[0]["w"])
