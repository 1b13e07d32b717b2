"""What each framework's optimizer of a name means, as data: rule, choices, defaults, kind of weight decay.

`paper` follows the publications; where they leave something open (lr, epsilon against a division by zero), the
value is the one in common use. Sources: torch 2.13, Keras 3.15, optax 0.2.8, checked against golden values.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from adamite import rules
from adamite.language.rule import REQUIRED, Rule
from adamite.language.update import Decay

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
    follows: Mapping[str, str] = MappingProxyType({})  # a number that is as another one unless it is given

    def default(self, name: str) -> Any:
        """The default of a number or choice of the rule, or of the weight decay."""
        if name in self.follows:
            return self.default(self.follows[name])
        if name in self.defaults:
            return self.defaults[name]
        spec = self.rule.numbers.get(name) or self.rule.choices.get(name)
        return spec.default if spec else 0.0


def _row(rule: Rule, decay: Decay | None = None, **defaults: Any) -> Convention:
    return Convention(rule, defaults, decay)


_R = REQUIRED
_ONE_EPSILON = {"eps_root": "eps"}  # as the paper's algorithm and its authors' code have it
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
        "torch": Convention(rules.adam, {"weight_decay": 0.01}, "decoupled", _ADAMW),
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
        "paper": Convention(rules.adabelief, {}, "decoupled", follows=_ONE_EPSILON),
        "torch": Convention(rules.adabelief, {"eps": 1e-16}, "decoupled", follows=_ONE_EPSILON),
        "keras": Convention(rules.adabelief, {"eps": 1e-16}, "decoupled", follows=_ONE_EPSILON),
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


class Spelling(NamedTuple):
    """How a framework spells one optimizer: its arguments, and what its states are called."""

    convention: Convention
    arguments: Mapping[str, tuple[str, ...]]  # an argument -> the rule's numbers that it gives
    states: Mapping[str, str]  # the rule's state -> its key
    switches: Mapping[str, Rule] = {}  # a flag -> the rule that it selects
    without: tuple[str, ...] = ()  # numbers that leave their part of the rule out at 0
    counts: bool = True  # whether the step number is among the states
    sparse: bool = False  # whether sparse gradients are taken
    apart: tuple[str, ...] = ()  # states that Keras keeps after the others, all parameters' of one, then of the next
    ranges: Mapping[str, str] = {}  # of arguments that have another range than the rule's numbers


_LR: dict[str, tuple[str, ...]] = {"lr": ("lr",)}
_ADAM: dict[str, tuple[str, ...]] = {"lr": ("lr",), "betas": ("beta1", "beta2"), "eps": ("eps",)}
_MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}


def _torch(name: str) -> Convention:
    return CONVENTIONS[name]["torch"]


TORCH: dict[str, Spelling] = {
    "SGD": Spelling(
        _torch("SGD"),
        _LR | {"momentum": ("momentum",), "dampening": ("dampening",)},
        {"b": "momentum_buffer"},
        without=("momentum",),
        counts=False,
        sparse=True,
    ),
    "RMSprop": Spelling(
        _torch("RMSprop"),
        _LR | {"alpha": ("rho",), "eps": ("eps",), "momentum": ("momentum",)},
        {"v": "square_avg", "g_bar": "grad_avg", "b": "momentum_buffer"},
        without=("momentum",),
    ),
    "Adagrad": Spelling(
        _torch("Adagrad"),
        _LR | {"lr_decay": ("lr_decay",), "initial_accumulator_value": ("s0",), "eps": ("eps",)},
        {"s": "sum"},
        sparse=True,
    ),
    "Adadelta": Spelling(
        _torch("Adadelta"), _LR | {"rho": ("rho",), "eps": ("eps",)}, {"v": "square_avg", "u": "acc_delta"}
    ),
    "Adam": Spelling(
        _torch("Adam"), _ADAM, _MOMENTS | {"v_max": "max_exp_avg_sq"}, {"amsgrad": _torch("AMSGrad").rule}
    ),
    "AdamW": Spelling(
        _torch("AdamW"), _ADAM, _MOMENTS | {"v_max": "max_exp_avg_sq"}, {"amsgrad": _torch("AMSGrad").rule}
    ),
    "Adamax": Spelling(_torch("Adamax"), _ADAM, {"m": "exp_avg", "u": "exp_inf"}),
    "NAdam": Spelling(
        _torch("NAdam"), _ADAM | {"momentum_decay": ("momentum_decay",)}, _MOMENTS | {"mu_product": "mu_product"}
    ),
    "RAdam": Spelling(_torch("RAdam"), _ADAM, _MOMENTS),
    "AdaBelief": Spelling(
        _torch("AdaBelief"), _ADAM | {"eps_root": ("eps_root",)}, {"m": "exp_avg", "s": "exp_avg_var"}
    ),
    "Lion": Spelling(_torch("Lion"), _LR | {"betas": ("beta1", "beta2")}, {"m": "exp_avg"}),
    "ADOPT": Spelling(_torch("ADOPT"), _ADAM, _MOMENTS),
}


_RATE = {"learning_rate": ("lr",)}
_BETAS = {"b1": ("beta1",), "b2": ("beta2",)}
_OPTAX_ADAM = _RATE | _BETAS | {"eps": ("eps",), "eps_root": ("eps_root",)}
_MUS = {"m": "mu", "v": "nu"}


def _optax(rule: Rule, decay: Decay | None = None, title: str = "", **defaults: Any) -> Convention:
    return Convention(rule, {"lr": REQUIRED, **defaults}, decay, title)


# By the names of optax's functions. Where a state has no `count` of steps, the rule doesn't depend on it.
OPTAX: dict[str, Spelling] = {
    "sgd": Spelling(_optax(rules.sgd, dampening=0.0), _RATE | {"momentum": ("momentum",)}, {"b": "trace"}),
    "rmsprop": Spelling(
        _optax(rules.rmsprop_trace),
        _RATE | {"decay": ("rho",), "eps": ("eps",), "initial_scale": ("v0",), "momentum": ("momentum",)},
        {"v": "nu", "g_bar": "mu", "b": "trace"},
    ),
    "adagrad": Spelling(
        _optax(rules.adagrad_eps_inside),
        _RATE | {"initial_accumulator_value": ("s0",), "eps": ("eps",)},
        {"s": "sum_of_squares"},
    ),
    "adadelta": Spelling(
        _optax(rules.adadelta, "l2", rho=0.9), _RATE | {"rho": ("rho",), "eps": ("eps",)}, {"v": "e_g", "u": "e_x"}
    ),
    "adam": Spelling(_optax(rules.adam_eps_root), _OPTAX_ADAM, _MUS, without=("eps_root",)),
    "adamw": Spelling(
        _optax(rules.adam_eps_root, "decoupled", _ADAMW, weight_decay=1e-4), _OPTAX_ADAM, _MUS, without=("eps_root",)
    ),
    "nadam": Spelling(_optax(rules.adam_eps_root, nesterov=True), _OPTAX_ADAM, _MUS, without=("eps_root",)),
    "nadamw": Spelling(
        _optax(rules.adam_eps_root, "decoupled", weight_decay=1e-4, nesterov=True),
        _OPTAX_ADAM,
        _MUS,
        without=("eps_root",),
    ),
    "amsgrad": Spelling(_optax(rules.amsgrad_max_hat), _OPTAX_ADAM, _MUS | {"v_max": "nu_max"}, without=("eps_root",)),
    "adamax": Spelling(_optax(rules.adamax_eps_in_max), _RATE | _BETAS | {"eps": ("eps",)}, {"m": "mu", "u": "nu"}),
    "adamaxw": Spelling(
        _optax(rules.adamax_eps_in_max, "decoupled", weight_decay=1e-4),
        _RATE | _BETAS | {"eps": ("eps",)},
        {"m": "mu", "u": "nu"},
    ),
    "radam": Spelling(
        _optax(rules.radam_eps_root), _OPTAX_ADAM | {"threshold": ("threshold",)}, _MUS, without=("eps_root",)
    ),
    "adabelief": Spelling(
        _optax(rules.adabelief, eps=1e-16, eps_root=1e-16),
        _OPTAX_ADAM,
        {"m": "mu", "s": "nu"},
        {"nesterov": rules.adabelief_nesterov},
    ),
    "lion": Spelling(_optax(rules.lion, "decoupled", weight_decay=1e-3), _RATE | _BETAS, {"m": "mu"}),
    "adopt": Spelling(
        _optax(rules.adopt_nesterov, nesterov=False),
        _RATE | _BETAS | {"eps": ("eps",), "clip_value_fn": ("limit",)},
        _MUS,
    ),
}


_EPSILON = {"epsilon": ("eps",)}
_KERAS_BETAS = {"beta_1": ("beta1",), "beta_2": ("beta2",)}
_KERAS_ADAM = _KERAS_BETAS | _EPSILON
_VELOCITY = {"m": "momentum", "v": "velocity"}
# Keras states a range of SGD's momentum and of Lion's beta_1. Elsewhere it is where Keras's own steps are finite.
_KERAS_RANGES = {"epsilon": "[0, inf)", "epsilon_root": "[0, inf)", "momentum": "[0, 1]", "rho": "[0, 1]"}
_BETA_2_MAY_BE_1 = {"beta_2": "[0, 1]"}


def _keras(
    name: str,
    arguments: Mapping[str, tuple[str, ...]],
    states: Mapping[str, str],
    ranges: Mapping[str, str] = MappingProxyType({}),
    **more: Any,
) -> Spelling:
    return Spelling(
        CONVENTIONS[name]["keras"], _RATE | dict(arguments), states, ranges=_KERAS_RANGES | dict(ranges), **more
    )


_AMSGRAD: dict[str, Any] = {"switches": {"amsgrad": CONVENTIONS["AMSGrad"]["keras"].rule}, "apart": ("v_max",)}
_ADAM_STATES = _VELOCITY | {"v_max": "velocity_hat"}

# Keras counts once for all parameters; the states are in its order.
KERAS: dict[str, Spelling] = {
    "SGD": _keras("SGD", {"momentum": ("momentum",)}, {"b": "momentum"}, without=("momentum",)),
    "RMSprop": _keras(
        "RMSprop",
        {"rho": ("rho",), "momentum": ("momentum",)} | _EPSILON,
        {"v": "velocity", "b": "momentum", "g_bar": "average_gradient"},
        without=("momentum",),
        apart=("b", "g_bar"),
    ),
    "Adagrad": _keras("Adagrad", {"initial_accumulator_value": ("s0",)} | _EPSILON, {"s": "accumulator"}),
    "Adadelta": _keras(
        "Adadelta", {"rho": ("rho",)} | _EPSILON, {"v": "accumulated_grad", "u": "accumulated_delta_var"}
    ),
    "Adam": _keras("Adam", _KERAS_ADAM, _ADAM_STATES, _BETA_2_MAY_BE_1, **_AMSGRAD),
    "AdamW": _keras("AdamW", _KERAS_ADAM, _ADAM_STATES, _BETA_2_MAY_BE_1, **_AMSGRAD),
    "Adamax": _keras("Adamax", _KERAS_ADAM, {"m": "momentum", "u": "norm"}, _BETA_2_MAY_BE_1),
    "Nadam": _keras("NAdam", _KERAS_ADAM, _VELOCITY | {"mu_product": "u_product"}, {"beta_1": "[0, 1]"}),
    "Lion": _keras("Lion", _KERAS_BETAS, {"m": "momentum"}, {"beta_1": "(0, 1]"} | _BETA_2_MAY_BE_1),
    "AdaBelief": _keras("AdaBelief", _KERAS_ADAM | {"epsilon_root": ("eps_root",)}, {"m": "momentum", "s": "variance"}),
    "RAdam": _keras("RAdam", _KERAS_ADAM, _VELOCITY),
    "ADOPT": _keras("ADOPT", _KERAS_ADAM, _VELOCITY),
}


def spelling(rule: Rule, names: Mapping[str, str] = MappingProxyType({})) -> Spelling:
    """A rule of one's own, spelled as it spells itself but for these numbers."""
    return Spelling(
        Convention(rule, {}, "decoupled" if "lr" in rule.numbers else "l2"),
        {names.get(name, name): (name,) for name in rule.numbers},
        {state.name: state.name for state in rule.states},
    )
