"""Complex parameters: optax's numbers and states, what a rule of one's own means there, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamite
import adamite.jax as ours
from adamite.errors import RuleError
from adamite.rules import RULES
from tests.jax.test_numbers import OPTIONS, SCHEDULE, distance, peer

STEPS = 40
# Of adopt, what optax's has too: its clipping is of real numbers. adadelta differs on purpose (test_differences.py).
NAMES = [name for name in sorted(OPTIONS) if name != "adadelta"]
ALWAYS: dict[str, dict[str, Any]] = {"adopt": {"use_clipping": False}}


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def tree(seed: int, dtype: str = "complex128") -> dict[str, Any]:
    """A leaf of complex numbers, and one of real ones."""
    draw = np.random.default_rng(seed)
    z = jnp.asarray(draw.standard_normal((2, 3)) + 1j * draw.standard_normal((2, 3)), dtype)
    return {"z": z, "r": z.real[0]}


def run(tx: Any, params: Any, gradients: list[Any], way: str = "update", jitted: bool = True) -> tuple[Any, Any]:
    state = tx.init(params)
    function = getattr(tx, way)
    function = jax.jit(function) if jitted else function
    for g in gradients:
        if way == "update":
            updates, state = function(g, state, params)
            params = optax.apply_updates(params, updates)
        else:
            params, state = function(params, state, g)
    return params, state


def options_of(name: str) -> Iterator[dict[str, Any]]:
    """The defaults, and every option at once, under a schedule."""
    yield {"learning_rate": 0.01, **ALWAYS.get(name, {})}
    every = {option: values[0] for option, values in OPTIONS[name].items()}
    yield {"learning_rate": SCHEDULE, **every}


@pytest.mark.parametrize("name", NAMES)
def test_optaxs_numbers_and_states(name: str) -> None:
    options = list(options_of(name))
    transformations = [make(**chosen) for make in (getattr(ours, name), peer(name)) for chosen in options]
    start, gradients = tree(0), jax.tree.map(lambda *g: jnp.stack(g), *(tree(k) for k in range(1, STEPS)))

    @jax.jit
    def trained() -> Any:
        def end(tx: Any) -> Any:
            def step(carried: Any, g: Any) -> Any:
                updates, state = tx.update(g, carried[1], carried[0])
                return (optax.apply_updates(carried[0], updates), state), None

            return jax.lax.scan(step, (start, tx.init(start)), gradients)[0]

        return [end(tx) for tx in transformations]

    ends = trained()
    for (mine, state), (theirs, expected) in zip(ends[: len(options)], ends[len(options) :], strict=True):
        assert distance(mine, theirs, start) <= 1e-12
        assert str(jax.tree.structure(state)) == str(jax.tree.structure(expected))
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
            assert a.dtype == b.dtype and np.allclose(a, b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["rmsprop", "lion", "sgd"])
def test_complex64(name: str) -> None:
    options = {"rmsprop": {"centered": True, "momentum": 0.9}, "sgd": {"momentum": 0.9}}.get(name, {})
    start, gradients = tree(0, "complex64"), [tree(k, "complex64") for k in range(1, 6)]
    theirs = run(peer(name)(0.01, **options), start, gradients)
    for way in ("update", "step"):
        for jitted in (True, False):
            mine = run(getattr(ours, name)(0.01, **options), start, gradients, way, jitted)
            assert distance(mine[0], theirs[0], start) <= 1e-5
            assert [x.dtype for x in jax.tree.leaves(mine)] == [x.dtype for x in jax.tree.leaves(theirs)]


def test_decay_of_some() -> None:
    start, gradients = tree(0), [tree(1), tree(2)]
    for mask in ({"z": True, "r": False}, {"z": False, "r": True}):
        mine, theirs = (
            run(lib.adamw(0.1, weight_decay=0.5, mask=mask), start, gradients, jitted=False)[0] for lib in (ours, optax)
        )
        assert distance(mine, theirs, start) <= 1e-12


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop", "lion"])
@pytest.mark.parametrize("jitted", [True, False])
def test_injected_numbers(name: str, jitted: bool) -> None:
    """optax gives them the type of the parameters: complex."""
    start, gradients = tree(0), [tree(1), tree(2), tree(3)]
    mine = run(optax.inject_hyperparams(getattr(ours, name))(SCHEDULE), start, gradients, jitted=jitted)
    with pytest.warns(match="Casting"):  # where optax's updates of real leaves are complex
        theirs = run(optax.inject_hyperparams(getattr(optax, name))(SCHEDULE), start, gradients, jitted=jitted)
    assert distance(mine[0], theirs[0], start) <= 1e-12
    assert mine[1].hyperparams["learning_rate"].dtype == jnp.complex128


def test_injected_starts() -> None:
    tx = optax.inject_hyperparams(ours.adagrad)(0.1, initial_accumulator_value=0.3)
    for start in jax.tree.leaves(tx.init(tree(0)).inner_state[0].sum_of_squares):
        assert np.array_equal(start, np.full(start.shape, 0.3, start.dtype))


def test_a_number_with_an_imaginary_part_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"adam: learning_rate must be a number in \[0, inf\).*got \(0.5\+1j\), a complex"
    ):
        ours.adam(jnp.asarray(0.5 + 1j))


def test_vmap_and_derivatives() -> None:
    z, rates = tree(0)["z"], jnp.array([0.1, 0.2])

    def end(lib: Any, rate: Any) -> Any:
        tx = lib.adam(rate, eps_root=1e-3)
        x, state = z, tx.init(z)
        for factor in (1 + 1j, -1, 2):
            updates, state = tx.update(factor * z, state, x)
            x = optax.apply_updates(x, updates)
        return jnp.abs(x).sum()

    def both(lib: Any) -> Any:
        return jax.vmap(jax.value_and_grad(lambda rate: end(lib, rate)))(rates)

    for mine, theirs in zip(jax.jit(both, static_argnums=0)(ours), jax.jit(both, static_argnums=0)(optax), strict=True):
        assert np.allclose(mine, theirs, rtol=1e-10)


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_every_rule_turns_with_its_gradients(rule: Any) -> None:
    """Gradients turned by an angle turn the path; and real numbers are complex ones without imaginary parts."""
    options: dict[str, Any] = {"use_clipping": False} if "use_clipping" in rule.choices else {}
    options |= {"momentum": 0.9} if "momentum" in rule.numbers else {}
    tx = ours.optimizer(rule)(lr=0.1, weight_decay=0.1, **options)
    gradients = [tree(k)["z"] for k in range(1, 8)]
    if rule.name == "adopt":  # without clipping it is adopt_nesterov
        with pytest.raises(
            RuleError, match="adopt can't update complex128 parameters: its rule compares complex numbers"
        ):
            tx.init(gradients[0])
        return
    turn = np.exp(1j)
    each = [{"plain": g, "turned": g * turn, "real": g.real, "complex": g.real + 0j} for g in gradients]
    end, _ = run(tx, jax.tree.map(jnp.zeros_like, each[0]), each)
    assert np.abs(end["plain"]).max() > 1e-4
    # Yogi's moments start at 1e-6, whichever way its gradients point.
    small = sum(state.start for state in rule.states if not isinstance(state.start, str))
    assert np.allclose(end["turned"], end["plain"] * turn, rtol=1e-9 + 10 * small, atol=1e-12 + 10 * small)
    assert np.allclose(end["complex"], end["real"], rtol=1e-12, atol=1e-14)


def test_what_a_rule_of_ones_own_means() -> None:
    @adamite.rule
    def own(g, m, size, anchor="x", *, t, lr=0.5):
        """Squares, moduli and directions."""
        m = m + g**3 / 2
        size = adamite.maximum(size, abs(g) ** 2) + (g - anchor) ** 4
        return lr * (adamite.sign(m) + adamite.where(size > 1, g, -g) + g * adamite.sqrt(size)), m, size, anchor

    x, g = np.array([1 + 2j, -3j]), np.array([0.5j, 2 - 1j])
    tx = ours.optimizer(own)()
    moved, state = jax.jit(tx.step)(jnp.asarray(x), tx.init(jnp.asarray(x)), jnp.asarray(g))
    m = np.abs(g) ** 2 * g / 2
    size = np.abs(g) ** 2 + np.abs(g - x) ** 4
    expected = x - 0.5 * (m / np.abs(m) + np.where(size > 1, g, -g) + g * np.sqrt(size))
    assert np.allclose(moved, expected, rtol=1e-14)
    assert np.allclose(state.states["m"], m) and np.allclose(state.states["size"], size)
    assert np.array_equal(state.states["anchor"], x)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda g, m: adamite.sqrt(g), "takes the root of a complex number"),
        (lambda g, m: g * m, r"multiplies two different complex numbers; write a square as z\*\*2"),
        (lambda g, m: m / g, "divides by a complex number"),
        (lambda g, m: g**-1, "divides by a complex number"),
        (lambda g, m: adamite.maximum(g, 0), "compares complex numbers, as maximum and minimum do too"),
        (lambda g, m: adamite.where(m < 1, g, m), "compares complex numbers"),
    ],
)
def test_what_has_no_meaning_is_refused_when_states_are_made(step: Any, reason: str) -> None:
    @adamite.rule
    def own(g, m, *, t, lr=0.5):
        """A rule for real numbers."""
        return lr * step(g, m), m + g

    tx = ours.optimizer(own)()
    tx.init(jnp.ones(2))
    with pytest.raises(
        RuleError, match=rf"own can't update complex64 parameters: its rule {reason}.* mask such leaves"
    ):
        tx.init({"r": jnp.ones(2), "z": jnp.ones(2, jnp.complex64)})


def test_gradients_and_states_that_do_not_fit() -> None:
    z, r = {"w": jnp.ones(2, jnp.complex64)}, {"w": jnp.ones(2, jnp.float32)}
    tx = ours.adam(0.1)
    for function in (tx.update, jax.jit(tx.update)):
        with pytest.raises(
            TypeError, match=r"gradient of \['w'\] is complex64, and its parameter float32: give the .* real"
        ):
            function(z, tx.init(r), r)
        with pytest.raises(TypeError, match=r"state mu of \['w'\] is float32, and its parameter complex64; give"):
            function(z, tx.init(r), z)
    moved, _ = tx.step(z, tx.init(z), r)  # real numbers are complex ones
    assert np.allclose(moved["w"], 0.9) and moved["w"].dtype == jnp.complex64
    updates, _ = tx.update(r, tx.init(z))
    assert np.allclose(updates["w"], -0.1) and updates["w"].dtype == jnp.complex64


def test_gradients_wider_than_their_parameter() -> None:
    """Computed as they are, and rounded once."""
    x, g, tx = jnp.full(2, 1 + 1j, jnp.complex64), jnp.full(2, 1e200 - 1e200j), ours.sgd(1e-200)
    for step in (tx.step, jax.jit(tx.step)):
        moved, _ = step(x, tx.init(x), g)
        assert np.allclose(moved, 2j) and moved.dtype == jnp.complex64
