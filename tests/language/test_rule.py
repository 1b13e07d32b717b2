"""What `@adamite.rule` reads from a signature and a docstring, and what it refuses."""

import copy
import functools
import importlib
import math
import pickle
import re
import sys
import textwrap
from fractions import Fraction
from typing import Literal, Optional

import numpy as np
import pytest

import adamite
from adamite import Rule, RuleError, Scalar, rule, sign, sqrt, where
from adamite.rules import RULES
from adamite.rules.adam import adam


def made(source, **names):
    """What a piece of source without a file defines as `r`."""
    names |= {"rule": rule, "Scalar": Scalar, "Literal": Literal, "np": np, "where": where, "sqrt": sqrt}
    exec(textwrap.dedent(source), names)
    return names["r"]


def moved(rule, steps=3, size=4, **settings):
    """Where a parameter is after some steps."""
    x = np.random.default_rng(0).normal(size=size)
    opt = adamite.optimizer(rule)(x, **settings)
    for k in range(steps):
        opt.step(np.random.default_rng(k + 1).normal(size=size))
    return x


# ---- signatures -----------------------------------------------------------------------------------

REFUSED = {
    "no gradient": ("def r(*, t, lr=0.1): ...", "first argument is the gradient g"),
    "states first": ("def r(m, g, *, t, lr=0.1): ...", "first argument is the gradient g.*not m, g"),
    "gradient's name": ("def r(grad, m, *, t, lr=0.1): ...", "first argument is the gradient g.*not grad"),
    "a method": ("def r(self, g, m, *, t, lr=0.1): ...", "first argument is the gradient g.*not self"),
    "x alone": ("def r(x, *, t, lr=0.1): ...", "first argument is the gradient g"),
    "x behind": ("def r(g, x, *, t, lr=0.1): ...", r"x comes first, `def r\(x, g, \.\.\.\)`"),
    "no t": ("def r(g, m, *, lr=0.1): ...", "step number t is missing"),
    "t positional": ("def r(g, m, t, *, lr=0.1): ...", "step number t is missing"),
    "nothing keyword-only": ("def r(g, m, t, lr=0.1): ...", "step number t is missing.*write \\* before it"),
    "lr positional": ("def r(g, m, lr=0.1, *, t): ...", "lr is no state but a hyperparameter.*write \\* before it"),
    "*args": ("def r(g, *args, t, lr=0.1): ...", r"\*args"),
    "**options": ("def r(g, *, t, lr=0.1, **options): ...", r"\*options"),
    "list": ("def r(g, *, t, lr=[0.1]): ...", r"lr=\[0.1\]"),
    "tuple": ("def r(g, *, t, betas=(0.9, 0.999)): ...", r"betas=\(0.9, 0.999\)"),
    "complex": ("def r(g, *, t, lr=1j): ...", "lr=1j"),
    "bytes": ("def r(g, *, t, lr=b'x'): ...", "lr=b'x'"),
    "function": ("def r(g, *, t, lr=len): ...", "lr=<built-in"),
    "array": ("def r(g, *, t, lr=np.ones(2)): ...", "lr=array"),
    "1-element array": ("def r(g, *, t, lr=np.ones(1)): ...", "lr=array"),
    "nan": ("def r(g, *, t, lr=float('nan')): ...", "lr=nan"),
    "inf": ("def r(g, *, t, lr=float('inf')): ...", "lr=inf"),
    "state at None": ("def r(g, m=None, *, t, lr=0.1): ...", "state m can't start at None"),
    "state at True": ("def r(g, m=True, *, t, lr=0.1): ...", "state m can't start at True"),
    "state at array": ("def r(g, m=np.zeros(2), *, t, lr=0.1): ...", "state m can't start at array"),
    "state at nan": ("def r(g, m=float('nan'), *, t, lr=0.1): ...", "state m can't start at nan"),
    "state at nothing": ("def r(g, m='m0', *, t, lr=0.1): ...", "state m starts at 'm0'"),
    "state at t": ("def r(g, m='t', *, t, lr=0.1): ...", "state m starts at 't'"),
    "state at g": ("def r(g, m='g', *, t, lr=0.1): ...", "state m starts at 'g'"),
    "state at a choice": ("def r(g, m='mode', *, t, lr=0.1, mode='a'): ...", "state m starts at 'mode'"),
    "Scalar at x": ("def r(g, m: Scalar = 'x', *, t, lr=0.1): ...", "state m starts at 'x'"),
    "choice without default": ("def r(g, *, t, lr=0.1, mode: Literal['a', 'b']): ...", "mode.*default"),
    "bool without default": ("def r(g, *, t, lr=0.1, nesterov: bool): ...", "nesterov.*default"),
    "choice of numbers": ("def r(g, *, t, lr=0.1, order: Literal[1, 2] = 1): ...", "order"),
    "default not allowed": ("def r(g, *, t, lr=0.1, mode: Literal['a', 'b'] = 'c'): ...", "mode.*'a', 'b'"),
    "unreadable range": ("def r(g, *, t, lr=0.1):\n    'lr in [0; 1): rate'", r"lr in \[0; 1\)"),
    "range of names": ("def r(g, *, t, lr=0.1):\n    'lr in [low, high]: rate'", r"lr in \[low, high\]"),
    "range upside down": ("def r(g, *, t, lr=0.1):\n    'lr in (1, 0): rate'", r"lr in \(1, 0\)"),
    "empty range": ("def r(g, *, t, lr=0):\n    'lr in (0, 0): rate'", r"lr"),
    "range of three": ("def r(g, *, t, lr=0.1):\n    'lr in [0, 1, 2]: rate'", r"lr in \[0, 1, 2\]"),
    "default out of range": ("def r(g, *, t, lr=2.0):\n    'lr in [0, 1): rate'", r"lr=2.*\[0, 1\)"),
}
TAKEN = ["weight_decay", "decay", "clip_norm", "ema", "groups", "maximize", "nonfinite", "convention", "params", "self"]
TAKEN += ["steps", "skipped", "gradient_norm", "schedule", "averaged", "step", "state_dict", "clip", "_hidden", "_0"]
REFUSED |= {f"hyperparameter {n}": (f"def r(g, *, t, lr=0.1, {n}=0.1): ...", f"{n}") for n in TAKEN}
REFUSED |= {f"state {n}": (f"def r(g, {n}, *, t, lr=0.1): ...", n) for n in ("step", "average", "x")}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_signatures(case):
    source, message = REFUSED[case]
    with pytest.raises(RuleError) as error:
        made(f"@rule\n{source}")
    text = str(error.value)
    assert re.search(message, text), text
    assert text.startswith("rule r (<string>, line "), text  # what and where
    assert "def r(g, m, *, t, lr=1e-3)" in text  # and what to do


class Callable_:
    def __call__(self, g, *, t, lr=0.1):
        return lr * g

    def method(self, g, *, t, lr=0.1):
        return lr * g


@pytest.mark.parametrize(
    "thing",
    ["sgd", 3, Callable_(), Callable_, Callable_().method, len, functools.partial(lambda g, *, t, lr: g, lr=1), adam],
    ids=["str", "int", "object", "class", "method", "builtin", "partial", "rule"],
)
def test_only_plain_functions(thing):
    with pytest.raises(RuleError, match="plain function"):
        rule(thing)


PLAIN = """
def r(g, m, *, t, lr=0.1, beta=0.9):
    m = beta * m + (1 - beta) * g
    return lr * m, m
"""


def closure(beta=0.9):
    def inner(g, m, *, t, lr=0.1):
        m = beta * m + (1 - beta) * g
        return lr * m, m

    return inner


class Holder:
    @staticmethod
    @rule
    def held(g, m, *, t, lr=0.1, beta=0.9):
        m = beta * m + (1 - beta) * g
        return lr * m, m


def wrapped(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


SAME = {
    "exec'd": lambda: rule(made(PLAIN)),
    "decorated": lambda: made("@rule" + PLAIN),
    "decorated with ()": lambda: made("@rule()" + PLAIN),
    "lambda": lambda: rule(
        lambda g, m, *, t, lr=0.1, beta=0.9: (lr * (beta * m + (1 - beta) * g), beta * m + (1 - beta) * g)
    ),
    "closure": lambda: rule(closure()),
    "static method": lambda: Holder.held,
    "wrapped": lambda: rule(wrapped(made(PLAIN))),
    "positional-only": lambda: rule(made(PLAIN.replace("m, *", "m, /, *"))),
    "list returned": lambda: rule(made(PLAIN.replace("return lr * m, m", "return [lr * m, m]"))),
    "in place": lambda: rule(made(PLAIN.replace("m = beta * m + (1 - beta) * g", "m *= beta; m += (1 - beta) * g"))),
    "annotated": lambda: rule(made(PLAIN.replace("g, m", "g: 'Tensor', m: 'np.ndarray'"))),
    "t with a default": lambda: rule(made(PLAIN.replace("t,", "t=1,"))),
    "int default": lambda: rule(made(PLAIN.replace("lr=0.1", "lr=1").replace("lr *", "lr / 10 *"))),
    "NumPy default": lambda: rule(made(PLAIN.replace("lr=0.1", "lr=np.float64(0.1)"))),
    "fraction": lambda: rule(made(PLAIN.replace("lr=0.1", "lr=F(1, 10)"), F=Fraction)),
    "helper": lambda: rule(
        made(
            "def h(a, b, c): return c * a + (1 - c) * b\n" + PLAIN.replace("beta * m + (1 - beta) * g", "h(m, g, beta)")
        )
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_accepted_forms(case):
    r = SAME[case]()
    assert isinstance(r, Rule) and [s.name for s in r.states] == ["m"] and "lr" in r.numbers
    x, m = np.random.default_rng(0).normal(size=4), np.zeros(4)
    for k in range(3):
        m = 0.9 * m + (1 - 0.9) * np.random.default_rng(k + 1).normal(size=4)
        x = x - 0.1 * m
    np.testing.assert_allclose(moved(r), x, rtol=1e-14)
    assert "m" in adamite.optimizer(r)(np.zeros(2)).state_dict()["parameters"]["x"]


MODULE = '''
from __future__ import annotations
from typing import TYPE_CHECKING, Literal
import adamite
from adamite import Scalar
if TYPE_CHECKING:
    from somewhere import Array

@adamite.rule
def r(g: Array, m: Array, p: Scalar = 1.0, *, t: int, lr: float = 0.1, beta: float | None = 0.5,
      nesterov: bool = True, mode: Literal["a", "b"] = "b"):
    """A rule with annotations that can't all be evaluated."""
    p = p * 0.5
    m = (0 if beta is None else beta) * m + g
    return lr * p * m, m, p

def local():
    from adamite import Scalar
    @adamite.rule
    def inner(g, p: Scalar = 1.0, *, t, lr: float = 0.1):
        return lr * g * p, p * 0.5
    return inner

@adamite.rule
def dotted(g, p: adamite.Scalar = 1.0, *, t, lr=0.1):
    return lr * g * p, p * 0.5
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "annotated_rule.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("annotated_rule")
    sys.modules.pop("annotated_rule")


def test_annotations_that_are_strings(module):
    r = module.r
    assert [(s.name, s.scalar, s.start) for s in r.states] == [("m", False, 0.0), ("p", True, 1.0)]
    assert r.numbers["beta"].optional and not r.numbers["lr"].optional
    assert r.choices["mode"].allowed == ("a", "b") and r.choices["nesterov"].default is True
    assert module.dotted.states[0].scalar
    assert pickle.loads(pickle.dumps(r)) is r


def test_annotations_of_a_local_name(module):
    assert module.local().states[0].scalar


HALF = np.float32(0.5)

# ---- hyperparameters, choices, states -------------------------------------------------------------


def test_numbers_and_choices():
    @rule
    def r(
        g,
        m,
        *,
        t,
        lr=1,
        beta: float | None = None,
        rho: Optional[float] = 0.5,  # noqa: UP045
        small=HALF,
        need,
        fast=False,
        mode: str = "a",
        kind: Literal["one", "two"] = "two",
    ):
        return lr * g, m

    numbers = {n.name: (n.default, n.optional) for n in r.numbers.values()}
    need = numbers.pop("need")
    assert numbers == {"lr": (1.0, False), "beta": (None, True), "rho": (0.5, True), "small": (0.5, False)}
    assert need == (adamite.rule.__globals__["REQUIRED"], False)
    assert all(type(n.default) is float for n in r.numbers.values() if n.name not in ("need", "beta"))
    choices = {c.name: (c.default, c.allowed) for c in r.choices.values()}
    assert choices == {"fast": (False, (False, True)), "mode": ("a", ()), "kind": ("two", ("one", "two"))}
    with pytest.raises(TypeError, match="need is required"):
        adamite.optimizer(r)(np.zeros(2))


@rule
def chosen(g, m, *, t, lr=0.1, beta: float | None = None, twice=False, mode: Literal["add", "drop"] = "add"):
    if beta is not None:
        m = beta * m + g
        g = m
    if twice:
        g = 2 * g
    return lr * (g if mode == "add" else -g), m


@pytest.mark.parametrize("mode", ["add", "drop"])
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("beta", [None, 0.0, 0.5])
def test_choices_and_optional_numbers_are_branched_on(beta, twice, mode):
    x, m = np.random.default_rng(0).normal(size=4), np.zeros(4)
    for k in range(3):
        g = np.random.default_rng(k + 1).normal(size=4)
        m = g if beta is None else beta * m + g
        x = x - 0.1 * (2 if twice else 1) * (1 if mode == "add" else -1) * m
    np.testing.assert_allclose(moved(chosen, beta=beta, twice=twice, mode=mode), x, rtol=1e-14)
    opt = adamite.optimizer(chosen)(np.zeros(2), beta=beta, twice=twice, mode=mode)
    assert ("m" in opt.state_dict()["parameters"]["x"]) == (beta is not None)


@rule
def starts(x, g, a=2.0, b="b0", c="x", p: Scalar = 3.0, q: Scalar = "b0", z=0, *, t, lr=0.1, b0=0.25):  # type: ignore
    a, b, c = a + g, b * g, c + x
    p, q = p + 1, q * 2
    return lr * (a + b + c + p + q + z), a, b, c, p, q, z + g


def test_what_states_start_at():
    x = np.array([1.0, -2.0])
    opt = adamite.optimizer(starts)(x, b0=0.5)
    saved = opt.state_dict()["parameters"]["x"]
    shown = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in saved.items()}
    first = {"a": [2.0, 2.0], "b": [0.5, 0.5], "c": [1.0, -2.0], "p": 3.0, "q": 0.5, "z": [0.0, 0.0], "step": 0}
    assert shown == first
    opt.step(np.array([1.0, 2.0]))
    step = 0.1 * (np.array([3.0, 4.0]) + np.array([0.5, 1.0]) + np.array([2.0, -4.0]) + 4 + 1 + 0)
    np.testing.assert_allclose(x, np.array([1.0, -2.0]) - step, rtol=1e-15)
    assert opt.state_dict()["parameters"]["x"]["q"] == 1.0


def test_a_state_that_starts_at_the_setting_of_its_group():
    x = [np.zeros(1), np.zeros(1)]
    opt = adamite.optimizer(starts)(x, b0=0.5, groups={"1": {"b0": 0.125}})
    saved = opt.state_dict()["parameters"]
    assert [(float(saved[n]["b"][0]), saved[n]["q"]) for n in "01"] == [(0.5, 0.5), (0.125, 0.125)]


def test_a_rule_without_lr_that_reads_x():
    @rule
    def shrink(x, g, *, t, rate=0.5, pull=2.0):
        return rate * (g + pull * x)

    x, g = np.array([1.0, 4.0]), np.array([2.0, -1.0])
    opt = adamite.optimizer(shrink)(x, pull=0.5)
    opt.step(g)
    np.testing.assert_allclose(x, np.array([1.0, 4.0]) - 0.5 * (g + 0.5 * np.array([1.0, 4.0])), rtol=1e-15)
    opt = adamite.optimizer(shrink)(x, decay="l2", weight_decay=0.1)
    before = x.copy()
    opt.step(g)
    np.testing.assert_allclose(x, before - 0.5 * (g + 0.1 * before + 2.0 * before), rtol=1e-15)


# Words that the machinery uses itself: a rule may use them too.
NAMES = ["pow", "div", "sqrt", "abs", "float", "x", "k0", "v1", "const", "tiny", "nan", "inf", "kernel"]
NAMES += ["coefficients", "values", "function", "args", "name", "m_", "λ", "where", "max", "True_", "lambda_"]


@pytest.mark.parametrize("name", NAMES)
def test_hyperparameters_of_any_name(name):
    r = made(
        f"""
        @rule
        def r(g, m, *, t, lr=0.5, {name}=3.0, other=2.0):
            s = adamite_sqrt(lr * 2) / ({name} - lr * 6 + 1) ** other + 0.0 * (t / lr)
            m = m + {name} * g / t
            return s * lr ** other * abs_(m), m
        """,
        adamite_sqrt=sqrt,
        abs_=adamite.abs,
    )
    x = np.zeros(2)
    opt = adamite.optimizer(r)(x)
    opt.step(np.array([1.0, -2.0]))
    np.testing.assert_allclose(x, [-0.75, -1.5], rtol=1e-15)
    assert getattr(opt, name) == 3.0


@pytest.mark.parametrize(
    "name", [*(n for n in NAMES if n != "x"), "clip", "lr_", "beta", "m_hat", "step_", "g_bar", "v"]
)
def test_states_of_any_name(name):
    r = made(f"@rule\ndef r(g, {name}, *, t, lr=0.5):\n    {name} = {name} + g\n    return lr * {name}, {name}")
    x = np.zeros(2)
    opt = adamite.optimizer(r)(x, clip_norm=1e9, ema=0.5, weight_decay=0.1)
    opt.step(np.array([1.0, -2.0]))
    opt.step(np.array([1.0, -2.0]))
    first = np.array([-0.5, 1.0])
    np.testing.assert_allclose(x, first - (0.5 * np.array([2.0, -4.0]) + 0.5 * 0.1 * first), rtol=1e-15)
    assert opt.state_dict()["parameters"]["x"][name].tolist() == [2.0, -4.0]


# ---- docstrings -----------------------------------------------------------------------------------

DOCS = {
    "one line": ("Title.\n\nlr in [0, inf): rate.", "[0, inf)", "rate.", "Title."),
    "without a range": ("Title.\n\nlr: rate.", "", "rate.", "Title."),
    "half-open": ("Title.\n\nlr in (0, 1]: rate.", "(0, 1]", "rate.", "Title."),
    "negative": ("Title.\n\nlr in [-1.5, 1e3]: rate.", "[-1.5, 1e3]", "rate.", "Title."),
    "several lines": (
        "Title.\n\nlr in [0, 1): rate, which\n    goes on (see: here)\n    and on.\nbeta: other.",
        "[0, 1)",
        "rate, which goes on (see: here) and on.",
        "Title.",
    ),
    "text around": (
        "Title.\n\nSome text: with a colon.\n\nlr in [0, 1): rate.\n\nMore text.\n\n    x = 1",
        "[0, 1)",
        "rate.",
        "Title.\n\nSome text: with a colon.\n\nMore text.\n\n    x = 1",
    ),
    "in an Args block": ("Title.\n\nArgs:\n    lr in [0, 1): rate.\n    beta: other.", "[0, 1)", "rate.", None),
    "not mentioned": ("Title.\n\nThe text of lr.", "", "", "Title.\n\nThe text of lr."),
    "a longer name": ("Title.\n\nlr_decay: no.\nlr: rate.", "", "rate.", "Title.\n\nlr_decay: no."),
    "none": ("", "", "", ""),
    "mid-sentence": ("Title, where lr: is a word.", "", "", "Title, where lr: is a word."),
    "brackets": ("Title.\n\nlr in [0, 1): rate [0, 2) {x}.", "[0, 1)", "rate [0, 2) {x}.", "Title."),
    "backslashes": ("Title \\alpha.\n\nlr: \\eta {0}.", "", "\\eta {0}.", "Title \\alpha."),
}


@pytest.mark.parametrize("case", DOCS)
def test_docstrings(case):
    doc, range_, meaning, rest = DOCS[case]

    def r(g, *, t, lr=0.5, beta=0.9):
        return lr * beta * g

    r.__doc__ = doc
    read = rule(r)
    assert (read.numbers["lr"].range, read.numbers["lr"].meaning) == (range_, meaning)
    if rest is not None:
        assert read.summary == rest
    assert read.title == read.summary.split("\n")[0]


@pytest.mark.parametrize(
    ("range_", "good", "bad"),
    [
        ("[0, 1)", [0, 0.5, 0.999], [-1e-9, 1, 2]),
        ("(0, 1]", [1e-9, 0.5, 1], [0, -1, 1.001]),
        ("(-1, 1)", [-0.99, 0, 0.99], [-1, 1]),
        ("[2, inf)", [2, 1e30], [1.999, -3]),
        ("(-inf, 0]", [-1e30, 0], [1e-9]),
    ],
)
def test_ranges_are_kept(range_, good, bad):
    r = made(f"@rule\ndef r(g, *, t, a):\n    'a in {range_}: number'\n    return a * g")
    for value in good:
        assert adamite.optimizer(r)(np.zeros(1), a=value).a == value
    for value in bad:
        with pytest.raises(ValueError, match=re.escape(range_)):
            adamite.optimizer(r)(np.zeros(1), a=value)


def test_a_variant_inherits_what_it_does_not_say():
    @rule(variant_of=adam)
    def variant(g, m, *, t, lr=0.5, beta1=0.5, own=1.0):
        """Another.

        beta1 in [0, 0.6): smaller.
        """
        return lr * own * beta1 * g, m

    assert variant.numbers["lr"].meaning == adam.numbers["lr"].meaning
    assert (variant.numbers["lr"].range, variant.numbers["lr"].default) == (adam.numbers["lr"].range, 0.5)
    assert (variant.numbers["beta1"].range, variant.numbers["beta1"].high) == ("[0, 0.6)", 0.6)
    assert variant.numbers["own"].meaning == "" and variant.variant_of is adam


@pytest.mark.parametrize("name", RULES)
def test_adamites_own_rules_say_everything(name):
    r = RULES[name]
    assert r.name == name and r.title.endswith((".", ")", "inside"))
    for spec in r.numbers.values():
        assert spec.meaning and spec.range and spec.name not in r.summary.split(" in [")[0].splitlines()
        assert spec.default is None or spec.allows(spec.default)
    assert all(c.meaning for c in r.choices.values())
    assert copy.deepcopy(r) is r and pickle.loads(pickle.dumps(r)) is r


# ---- rules that call rules ------------------------------------------------------------------------


@rule
def sum_of_two(g, m, v, b, *, t, lr=0.1, momentum=0.9, share=0.25):
    """Part Adam, part momentum."""
    a, m, v = adam(g, m, v, t=t, lr=lr, beta1=0.9, beta2=0.999, eps=1e-8)
    s, b = RULES["sgd"](g, b, t=t, lr=lr, momentum=momentum)
    return share * a + (1 - share) * s, m, v, b


def test_rules_call_rules():
    x = np.random.default_rng(0).normal(size=4)
    m = v = b = np.zeros(4)
    for t in (1, 2, 3):
        g = np.random.default_rng(t).normal(size=4)
        m, v = 0.9 * m + (1 - 0.9) * g, 0.999 * v + (1 - 0.999) * g**2
        b = 0.9 * b + g
        a = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        x = x - 0.1 * (0.25 * a + 0.75 * b)
    np.testing.assert_allclose(moved(sum_of_two), x, rtol=1e-13)


def test_a_rule_is_a_function_on_numbers_too():
    step, m, v = adam(2.0, 0.0, 0.0, t=1, lr=0.1)
    assert float(step) == pytest.approx(0.1 * 2.0 / (2.0 + 1e-8))
    assert math.isclose(m, 0.2) and math.isclose(v, 0.004)
    assert float(sign(-0.3)) == -1.0
