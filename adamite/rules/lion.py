"""Lion: the sign of the momentum; every weight moves by lr."""

from adamite.language.maths import sign
from adamite.language.rule import rule


@rule
def lion(g, m, *, t, lr=1e-4, beta1=0.9, beta2=0.99):
    """Lion (Chen et al. 2023, algorithm 2).

    lr in [0, inf): learning rate, the step of every weight: 3 to 10 times smaller than Adam's, with a
        weight decay as many times larger.
    beta1 in [0, 1): weight of the momentum in the step's direction.
    beta2 in [0, 1): decay of the momentum. 0.99; 0.98 for language models.
    """
    step = lr * sign(beta1 * m + (1 - beta1) * g)
    m = beta2 * m + (1 - beta2) * g  # momentum
    return step, m
