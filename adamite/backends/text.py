"""The equations for people: LaTeX and plain text, printed from the rule itself.

Sub-expressions have the names of the rule's local variables (`m_hat`), so an optimizer reads here as it does in its
source. The letters of the papers come from one glossary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adamite.language.expression import Expression
from adamite.language.trace import walk
from adamite.language.update import Update

# word in the API -> letter in the papers
GLOSSARY: dict[str, str] = {
    "lr": "eta",
    "weight_decay": "lambda",
    "momentum": "mu",
    "eps": "epsilon",
    "beta1": "beta_1",
    "beta2": "beta_2",
    "rho": "rho",
    "dampening": "tau",
    "clip": "c",
    "ema": "gamma",
    "average": "x_bar",
    "x": "x",
    "t": "t",
}
_GREEK: dict[str, str] = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ", "lambda": "λ",
    "mu": "μ", "nu": "ν", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "psi": "ψ", "omega": "ω",
}  # fmt: skip
_PLAIN = {"inf": "∞"}
_SUBSCRIPT = str.maketrans("0123456789-t", "₀₁₂₃₄₅₆₇₈₉₋ₜ")
_SUPERSCRIPT = str.maketrans("0123456789+-=()abcdefghijklmnoprstuvwxyz", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")

# binding strength, weakest first
_OR, _AND, _COMPARE, _SUM, _QUOTIENT, _PRODUCT, _SIGN, _POWER, _ATOM = range(9)
_SYMBOLS = {
    "gt": (">", ">"),
    "ge": ("≥", r"\ge"),
    "lt": ("<", "<"),
    "le": ("≤", r"\le"),
    "eq": ("=", "="),
    "ne": ("≠", r"\ne"),
}


@dataclass(frozen=True)
class Equation:
    """One line of an optimizer: what is defined, and by what."""

    left: str
    relation: str
    right: str

    def __str__(self) -> str:
        return f"{self.left} {self.relation} {self.right}"


def equations(update: Update, latex: bool = False) -> list[Equation]:
    """The update as equations in the order of computation, the parameter last."""
    roots = {**update.scalars, **update.outputs}
    roots["x"] = roots.pop("x")
    # A state's own name comes before another local one; inputs have their names already.
    local = {e: f"{name}_prime" if name in roots else name for name, e in update.named.items()}
    named = local | {e: name for name, e in roots.items()}
    names = {e: name for e, name in named.items() if e.op not in ("tensor", "number", "const")}
    printer = _Printer(latex, set(roots), names)
    ordered = dict.fromkeys(e for root in roots.values() for e in walk(root) if e in names)
    *before, last = (
        Equation(printer.letter(names[e], now=True), printer.equals(e.boolean), printer.define(e)) for e in ordered
    )
    # States whose new value is an input, or another state's value.
    copies = [
        Equation(printer.letter(name, now=True), printer.equals(False), printer.show(e)[0])
        for name, e in roots.items()
        if names.get(e) != name
    ]
    return [*before, *copies, last]


def symbol(name: str) -> str:
    """The letter of a hyperparameter: ε for eps."""
    return _Printer(False, set(), {}).letter(name)


class _Printer:
    def __init__(self, latex: bool, moving: set[str], names: Mapping[Expression, str]) -> None:
        self.latex, self.moving, self.names = latex, moving, names

    def letter(self, name: str, now: bool = False) -> str:
        """A name as its letter. Values that change (the parameter, states, locals) carry the number of their step."""
        base, *marks = name.split("_") if name not in GLOSSARY else GLOSSARY[name].split("_")
        base = GLOSSARY.get(base, base)
        index = "t" if now or name == "g" else "t-1" if name in self.moving else ""
        words = [m for m in marks if m not in ("hat", "bar", "prime", "t")] + [index] * bool(index)
        prime = "prime" in marks  # a local variable of a state's name that isn't the new state
        accent = "hat" if "hat" in marks else "bar" if "bar" in marks else ""
        if self.latex:
            text = rf"\{base}" if base in _GREEK else base if len(base) == 1 else rf"\mathrm{{{base}}}"
            text = (rf"\{accent}{{{text}}}" if accent else text) + "'" * prime
            parts = [rf"\mathrm{{{w}}}" if w.isalpha() and len(w) > 1 and w != "inf" else w for w in words]
            return f"{text}_{{{','.join(parts)}}}".replace("inf", r"\infty") if parts else text
        text = _GREEK.get(base, base) + {"hat": "\u0302", "bar": "\u0304", "": ""}[accent] + "′" * prime
        for word in words:
            text += "_" + _PLAIN.get(word, word) if word.isalpha() and word != "t" else word.translate(_SUBSCRIPT)
        return text

    # ---- expressions

    def equals(self, boolean: bool) -> str:
        return "=" if not boolean else r"\iff" if self.latex else "⇔"

    def define(self, e: Expression) -> str:
        return self._build(e)[0]

    def show(self, e: Expression) -> tuple[str, int]:
        """The text of an expression and how strongly it binds; named ones by their name."""
        if e in self.names:
            return self.letter(self.names[e], now=True), _ATOM
        return self._build(e)

    def _child(self, e: Expression, strength: int) -> str:
        text, binds = self.show(e)
        if binds >= strength:
            return text
        return rf"\left({text}\right)" if self.latex else f"({text})"

    def _build(self, e: Expression) -> tuple[str, int]:
        a = e.args
        match e.op:
            case "tensor" if a[0] == "g" and "g" in self.names.values():
                return (r"\nabla f(x_{t-1})" if self.latex else "∇f(xₜ₋₁)"), _ATOM
            case "tensor" | "number":
                return self.letter(a[0]), _ATOM
            case "const":
                return self._number(a[0])
            case "add":
                return f"{self._child(a[0], _SUM)} + {self._child(a[1], _SUM)}", _SUM
            case "sub":
                minus = "-" if self.latex else "−"
                return f"{self._child(a[0], _SUM)} {minus} {self._child(a[1], _QUOTIENT)}", _SUM
            case "mul":
                left, right = self._child(a[0], _PRODUCT), self._child(a[1], _POWER)
                dot = (r"\cdot" if self.latex else "·") if right[0].isdigit() else r"\," if self.latex else ""
                return " ".join(filter(None, [left, dot, right])), _PRODUCT
            case "div" if self.latex:
                return rf"\frac{{{self.show(a[0])[0]}}}{{{self.show(a[1])[0]}}}", _PRODUCT
            case "div":
                return f"{self._child(a[0], _PRODUCT)} / {self._child(a[1], _POWER)}", _QUOTIENT
            case "neg":
                return f"{'-' if self.latex else '−'}{self._child(a[0], _PRODUCT)}", _SIGN
            case "pow":
                return self._power(*a), _POWER
            case "sqrt":
                inner = self.show(a[0])[0]
                if self.latex:
                    return rf"\sqrt{{{inner}}}", _ATOM
                return (f"√{inner}", _ATOM) if self.show(a[0])[1] == _ATOM else (f"√({inner})", _ATOM)
            case "abs":
                inner = self.show(a[0])[0]
                return (rf"\left|{inner}\right|" if self.latex else f"|{inner}|"), _ATOM
            case "maximum" | "minimum" | "sign":
                name = {"maximum": "max", "minimum": "min"}.get(e.op, e.op)
                inner = ", ".join(self.show(x)[0] for x in a)
                operator = rf"\operatorname{{{name}}}" if name == "sign" else rf"\{name}"
                return (rf"{operator}\left({inner}\right)" if self.latex else f"{name}({inner})"), _ATOM
            case "where":
                condition, yes, no = (self.show(x)[0] for x in a)
                if self.latex:
                    return (
                        rf"\begin{{cases}}{yes} & {condition}\\ {no} & \text{{otherwise}}\end{{cases}}",
                        _ATOM,
                    )
                return f"{{{yes} if {condition}, else {no}}}", _ATOM
            case "and" | "or":
                strength = _AND if e.op == "and" else _OR
                word = rf"\text{{ {e.op} }}" if self.latex else f" {e.op} "
                return f"{self._child(a[0], strength)}{word}{self._child(a[1], strength)}", strength
            case "not":
                return f"not {self._child(a[0], _ATOM)}", _AND
        symbol = _SYMBOLS[e.op][self.latex]
        return f"{self._child(a[0], _SUM)} {symbol} {self._child(a[1], _SUM)}", _COMPARE

    def _number(self, value: float) -> tuple[str, int]:
        short = f"{value:g}"
        text = short if float(short) == value else repr(value)
        strength = _ATOM if value >= 0 else _SIGN
        if self.latex and "e" in text:
            mantissa, exponent = text.split("e")
            power = f"10^{{{int(exponent)}}}"
            text, scaled = (power, _POWER) if mantissa == "1" else (rf"{mantissa} \cdot {power}", _PRODUCT)
            strength = min(strength, scaled)
        return text if self.latex else text.replace("-", "−", 1) if value < 0 else text, strength

    def _power(self, base: Expression, exponent: Expression) -> str:
        shown, binds = self.show(base)
        raised = self.show(exponent)[0]
        if self.latex:
            return f"{self._child(base, _ATOM)}^{{{raised}}}"
        shown = shown if binds == _ATOM else f"({shown})"
        tight = raised.replace(" + ", "+").replace(" − ", "-").replace("−", "-")
        if not set(tight) - _CAN_SUPERSCRIPT:
            return shown + tight.translate(_SUPERSCRIPT)
        return f"{shown}^({raised})" if exponent.op not in ("const", "number") else f"{shown}^{raised}"


_CAN_SUPERSCRIPT = set("0123456789+-=()abcdefghijklmnoprstuvwxyz")
