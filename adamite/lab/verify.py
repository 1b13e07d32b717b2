"""Checks on this machine: the machine code has the bits of the reference, and the papers' numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from adamite.lab import oracles
from adamite.language.rule import Rule
from adamite.numpy import optimizer
from adamite.rules import RULES
from adamite.testing import run_checks

STEPS, COORDINATES = 50, 48
LIMIT = 1e-13  # the largest error relative to the displacement, in float64
NEAR = 3  # the largest median error in float32, in units in the last place


@dataclass(frozen=True)
class Report:
    """One rule's checks and errors. Errors are against the oracle, a plain float64 loop written from the paper."""

    case: str  # the rule, and the options if any
    checks: int
    failures: tuple[str, ...]  # of adamite.testing.check_rule, which also compares bits
    displacement64: float  # max |difference| / max |displacement| in float64
    ulps64: float  # largest difference in units of the last place of the parameter
    ulps32_median: float
    ulps32: float

    @property
    def reasons(self) -> list[str]:
        """What doesn't hold."""
        unmet = list(self.failures)
        if not self.displacement64 <= LIMIT:
            unmet.append(f"float64 error {self.displacement64:.1e}, more than {LIMIT:g}")
        if not self.ulps32_median <= NEAR:
            unmet.append(f"float32 median {self.ulps32_median:.1f} units in the last place, more than {NEAR}")
        return unmet

    @property
    def passed(self) -> bool:
        return not self.reasons


# Options of rules that are checked in addition to their defaults.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "sgd": [{"momentum": 0.9, "dampening": 0.1}, {"momentum": 0.9, "nesterov": True}],
    "sgd_lr_inside": [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}],
    "rmsprop": [{"momentum": 0.9}, {"centered": True}],
    "rmsprop_eps_outside": [{"momentum": 0.9}, {"centered": True}],
}
CASES: list[tuple[Rule, dict[str, Any]]] = [
    (rule, options) for rule in RULES.values() for options in ({}, *OPTIONS.get(rule.name, []))
]


def label(rule: Rule, options: dict[str, Any]) -> str:
    """A case's name: `sgd momentum nesterov`."""
    return " ".join([rule.name, *options])


def verify() -> Iterator[Report]:
    """Check all cases, one by one."""
    for rule, options in CASES:
        yield report(rule, **options)


def report(rule: Rule, **options: Any) -> Report:
    """Check one rule with these options.

    Raises:
        ValueError: the rule has no oracle; `adamite.testing.check_rule` needs none.
    """
    if rule.name not in oracles.ORACLES:
        raise ValueError(f"there is no oracle for rule {rule.name}; adamite.testing.check_rule needs none")
    checks = list(run_checks(rule, **options))
    start, gradients = _problem()
    settings: dict[str, Any] = {n: number.default for n, number in rule.numbers.items()}
    settings |= {name: choice.default for name, choice in rule.choices.items()} | options
    run = oracles.run(rule.name, start.tolist(), gradients.tolist(), settings)
    exact = np.array(run.parameters[-1])
    double, single = (_train(rule, start, gradients, dtype, options) for dtype in (np.float64, np.float32))
    ulps32 = np.abs(single - exact) / np.spacing(np.abs(exact).astype(np.float32))
    return Report(
        case=label(rule, options),
        checks=len(checks),
        failures=tuple(f"{c.name}: {c.error}" for c in checks if not c.passed),
        displacement64=float(np.abs(double - exact).max() / np.abs(exact - start).max()),
        ulps64=float((np.abs(double - exact) / np.spacing(np.abs(exact))).max()),
        ulps32_median=float(np.median(ulps32)),
        ulps32=float(ulps32.max()),
    )


def _problem() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Parameters near one and gradients of many scales, all exact in float32."""
    rng = np.random.default_rng(7)
    start = rng.uniform(0.5, 2, COORDINATES).astype(np.float32)
    scales = 10.0 ** rng.uniform(-4, 1, COORDINATES)
    gradients = (rng.standard_normal((STEPS, COORDINATES)) * scales).astype(np.float32)
    return start.astype(np.float64), gradients.astype(np.float64)


def _train(
    rule: Rule, start: Any, gradients: Any, dtype: Any, options: dict[str, Any]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    x = start.astype(dtype)
    opt = optimizer(rule)(x, **options)
    for g in gradients:
        opt.step(g.astype(dtype))
    return np.asarray(x, np.float64)
