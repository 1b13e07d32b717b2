"""Optimizers for JAX: optax's gradient transformations, names, defaults and states, each update one operation.

>>> import jax
>>> import jax.numpy as jnp
>>> import optax
>>> tx = adamw(0.1)
>>> params = {"w": jnp.ones(3)}
>>> state = tx.init(params)
>>> grads = jax.grad(lambda p: (p["w"] ** 2).sum())(params)
>>> updates, state = tx.update(grads, state, params)  # as with optax's own
>>> print(optax.apply_updates(params, updates)["w"].round(2))
[0.9 0.9 0.9]
>>> step = jax.jit(tx.step, donate_argnums=(0, 1))  # the same in one pass, in place
>>> params, state = step(params, tx.init(params), grads)
"""

from adamite.jax.functions import FUNCTIONS, OPTIMIZERS, optimizer
from adamite.jax.transformation import State, Transformation

__all__ = [*FUNCTIONS, "OPTIMIZERS", "State", "Transformation", "optimizer"]
globals().update(FUNCTIONS)
