"""ADOPT: Adam that converges with any beta2, by normalizing with the last step's second moment."""

from adamite.language.maths import maximum, minimum, sqrt, where
from adamite.language.rule import rule
from adamite.rules.adam import adam


@rule(variant_of=adam)
def adopt(g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.9999, eps=1e-6):
    """ADOPT (Taniguchi et al. 2024, algorithm 2).

    With the clipping of the paper's later version. The first step only measures: the parameter doesn't move.

    beta2 in [0, 1): decay of the second moment. 0.9999; any value converges.
    """
    limit = (t - 1) ** 0.25  # zero at first
    normalized = maximum(minimum(g / maximum(sqrt(v), eps), limit), -limit)
    m = beta1 * m + (1 - beta1) * normalized  # first moment, of normalized gradients
    decay = where(t == 1, 0, beta2)
    v = decay * v + (1 - decay) * g**2  # second moment
    return lr * m, m, v


@rule(variant_of=adopt)
def adopt_nesterov(
    g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.9999, eps=1e-6,
    limit: float | None = None, nesterov: bool = True, use_clipping: bool = True,
):  # fmt: skip
    """ADOPT as optax has it: with Nesterov's momentum, or without the later version's clipping.

    nesterov: look ahead along the momentum.
    limit in [0, inf): where the normalized gradients are clipped; None for (t - 1)**0.25.
    use_clipping: clip the normalized gradients; without it the first step moves by lr * g / eps.
    """
    normalized = g / maximum(sqrt(v), eps)
    if use_clipping:
        limit = (t - 1) ** 0.25 if limit is None else limit  # zero at first
        normalized = maximum(minimum(normalized, limit), -limit)
    keep = where(t == 1, 1, beta1)
    m = keep * m + (1 - keep) * normalized  # first moment, of normalized gradients
    decay = where(t == 1, 0, beta2)
    v = decay * v + (1 - decay) * g**2  # second moment
    return lr * (keep * m + (1 - keep) * normalized if nesterov else m), m, v
