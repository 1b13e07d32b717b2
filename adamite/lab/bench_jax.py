"""adamite.jax against optax: interleaved in one process, medians and ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

import adamite.jax as ours
from adamite.lab.bench import SHAPES, SIZE, Row, Step, carrying, compare, promised

Tree = Any
Move = Callable[[Tree, Tree, Tree], tuple[Tree, Tree]]  # parameters, state, gradients -> new parameters, new state

_IN_PLACE = {"adamite step": 0.7}
_ARRAYS = {"adamite update": 1.03, "adamite step": 1.03}


def bench(size: int = SIZE, rounds: int = 9) -> Iterator[Row]:
    """All measurements, as they are made."""
    yield from _many(3 * rounds)
    yield from _end_to_end(3 * rounds)
    yield from _large(size, rounds)


def cases() -> int:
    """The number of rows that `bench` yields."""
    peers = len(_MOVES)
    return (peers + 1) + 2 * peers + peers + 2 * peers


def _many(rounds: int) -> Iterator[Row]:
    """160 leaves: a call passes 641 arrays, which alone takes time in JAX; so also ten steps in one program."""
    params, grads = _drawn(SHAPES), _drawn(SHAPES)
    moves = {**_MOVES, "nothing (JAX's own dispatch)": _stay}
    yield from _compare("160 leaves, 1.9M", moves, params, grads, rounds, _IN_PLACE, repeat=5)
    for case, around, bars in (
        ("160 leaves, ten steps a program", _ten, _IN_PLACE),
        ("160 leaves, ten under vmap", lambda move: _ten(_mapped(move)), _ARRAYS),
    ):
        moves = {name: around(move) for name, move in _MOVES.items()}
        rows = _compare(case, moves, params, grads, rounds, bars)
        yield from (replace(row, seconds=row.seconds / 10) for row in rows)


def _end_to_end(rounds: int) -> Iterator[Row]:
    """A training step, with its forward and backward pass."""
    params = [(weights, jnp.zeros(weights.shape[1])) for weights in _drawn([(64, 64), (64, 10)])]
    batch = _drawn([(32, 64)])[0], jax.random.randint(jax.random.key(1), (32,), 0, 10)
    moves = {name: _training(move) for name, move in _MOVES.items()}
    yield from _compare("MLP 64-64-10, batch 32", moves, params, batch, rounds, repeat=100)


def _large(size: int, rounds: int) -> Iterator[Row]:
    """One array; under vmap the step consists of JAX operations."""
    params, grads = _drawn([(size,)]), _drawn([(size,)])
    case = f"{size / 1e6:g}M float32"
    yield from _compare(case, _MOVES, params, grads, rounds, promised(size, _IN_PLACE))
    moves = {name: _mapped(move) for name, move in _MOVES.items()}
    yield from _compare(f"{case}, under vmap", moves, params, grads, rounds, promised(size, _ARRAYS))


# ---- steps ----------------------------------------------------------------------------------------


def _update(tx: Any) -> Move:
    def move(params: Tree, state: Tree, grads: Tree) -> tuple[Tree, Tree]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return move


_THEIRS, _OURS = (package.adamw(1e-3, weight_decay=0.01) for package in (optax, ours))
_MOVES: dict[str, Move] = {"optax": _update(_THEIRS), "adamite update": _update(_OURS), "adamite step": _OURS.step}


def _stay(params: Tree, state: Tree, grads: Tree) -> tuple[Tree, Tree]:
    return params, state


def _ten(move: Move) -> Move:
    """Ten steps with the same gradients."""

    def ten(params: Tree, state: Tree, grads: Tree) -> tuple[Tree, Tree]:
        def one(_: Any, new: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
            return move(*new, grads)

        done: tuple[Tree, Tree] = jax.lax.fori_loop(0, 10, one, (params, state))
        return done

    return ten


def _mapped(move: Move) -> Move:
    """Under `vmap`, where the machine code doesn't run; an axis of length one costs nothing."""

    def mapped(*trees: Tree) -> tuple[Tree, Tree]:
        trees = jax.tree.map(lambda array: jnp.expand_dims(array, 0), trees)
        new: tuple[Tree, Tree] = jax.tree.map(lambda array: jnp.squeeze(array, 0), jax.vmap(move)(*trees))
        return new

    return mapped


def _training(move: Move) -> Move:
    """A step with the gradients of a batch, which is passed in their place."""

    def loss(params: Tree, x: jax.Array, y: jax.Array) -> jax.Array:
        (first, bias), (second, last) = params
        logits = jax.nn.relu(x @ first + bias) @ second + last
        losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean()

    return lambda params, state, batch: move(params, state, jax.grad(loss)(params, *batch))


def _compare(
    case: str,
    moves: Mapping[str, Move],
    params: Tree,
    grads: Tree,
    rounds: int,
    bars: Mapping[str, float] | None = None,
    repeat: int = 1,
) -> Iterator[Row]:
    kinds = {name: _step(move, params, grads) for name, move in moves.items()}
    yield from compare(case, kinds, rounds, repeat, yardstick="optax", bars=bars)


def _step(move: Move, params: Tree, grads: Tree) -> Step:
    """A compiled step in place, which waits for its results."""
    compiled = jax.jit(move, donate_argnums=(0, 1), keep_unused=True)

    def step(*carried: Tree) -> Any:
        return jax.block_until_ready(compiled(*carried, grads))  # type: ignore[no-untyped-call]

    return carrying(step, jax.tree.map(jnp.copy, params), _THEIRS.init(params))


def _drawn(shapes: Sequence[tuple[int, ...]]) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
