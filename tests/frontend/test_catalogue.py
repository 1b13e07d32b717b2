"""What each framework's optimizer does, in numbers measured on torch 2.13, Keras 3.15 and optax 0.2.8."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import adamite
from adamite.frontend.catalogue import CATALOGUE, CONVENTIONS, OPTAX
from adamite.frontend.classes import signature
from adamite.frontend.named import ABSENT
from adamite.frontend.spelling import Form
from adamite.language.rule import REQUIRED

FRAMEWORKS = ("torch", "keras", "optax")


def make(name: str, framework: Any, x: Any, **arguments: Any) -> adamite.Optimizer:
    cls: type[adamite.Optimizer] = getattr(adamite, name)
    return cls(x, convention=framework, **arguments)


def path(name: str, framework: str, gradients: Sequence[float], *, start: float = 1.0, **arguments: Any) -> Any:
    """Where one parameter is, before and after each step."""
    x = np.array(start)
    optimizer = make(name, framework, x, **arguments)
    found = [float(x)]
    for g in gradients:
        optimizer.step(np.array(g))
        found.append(float(x))
    return np.array(found)


# p after gradients .5, -.25, .125 from 1 at lr .125, all else default; RAdam after 8 steps, the gradients repeating.
GOLDEN: list[tuple[str, dict[str, Any], float | None, float | None, float | None]] = [
    ("SGD", dict(momentum=0.5), 0.921875, 0.921875, 0.921875),
    ("SGD", dict(momentum=0.5, nesterov=True), 0.9140625, 0.9140625, 0.9140625),
    ("RMSprop", {}, 0.036136522003, 0.694688830789, 0.694688253043),
    ("RMSprop", dict(centered=True, momentum=0.5), -0.631512028685, 0.453261285853, 0.453260106500),
    ("Adagrad", {}, 0.903624463178, 0.919131891655, 0.919131891655),
    ("Adadelta", {}, 0.999721228042, 0.999875332728, 0.999721228042),
    ("Adam", {}, 0.799154231146, 0.799155440602, 0.799154231146),
    ("Adam", dict(weight_decay=0.0625), 0.767664553241, 0.778106145829, None),
    ("AdamW", dict(weight_decay=0.0625), 0.778104950103, 0.778106145829, 0.778104950103),
    ("AMSGrad", {}, 0.799154231146, 0.799155440602, 0.820547682750),
    ("Adamax", {}, 0.820464983035, 0.820465015368, 0.820464983035),
    ("NAdam", {}, 0.885325097706, 0.883308701962, 0.788777610474),
    ("RAdam", {}, 0.863720516438, None, 0.863720514944),
    ("AdaBelief", {}, None, None, 0.779935735157),
    ("Lion", dict(weight_decay=0.0625), None, 0.852714061737, 0.852714061737),
    ("ADOPT", {}, None, None, 1.008749882806),
]
CELLS = [
    pytest.param(name, framework, arguments, value, id="-".join([name, framework, *arguments]))
    for name, arguments, *values in GOLDEN
    for framework, value in zip(FRAMEWORKS, values, strict=True)
    if value is not None
]


@pytest.mark.parametrize(("name", "framework", "arguments", "value"), CELLS)
def test_golden_values(name: str, framework: str, arguments: dict[str, Any], value: float) -> None:
    gradients = [0.5, -0.25, 0.125] * 3
    steps = 8 if name == "RAdam" else 3
    found = path(name, framework, gradients[:steps], lr=0.125, **arguments)
    assert found[-1] == pytest.approx(value, abs=5e-13)


def test_momentum_is_sgd_with_momentum() -> None:
    for framework in CONVENTIONS["Momentum"]:
        found = [path(n, framework, [1.0, 2.0], lr=0.1, momentum=0.9)[-1] for n in ("Momentum", "SGD")]
        assert found[0] == found[1] != path("SGD", framework, [1.0, 2.0], lr=0.1)[-1]


# ---- disagreements that change numbers ------------------------------------------------------------


def first_move(name: str, framework: str, g: float, **arguments: Any) -> float:
    """The first update over lr."""
    start, after = path(name, framework, [g], start=0.0, lr=0.5, **arguments)
    return float(start - after) / 0.5


# name, framework, arguments, gradient: the first update over lr, as printed.
FIRST: list[tuple[str, str, dict[str, Any], float, str]] = [
    ("Adam", "torch", {}, 1e-4, "0.9999"),
    ("Adam", "torch", {}, 1e-6, "0.990"),
    ("Adam", "torch", {}, 1e-8, "0.500"),
    ("Adam", "keras", {}, 1e-4, "0.969"),
    ("Adam", "keras", {}, 1e-6, "0.240"),
    ("Adam", "keras", {}, 1e-8, "0.003"),
    ("Adam", "keras", dict(eps=1e-8), 1e-4, "0.997"),
    ("Adam", "keras", dict(eps=1e-8), 1e-6, "0.760"),
    ("Adam", "keras", dict(eps=1e-8), 1e-8, "0.031"),
    ("Adagrad", "torch", {}, 0.01, "1.0000"),
    ("Adagrad", "keras", {}, 0.01, "0.0316"),
    ("Adagrad", "optax", {}, 0.01, "0.0316"),
    ("NAdam", "torch", {}, 1.0, "1.056"),
    ("NAdam", "keras", {}, 1.0, "1.063"),
    ("NAdam", "optax", {}, 1.0, "1.474"),
    ("RMSprop", "torch", dict(rho=0.9, eps=1e-8), 1e-6, "3.07"),
    ("RMSprop", "keras", dict(rho=0.9, eps=1e-8), 1e-6, "0.010"),
    ("RMSprop", "optax", dict(rho=0.9, eps=1e-8), 1e-6, "0.010"),
]


@pytest.mark.parametrize(("name", "framework", "arguments", "g", "printed"), FIRST)
def test_first_updates(name: str, framework: str, arguments: dict[str, Any], g: float, printed: str) -> None:
    digits = len(printed) - 2
    assert f"{first_move(name, framework, g, **arguments):.{digits}f}" == printed


def test_keras_epsilon_trails_by_29_percent() -> None:
    gradients = 1e-6 * np.random.default_rng(0).normal(size=(200, 1000))
    moved = {}
    for framework in ("torch", "keras"):
        x = np.zeros(1000)
        optimizer = make("Adam", framework, x, lr=1e-3)
        for g in gradients:
            optimizer.step(g)
        moved[framework] = np.linalg.norm(x)
    assert 1 - moved["keras"] / moved["torch"] == pytest.approx(0.29, abs=0.03)


def test_weight_decay_of_adam() -> None:
    """Decoupled, it doesn't depend on the gradients' scale; as L2 it outgrows small gradients."""
    scales = np.array([1.0, 0.1, 0.01, 0.001])
    noise = np.random.default_rng(0).normal(size=3000)
    moved = {}
    for framework in ("torch", "keras"):
        x = np.ones(4)
        optimizer = make("Adam", framework, x, lr=1e-3, weight_decay=0.01)
        for z in noise:
            optimizer.step(scales * z)
        moved[framework] = x
    decoupled, l2 = moved["keras"], moved["torch"]
    assert np.ptp(decoupled) < 1e-3
    assert l2[0] == pytest.approx(decoupled[0], abs=0.02)
    assert (np.diff(l2) < -0.02).all() and abs(l2[-1]) < 0.1


@pytest.mark.parametrize(("framework", "printed"), [("torch", ".47 .72 .97"), ("optax", ".15 .10 .10")])
def test_amsgrad_remembers_one_large_gradient(framework: str, printed: str) -> None:
    moves = -np.diff(path("AMSGrad", framework, [1.0] + [0.1] * 999, start=0.0, lr=1.0))
    assert " ".join(f"{moves[t - 1]:.2f}"[1:] for t in (10, 100, 1000)) == printed


@pytest.mark.parametrize(("framework", "printed"), [("torch", ".457"), ("keras", ".892")])
def test_nadam_momentum_after_100_steps(framework: str, printed: str) -> None:
    x = np.array(1.0)
    optimizer = make("NAdam", framework, x)
    products = []
    for _ in range(100):
        optimizer.step(np.array(1.0))
        products.append(optimizer.state_dict()["parameters"]["x"]["mu_product"])
    assert f"{products[-1] / products[-2]:.3f}"[1:] == printed


@pytest.mark.parametrize(("framework", "move"), [("torch", -0.019), ("keras", -0.100)])
def test_where_the_velocity_keeps_lr(framework: str, move: float) -> None:
    found = path("SGD", framework, [1.0, 1.0], lr=lambda step: (0.1, 0.01)[step], momentum=0.9)
    assert np.diff(found)[-1] == pytest.approx(move, abs=1e-12)


# ---- the signatures in the catalogue --------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, spelling in OPTAX.items() if not spelling.ours])
def test_optaxs_signatures(name: str) -> None:
    import optax

    theirs = inspect.signature(getattr(optax, name, None) or getattr(optax.contrib, name)).parameters.values()
    form = OPTAX[name].form
    arguments = {p.name: REQUIRED if p.default is p.empty else p.default for p in theirs}
    arguments = {name: None if callable(default) else default for name, default in arguments.items()}  # adopt's limit
    assert [*form.arguments] == [*arguments]
    assert form.arguments == arguments
    assert form.positional == sum(p.kind is not p.KEYWORD_ONLY for p in theirs)


def test_a_form_is_written_as_python_prints_it() -> None:
    form = Form.of("f(a, b=2, *, c=(1, 2))")
    assert form == Form("f", {"a": REQUIRED, "b": 2, "c": (1, 2)}, 2)
    assert str(signature(form, options="more")) == "(a, b=2, *, c=(1, 2), **more)"
    assert form.given([1], {"c": 3, "d": 4}) == ({"a": 1, "b": 2, "c": 3}, {"d": 4})
    for args, options, message in (
        ([1, 2, 3], {}, "f takes from 1 to 2 positional arguments but 3 were given"),
        ([1], {"a": 2}, "f got multiple values for argument 'a'"),
    ):
        with pytest.raises(TypeError, match=message):
            form.given(args, options)


def test_a_form_of_any_rule_can_be_shown() -> None:
    """A number without a default may follow one with a default, and may be called like the further options."""
    form = Form("f", {"lr": 0.1, "beta": REQUIRED, "more": 0.5}, 3)
    assert str(signature(form, "params", options="more")) == "(params, lr=0.1, *, beta, more=0.5, **more_)"
    assert form.given([1, 2], {}, leading=1) == ({"lr": 1, "beta": 2, "more": 0.5}, {})
    with pytest.raises(TypeError, match="f takes from 2 to 4 positional arguments but 5 were given"):
        form.given([1, 2, 3, 4], {}, leading=1)


def test_names_that_adamite_lacks() -> None:
    for name in ("foo.base", "_x", ".x", "torchy"):
        assert getattr(adamite, name, None) is None
    with pytest.raises(AttributeError, match="did you mean Adam"):
        adamite.adma  # type: ignore[attr-defined]  # noqa: B018


def test_no_optimizer_is_said_to_be_absent() -> None:
    assert not ABSENT.keys() & {row.name.lower() for row in CATALOGUE}
