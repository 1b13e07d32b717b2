"""The equations: one file a family, and here one table of them all."""

from adamite.language.rule import Rule
from adamite.rules.adabelief import adabelief, adabelief_nesterov
from adamite.rules.adadelta import adadelta
from adamite.rules.adagrad import adagrad, adagrad_eps_inside
from adamite.rules.adam import adam, adam_eps_hat, adam_eps_root
from adamite.rules.adamax import adamax, adamax_eps_in_max
from adamite.rules.adopt import adopt, adopt_nesterov
from adamite.rules.amsgrad import amsgrad, amsgrad_corrected, amsgrad_eps_hat, amsgrad_max_hat
from adamite.rules.lion import lion
from adamite.rules.nadam import nadam, nadam_unscheduled
from adamite.rules.radam import radam, radam_eps_hat, radam_eps_root
from adamite.rules.rmsprop import rmsprop, rmsprop_eps_outside, rmsprop_trace
from adamite.rules.sgd import sgd, sgd_lr_inside

__all__ = [
    "adabelief",
    "adabelief_nesterov",
    "adadelta",
    "adagrad",
    "adagrad_eps_inside",
    "adam",
    "adam_eps_hat",
    "adam_eps_root",
    "adamax",
    "adamax_eps_in_max",
    "adopt",
    "adopt_nesterov",
    "amsgrad",
    "amsgrad_corrected",
    "amsgrad_eps_hat",
    "amsgrad_max_hat",
    "lion",
    "nadam",
    "nadam_unscheduled",
    "radam",
    "radam_eps_hat",
    "radam_eps_root",
    "rmsprop",
    "rmsprop_eps_outside",
    "rmsprop_trace",
    "sgd",
    "sgd_lr_inside",
]  # fmt: skip

RULES: dict[str, Rule] = {name: globals()[name] for name in __all__}
