"""A conformance kit for rules: adamite's own pass it, and yours can be checked with it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from adamite.backends.backend import BackendName
from adamite.backends.text import equations
from adamite.engine import kernels, threads
from adamite.language.rule import REQUIRED, Number, Rule
from adamite.numpy import Optimizer, optimizer
from adamite.storage import FORMATS, Format

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Check:
    """The check of one property; `error` is empty if it holds."""

    name: str
    error: str = ""

    @property
    def passed(self) -> bool:
        return not self.error


class Checks(list[Check]):
    """Checks, which print one line each."""

    def __repr__(self) -> str:
        return "\n".join(f"{'passed' if check.passed else 'FAILED'}  {check.name}" for check in self)


def check_rule(rule: Rule | str, **settings: Any) -> Checks:
    """Check that a rule has the properties of every optimizer, in float32 and float64.

    It can be traced and printed; the machine code has the bits of the NumPy backend, also for NaN, infinities, zeros
    and subnormals, and for any number of threads; no state stays subnormal; a saved run resumes exactly; lr=0 moves
    nothing; zero gradients and empty arrays are harmless; steps on a bowl go downhill.

    Args:
        rule: a function with `@adamite.rule`, or a name.
        settings: hyperparameters and choices, instead of the defaults.

    Returns:
        The checks, all passed.

    Raises:
        AssertionError: a check failed; the message names each that did.

    >>> from adamite.rules import adam
    >>> len(check_rule(adam)) > 5
    True
    """
    rule = optimizer(rule).conventions()["paper"].rule
    checks = Checks(run_checks(rule, **settings))
    failed = [f"{check.name}: {check.error}" for check in checks if not check.passed]
    if failed:
        raise AssertionError(f"rule {rule.name} fails {len(failed)} of {len(checks)} checks:\n  " + "\n  ".join(failed))
    return checks


def run_checks(rule: Rule, **settings: Any) -> Iterator[Check]:
    """Run the checks one by one; failing ones are yielded too."""
    cls = optimizer(rule)
    settings = {**{n: _any(number) for n, number in rule.numbers.items() if number.default is REQUIRED}, **settings}
    yield Check(
        "has a title", "" if rule.title else "write a docstring; its first line names the optimizer and its source"
    )
    try:
        update = cls(np.zeros(1), **settings).update
    except Exception as failure:
        yield Check("can be traced", f"{type(failure).__name__}: {failure}")
        return
    yield Check("can be traced")
    yield Check("prints its equations", "" if equations(update) else "nothing to print")
    for format in FORMATS.values():
        kit = _Kit(rule, format, settings)
        for name in (
            "same_bits",
            "same_bits_threads",
            "no_subnormals",
            "resumes",
            "stays_at_lr_zero",
            "zero_gradients",
            "descends",
        ):
            try:
                error = getattr(kit, name)()
            except Exception as failure:
                error = f"{type(failure).__name__}: {failure}"
            yield Check(f"{format.name}: {name.replace('_', ' ')}", error)


def _any(number: Number) -> float:
    """A value in a number's range."""
    middle = (max(number.low, -1.0) + min(number.high, max(number.low, -1.0) + 2)) / 2
    return next(value for value in (0.01, middle, number.low, number.high) if number.allows(value))


def specials(format: Format, size: int, seed: int = 0) -> Array:
    """Random values of many scales, with zeros, subnormals, infinities and NaN among them."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(size) * 10.0 ** rng.uniform(-12, 4, size)
    rare = [0.0, -0.0, format.tiny, -format.tiny / 3, np.finfo(format.dtype).max, np.inf, -np.inf, np.nan]
    places = rng.random(size) < 0.2
    values[places] = rng.choice(rare, int(places.sum()))
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(format.dtype)


class _Kit:
    def __init__(self, rule: Rule, format: Format, settings: Mapping[str, Any]) -> None:
        self.cls, self.format, self.settings = optimizer(rule), format, settings

    def make(self, x: Array, backend: BackendName = "llvm") -> Optimizer:
        with kernels.using(backend):
            return self.cls(x, **self.settings)

    def normal(self, size: int = 1000, seed: int = 0) -> Array:
        return np.random.default_rng(seed).standard_normal(size).astype(self.format.dtype)

    def same_bits(self) -> str:
        return self._compare(1003, steps=8)

    def same_bits_threads(self) -> str:
        with threads.using_threads(3):
            return self._compare(400_003, steps=2)

    def _compare(self, size: int, steps: int) -> str:
        start = specials(self.format, size, seed=99)
        runs = []
        backends: tuple[BackendName, ...] = ("llvm", "numpy")
        for backend in backends:
            x = start.copy()
            opt = self.make(x, backend)
            for step in range(steps):
                opt.step(specials(self.format, size, seed=step))
            runs.append({"x": x, **_states(opt)})
        for name, mine in runs[0].items():
            count = int(differing(mine, runs[1][name]).sum())
            if count:
                return f"{name} differs from the NumPy backend in {count} of {size} elements"
        return ""

    def no_subnormals(self) -> str:
        opt = self.make(self.normal())
        state = opt.state_dict()
        for name, value in state["parameters"]["x"].items():
            if isinstance(value, np.ndarray) and name != "average":
                value[...] = self.format.tiny
        state["parameters"]["x"]["step"] = 1
        opt.load_state_dict(state)
        opt.step(np.zeros(1000, self.format.dtype))
        for name, value in _states(opt).items():
            count = int(((np.abs(value) < self.format.tiny) & (value != 0)).sum())
            if count:
                return f"state {name} holds {count} subnormal numbers"
        return ""

    def resumes(self) -> str:
        xs = [self.normal(), self.normal()]
        straight, broken = (self.make(x) for x in xs)
        for step, opt in itertools.product(range(3), (straight, broken)):
            opt.step(self.normal(seed=step))
        again = self.make(xs[1])
        again.load_state_dict(broken.state_dict())
        for step, opt in itertools.product(range(3, 6), (straight, again)):
            opt.step(self.normal(seed=step))
        return "a saved and loaded run continues differently" if differing(*xs).any() else ""

    def stays_at_lr_zero(self) -> str:
        if "lr" not in self.cls.conventions()["paper"].rule.numbers:
            return ""
        x = self.normal()
        before = x.copy()
        opt = self.cls(x, **{**self.settings, "lr": 0.0})
        for step in range(3):
            opt.step(self.normal(seed=step))
        return (
            "lr=0 moves the parameter; a rule returns the step, not the new parameter"
            if differing(x, before).any()
            else ""
        )

    def zero_gradients(self) -> str:
        for shape in ((), (0,), (3,)):
            x = np.ones(shape, self.format.dtype)
            opt = self.make(x)
            for _ in range(3):
                opt.step(np.zeros(shape, self.format.dtype))
            if not np.isfinite(x).all():
                return f"zero gradients make a parameter of shape {shape} {x}; is something divided by zero?"
            for name, state in _states(opt).items():
                if not np.isfinite(state).all():
                    return f"zero gradients make state {name} {state}; is something divided by zero?"
        return ""

    def descends(self) -> str:
        x = self.normal() + 3
        opt = self.make(x)
        before = float((x.astype(float) ** 2).sum())
        for _ in range(20):
            opt.step(2 * x)
        after = float((x.astype(float) ** 2).sum())
        return "" if after < before else f"20 steps on a bowl take the loss from {before:.6g} to {after:.6g}"


def _states(opt: Optimizer) -> dict[str, Array]:
    saved = opt.state_dict()["parameters"]["x"]
    return {name: value for name, value in saved.items() if isinstance(value, np.ndarray)}


def differing(a: Array, b: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where the bits differ; a NaN equals any other."""
    bits = np.dtype(f"i{a.itemsize}")
    different: np.ndarray[Any, np.dtype[np.bool_]] = (a.view(bits) != b.view(bits)) & ~(np.isnan(a) & np.isnan(b))
    return different
