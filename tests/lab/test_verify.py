"""The report on a rule: it holds for the right rule, and fails for a wrong one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import adamite
from adamite import rules
from adamite.lab import oracles, verify
from adamite.lab.verify import Report

GOOD = Report("adam", 14, (), displacement64=1e-14, ulps64=1.0, ulps32_median=1.5, ulps32=4.0)


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"displacement64": 1e-13}, True),
        ({"displacement64": 1.1e-13}, False),
        ({"ulps32_median": 3.0}, True),
        ({"ulps32_median": 3.1}, False),
        ({"ulps32_median": float("nan")}, False),
        ({"displacement64": float("nan")}, False),
        ({"displacement64": float("inf")}, False),
        ({"failures": ("float32: same bits: x differs",)}, False),
    ],
    ids=str,
)
def test_what_passes(changes: dict[str, Any], passed: bool) -> None:
    report = dataclasses.replace(GOOD, **changes)
    assert report.passed is passed and len(report.reasons) == (not passed)


@pytest.mark.parametrize("rule", [rules.adam, rules.lion, rules.nadam, rules.rmsprop], ids=lambda r: r.name)
def test_right_rules_hold(rule: adamite.Rule) -> None:
    report = verify.report(rule)
    assert report.passed, report
    assert (report.case, report.failures) == (rule.name, ()) and report.checks > 10
    assert 0 <= report.ulps32_median <= report.ulps32 < 50
    assert 0 <= report.ulps64 < 1000


def test_errors_are_what_they_are_called() -> None:
    """Worked out anew: the run by hand, the oracle, and a unit in the last place from the exponent."""
    start, gradients = verify._problem()
    exact = np.array(
        oracles.run(
            "adam", start.tolist(), gradients.tolist(), dict(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
        ).parameters[-1]
    )
    found = {}
    for dtype, digits in ((np.float64, 52), (np.float32, 23)):
        x = start.astype(dtype)
        opt = adamite.Adam(x)
        for g in gradients.astype(dtype):
            opt.step(g)
        difference = np.abs(x.astype(float) - exact)
        unit = 2.0 ** (np.floor(np.log2(np.abs(exact))) - digits)
        found[dtype] = difference.max() / np.abs(exact - start).max(), difference / unit
    report = verify.report(rules.adam)
    assert report.displacement64 == pytest.approx(found[np.float64][0])
    assert report.ulps64 == pytest.approx(found[np.float64][1].max())
    assert report.ulps32 == pytest.approx(found[np.float32][1].max())
    assert report.ulps32_median == pytest.approx(np.median(found[np.float32][1]))


def uncorrected() -> adamite.Rule:
    @adamite.rule
    def adam(g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
        """Adam without its correction."""
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        return lr * m / (adamite.sqrt(v) + eps), m, v

    return adam


def slightly_wrong() -> adamite.Rule:
    @adamite.rule
    def adam(g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
        """Adam with eps where Keras has it: 1e-8 of the step at ordinary gradients."""
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        return lr * adamite.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (adamite.sqrt(v) + eps), m, v

    return adam


def climbing() -> adamite.Rule:
    @adamite.rule
    def sgd(g, *, t, lr=1e-2, momentum: float | None = None, dampening=0.0, nesterov=False):
        """Gradient ascent."""
        return -lr * g

    return sgd


@pytest.mark.parametrize("make", [uncorrected, slightly_wrong, climbing], ids=lambda make: make.__name__)
def test_wrong_rules_fail(make) -> None:
    report = verify.report(make())
    assert not report.passed
    assert report.displacement64 > 1e-10
    assert bool(report.failures) == (make is climbing)


def test_a_rule_without_an_oracle_is_told() -> None:
    @adamite.rule
    def mine(g, *, t, lr=0.01):
        """Nobody's paper."""
        return lr * g

    with pytest.raises((ValueError, KeyError), match=r"no oracle.*mine|mine.*no oracle"):
        verify.report(mine)


def test_every_rule_has_an_oracle() -> None:
    assert set(rules.RULES) == set(oracles.ORACLES)
