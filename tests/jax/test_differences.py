"""Where adamite.jax departs from optax on purpose. Each test says its difference, and shows it on both."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamite.jax as adamite_jax
from adamite.lab import differences
from tests.support import ROOT

ours: Any = adamite_jax
X = jnp.zeros(3)
ONE = jnp.ones(3)


def run(tx: Any, x: Any, gradients: Sequence[Any]) -> tuple[Any, Any]:
    """The parameters and the first part of the state after some steps under jit."""
    state, update = tx.init(x), jax.jit(tx.update)
    for g in gradients:
        updates, state = update(g, state, x)
        x = optax.apply_updates(x, updates)
    return x, state[0]


def test_moments() -> None:
    """float16 and bfloat16 parameters have float32 moments, unless mu_dtype asks for others, and are computed in
    float32 and rounded once"""
    for dtype, size in ((jnp.bfloat16, 1.0), (jnp.float16, 1e-4)):
        x, g = X.astype(dtype), jnp.full(3, size, dtype)
        (_, first), (_, last) = (run(optax.adam(0.1), x, [g] + [0 * g] * n) for n in (0, 300))
        assert last.nu.dtype == dtype and (last.nu == first.nu).all() and (first.nu == 0).all() == (size < 1)
        (_, first), (_, last) = (run(ours.adam(0.1), x, [g] + [0 * g] * n) for n in (0, 300))
        assert last.mu.dtype == last.nu.dtype == jnp.float32
        np.testing.assert_allclose(last.nu, first.nu * 0.999**300, rtol=1e-4)
        assert ours.adam(0.1, mu_dtype=dtype).init(x)[0].mu.dtype == dtype


def test_bias_corrections() -> None:
    """bias corrections are float64, rounded once"""
    assert abs((1 - np.float32(0.999)) / 0.001 - 1) > 1e-5
    theirs, mine = (run(lib.adam(1.0, eps=1e-30), X, [ONE])[0] for lib in (optax, ours))
    assert (abs(theirs + 1) > 5e-6).all() and (mine == -1).all()


def test_small_states() -> None:
    """where the machine code runs, a state below 16 times the smallest normal number counts as zero"""
    tiny = jnp.full(3, 1e-36)  # of which the momentum keeps a tenth
    theirs, mine = (run(lib.adam(0.1), X, [tiny])[1].mu for lib in (optax, ours))
    assert (theirs > 9e-38).all() and (mine == 0).all()
    tx = ours.adam(0.1)
    _, (elsewhere, *_) = jax.vmap(lambda g: tx.update(g, tx.init(g)))(tiny[None])
    assert (elsewhere.mu > 9e-38).all()


def test_centered_rmsprop() -> None:
    """centered RMSprop never takes the root of a negative number"""
    constant = jnp.linspace(100.0, 1000.0, 50)
    theirs, mine = (run(lib.rmsprop(0.1, centered=True), 0 * constant, [constant] * 200)[0] for lib in (optax, ours))
    assert jnp.isnan(theirs).any() and jnp.isfinite(mine).all() and (mine < 0).all()


def test_adadelta() -> None:
    """adadelta needs a learning_rate"""
    assert (run(optax.adadelta(), X, [ONE] * 3)[0] > 0).all() and (run(ours.adadelta(1.0), X, [ONE] * 3)[0] < 0).all()
    with pytest.raises(TypeError, match="needs a learning_rate"):
        ours.adadelta()


def test_complex_adadelta() -> None:
    """adadelta's squares are of the modulus, where numbers are complex"""
    end = jnp.array([1 + 1j, -1 - 1j, 1 - 2j])

    @functools.partial(jax.jit, static_argnums=0)
    def distances(lib: Any) -> Any:
        """From a parabola's minimum, after each step."""
        tx = lib.adadelta(10.0)

        def step(carried: Any, _: Any) -> Any:
            x, state = carried
            updates, state = tx.update(2 * (x - end), state, x)
            return (optax.apply_updates(x, updates), state), jnp.abs(x - end).max()

        return jax.lax.scan(step, (0 * end, tx.init(end)), length=3000)[1]

    theirs, mine = distances(optax), distances(ours)
    assert theirs[-1] > 100 * theirs[0] and mine[-1] < 0.01 * mine[0]


@pytest.mark.filterwarnings("ignore:Casting from complex")
def test_complex_moments() -> None:
    """a real mu_dtype or accumulator_dtype is the type of a complex moment's parts, float32 at least"""
    z = jnp.full(3, 3 + 4j, jnp.complex64)
    for make, field in (
        (lambda lib, dtype: lib.adam(0.1, mu_dtype=dtype), "mu"),
        (lambda lib, dtype: lib.sgd(0.1, momentum=0.9, accumulator_dtype=dtype), "trace"),
    ):
        for dtype in (jnp.float32, jnp.bfloat16):
            theirs, mine = (run(make(lib, dtype), z, [z, z]) for lib in (optax, ours))
            assert getattr(theirs[1], field).dtype == dtype and getattr(mine[1], field).dtype == jnp.complex64
            np.testing.assert_allclose(mine[0], run(make(optax, None), z, [z, z])[0], rtol=1e-6)
            assert (abs(mine[0] - theirs[0]) > 0.01).all()


def test_what_is_refused() -> None:
    """numbers out of their range and states of other shapes are refused when they are given"""
    for name, options in (("adam", {"b1": 1.5}), ("adamw", {"weight_decay": -1.0}), ("rmsprop", {"decay": 1.5})):
        assert (run(getattr(optax, name)(0.1, **options), X, [ONE] * 2)[0] != 0).all()
        with pytest.raises(ValueError, match="must be a number in"):
            getattr(ours, name)(0.1, **options)
    of_one = optax.adam(0.1).init(jnp.zeros(1))
    assert optax.adam(0.1).update(ONE, of_one)[0].shape == (3,)
    with pytest.raises(ValueError, match=r"has shape \(3,\), and its state mu \(1,\)"):
        ours.adam(0.1).update(ONE, of_one)


def test_other_leaves() -> None:
    """leaves that aren't of floating-point or complex numbers are refused"""
    leaf = jnp.arange(3)
    assert run(optax.adam(0.5), leaf, [leaf])[0].dtype == leaf.dtype
    with pytest.raises(TypeError, match="mask other leaves"):
        ours.adam(0.5).init(leaf)
    tree = {"w": ONE, "n": leaf}
    tx = optax.masked(ours.adam(0.5), {"w": True, "n": False})
    assert (tx.update(tree, tx.init(tree), tree)[0]["w"] < 0).all()


def test_the_page_lists_what_is_shown() -> None:
    page = (ROOT / "docs" / "jax.md").read_text(encoding="utf-8")
    assert re.findall(r"^- (.*)\.$", page, re.MULTILINE) == [f"{d.what}: {d.why}" for d in differences.JAX]
    shown = [" ".join(f.__doc__.split()) for f in globals().values() if isinstance(f, FunctionType) and f.__doc__]
    assert [text for text in shown if not text.endswith(".")] == [d.what for d in differences.JAX]
