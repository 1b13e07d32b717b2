"""Adadelta: the steps have the units of the parameter, so no learning rate is needed."""

from adamite.language.maths import sqrt
from adamite.language.rule import rule


@rule
def adadelta(g, v, u, *, t, lr=1.0, rho=0.95, eps=1e-6):
    """Adadelta (Zeiler 2012, algorithm 1).

    lr in [0, inf): a factor on the step; 1 is the paper's method.
    rho in [0, 1): decay of both mean squares. 0.9 to 0.95.
    eps in (0, inf): sets the size of the first steps, sqrt(eps) at most; raise it (1e-4) for a faster start.
    """
    v = rho * v + (1 - rho) * g**2  # mean square of gradients
    step = sqrt(u + eps) / sqrt(v + eps) * g
    u = rho * u + (1 - rho) * step**2  # mean square of steps
    return lr * step, v, u
