"""RMSprop: each gradient divided by the root of its mean square."""

from adamite.language.maths import maximum, sqrt
from adamite.language.rule import rule


@rule
def rmsprop(g, v, g_bar, b, *, t, lr=1e-3, rho=0.9, eps=1e-8, momentum: float | None = None, centered: bool = False):
    """RMSprop (Hinton 2012, lecture 6e; Graves 2013, eq. 38-41).

    Centering and momentum are those of Graves. The centered variance is kept from falling below zero, which
    rounding does to it elsewhere where gradients are constant.

    lr in [0, inf): learning rate, about the size of each weight's step. Try 1e-4 to 1e-2.
    rho in [0, 1): decay of the mean square. 0.9 to 0.99; higher is smoother and slower to adapt.
    eps in (0, inf): keeps the division finite; raise it (1e-4) if tiny gradients take too large steps.
    momentum in [0, 1): decay of the accumulated steps; None for none.
    centered: divide by the standard deviation instead, (v - g_bar**2) for v. Larger steps where gradients
        agree; costs one more state.
    """
    v = rho * v + (1 - rho) * g**2  # mean square
    variance = v
    if centered:
        g_bar = rho * g_bar + (1 - rho) * g  # mean
        variance = maximum(v - g_bar**2, 0)
    step = lr * g / sqrt(variance + eps)
    if momentum is not None:
        step = b = momentum * b + step
    return step, v, g_bar, b


@rule(variant_of=rmsprop)
def rmsprop_eps_outside(
    g, v, g_bar, b, *, t, lr=1e-2, rho=0.99, eps=1e-8, momentum: float | None = None, centered: bool = False
):
    """RMSprop as torch writes it: eps outside the root, lr outside the momentum.

    For gradients near sqrt(eps) the two forms differ by orders of magnitude.
    """
    v = rho * v + (1 - rho) * g**2  # mean square
    variance = v
    if centered:
        g_bar = rho * g_bar + (1 - rho) * g  # mean
        variance = maximum(v - g_bar**2, 0)
    step = g / (sqrt(variance) + eps)
    if momentum is not None:
        step = b = momentum * b + step
    return lr * step, v, g_bar, b


@rule(variant_of=rmsprop)
def rmsprop_trace(
    g, g_bar, b, v="v0", *, t, lr=1e-3, rho=0.9, eps=1e-8, v0=0.0, momentum: float | None = None,
    centered: bool = False, eps_in_sqrt: bool = True, nesterov: bool = False, bias_correction: bool = False,
):  # fmt: skip
    """RMSprop as optax writes it: the momentum is a trace of the moves, with lr and sign inside.

    v0 in [0, inf): what the mean square starts at.
    eps_in_sqrt: eps inside the root; else beside it, as in torch.
    nesterov: look ahead along the trace.
    bias_correction: correct the means for their start.
    """
    v = rho * v + (1 - rho) * g**2  # mean square
    variance = v / (1 - rho**t) if bias_correction else v
    if centered:
        g_bar = rho * g_bar + (1 - rho) * g  # mean
        mean = g_bar / (1 - rho**t) if bias_correction else g_bar
        variance = maximum(variance - mean**2, 0)
    step = lr * g / (sqrt(variance + eps) if eps_in_sqrt else sqrt(variance) + eps)
    if momentum is not None:
        b = momentum * b - step  # trace
        step = step - momentum * b if nesterov else -b
    return step, g_bar, b, v
