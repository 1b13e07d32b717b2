"""An optimizer by its name or by its rule: the same in every front-end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from adamite.frontend.settings import unknown
from adamite.language.rule import Rule
from adamite.rules import RULES

T = TypeVar("T")

# What others have and adamite doesn't: what it needs, and what comes nearest here.
_NORMS, _MATRICES = "scales each layer by its norm", "preconditions by matrices"
_TUNES, _BYTES = "finds its own learning rate", "adam or adamw with state='8bit'"
ABSENT: dict[str, tuple[str, str]] = {
    "muon": ("orthogonalizes matrices", "momentum, or adamw"),
    "lamb": (_NORMS, "adamw"),
    "lars": (_NORMS, "momentum"),
    "novograd": (_NORMS, "adamw"),
    "fromage": (_NORMS, "sgd"),
    "adafactor": ("keeps sums of rows and columns", _BYTES),
    "came": ("keeps sums of rows and columns", _BYTES),
    "sm3": ("keeps maxima of rows and columns", "adagrad with state='8bit'"),
    "adammini": ("keeps one second moment a block", _BYTES),
    "galore": ("projects gradients", _BYTES),
    "shampoo": (_MATRICES, "adagrad"),
    "soap": (_MATRICES, "adamw"),
    "kfac": (_MATRICES, "adamw"),
    "sophia": ("needs second derivatives", "adamw, or lion"),
    "adahessian": ("needs second derivatives", "adamw"),
    "lbfgs": ("searches along lines", "adam; or SciPy's L-BFGS-B"),
    "rprop": ("is for gradients of all data at once", "rmsprop, which was made of it for batches"),
    "asgd": ("averages the weights", "sgd with ema=0.999"),
    "schedulefree": ("averages the weights", "adamw with ema=0.999"),
    "sparseadam": ("is adam on the rows that a gradient has", "adam with sparse='lazy'"),
    "lazyadam": ("is adam on the rows that a gradient has", "adam with sparse='lazy'"),
    "adam8bit": ("is adam with narrow states", "adam with state='8bit'"),
    "adamw8bit": ("is adamw with narrow states", "adamw with state='8bit'"),
    "lion8bit": ("is lion with narrow states", "lion with state='8bit'"),
    "sgdw": ("is sgd with decoupled decay", "sgd with decay='decoupled'"),
    "adamaxw": ("is adamax with decoupled decay", "adamax with decay='decoupled'"),
    "nadamw": ("is nadam with decoupled decay", "nadam with decay='decoupled'"),
    "prodigy": (_TUNES, "adamw with a schedule; adamite find-lr looks for a rate"),
    "dadaptation": (_TUNES, "adamw with a schedule; adamite find-lr looks for a rate"),
    "signsgd": ("moves by signs alone", "lion; as a rule it is `return lr * adamite.sign(g)`"),
    "signum": ("moves by signs alone", "lion; the README has it as a rule"),
    "tiger": ("moves by signs alone", "lion"),
    "adan": ("keeps the gradients' differences", "nadam"),
    "adabound": ("bounds the rates", "amsgrad"),
    "adamp": ("projects steps off the weights", "adamw"),
    "ftrl": ("makes weights zero", "adagrad"),
    "lookahead": ("goes around another optimizer", "adamw with ema=0.999"),
    "sam": ("goes around another optimizer", "adamw"),
    "ranger": ("is radam with averaged weights", "radam with ema=0.999"),
}


def absent(owner: str, name: str, names: Collection[str]) -> str:
    """The message for an optimizer that isn't there: what comes nearest, or what may have been meant."""
    plain = name.lower().translate({ord(sign): None for sign in "-_ ."})
    if plain in ABSENT and plain not in names:
        does, nearest = ABSENT[plain]
        return f"{owner} has no optimizer {name!r}, which {does}; the nearest here is {nearest}."
    return unknown(owner, name, names, "optimizer")


def named(owner: str, rule: Rule | str, by_name: Mapping[str, T], make: Callable[[Rule], T]) -> T:
    """What a front-end knows by this name, else what it makes of the rule.

    Raises:
        ValueError: for a name that isn't known.
        TypeError: for what is neither a name nor a rule.
    """
    if isinstance(rule, str):
        known = by_name.get(rule.lower())
        if known is not None:
            return known
        if rule not in RULES:
            raise ValueError(absent(owner, rule, [*by_name, *RULES]))
        rule = RULES[rule]
    if not isinstance(rule, Rule):
        raise TypeError(f"optimizer takes a rule (a function with @adamite.rule) or a name, got {rule!r:.60}")
    return make(rule)
