"""adamite.keras against keras.optimizers on Keras's backend: updates alone, called as `fit` calls them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow prints a screenful about the processor

import keras
from keras import layers

import adamite.keras as ours
from adamite.lab.bench import SIZE, Row, Step, carrying, compare, promised

Call = Callable[[Any, Sequence[Any], Sequence[Any]], Step]  # an optimizer, gradients and variables -> a step

_OPTIMIZERS: dict[str, tuple[str, dict[str, float]]] = {
    **{name: (name, {}) for name in ("Adam", "AdamW", "Nadam", "RMSprop", "Lion", "SGD")},
    "SGD, momentum": ("SGD", {"momentum": 0.9}),
}


def bench(size: int = SIZE, rounds: int = 9) -> Iterator[Row]:
    """All measurements, as they are made."""
    for place, call in _CALLS.items():
        for label in _OPTIMIZERS:
            kinds = _peers(label, call, lambda: _network().trainable_variables)
            bars = _bars(label, {"torch": {"Adam": 0.6}.get(label), "tensorflow": 1.03})
            yield from compare(f"MNIST's network on {place}", kinds, 3 * rounds, repeat=20, bars=bars)
        kinds = _peers("Adam", call, lambda: [keras.Variable(keras.ops.zeros(size))])
        bars = _bars("Adam", {"tensorflow": 1.03})
        yield from compare(f"{size / 1e6:g}M float32 on {place}", kinds, rounds, bars=promised(size, bars))


def cases() -> int:
    """The number of rows that `bench` yields."""
    return len(_CALLS) * 2 * (len(_OPTIMIZERS) + 1)


def _bars(label: str, promised: dict[str, float | None]) -> dict[str, float]:
    bar = promised.get(_BACKEND)
    return {} if bar is None else {f"adamite: {label}": bar}


def _network() -> Any:
    """The article's network, as in examples/mnist_keras.py."""
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def _peers(label: str, call: Call, make: Callable[[], Sequence[Any]]) -> dict[str, Step]:
    name, options = _OPTIMIZERS[label]
    kinds = {}
    for owner, package in (("keras", keras.optimizers), ("adamite", ours)):
        optimizer, variables = getattr(package, name)(**options), make()
        optimizer.build(variables)
        kinds[f"{owner}: {label}"] = call(optimizer, [keras.random.normal(v.shape) for v in variables], variables)
    return kinds


# ---- one update, on each backend ------------------------------------------------------------------


def _on_torch(optimizer: Any, grads: Sequence[Any], variables: Sequence[Any]) -> Step:
    import torch

    step: Step = torch.no_grad()(functools.partial(optimizer.apply, grads, variables))
    return step


def _on_jax(optimizer: Any, grads: Sequence[Any], variables: Sequence[Any]) -> Step:
    import jax

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(values: Any, states: Any, grads: Any) -> Any:
        return optimizer.stateless_apply(states, grads, values)

    def step(*carried: Any) -> Any:
        return jax.block_until_ready(update(*carried, grads))  # type: ignore[no-untyped-call]

    return carrying(step, *([v.value for v in each] for each in (variables, optimizer.variables)))


def _on_tensorflow(optimizer: Any, grads: Sequence[Any], variables: Sequence[Any], xla: bool) -> Step:
    import tensorflow as tf

    compiled = tf.function(lambda grads: optimizer.apply(grads, variables), jit_compile=xla)
    return functools.partial(compiled, grads)


_BACKEND: str = keras.backend.backend()
_BY_BACKEND: dict[str, dict[str, Call]] = {
    "torch": {"torch": _on_torch},
    "jax": {"JAX": _on_jax},
    "tensorflow": {
        "TensorFlow": functools.partial(_on_tensorflow, xla=False),
        "TensorFlow, XLA": functools.partial(_on_tensorflow, xla=True),
    },
}
if _BACKEND not in _BY_BACKEND:
    raise ValueError(f"{_BACKEND!r}; give tensorflow, jax or torch")
_CALLS = _BY_BACKEND[_BACKEND]
