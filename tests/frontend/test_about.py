"""What is said of an optimizer: complete, and true of the optimizer that is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adamite
from adamite.backends.text import equations
from adamite.frontend.about import About, about
from adamite.language.rule import REQUIRED
from adamite.numpy import OPTIMIZERS, optimizer
from adamite.rules import RULES

NAMES = [*OPTIMIZERS, *RULES]
FRAMEWORKS = ("torch", "keras", "optax")
every = pytest.mark.parametrize("name", NAMES)


def describe(name: str) -> About:
    cls = optimizer(name)
    return about(cls.__name__, cls.conventions())


def made(name: str, x: Any, **arguments: Any) -> adamite.Optimizer:
    return optimizer(name)(x, **arguments)


@every
def test_nothing_is_left_empty(name: str) -> None:
    it = describe(name)
    assert it.title.endswith(".") and "\n" not in it.title
    assert it.arguments
    for argument in it.arguments:
        named = f"{it.name}: {argument.name}"
        assert argument.default and argument.allowed, named
        assert argument.meaning.endswith((".", ")")), named
        assert argument.symbol or argument.name in it.update.rule.choices, named
    letters = [a.symbol for a in it.arguments if a.symbol]
    assert len(set(letters)) == len(letters)


@every
def test_all_arguments_are_described_with_the_defaults_of_the_optimizer_made(name: str) -> None:
    it = describe(name)
    opt = made(name, np.zeros(1))
    rule = it.update.rule
    decay = ["weight_decay"] * bool(opt.weight_decay)
    assert [a.name for a in it.arguments] == [*rule.numbers, *decay, *rule.choices]
    for argument in it.arguments:
        value = getattr(opt, argument.name)
        if argument.name in rule.choices or value is None:
            assert argument.default in (str(value).lower(), repr(value)), argument
        else:
            assert float(argument.default) == value, argument


@every
def test_ranges_are_those_that_are_enforced(name: str) -> None:
    for argument in describe(name).arguments:
        if argument.allowed[0] not in "[(":
            continue
        low, high = (float(bound) for bound in argument.allowed[1:-1].split(","))
        edges = {low: argument.allowed[0] == "[", high: argument.allowed[-1] == "]"}
        edges |= {np.nextafter(low, -np.inf): False, np.nextafter(high, np.inf): False}
        needs = {"momentum": 0.5} if argument.name == "dampening" else {}  # else it would be idle, and refused
        for value, allowed in edges.items():
            given = {**needs, argument.name: float(value)}
            if allowed:
                assert getattr(made(name, np.zeros(1), **given), argument.name) == value
            else:
                with pytest.raises(ValueError, match=argument.name):
                    made(name, np.zeros(1), **given)


@every
@pytest.mark.parametrize("around", [{}, dict(ema=0.9)], ids=["alone", "ema"])
def test_bytes_are_those_of_the_states_kept(name: str, around: dict[str, Any]) -> None:
    x = np.zeros(1000, np.float32)
    opt = made(name, x, **around)
    opt.step(x.copy())
    kept = opt.state_dict()["parameters"]["x"].values()
    size = sum(state.nbytes for state in kept if isinstance(state, np.ndarray))
    extra = x.nbytes if around else 0
    it = describe(name)
    assert 1000 * it.state_bytes == size - extra
    assert it.moved_bytes == 12 + 2 * it.state_bytes  # x read and written, g read; states read and written


# ---- where frameworks differ ----------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_differences_are_those_between_the_optimizers_made(name: str) -> None:
    differences = {d.framework: d for d in describe(name).differences}
    assert tuple(differences) == FRAMEWORKS
    paper = made(name, np.zeros(1))
    base = [str(e) for e in equations(paper.update)]
    for framework, difference in differences.items():
        required: dict[str, float] = {"lr": 0.5} if difference.defaults.get("lr") == "required" else {}
        theirs = made(name, np.zeros(1), convention=framework, **required)
        printed = [str(e) for e in equations(theirs.update)]
        assert [str(e) for e in difference.equations] == [e for e in printed if e not in base]
        convention = optimizer(name).conventions()[framework]
        assert (convention.default("lr") is REQUIRED) == bool(required)
        assert (difference.title != "") == (convention.rule is not paper.update.rule)
        shared = {*paper.update.rule.numbers} & {*theirs.update.rule.numbers} | {"weight_decay"}
        for argument in shared - {*required}:
            mine, other = getattr(paper, argument), getattr(theirs, argument)
            shown = difference.defaults.get(argument)
            if mine == other:
                assert shown is None, argument
            elif not (argument == "weight_decay" and convention.decay is None):
                assert shown is not None and (None if shown == "none" else float(shown)) == other, argument


DIFFERENT = [
    ("Adam", "torch", "L2", (), {}),
    ("Adam", "keras", "decoupled", ("ηₜ = η √(1 − β₂ᵗ) / (1 − β₁ᵗ)", "xₜ = xₜ₋₁ − ηₜ mₜ / (√vₜ + ε)"), {"eps": 1e-7}),
    ("AdamW", "torch", "decoupled", (), {}),
    ("AdamW", "optax", "decoupled", (), {"lr": "required", "weight_decay": 1e-4}),
    ("RMSprop", "torch", "L2", ("stepₜ = gₜ / (√vₜ + ε)", "xₜ = xₜ₋₁ − η stepₜ"), {"lr": 0.01, "rho": 0.99}),
    ("NAdam", "keras", "decoupled", (), {"lr": 1e-3, "eps": 1e-7, "momentum_decay": 1}),
    ("Adamax", "optax", "no weight", ("uₜ = max(β₂ uₜ₋₁, |gₜ| + ε)", "xₜ = xₜ₋₁ − η m̂ₜ / uₜ"), {"lr": "required"}),
]


@pytest.mark.parametrize(
    ("name", "framework", "decay", "lines", "defaults"), DIFFERENT, ids=lambda v: v if isinstance(v, str) else ""
)
def test_known_differences(
    name: str, framework: str, decay: str, lines: tuple[str, ...], defaults: dict[str, Any]
) -> None:
    difference = next(d for d in describe(name).differences if d.framework == framework)
    assert decay in difference.decay
    assert tuple(str(e) for e in difference.equations) == lines
    found = {k: v if v == "required" else float(v) for k, v in difference.defaults.items()}
    assert found == defaults


# ---- documentation --------------------------------------------------------------------------------


@every
def test_classes_are_documented(name: str) -> None:
    cls, it = optimizer(name), describe(name)
    doc = cls.__doc__ or ""
    assert doc.startswith(it.title)
    assert max(map(len, doc.splitlines())) <= 120
    for line in [*map(str, equations(it.update)), *(f"    {a.name}" for a in it.arguments)]:
        assert line in doc
    words = " ".join(doc.split())
    for argument in it.arguments:
        assert f"{argument.name} in {argument.allowed}, default {argument.default}: {argument.meaning}" in words


def test_documentation_of_adam() -> None:
    doc = adamite.Adam.__doc__ or ""
    for said in ("Kingma & Ba 2015", "xₜ = xₜ₋₁ − η m̂ₜ / (√v̂ₜ + ε)", "beta2 in [0, 1), default 0.999: ", "params"):
        assert said in doc
    assert "variant" not in doc and "weight_decay in" not in doc
    assert "weight_decay in [0, inf), default 0.01" in (adamite.AdamW.__doc__ or "")


@adamite.rule
def bare(g, *, t, lr):
    return lr * g


def test_a_rule_without_documentation() -> None:
    cls = adamite.optimizer(bare)
    it = about(cls.__name__, cls.conventions())
    assert (it.title, it.summary) == ("", "")
    (lr,) = it.arguments
    assert (lr.name, lr.symbol, lr.default) == ("lr", "η", "required")
    assert "xₜ = xₜ₋₁ − η gₜ" in (cls.__doc__ or "")
