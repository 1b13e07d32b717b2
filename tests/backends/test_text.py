"""The printed equations: read back by a small parser of their own, they compute what the rule computes."""

from __future__ import annotations

import itertools
import operator
import re
import unicodedata
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import adamite
from adamite import rules
from adamite.backends.text import equations
from adamite.lab import oracles
from adamite.language import maths
from adamite.language.expression import Expression, constant, number, tensor
from adamite.language.trace import Trace
from adamite.language.update import Surroundings, Update
from tests.support import Case, cases

notations = pytest.mark.parametrize("latex", [False, True], ids=["plain", "latex"])

# ---- a parser of mathematics ----------------------------------------------------------------------

SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ", "0123456789+-=()abcdefghijklmnoprstuvwxyz"))
SUBSCRIPTS = str.maketrans("0123456789-t", "₀₁₂₃₄₅₆₇₈₉₋ₜ")
GREEK = dict(zip(["beta", "gamma", "epsilon", "eta", "lambda", "mu", "rho", "tau"], "βγεηλμρτ"))
WORDS = {
    r"\left(": "(", r"\right)": ")", r"\left|": "|", r"\right|": "|", r"\,": " ", r"\cdot": "·", r"\iff": "⇔",
    r"\ge": "≥", r"\le": "≤", r"\ne": "≠", r"\max": "max", r"\min": "min", r"\operatorname{sign}": "sign",
    r"\text{ and }": " and ", r"\text{ or }": " or ", r"\text{otherwise}": "otherwise", r"\infty": "∞",
    r"\begin{cases}": "⟨", r"\end{cases}": "⟩", r"\nabla f(x_{t-1})": "∇f(xₜ₋₁)",
}  # fmt: skip
GROUPS = {
    r"\\frac\{([^{}]*)\}\{([^{}]*)\}": r"((\1) / (\2))",
    r"\\sqrt\{([^{}]*)\}": r"√(\1)",
    r"\^\{([^{}]*)\}": r"^(\1)",
    r"⟨([^⟨⟩&]*) & ([^⟨⟩&]*)\\\\ ([^⟨⟩&]*) & otherwise⟩": r"⟦\1 if \2, else \3⟧",
}
TOKEN = re.compile(r"\s*(∇f\(xₜ₋₁\)|\d+(?:\.\d+)?(?:e[-+]?\d+)?|[^\W\d_][\w∞₋\u0302\u0304]*|\S)")


def subscript(match: re.Match[str]) -> str:
    parts = (p if p.isdigit() or p in ("t", "t-1") else f"_{p}" for p in match[1].split(","))
    return "".join(p if p[0] == "_" else p.translate(SUBSCRIPTS) for p in parts)


def to_plain(latex: str) -> str:
    """LaTeX as plain text, all groups in brackets."""
    for word, plain in WORDS.items():
        latex = re.sub(re.escape(word) + (r"(?![a-z])" if word[-1].isalpha() else ""), plain, latex)
    for word, letter in GREEK.items():
        latex = re.sub(rf"\\{word}(?![a-z])", letter, latex)
    latex = re.sub(r"\\mathrm\{([^{}]*)\}", r"\1", latex)
    latex = re.sub(r"\\(hat|bar)\{([^{}]*)\}", lambda m: m[2] + {"hat": "\u0302", "bar": "\u0304"}[m[1]], latex)
    latex = re.sub(r"_\{([^{}]*)\}", subscript, latex)
    before = ""
    while before != latex:
        before = latex
        for group, plain in GROUPS.items():
            latex = re.sub(group, plain, latex)
    assert not re.search(r"[\\{}⟨⟩&]", latex), latex
    return latex


class Reader:
    """A parser that evaluates as it reads. A product is written side by side and binds tighter than `/`."""

    def __init__(self, text: str, names: dict[str, Any], operators: dict[str, Callable[..., Any]]) -> None:
        text = to_plain(text) if "\\" in text or "_{" in text or "^{" in text else text
        text = text.replace("{", "⟦").replace("}", "⟧").replace("−", "-")
        text = re.sub(
            f"[{''.join(SUPERSCRIPTS)}]+", lambda m: "^(" + "".join(SUPERSCRIPTS[c] for c in m[0]) + ")", text
        )
        self.tokens: list[str] = []
        for token in TOKEN.finditer(text):
            before = text[token.start(1) - 1] if token.start(1) else " "
            # A bar opens after a space or an operator, and after one that opened.
            opens = self.tokens[-1] == "|" if before == "|" else before in " (⟦-√^"
            self.tokens.append("|end" if token[1] == "|" and not opens else token[1])
        self.names, self.operators = names, operators

    def value(self) -> Any:
        result = self.any()
        assert not self.tokens, f"left over: {self.tokens}"
        return result

    def take(self, *tokens: str) -> str:
        return self.tokens.pop(0) if self.tokens and self.tokens[0] in tokens else ""

    def need(self, token: str) -> bool:
        assert self.take(token), f"{token} expected before {self.tokens}"
        return True

    def any(self) -> Any:
        left = self.all()
        while self.take("or"):
            left = self.all() | left
        return left

    def all(self) -> Any:
        left = self.none()
        while self.take("and"):
            left = self.none() & left
        return left

    def none(self) -> Any:
        return not self.none() if self.take("not") else self.comparison()

    def comparison(self) -> Any:
        left = self.sum()
        sign = self.take(*COMPARISONS)
        return COMPARISONS[sign](left, self.sum()) if sign else left

    def sum(self) -> Any:
        left = self.term()
        while sign := self.take("+", "-"):
            left = left + self.term() if sign == "+" else left - self.term()
        return left

    def term(self) -> Any:
        if self.take("-"):
            return -self.term()
        left = self.power()
        while self.take("·") or (self.tokens and self.tokens[0] not in ENDS):
            left = left * self.power()
        return self.operators["/"](left, self.power()) if self.take("/") else left

    def power(self) -> Any:
        base = self.atom()
        if not self.take("^"):
            return base
        minus = self.take("-")
        exponent = self.atom()
        return self.operators["^"](base, -exponent if minus else exponent)

    def atom(self) -> Any:
        token = self.tokens.pop(0)
        if token in BRACKETS:
            result = self.any()
            self.need(BRACKETS[token])
            return abs(result) if token == "|" else result
        if token == "⟦":
            branches = [(self.any(), self.need(end))[0] for end in ("if", ",")]
            self.need("else")
            no = self.any()
            self.need("⟧")
            return branches[0] if branches[1] else no
        if token == "√":
            return self.operators["√"](self.atom())
        if token in FUNCTIONS:
            self.need("(")
            arguments = [self.any()]
            while self.take(","):
                arguments.append(self.any())
            self.need(")")
            return FUNCTIONS[token](*arguments)
        return self.operators["number"](token) if token[0].isdigit() else self.names[token]


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt, "≥": operator.ge, "<": operator.lt, "≤": operator.le, "=": operator.eq, "≠": operator.ne,
}  # fmt: skip
BRACKETS = {"(": ")", "|": "|end"}
ENDS = {*COMPARISONS, *BRACKETS.values(), *"+-/,^⟧", "and", "or", "if", "else"}
FUNCTIONS: dict[str, Callable[..., Any]] = {"max": max, "min": min, "sign": lambda v: int(v > 0) - int(v < 0)}
FLOATS: dict[str, Callable[..., Any]] = {"√": np.sqrt, "^": operator.pow, "/": operator.truediv, "number": np.float64}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a b / (a + b)", 6 / 5),
        ("−a² + 2 b", 2),
        ("aᵇ⁺¹", 16),
        ("√(a b + b) − 1", 2),
        ("|a − b| |b − a|", 1),
        ("|a |a − b| − 3|", 1),
        ("{1 if a > b or b ≥ 3, else 2}", 1),
        ("max(a, b) min(a, b)", 6),
        (r"\frac{a \, b^{2}}{\sqrt{b + 1}}", 9),
        (r"\begin{cases}\frac{a}{b} & a > b\\ 2^{a + 1} & \text{otherwise}\end{cases}", 8),
    ],
)
def test_the_parser_of_these_tests(text: str, value: float) -> None:
    assert Reader(text, {"a": np.float64(2), "b": np.float64(3)}, FLOATS).value() == pytest.approx(value)


# ---- every rule -----------------------------------------------------------------------------------

LETTERS = {
    "lr": "η", "weight_decay": "λ", "momentum": "μ", "eps": "ε", "beta1": "β₁", "beta2": "β₂", "rho": "ρ",
    "dampening": "τ", "clip": "c", "ema": "γ", "lr_decay": "η_decay", "momentum_decay": "μ_decay",
    "eps_root": "ε_root", "average": "x̄", "g_bar": "ḡ", "mu_product": "μ_product",
}  # fmt: skip
VISIBLE = dict(lr=0.1, eps=0.125, eps_root=0.0625, s0=0.5, lr_decay=0.5, dampening=0.25, beta1=0.8, beta2=0.9)
L2: dict[str, Any] = dict(decay="l2", weight_decay=0.0625, clip_norm=1.0, maximize=True, ema=0.75)
START, GRADIENTS = 0.75, [0.5, -1.5, 0.25, 0.125, -0.5, 2.0, 1.0]


def letter(name: str) -> str:
    return unicodedata.normalize("NFD", LETTERS.get(name, name))


def follow(update: Update, latex: bool, settings: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """The parameter and the average of the weights after each step, by the printed equations alone."""
    printed = [(e.left, e.right) for e in equations(update, latex)]
    values = {s.name: settings.get(str(s.start), START if s.start == "x" else s.start) for s in update.rule.states}
    values |= {"x": START, "average": START}
    numbers = {letter(name): np.float64(value) for name, value in settings.items() if isinstance(value, float)}
    for t, g in enumerate(GRADIENTS, start=1):
        clip = min(1.0, settings.get("clip_norm", np.inf) / abs(g))
        names = numbers | {f"{letter(name)}ₜ₋₁": np.float64(value) for name, value in values.items()}
        names |= {"t": np.float64(t), "gₜ": np.float64(g), "∇f(xₜ₋₁)": np.float64(g), "c": np.float64(clip)}
        for left, right in printed:
            name = to_plain(left) if latex else left
            with np.errstate(all="ignore"):  # the branch that isn't taken
                names[name] = Reader(right, names, FLOATS).value()
        changing = ["x", *update.states, *update.scalars]
        values |= {name: names[f"{letter(name)}ₜ"] for name in changing}
        yield values["x"], values["average"]


@notations
@cases({}, dict(decay="decoupled", weight_decay=0.0625), L2)
def test_the_equations_compute_what_the_papers_do(case: Case, latex: bool) -> None:
    settings = {k: VISIBLE.get(k, n.default) for k, n in case.rule.numbers.items()} | case.options
    update = case.optimizer(np.zeros(1), lr=settings["lr"]).update
    results = np.array(list(follow(update, latex, settings | case.around)))
    around, kind = case.around, case.around.get("decay")
    expected, average = oracles.run(
        case.rule.name,
        [START],
        [[g] for g in GRADIENTS],
        settings,
        l2=around["weight_decay"] if kind == "l2" else 0.0,
        weight_decay=around["weight_decay"] if kind == "decoupled" else 0.0,
        clip_norm=around.get("clip_norm"),
        maximize=around.get("maximize", False),
        ema_decay=around.get("ema"),
    )
    np.testing.assert_allclose(results[:, 0] - START, np.array(expected)[:, 0] - START, rtol=1e-10, atol=1e-15)
    if average:
        assert results[-1, 1] == pytest.approx(average[0], rel=1e-12)


@adamite.rule
def remembers(g, p, *, t, lr=0.5):
    """Keeps the last gradient as it is."""
    return lr * (2 * g - p), g


@adamite.rule
def twins(g, a, b, *, t, lr=0.5):
    """Two states of one value."""
    m = 0.5 * a + g
    return lr * (a + b), m, m


@adamite.rule
def forgets(g, m, *, t, lr=0.5):
    """A state that is set to a number."""
    return lr * (g + m), 0 * g + 3


@notations
@pytest.mark.parametrize(
    ("rule", "expected"),
    [(remembers, [0.25, 2.0]), (twins, [0.75, 0.25]), (forgets, [0.5, -0.25])],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_state_has_its_equation(rule: adamite.Rule, expected: list[float], latex: bool) -> None:
    """So that pₜ₋₁ means something, although pₜ is nothing but gₜ."""
    update = adamite.optimizer(rule)(np.zeros(1)).update
    results = [x for x, _ in itertools.islice(follow(update, latex, {"lr": 0.5}), 2)]
    assert results == expected


# ---- any expression -------------------------------------------------------------------------------

VALUES = {
    "t": Fraction(3, 2),
    "lr": Fraction(5, 7),
    "beta1": Fraction(-11, 13),
    "eps": Fraction(17, 3),
    "a": Fraction(2),
}
# Roots and powers stand for functions that keep the values exact and no two structures equal.
EXACT: dict[str, Callable[..., Any]] = {
    "√": lambda v: v * v / 7 + 19,
    "^": lambda v, w: Fraction(10) ** int(w) if v == 10 else (v * v + 3 * w + 1) / 23,
    "/": lambda v, w: v / (w or Fraction(29)),
    "number": Fraction,
}
SYMBOLIC: dict[str, Callable[..., Any]] = {
    "√": maths.sqrt, "^": operator.pow, "/": operator.truediv, "+": operator.add, "-": operator.sub,
    "*": operator.mul, "neg": operator.neg, "abs": abs, "max": maths.maximum, "min": maths.minimum,
    "sign": maths.sign, "where": maths.where, "and": operator.and_, "or": operator.or_, "not": operator.invert,
    ">": operator.gt, "≥": operator.ge, "<": operator.lt, "≤": operator.le, "=": operator.eq, "≠": operator.ne,
}  # fmt: skip
NUMERIC = SYMBOLIC | COMPARISONS | FUNCTIONS | EXACT | {"where": lambda c, v, w: v if c else w, "not": operator.not_}

Tree = Any  # a leaf, or (operation, *trees)
LEAVES = st.sampled_from([*VALUES, 0.0, 1.0, 2.0, 0.5, -3.0, 1e-8])
OPERATIONS = {
    "arithmetic": st.sampled_from(["+", "-", "*", "/", "^", "max", "min"]),
    "function": st.sampled_from(["neg", "√", "abs", "sign"]),
    "choice": st.just("where"),
    "comparison": st.sampled_from([">", "≥", "<", "≤", "=", "≠"]),
    "connective": st.sampled_from(["and", "or"]),
    "negation": st.just("not"),
}


@st.composite
def trees(draw: st.DrawFn, depth: int = 4) -> Tree:
    kind = draw(st.sampled_from(["leaf", "arithmetic", "arithmetic", "function", "choice"])) if depth else "leaf"
    if kind == "leaf":
        return draw(LEAVES)
    parts: Any = {"arithmetic": [trees] * 2, "function": [trees], "choice": [conditions, trees, trees]}[kind]
    return (draw(OPERATIONS[kind]), *(draw(part(depth - 1)) for part in parts))


@st.composite
def conditions(draw: st.DrawFn, depth: int) -> Tree:
    kind = draw(st.sampled_from(["comparison", "connective", "negation"])) if depth > 1 else "comparison"
    parts: Any = {"comparison": [trees] * 2, "connective": [conditions] * 2, "negation": [conditions]}[kind]
    return (draw(OPERATIONS[kind]), *(draw(part(max(depth - 1, 0))) for part in parts))


def evaluate(tree: Tree, operators: dict[str, Callable[..., Any]], leaf: Callable[[Any], Any]) -> Any:
    if not isinstance(tree, tuple):
        return leaf(tree)
    return operators[tree[0]](*(evaluate(part, operators, leaf) for part in tree[1:]))


def text(step: Any, latex: bool) -> str:
    """How x − step is printed."""
    update = Update(rules.sgd, Surroundings(), {"x": tensor("x") - step}, Trace(step, {}, {}, {}))
    return equations(update, latex)[-1].right


def symbols(leaf: str | float) -> Expression:
    return number(leaf) if isinstance(leaf, str) else constant(leaf)


def exactly(leaf: str | float) -> Fraction:
    return VALUES[leaf] if isinstance(leaf, str) else Fraction(str(leaf))


X = Fraction(31, 37)
NAMES = {letter(name): value for name, value in VALUES.items()} | {"xₜ₋₁": X}


@notations
@given(tree=trees())
def test_any_expression_reads_as_it_computes(tree: Tree, latex: bool) -> None:
    printed = text(evaluate(tree, SYMBOLIC, symbols), latex)
    assert Reader(printed, NAMES, EXACT).value() == X - evaluate(tree, NUMERIC, exactly), printed


a, b, lr = number("a"), number("beta1"), number("lr")
CONFUSING: dict[str, tuple[Any, Any]] = {
    "a product with a negative factor": (a * -b, 2 * Fraction(11, 13)),
    "a product with a negative number": (a * -3.0, Fraction(-6)),
    "a product of a negative number": (-3.0 * a, Fraction(-6)),
    "a quotient by a product": (lr / (a * b), Fraction(5, 7) / 2 / Fraction(-11, 13)),
    "a quotient by a quotient": (lr / (a / b), Fraction(5, 7) / (2 / Fraction(-11, 13))),
    "a difference of a difference": (a - (b - lr), 2 - (Fraction(-11, 13) - Fraction(5, 7))),
    "a difference of a negative": (a - -lr, 2 + Fraction(5, 7)),
    "a negative sum": (-(a + lr), -2 - Fraction(5, 7)),
    "a number with many digits": (0.123456789 * a, 2 * Fraction("0.123456789")),
    "a large number": (12345678.0 * a, Fraction(2 * 12345678)),
}


@notations
@pytest.mark.parametrize("case", CONFUSING)
def test_confusing_expressions(case: str, latex: bool) -> None:
    step, value = CONFUSING[case]
    printed = text(step, latex)
    assert Reader(printed, NAMES, EXACT).value() == X - value, printed


def test_an_exponent_keeps_its_factors_apart() -> None:
    """t·decay isn't the letter tdecay."""
    printed = text(number("beta1") ** (number("t") * number("decay")), False)
    names = NAMES | {"decay": Fraction(41)}
    assert Reader(printed, names, EXACT).value() == X - EXACT["^"](VALUES["beta1"], 41 * VALUES["t"]), printed


def test_latex_has_powers_of_ten() -> None:
    """1e-08 is the product of 1, e and −8 there."""
    assert "e" not in re.sub(r"\\[a-z]+", "", text(1e-8 * a, True))


# ---- as printed -----------------------------------------------------------------------------------

ADAM = "mₜ = β₁ mₜ₋₁ + (1 − β₁) gₜ", "vₜ = β₂ vₜ₋₁ + (1 − β₂) gₜ²", "m̂ₜ = mₜ / (1 − β₁ᵗ)", "v̂ₜ = vₜ / (1 − β₂ᵗ)"
GOLDEN: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("Adam", {}, (*ADAM, "xₜ = xₜ₋₁ − η m̂ₜ / (√v̂ₜ + ε)")),
    ("AdamW", {}, (*ADAM, "xₜ = xₜ₋₁ − (η m̂ₜ / (√v̂ₜ + ε) + η λ xₜ₋₁)")),
    (
        "NAdam",
        {},
        (
            "μₜ = β₁ (1 − 0.5 · 0.96^(t μ_decay))",
            "μ_productₜ = μ_productₜ₋₁ μₜ",
            *ADAM[:2],
            "μ_nextₜ = β₁ (1 − 0.5 · 0.96^((t + 1) μ_decay))",
            "m̂ₜ = μ_nextₜ mₜ / (1 − μ_productₜ μ_nextₜ) + (1 − μₜ) gₜ / (1 − μ_productₜ)",
            "v̂ₜ = vₜ / (1 − β₂ᵗ)",
            "xₜ = xₜ₋₁ − η m̂ₜ / (√v̂ₜ + ε)",
        ),
    ),
    (
        "RMSprop",
        dict(centered=True, momentum=0.9),
        (
            "vₜ = ρ vₜ₋₁ + (1 − ρ) gₜ²",
            "ḡₜ = ρ ḡₜ₋₁ + (1 − ρ) gₜ",
            "varianceₜ = max(vₜ − ḡₜ², 0)",
            "bₜ = μ bₜ₋₁ + η gₜ / √(varianceₜ + ε)",
            "xₜ = xₜ₋₁ − bₜ",
        ),
    ),
    (
        "Adam",
        dict(convention="torch", weight_decay=0.1),
        ("gₜ = ∇f(xₜ₋₁) + λ xₜ₋₁", *ADAM, "xₜ = xₜ₋₁ − η m̂ₜ / (√v̂ₜ + ε)"),
    ),
]


@pytest.mark.parametrize(("name", "settings", "expected"), GOLDEN)
def test_as_the_papers_print_it(name: str, settings: dict[str, Any], expected: tuple[str, ...]) -> None:
    update = getattr(adamite, name)(np.zeros(1), **settings).update
    assert [str(e) for e in equations(update)] == [unicodedata.normalize("NFD", line) for line in expected]


def test_adam_in_latex() -> None:
    assert [str(e) for e in equations(adamite.Adam(np.zeros(1)).update, latex=True)] == [
        r"m_{t} = \beta_{1} \, m_{t-1} + \left(1 - \beta_{1}\right) \, g_{t}",
        r"v_{t} = \beta_{2} \, v_{t-1} + \left(1 - \beta_{2}\right) \, g_{t}^{2}",
        r"\hat{m}_{t} = \frac{m_{t}}{1 - \beta_{1}^{t}}",
        r"\hat{v}_{t} = \frac{v_{t}}{1 - \beta_{2}^{t}}",
        r"x_{t} = x_{t-1} - \frac{\eta \, \hat{m}_{t}}{\sqrt{\hat{v}_{t}} + \epsilon}",
    ]
