"""Adagrad: each gradient divided by the root of the sum of all its squares."""

from adamite.language.maths import sqrt
from adamite.language.rule import rule


@rule
def adagrad(g, s="s0", *, t, lr=1e-2, eps=1e-10, s0=0.0, lr_decay=0.0):
    """Adagrad (Duchi, Hazan & Singer 2011).

    lr in [0, inf): learning rate, the size of a weight's first step. Try 1e-2 to 1; it decays by itself.
    eps in (0, inf): keeps the division finite.
    s0 in [0, inf): what the sum of squares starts at; 0.1 (Keras, optax) makes the first steps smaller.
    lr_decay in [0, inf): lr is divided by 1 + (t - 1) * lr_decay.
    """
    s = s + g**2  # sum of squares
    return lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps), s


@rule(variant_of=adagrad)
def adagrad_eps_inside(g, s="s0", *, t, lr=1e-3, eps=1e-7, s0=0.1):
    """Adagrad as Keras and optax write it: eps inside the root, the sum starting at 0.1."""
    s = s + g**2  # sum of squares
    return lr * g / sqrt(s + eps), s
