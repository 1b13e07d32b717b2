"""ADOPT: Adam that converges with any beta2, by normalizing with the last step's second moment."""

from adamite.maths import maximum, minimum, sqrt, where
from adamite.rule import rule
from adamite.rules.adam import adam


@rule(variant_of=adam)
def adopt(g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.9999, eps=1e-6):
    """ADOPT (Taniguchi et al. 2024, algorithm 2).

    With the clipping of the paper's later version. The first step only measures: the parameter doesn't move.

    beta2 in [0, 1): decay of the second moment. 0.9999; any value converges.
    """
    first = t == 1
    limit = (t - 1) ** 0.25
    normalized = g / maximum(sqrt(v), eps)
    normalized = maximum(minimum(normalized, limit), -limit)
    m = where(first, m, beta1 * m + (1 - beta1) * normalized)  # first moment, of normalized gradients
    v = where(first, g**2, beta2 * v + (1 - beta2) * g**2)  # second moment
    return where(first, 0, lr * m), m, v
