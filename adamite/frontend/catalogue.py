"""Every optimizer, a row each: its rule, and what torch, Keras and optax call it and mean by it.

`paper` follows the publication; where that leaves something open (lr, an epsilon against division by zero), the value
is the one in common use. The signatures are torch 2.13's, Keras 3.15's and optax 0.2.8's, where these have the
optimizer; where they don't, ours follow their habits.

The classes of all front-ends, their documentation, `adamite list` and the tests follow from these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from adamite import rules
from adamite.frontend.spelling import Convention, Language, Spelling
from adamite.language.rule import REQUIRED


class Row(NamedTuple):
    """One optimizer. A framework that can do it but has no class for it has a convention alone."""

    name: str
    paper: Convention
    torch: Convention | Spelling
    keras: Convention | Spelling
    optax: Convention | Spelling
    also: tuple[Spelling, ...] = ()  # optax's other functions for it

    @property
    def conventions(self) -> dict[str, Convention]:
        """What each framework means by it, as the NumPy front-end offers it."""
        columns = (self.torch, self.keras, self.optax)
        torch, keras, optax = (c.plain or c.convention if isinstance(c, Spelling) else c for c in columns)
        return {"paper": self.paper, "torch": torch, "keras": keras, "optax": optax}


_torch = Language(
    arguments={"betas": ("beta1", "beta2"), "alpha": ("rho",), "initial_accumulator_value": ("s0",)},
    states={"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq", "b": "momentum_buffer"},
).spelling
_keras = Language(
    arguments={
        "learning_rate": ("lr",),
        "beta_1": ("beta1",),
        "beta_2": ("beta2",),
        "epsilon": ("eps",),
        "epsilon_root": ("eps_root",),
        "initial_accumulator_value": ("s0",),
    },
    states={"m": "momentum", "v": "velocity", "v_max": "velocity_hat"},
    # Keras states a range of SGD's momentum and of Lion's beta_1. Elsewhere it is where Keras's own steps are finite.
    ranges={"epsilon": "[0, inf)", "epsilon_root": "[0, inf)", "momentum": "[0, 1]", "rho": "[0, 1]"},
).spelling
_optax = Language(
    arguments={
        "learning_rate": ("lr",),
        "b1": ("beta1",),
        "b2": ("beta2",),
        "decay": ("rho",),
        "initial_scale": ("v0",),
        "initial_accumulator_value": ("s0",),
        "clip_value_fn": ("limit",),
    },
    states={"m": "mu", "v": "nu", "v_max": "nu_max", "b": "trace"},
).spelling

_MOMENTUM = "Gradient descent with momentum (Polyak 1964)."
_ADAMW = "AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."
_ONE_EPSILON = {"eps_root": "eps"}  # as the paper's algorithm and its authors' code have it
_BETA_2_MAY_BE_1 = {"beta_2": "[0, 1]"}
_NO_MOMENTUM_AT_0 = ("momentum",)
_NO_EPS_ROOT_AT_0 = ("eps_root",)
# What classes of torch that are ours take after their hyperparameters.
_OURS = "*, foreach=None, maximize=False, capturable=False, fused=None, differentiable=False"

CATALOGUE = (
    Row(
        "SGD",
        Convention(rules.sgd),
        _torch(
            "SGD(lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False, foreach=None, "
            "differentiable=False, fused=None)",
            rules.sgd,
            "l2",
            without=_NO_MOMENTUM_AT_0,
            counts=False,
            sparse=True,
        ),
        _keras(
            "SGD(learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=None)",
            rules.sgd_lr_inside,
            "decoupled",
            states={"b": "momentum"},
            without=_NO_MOMENTUM_AT_0,
        ),
        _optax("sgd(learning_rate, momentum=None, nesterov=False, accumulator_dtype=None)", rules.sgd),
    ),
    Row(
        "Momentum",
        Convention(rules.sgd, {"momentum": 0.9}, title=_MOMENTUM),
        Convention(rules.sgd, {"lr": 1e-3, "momentum": 0.9}, "l2"),
        Convention(rules.sgd_lr_inside, {"momentum": 0.9}, "decoupled"),
        Convention(rules.sgd, {"lr": REQUIRED, "momentum": 0.9}),
    ),
    Row(
        "RMSprop",
        Convention(rules.rmsprop),
        _torch(
            "RMSprop(lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, capturable=False, "
            "foreach=None, maximize=False, differentiable=False)",
            rules.rmsprop_eps_outside,
            "l2",
            states={"v": "square_avg", "g_bar": "grad_avg", "b": "momentum_buffer"},
            without=_NO_MOMENTUM_AT_0,
        ),
        _keras(
            "RMSprop(learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False, weight_decay=None)",
            rules.rmsprop,
            "decoupled",
            states={"v": "velocity", "b": "momentum", "g_bar": "average_gradient"},
            without=_NO_MOMENTUM_AT_0,
            apart=("b", "g_bar"),
        ),
        _optax(
            "rmsprop(learning_rate, decay=0.9, eps=1e-8, initial_scale=0.0, eps_in_sqrt=True, centered=False, "
            "momentum=None, nesterov=False, bias_correction=False)",
            rules.rmsprop_trace,
            states={"v": "nu", "g_bar": "mu", "b": "trace"},
            plain=rules.rmsprop,
        ),
    ),
    Row(
        "Adagrad",
        Convention(rules.adagrad),
        _torch(
            "Adagrad(lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10, foreach=None, *, "
            "maximize=False, differentiable=False, fused=None)",
            rules.adagrad,
            "l2",
            states={"s": "sum"},
            sparse=True,
            early=True,
        ),
        _keras(
            "Adagrad(learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7, weight_decay=None)",
            rules.adagrad_eps_inside,
            "decoupled",
            states={"s": "accumulator"},
        ),
        _optax(
            "adagrad(learning_rate, initial_accumulator_value=0.1, eps=1e-7)",
            rules.adagrad_eps_inside,
            states={"s": "sum_of_squares"},
        ),
    ),
    Row(
        "Adadelta",
        Convention(rules.adadelta),
        _torch(
            "Adadelta(lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, foreach=None, *, capturable=False, maximize=False, "
            "differentiable=False)",
            rules.adadelta,
            "l2",
            states={"v": "square_avg", "u": "acc_delta"},
        ),
        _keras(
            "Adadelta(learning_rate=0.001, rho=0.95, epsilon=1e-7, weight_decay=None)",
            rules.adadelta,
            "decoupled",
            states={"v": "accumulated_grad", "u": "accumulated_delta_var"},
        ),
        _optax(
            "adadelta(learning_rate=None, rho=0.9, eps=1e-6, weight_decay=0.0, weight_decay_mask=None)",
            rules.adadelta,
            "l2",
            states={"v": "e_g", "u": "e_x"},
        ),
    ),
    Row(
        "Adam",
        Convention(rules.adam),
        _torch(
            "Adam(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, *, foreach=None, "
            "maximize=False, capturable=False, differentiable=False, fused=None, decoupled_weight_decay=False)",
            rules.adam,
            "l2",
            switches={"amsgrad": rules.amsgrad_corrected},
        ),
        _keras(
            "Adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False, weight_decay=None)",
            rules.adam_eps_hat,
            "decoupled",
            switches={"amsgrad": rules.amsgrad_eps_hat},
            apart=("v_max",),
            ranges=_BETA_2_MAY_BE_1,
        ),
        _optax(
            "adam(learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, *, nesterov=False)",
            rules.adam_eps_root,
            without=_NO_EPS_ROOT_AT_0,
            plain=rules.adam,
        ),
    ),
    Row(
        "AdamW",
        Convention(rules.adam, {"weight_decay": 0.01}, "decoupled", _ADAMW),
        _torch(
            "AdamW(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *, maximize=False, "
            "foreach=None, capturable=False, differentiable=False, fused=None)",
            rules.adam,
            "decoupled",
            title=_ADAMW,
            switches={"amsgrad": rules.amsgrad_corrected},
            base="Adam",
            fixed={"decoupled_weight_decay": True},
        ),
        _keras(
            "AdamW(learning_rate=0.001, weight_decay=0.004, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False)",
            rules.adam_eps_hat,
            "decoupled",
            switches={"amsgrad": rules.amsgrad_eps_hat},
            base="Adam",
            apart=("v_max",),
            ranges=_BETA_2_MAY_BE_1,
        ),
        _optax(
            "adamw(learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, weight_decay=1e-4, "
            "mask=None, *, nesterov=False)",
            rules.adam_eps_root,
            "decoupled",
            title=_ADAMW,
            without=_NO_EPS_ROOT_AT_0,
            plain=rules.adam,
        ),
    ),
    Row(
        "AMSGrad",
        Convention(rules.amsgrad),
        Convention(rules.amsgrad_corrected, decay="l2"),
        Convention(rules.amsgrad_eps_hat, decay="decoupled"),
        _optax(
            "amsgrad(learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, bias_correction_mu=True, "
            "bias_correction_nu=True)",
            rules.amsgrad_max_hat,
            without=_NO_EPS_ROOT_AT_0,
        ),
    ),
    Row(
        "AdaBelief",
        Convention(rules.adabelief, decay="decoupled", follows=_ONE_EPSILON),
        _torch(
            "AdaBelief(lr=1e-3, betas=(0.9, 0.999), eps=1e-16, weight_decay=0, decoupled_weight_decay=True, *, "
            "eps_root=None, foreach=None, maximize=False, capturable=False, fused=None, differentiable=False)",
            rules.adabelief,
            "decoupled",
            follows=_ONE_EPSILON,
            states={"m": "exp_avg", "s": "exp_avg_var"},
            ours=True,
        ),
        _keras(
            "AdaBelief(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-16, weight_decay=None, *, "
            "epsilon_root=None)",
            rules.adabelief,
            "decoupled",
            follows=_ONE_EPSILON,
            states={"m": "momentum", "s": "variance"},
            ours=True,
        ),
        _optax(
            "adabelief(learning_rate, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16, *, nesterov=False)",
            rules.adabelief,
            "decoupled",
            states={"m": "mu", "s": "nu"},
            switches={"nesterov": rules.adabelief_nesterov},
        ),
    ),
    Row(
        "Yogi",
        Convention(rules.yogi),
        _torch(
            f"Yogi(lr=1e-2, betas=(0.9, 0.999), eps=1e-3, weight_decay=0, decoupled_weight_decay=True, {_OURS})",
            rules.yogi,
            "decoupled",
            ours=True,
        ),
        _keras(
            "Yogi(learning_rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-3, weight_decay=None)",
            rules.yogi,
            "decoupled",
            ours=True,
        ),
        _optax("yogi(learning_rate, b1=0.9, b2=0.999, eps=1e-3)", rules.yogi),
    ),
    Row(
        "Adamax",
        Convention(rules.adamax),
        _torch(
            "Adamax(lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, foreach=None, *, maximize=False, "
            "differentiable=False, capturable=False)",
            rules.adamax_eps_in_max,
            "l2",
            states={"m": "exp_avg", "u": "exp_inf"},
        ),
        _keras(
            "Adamax(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=None)",
            rules.adamax,
            "decoupled",
            states={"m": "momentum", "u": "norm"},
            ranges=_BETA_2_MAY_BE_1,
        ),
        _optax(
            "adamax(learning_rate, b1=0.9, b2=0.999, eps=1e-8)",
            rules.adamax_eps_in_max,
            states={"m": "mu", "u": "nu"},
        ),
        (
            _optax(
                "adamaxw(learning_rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-4, mask=None)",
                rules.adamax_eps_in_max,
                "decoupled",
                states={"m": "mu", "u": "nu"},
            ),
        ),
    ),
    Row(
        "NAdam",
        Convention(rules.nadam),
        _torch(
            "NAdam(lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3, "
            "decoupled_weight_decay=False, *, foreach=None, maximize=False, capturable=False, differentiable=False)",
            rules.nadam,
            "l2",
        ),
        _keras(
            "Nadam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=None)",
            rules.nadam,
            "decoupled",
            states={"m": "momentum", "v": "velocity", "mu_product": "u_product"},
            ranges={"beta_1": "[0, 1]"},
            defaults={"momentum_decay": 1.0},
        ),
        _optax(
            "nadam(learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, *, nesterov=True)",
            rules.adam_eps_root,
            without=_NO_EPS_ROOT_AT_0,
            plain=rules.nadam_unscheduled,
        ),
        (
            _optax(
                "nadamw(learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, weight_decay=1e-4, "
                "mask=None, *, nesterov=True)",
                rules.adam_eps_root,
                "decoupled",
                without=_NO_EPS_ROOT_AT_0,
            ),
        ),
    ),
    Row(
        "RAdam",
        Convention(rules.radam),
        _torch(
            "RAdam(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled_weight_decay=False, *, "
            "foreach=None, maximize=False, capturable=False, differentiable=False)",
            rules.radam_eps_hat,
            "l2",
        ),
        _keras(
            "RAdam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=None)",
            rules.radam_eps_hat,
            "decoupled",
            ours=True,
        ),
        _optax(
            "radam(learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, threshold=5.0, *, nesterov=False)",
            rules.radam_eps_root,
            without=_NO_EPS_ROOT_AT_0,
            plain=rules.radam,
        ),
    ),
    Row(
        "Lion",
        Convention(rules.lion, decay="decoupled"),
        _torch(
            f"Lion(lr=1e-4, betas=(0.9, 0.99), weight_decay=0, decoupled_weight_decay=True, {_OURS})",
            rules.lion,
            "decoupled",
            ours=True,
        ),
        _keras(
            "Lion(learning_rate=0.001, beta_1=0.9, beta_2=0.99, weight_decay=None)",
            rules.lion,
            "decoupled",
            ranges={"beta_1": "(0, 1]", "beta_2": "[0, 1]"},
        ),
        _optax(
            "lion(learning_rate, b1=0.9, b2=0.99, mu_dtype=None, weight_decay=1e-3, mask=None)",
            rules.lion,
            "decoupled",
        ),
    ),
    Row(
        "ADOPT",
        Convention(rules.adopt),
        _torch(
            f"ADOPT(lr=1e-3, betas=(0.9, 0.9999), eps=1e-6, weight_decay=0, decoupled_weight_decay=True, {_OURS})",
            rules.adopt,
            "decoupled",
            ours=True,
        ),
        _keras(
            "ADOPT(learning_rate=0.001, beta_1=0.9, beta_2=0.9999, epsilon=1e-6, weight_decay=None)",
            rules.adopt,
            "decoupled",
            ours=True,
        ),
        _optax(
            "adopt(learning_rate, b1=0.9, b2=0.9999, eps=1e-6, mu_dtype=None, *, nesterov=False, use_clipping=True, "
            "clip_value_fn=None)",
            rules.adopt_nesterov,
            plain=rules.adopt,
        ),
    ),
)


def _named(*columns: Convention | Spelling) -> dict[str, Spelling]:
    return {column.name: column for column in columns if isinstance(column, Spelling)}


CONVENTIONS: Mapping[str, Mapping[str, Convention]] = {row.name: row.conventions for row in CATALOGUE}
TORCH = _named(*(row.torch for row in CATALOGUE))
KERAS = _named(*(row.keras for row in CATALOGUE))
OPTAX = _named(*(spelling for row in CATALOGUE for spelling in (row.optax, *row.also)))
