"""RAdam: Adam that waits until its second moment can be trusted."""

from adamite.language.maths import sqrt, where
from adamite.language.rule import rule
from adamite.rules.adam import adam, corrected


def _rectification(t, beta2, threshold):
    """The length of the averaged window, and the factor of the paper's eq. for r_t."""
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    r = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    return rho > threshold, r


@rule(variant_of=adam)
def radam(g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, threshold=4.0):
    """RAdam (Liu et al. 2020, algorithm 2).

    Until the averaged window is long enough the step is plain momentum. eps, which the paper leaves out, stands
    beside the root, as in optax.

    threshold in [4, inf): from this length of the averaged window on the step is divided by the root of v_hat.
        The paper has 4, torch and optax 5.
    """
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    trusted, r = _rectification(t, beta2, threshold)
    return lr * where(trusted, r * m_hat / (sqrt(v_hat) + eps), m_hat), m, v


@rule(variant_of=radam)
def radam_eps_hat(g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, threshold=5.0):
    """RAdam as torch writes it: eps beside the root of the raw second moment."""
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    m_hat = m / (1 - beta1**t)
    trusted, r = _rectification(t, beta2, threshold)
    return lr * where(trusted, r * sqrt(1 - beta2**t) * m_hat / (sqrt(v) + eps), m_hat), m, v


@rule(variant_of=radam)
def radam_eps_root(
    g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, threshold=5.0,
    eps_root: float | None = None, nesterov: bool = False,
):  # fmt: skip
    """RAdam as optax writes it, with a second epsilon inside the root.

    eps_root in [0, inf): added to v_hat inside the root; None for none.
    nesterov: look ahead along the momentum.
    """
    m = beta1 * m + (1 - beta1) * g  # first moment
    v = beta2 * v + (1 - beta2) * g**2  # second moment
    m_hat = corrected(m, g, t=t, beta1=beta1, nesterov=nesterov)
    v_hat = v / (1 - beta2**t)
    if eps_root is not None:
        v_hat = v_hat + eps_root
    trusted, r = _rectification(t, beta2, threshold)
    return lr * where(trusted, r * m_hat / (sqrt(v_hat) + eps), m_hat), m, v
