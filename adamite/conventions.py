"""What each framework's optimizer of a name means, as data: rule, choices, defaults, kind of weight decay.

`paper` follows the publications; where they leave something open (lr, epsilon against a division by zero), the
value is the one in common use. Sources: torch 2.13, Keras 3.15, optax 0.2.8, checked against golden values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from adamite import rules
from adamite.rule import REQUIRED, Rule
from adamite.update import Decay

Framework = Literal["paper", "torch", "keras", "optax"]
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)


class Convention(NamedTuple):
    """One optimizer as one framework has it.

    `defaults` override the rule's; `decay` is what `weight_decay` means there, None where it has none.
    """

    rule: Rule
    defaults: Mapping[str, Any]
    decay: Decay | None = None
    title: str = ""  # where the rule's own won't do

    def default(self, name: str) -> Any:
        """The default of a number or choice of the rule, or of the weight decay."""
        if name in self.defaults:
            return self.defaults[name]
        spec = self.rule.numbers.get(name) or self.rule.choices.get(name)
        return spec.default if spec else 0.0


def _row(rule: Rule, decay: Decay | None = None, **defaults: Any) -> Convention:
    return Convention(rule, defaults, decay)


_R = REQUIRED
_ADAMW = "AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."
CONVENTIONS: dict[str, dict[str, Convention]] = {
    "SGD": {
        "paper": _row(rules.sgd),
        "torch": _row(rules.sgd, "l2", lr=1e-3),
        "keras": _row(rules.sgd_lr_inside, "decoupled"),
        "optax": _row(rules.sgd, lr=_R),
    },
    "Momentum": {
        "paper": Convention(rules.sgd, {"momentum": 0.9}, title="Gradient descent with momentum (Polyak 1964)."),
        "torch": _row(rules.sgd, "l2", lr=1e-3, momentum=0.9),
        "keras": _row(rules.sgd_lr_inside, "decoupled", momentum=0.9),
        "optax": _row(rules.sgd, lr=_R, momentum=0.9),
    },
    "RMSprop": {
        "paper": _row(rules.rmsprop),
        "torch": _row(rules.rmsprop_eps_outside, "l2"),
        "keras": _row(rules.rmsprop, "decoupled", eps=1e-7),
        "optax": _row(rules.rmsprop, lr=_R),
    },
    "Adagrad": {
        "paper": _row(rules.adagrad),
        "torch": _row(rules.adagrad, "l2"),
        "keras": _row(rules.adagrad_eps_inside, "decoupled"),
        "optax": _row(rules.adagrad_eps_inside, lr=_R),
    },
    "Adadelta": {
        "paper": _row(rules.adadelta),
        "torch": _row(rules.adadelta, "l2", rho=0.9),
        "keras": _row(rules.adadelta, "decoupled", lr=1e-3, eps=1e-7),
        "optax": _row(rules.adadelta, "l2", lr=_R, rho=0.9),
    },
    "Adam": {
        "paper": _row(rules.adam),
        "torch": _row(rules.adam, "l2"),
        "keras": _row(rules.adam_eps_hat, "decoupled"),
        "optax": _row(rules.adam, lr=_R),
    },
    "AdamW": {
        "paper": Convention(rules.adam, {"weight_decay": 0.01}, "decoupled", _ADAMW),
        "torch": _row(rules.adam, "decoupled", weight_decay=0.01),
        "keras": _row(rules.adam_eps_hat, "decoupled", weight_decay=0.004),
        "optax": _row(rules.adam, "decoupled", lr=_R, weight_decay=1e-4),
    },
    "AMSGrad": {
        "paper": _row(rules.amsgrad),
        "torch": _row(rules.amsgrad_corrected, "l2"),
        "keras": _row(rules.amsgrad_eps_hat, "decoupled"),
        "optax": _row(rules.amsgrad_max_hat, lr=_R),
    },
    "AdaBelief": {
        "paper": _row(rules.adabelief, "decoupled"),
        "torch": _row(rules.adabelief, "decoupled", eps=1e-16, eps_root=1e-16),
        "keras": _row(rules.adabelief, "decoupled", eps=1e-16, eps_root=1e-16),
        "optax": _row(rules.adabelief, "decoupled", lr=_R, eps=1e-16, eps_root=1e-16),
    },
    "Adamax": {
        "paper": _row(rules.adamax),
        "torch": _row(rules.adamax_eps_in_max, "l2"),
        "keras": _row(rules.adamax, "decoupled", lr=1e-3, eps=1e-7),
        "optax": _row(rules.adamax_eps_in_max, lr=_R),
    },
    "NAdam": {
        "paper": _row(rules.nadam),
        "torch": _row(rules.nadam, "l2"),
        "keras": _row(rules.nadam, "decoupled", lr=1e-3, eps=1e-7, momentum_decay=1.0),
        "optax": _row(rules.nadam_unscheduled, lr=_R),
    },
    "RAdam": {
        "paper": _row(rules.radam),
        "torch": _row(rules.radam_eps_hat, "l2"),
        "keras": _row(rules.radam_eps_hat, "decoupled"),
        "optax": _row(rules.radam, lr=_R, threshold=5.0),
    },
    "Lion": {
        "paper": _row(rules.lion, "decoupled"),
        "torch": _row(rules.lion, "decoupled"),
        "keras": _row(rules.lion, "decoupled", lr=1e-3),
        "optax": _row(rules.lion, "decoupled", lr=_R, weight_decay=1e-3),
    },
    "ADOPT": {
        "paper": _row(rules.adopt),
        "torch": _row(rules.adopt, "decoupled"),
        "keras": _row(rules.adopt, "decoupled"),
        "optax": _row(rules.adopt, lr=_R),
    },
}
