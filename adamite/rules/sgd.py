"""Stochastic gradient descent: plain, with momentum, with Nesterov's momentum."""

from adamite.language.maths import where
from adamite.language.rule import rule


@rule
def sgd(g, b, *, t, lr=1e-2, momentum: float | None = None, dampening=0.0, nesterov: bool = False):
    """Gradient descent, plain or with momentum.

    Heavy-ball momentum is Polyak's (1964), Nesterov's in the form of Sutskever et al. (2013). The first velocity is
    the first gradient, undampened, as in torch.

    lr in [0, inf): learning rate, the length of the step for a gradient of one. The one to tune first:
        try 1, 0.1, 0.01; reduce it if the loss oscillates. Tune 1e-3 to 10.
    momentum in [0, 1): how much of the last velocity is kept. 0.9 is the usual value, 0.99 with small lr.
    dampening in [0, 1]: the share of a new gradient that the velocity leaves out, from the second step on.
    nesterov: look ahead along the velocity before stepping; often a little faster at no cost.
    """
    if momentum is None:
        return lr * g, b
    b = momentum * b + where(t == 1, 1, 1 - dampening) * g  # velocity
    return lr * (g + momentum * b) if nesterov else lr * b, b


@rule(variant_of=sgd)
def sgd_lr_inside(g, b, *, t, lr=1e-2, momentum: float | None = None, nesterov: bool = False):
    """Gradient descent as Keras writes it: the velocity carries the learning rate and the sign.

    The same as `sgd` while lr is constant; after a change of lr the old velocity keeps its old length.
    """
    if momentum is None:
        return lr * g, b
    b = momentum * b - lr * g  # velocity
    return lr * g - momentum * b if nesterov else -b, b
