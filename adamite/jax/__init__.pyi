# Written by scripts/generate.py from the catalogue; don't edit it, run `make generate`.

from typing import Any

from adamite.jax.functions import OPTIMIZERS, optimizer
from adamite.jax.transformation import State, Transformation

__all__ = ['OPTIMIZERS', 'State', 'Transformation', 'adabelief', 'adadelta', 'adagrad', 'adam', 'adamax', 'adamaxw', 'adamw', 'adopt', 'amsgrad', 'lion', 'nadam', 'nadamw', 'optimizer', 'radam', 'rmsprop', 'sgd', 'yogi']
Number = Any  # a float, an array of no axes that may be traced, or a schedule: steps done -> value
Mask = Any  # a tree of bools, a prefix of the parameters', or a function that makes one of them

def sgd(learning_rate: Number, momentum: Number | None = None, nesterov: bool = False, accumulator_dtype: Any = None) -> Transformation:
    """Gradient descent, plain or with momentum."""

def rmsprop(learning_rate: Number, decay: Number = 0.9, eps: Number = 1e-08, initial_scale: Number = 0.0, eps_in_sqrt: bool = True, centered: bool = False, momentum: Number | None = None, nesterov: bool = False, bias_correction: bool = False) -> Transformation:
    """RMSprop (Hinton 2012, lecture 6e; Graves 2013, eq. 38-41)."""

def adagrad(learning_rate: Number, initial_accumulator_value: Number = 0.1, eps: Number = 1e-07) -> Transformation:
    """Adagrad (Duchi, Hazan & Singer 2011)."""

def adadelta(learning_rate: Number | None = None, rho: Number = 0.9, eps: Number = 1e-06, weight_decay: Number = 0.0, weight_decay_mask: Mask = None) -> Transformation:
    """Adadelta (Zeiler 2012, algorithm 1)."""

def adam(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-08, eps_root: Number = 0.0, mu_dtype: Any = None, *, nesterov: bool = False) -> Transformation:
    """Adam (Kingma & Ba 2015, algorithm 1)."""

def adamw(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-08, eps_root: Number = 0.0, mu_dtype: Any = None, weight_decay: Number = 0.0001, mask: Mask = None, *, nesterov: bool = False) -> Transformation:
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""

def amsgrad(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-08, eps_root: Number = 0.0, mu_dtype: Any = None, bias_correction_mu: bool = True, bias_correction_nu: bool = True) -> Transformation:
    """AMSGrad (Reddi, Kale & Kumar 2018, algorithm 2)."""

def adabelief(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-16, eps_root: Number = 1e-16, *, nesterov: bool = False) -> Transformation:
    """AdaBelief (Zhuang et al. 2020, algorithm 2)."""

def yogi(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 0.001) -> Transformation:
    """Yogi (Zaheer et al. 2018, algorithm 2)."""

def adamax(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-08) -> Transformation:
    """Adamax (Kingma & Ba 2015, algorithm 2)."""

def adamaxw(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-08, weight_decay: Number = 0.0001, mask: Mask = None) -> Transformation:
    """Adamax (Kingma & Ba 2015, algorithm 2)."""

def nadam(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-08, eps_root: Number = 0.0, mu_dtype: Any = None, *, nesterov: bool = True) -> Transformation:
    """NAdam (Dozat 2016, algorithm 2)."""

def nadamw(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-08, eps_root: Number = 0.0, mu_dtype: Any = None, weight_decay: Number = 0.0001, mask: Mask = None, *, nesterov: bool = True) -> Transformation:
    """NAdam (Dozat 2016, algorithm 2)."""

def radam(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-08, eps_root: Number = 0.0, threshold: Number = 5.0, *, nesterov: bool = False) -> Transformation:
    """RAdam (Liu et al. 2020, algorithm 2)."""

def lion(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.99, mu_dtype: Any = None, weight_decay: Number = 0.001, mask: Mask = None) -> Transformation:
    """Lion (Chen et al. 2023, algorithm 2)."""

def adopt(learning_rate: Number, b1: Number = 0.9, b2: Number = 0.9999, eps: Number = 1e-06, mu_dtype: Any = None, *, nesterov: bool = False, use_clipping: bool = True, clip_value_fn: Number | None = None) -> Transformation:
    """ADOPT (Taniguchi et al. 2024, algorithm 2)."""
