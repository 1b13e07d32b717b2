"""Every rule through one framework, in a process of its own: `python -m tests.everywhere "keras jax" ends.npy`.

The file has the parameters, all arrays concatenated: a row per case and per step in `AFTER`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise, starmap
from typing import Any

import numpy as np

import adamite
from adamite.rules import RULES
from tests.support import Array, Case, variants

SHAPES: list[tuple[int, ...]] = [(), (37,), (3, 1, 5), (0, 2)]
AFTER = (1, 10, 1_000)


def cases() -> Iterator[Case]:
    """Each rule with its defaults, then with options and decoupled decay."""
    for rule in RULES.values():
        yield Case(rule, {})
        yield Case(rule, [*variants(rule)][-1], {"weight_decay": 0.0625})


CASES = list(cases())
# The cases that XLA runs in TensorFlow: compiling each takes seconds, and the operations are those of graphs.
XLA = slice(0, None, 2)


def draw() -> tuple[list[Array], list[Array]]:
    """Initial arrays with some zeros, and gradients whose scale varies by element and by step."""
    generator = np.random.default_rng(0)
    starts, gradients = [], []
    for shape in SHAPES:
        starts.append(generator.normal(size=shape) * (generator.random(shape) < 0.8))
        sizes = generator.uniform(-3, 1, shape) + generator.uniform(-1, 1, (AFTER[-1], *[1] * len(shape)))
        gradients.append((generator.normal(size=(AFTER[-1], *shape)) + 0.25) * 10.0**sizes)
    return [np.asarray(x, np.float32) for x in starts], [g.astype(np.float32) for g in gradients]


STARTS, GRADIENTS = draw()

Moments = Iterable[Sequence[Any]]  # the arrays after each of the steps in AFTER


def options(case: Case, rate: str = "lr") -> dict[str, Any]:
    """A case's arguments; the learning rate is a float32 number, since Keras stores it as one."""
    numbers = case.rule.numbers
    given = {rate: float(np.float32(numbers["lr"].default or 0.0))} if "lr" in numbers else {}
    return given | case.options | case.around


def stepped(arrays: Sequence[Any], step: Callable[[int], object], last: int = AFTER[-1]) -> Moments:
    """Make the steps, which change the arrays or the list of them, and yield copies after those in AFTER."""
    for k in range(last):
        step(k)
        if k + 1 in AFTER:
            yield [np.asarray(x).copy() for x in arrays]


def in_numpy() -> Iterable[Moments]:
    def run(case: Case) -> Moments:
        x = [start.copy() for start in STARTS]
        around = case.around and {"decay": "decoupled"}
        optimizer = adamite.optimizer(case.rule)(x, **options(case), **around)
        return stepped(x, lambda k: optimizer.step([g[k] for g in GRADIENTS]))

    return map(run, CASES)


def in_torch() -> Iterable[Moments]:
    import torch

    import adamite.torch as ours

    gradients = list(map(torch.from_numpy, GRADIENTS))

    def run(case: Case) -> Moments:
        x = [torch.nn.Parameter(torch.from_numpy(start.copy())) for start in STARTS]
        optimizer = ours.optimizer(case.rule)(x, **options(case))

        def step(k: int) -> None:
            for parameter, g in zip(x, gradients, strict=True):
                parameter.grad = g[k]
            optimizer.step()

        return stepped([parameter.detach() for parameter in x], step)

    return map(run, CASES)


def in_jax() -> Iterable[Moments]:
    """Without jit, only the first steps: each takes JAX a millisecond."""
    import jax.numpy as jnp

    import adamite.jax as ours

    gradients = list(map(jnp.asarray, GRADIENTS))

    def run(case: Case) -> Moments:
        tx = ours.optimizer(case.rule)(**options(case))
        x = list(map(jnp.asarray, STARTS))
        state = [tx.init(x)]

        def step(k: int) -> None:
            x[:], state[0] = tx.step(x, state[0], [g[k] for g in gradients])

        return stepped(x, step, last=AFTER[-2])

    return map(run, CASES)


def in_jax_jit() -> Iterable[Moments]:
    import jax.numpy as jnp

    import adamite.jax as ours

    x = list(map(jnp.asarray, STARTS))
    transformations = [ours.optimizer(case.rule)(**options(case)) for case in CASES]
    return looped([tx.step for tx in transformations], [(x, tx.init(x)) for tx in transformations])


def looped(steps: Sequence[Callable[..., Any]], first: Any) -> Iterable[Moments]:
    """All cases as one JAX program; a step takes parameters, state and gradients, and returns the first two."""
    import jax
    import jax.numpy as jnp

    gradients = list(map(jnp.asarray, GRADIENTS))

    def body(k: Any, carried: Any) -> Any:
        g = [g[k] for g in gradients]
        return [step(x, state, g) for step, (x, state) in zip(steps, carried, strict=True)]

    go = jax.jit(lambda since, until, carried: jax.lax.fori_loop(since, until, body, carried))
    reached = [first]
    for since, until in pairwise((0, *AFTER)):
        reached.append(go(since, until, reached[-1]))
    return zip(*([x for x, _ in carried] for carried in reached[1:]))


def in_keras(compiled: bool = False) -> Iterable[Moments]:
    """On the backend that the environment names; optionally compiled by XLA."""
    import keras

    import adamite.keras as ours

    gradients = [keras.ops.convert_to_tensor(g) for g in GRADIENTS]
    pairs = []
    for case in CASES[XLA] if compiled else CASES:
        x = [keras.Variable(start, dtype="float32") for start in STARTS]
        pairs.append((ours.optimizer(case.rule)(**options(case, "learning_rate")), x))
        pairs[-1][0].build(x)
    if keras.backend.backend() == "tensorflow":
        return keras_on_tensorflow(pairs, gradients, compiled)
    return (keras_on_torch if keras.backend.backend() == "torch" else keras_on_jax)(pairs, gradients)


def keras_on_torch(pairs: Any, gradients: Any) -> Iterable[Moments]:
    """Only the first steps: Keras is slow, and they are torch's steps."""

    def run(optimizer: Any, x: Any) -> Moments:
        values = [v.value.detach() for v in x]
        return stepped(values, lambda k: optimizer.apply([g[k] for g in gradients], x), last=AFTER[-2])

    return starmap(run, pairs)


def keras_on_jax(pairs: Any, gradients: Any) -> Iterable[Moments]:
    def stateless(optimizer: Any) -> Callable[..., Any]:
        return lambda x, state, g: optimizer.stateless_apply(state, g, x)

    first = [([v.value for v in x], [v.value for v in optimizer.variables]) for optimizer, x in pairs]
    return looped([stateless(optimizer) for optimizer, _ in pairs], first)


def keras_on_tensorflow(pairs: Any, gradients: Any, compiled: bool) -> Iterable[Moments]:
    import tensorflow as tf

    @tf.function(jit_compile=compiled)
    def go(since: Any, until: Any) -> None:
        for k in tf.range(since, until):
            for optimizer, x in pairs:
                optimizer.apply([g[k] for g in gradients], x)

    reached = []
    for since, until in pairwise((0, *AFTER)):
        go(tf.constant(since), tf.constant(until))
        reached.append([[v.numpy() for v in x] for _, x in pairs])
    return zip(*reached)


RUNS: dict[str, Callable[[], Iterable[Moments]]] = {
    "numpy": in_numpy,
    "torch": in_torch,
    "jax": in_jax,
    "jax jit": in_jax_jit,
    "keras torch": in_keras,
    "keras jax": in_keras,
    "keras tensorflow": in_keras,
    "keras tensorflow xla": partial(in_keras, compiled=True),  # as `fit` compiles it
}


def main(name: str, place: str) -> None:
    if name.startswith("keras"):
        os.environ["KERAS_BACKEND"] = name.split()[1]
    ends = [[np.concatenate([np.asarray(x).ravel() for x in arrays]) for arrays in run] for run in RUNS[name]()]
    np.save(place, np.array(ends))


if __name__ == "__main__":
    main(*sys.argv[1:])
