"""The conformance kit: adamite's rules pass it; faulty rules fail with a message about their fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adamite
from adamite.rules import RULES
from adamite.storage import FORMATS
from adamite.testing import Check, check_rule, differing, run_checks, specials

# ---- rules that pass ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_adamites_own(name: str) -> None:
    checks = check_rule(RULES[name])
    assert all(check.passed for check in checks)
    assert {f.name for f in FORMATS.values()} <= {check.name.split(":")[0] for check in checks}
    assert len({check.name for check in checks}) == len(checks) > 10


@adamite.rule
def averaging(
    x, g, m, z="x", n: adamite.Scalar = 0.0, *, t, lr, beta=0.9, kind: str = "mean", power: float | None = None
):
    """A user's rule: reads the parameter, counts, and has a second point as a state."""
    n = n + (1.0 if power is None else t**power)
    m = beta * m + (1 - beta) * g
    z = z - lr * m
    step = x - (x + (z - x) / n if kind == "mean" else z)
    return step, m, z, n


@pytest.mark.parametrize(
    "settings",
    [{}, dict(lr=0.1, kind="last"), dict(power=0.5, lr=0.05), dict(weight_decay=0.1, ema=0.9, clip_norm=1.0)],
    ids=str,
)
def test_a_users_own(settings: dict[str, Any]) -> None:
    assert check_rule(averaging, **settings)


def test_options_of_a_rule() -> None:
    assert check_rule(RULES["rmsprop"], centered=True, momentum=0.9)


# ---- rules with a fault ---------------------------------------------------------------------------


@adamite.rule
def ascends(g, *, t, lr=0.01):
    """Takes the sign for the other one."""
    return -lr * g


@adamite.rule
def overshoots(g, *, t, lr=2.0):
    """Jumps over the valley."""
    return lr * g


@adamite.rule
def stays(g, *, t, lr=0.0):
    """Doesn't move."""
    return lr * g


@adamite.rule
def untitled(g, *, t, lr=0.01):
    return lr * g


@adamite.rule
def divides(g, v, *, t, lr=0.01):
    """Forgets eps."""
    v = 0.9 * v + 0.1 * g**2
    return lr * g / adamite.sqrt(v), v


@adamite.rule
def late(g, *, t, lr=0.01):
    """Divides by zero at the second step."""
    return lr * g / (t - 2)


@adamite.rule
def poisoned(g, r, *, t, lr=0.01):
    """Keeps a NaN that shows only later: 0/0 in the state, hidden in the step."""
    r = r + g / adamite.abs(g)
    return lr * adamite.where(g == 0, 0, r), r


@adamite.rule
def tiny(g, *, t, lr=0.01, eps=1e-50):
    """Is for float64 alone."""
    return lr * g / (adamite.abs(g) + eps)


@adamite.rule
def branches(g, *, t, lr=0.01):
    """Asks a symbol for its value."""
    if g > 0:
        return lr
    return -lr


@adamite.rule
def forgetful(g, m, *, t, lr=0.01):
    """Doesn't return its state."""
    return lr * (g + m)


FAULTS: list[tuple[adamite.Rule, str, str]] = [
    (ascends, "descends", "20 steps on a bowl take the loss from .* to "),
    (overshoots, "descends", "20 steps on a bowl"),
    (stays, "descends", "20 steps on a bowl"),
    (untitled, "has a title", "write a docstring"),
    (divides, "zero gradients", "divided by zero"),
    (late, "zero gradients", "divided by zero"),
    (poisoned, "zero gradients", "state r"),
    (tiny, "float32: same bits", "eps=1e-50 becomes 0 in float32"),
    (branches, "", "line .*`if g > 0:`.*branch on a value"),
    (forgetful, "", "must return 2 values"),
]


@pytest.mark.parametrize(("rule", "property_", "said"), FAULTS, ids=[rule.name for rule, *_ in FAULTS])
def test_faults_are_told(rule: adamite.Rule, property_: str, said: str) -> None:
    with pytest.raises(AssertionError, match=rf"(?s)rule {rule.name} fails .*{property_}: .*{said}"):
        check_rule(rule)


@pytest.mark.parametrize("rule", [ascends, untitled, divides], ids=lambda rule: rule.name)
def test_a_fault_is_the_only_failure(rule: adamite.Rule) -> None:
    failed = {check.name.split(": ")[-1] for check in run_checks(rule) if not check.passed}
    assert len(failed) == 1


def test_the_message_lists_all_failures() -> None:
    failed = [check for check in run_checks(ascends) if not check.passed]
    with pytest.raises(AssertionError) as caught:
        check_rule(ascends)
    first, *rest = str(caught.value).splitlines()
    assert first == f"rule ascends fails {len(failed)} of {len(list(run_checks(ascends)))} checks:"
    assert [line.strip() for line in rest] == [f"{check.name}: {check.error}" for check in failed]


@pytest.mark.parametrize(("settings", "said"), [(dict(lr=-1.0), "lr must be"), (dict(betas=0.9), "did you mean beta1")])
def test_wrong_settings_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError, AssertionError), match=said):
        check_rule(RULES["adam"], **settings)


def test_only_rules_are_checked() -> None:
    function: Any = lambda g, *, t, lr=0.1: lr * g  # noqa: E731
    with pytest.raises(TypeError, match=r"@adamite\.rule"):
        check_rule(function)


def test_checks_read_well() -> None:
    assert Check("same bits").passed
    assert not Check("same bits", "x differs").passed


# ---- its tools ------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS.values(), ids=lambda f: f.name)
def test_specials(format: Any) -> None:
    values = specials(format, 2000, seed=3)
    assert values.dtype == format.dtype and values.shape == (2000,)
    assert differing(values, specials(format, 2000, seed=3)).sum() == 0
    assert differing(values, specials(format, 2000, seed=4)).sum() > 1000
    zero, subnormal = values == 0, (np.abs(values) < format.tiny) & (values != 0)
    kinds = [
        np.isnan(values),
        values == np.inf,
        values == -np.inf,
        zero & np.signbit(values),
        zero & ~np.signbit(values),
    ]
    kinds += [subnormal, np.abs(values) == format.tiny, values == np.finfo(format.dtype).max]
    assert [bool(kind.any()) for kind in kinds] == [True] * len(kinds)
    assert np.isfinite(values).mean() > 0.5
    assert specials(format, 0).shape == (0,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_differing(dtype: Any) -> None:
    other_nan = np.array([np.nan], dtype)
    other_nan.view(f"u{other_nan.itemsize}")[0] += 1
    assert np.isnan(other_nan[0])
    a = np.array([0.0, 1.0, np.nan, np.inf, np.nan, 5.0], dtype)
    b = np.array([-0.0, np.nextafter(dtype(1), dtype(2)), other_nan[0], np.inf, 1.0, 5.0], dtype)
    b[2:3] = other_nan
    assert differing(a, b).tolist() == [True, True, False, False, True, False]
    assert differing(a[::2], a[::2]).tolist() == [False] * 3
    assert not differing(a[0:1].reshape(()), a[0:1].reshape(()))
