# Written by scripts/generate.py from the catalogue; don't edit it, run `make generate`.

from typing import Any

import torch
from typing_extensions import Unpack

from adamite.torch.base import Optimizer
from adamite.torch.classes import OPTIMIZERS, optimizer
from adamite.torch.groups import param_groups
from adamite.torch.options import Extras
from adamite.torch.step_in_backward import StepInBackward

__all__ = ['ADOPT', 'OPTIMIZERS', 'SGD', 'AdaBelief', 'Adadelta', 'Adagrad', 'Adam', 'AdamW', 'Adamax', 'Extras', 'Lion', 'NAdam', 'Optimizer', 'RAdam', 'RMSprop', 'StepInBackward', 'Yogi', 'optimizer', 'param_groups']
Number = float | torch.Tensor
Betas = tuple[Number, Number]

class SGD(Optimizer):
    """Gradient descent, plain or with momentum."""
    def __init__(self, params: Any, lr: Number = 0.001, momentum: float = 0, dampening: float = 0, weight_decay: Number = 0, nesterov: bool = False, *, maximize: bool = False, foreach: bool | None = None, differentiable: bool = False, fused: bool | None = None, **extras: Unpack[Extras]) -> None: ...

class RMSprop(Optimizer):
    """RMSprop (Hinton 2012, lecture 6e; Graves 2013, eq. 38-41)."""
    def __init__(self, params: Any, lr: Number = 0.01, alpha: float = 0.99, eps: float = 1e-08, weight_decay: Number = 0, momentum: float = 0, centered: bool = False, capturable: bool = False, foreach: bool | None = None, maximize: bool = False, differentiable: bool = False, **extras: Unpack[Extras]) -> None: ...

class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011)."""
    def __init__(self, params: Any, lr: Number = 0.01, lr_decay: float = 0, weight_decay: Number = 0, initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *, maximize: bool = False, differentiable: bool = False, fused: bool | None = None, **extras: Unpack[Extras]) -> None: ...

class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012, algorithm 1)."""
    def __init__(self, params: Any, lr: Number = 1.0, rho: float = 0.9, eps: float = 1e-06, weight_decay: Number = 0, foreach: bool | None = None, *, capturable: bool = False, maximize: bool = False, differentiable: bool = False, **extras: Unpack[Extras]) -> None: ...

class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1)."""
    def __init__(self, params: Any, lr: Number = 0.001, betas: Betas = (0.9, 0.999), eps: float = 1e-08, weight_decay: Number = 0, amsgrad: bool = False, *, foreach: bool | None = None, maximize: bool = False, capturable: bool = False, differentiable: bool = False, fused: bool | None = None, decoupled_weight_decay: bool = False, **extras: Unpack[Extras]) -> None: ...

class AdamW(Adam):
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.001, betas: Betas = (0.9, 0.999), eps: float = 1e-08, weight_decay: Number = 0.01, amsgrad: bool = False, *, maximize: bool = False, foreach: bool | None = None, capturable: bool = False, differentiable: bool = False, fused: bool | None = None, **extras: Unpack[Extras]) -> None: ...

class AdaBelief(Optimizer):
    """AdaBelief (Zhuang et al. 2020, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.001, betas: Betas = (0.9, 0.999), eps: float = 1e-16, weight_decay: Number = 0, decoupled_weight_decay: bool = True, *, eps_root: float | None = None, foreach: bool | None = None, maximize: bool = False, capturable: bool = False, fused: bool | None = None, differentiable: bool = False, **extras: Unpack[Extras]) -> None: ...

class Yogi(Optimizer):
    """Yogi (Zaheer et al. 2018, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.01, betas: Betas = (0.9, 0.999), eps: float = 0.001, weight_decay: Number = 0, decoupled_weight_decay: bool = True, *, foreach: bool | None = None, maximize: bool = False, capturable: bool = False, fused: bool | None = None, differentiable: bool = False, **extras: Unpack[Extras]) -> None: ...

class Adamax(Optimizer):
    """Adamax (Kingma & Ba 2015, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.002, betas: Betas = (0.9, 0.999), eps: float = 1e-08, weight_decay: Number = 0, foreach: bool | None = None, *, maximize: bool = False, differentiable: bool = False, capturable: bool = False, **extras: Unpack[Extras]) -> None: ...

class NAdam(Optimizer):
    """NAdam (Dozat 2016, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.002, betas: Betas = (0.9, 0.999), eps: float = 1e-08, weight_decay: Number = 0, momentum_decay: float = 0.004, decoupled_weight_decay: bool = False, *, foreach: bool | None = None, maximize: bool = False, capturable: bool = False, differentiable: bool = False, **extras: Unpack[Extras]) -> None: ...

class RAdam(Optimizer):
    """RAdam (Liu et al. 2020, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.001, betas: Betas = (0.9, 0.999), eps: float = 1e-08, weight_decay: Number = 0, decoupled_weight_decay: bool = False, *, foreach: bool | None = None, maximize: bool = False, capturable: bool = False, differentiable: bool = False, **extras: Unpack[Extras]) -> None: ...

class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.0001, betas: Betas = (0.9, 0.99), weight_decay: Number = 0, decoupled_weight_decay: bool = True, *, foreach: bool | None = None, maximize: bool = False, capturable: bool = False, fused: bool | None = None, differentiable: bool = False, **extras: Unpack[Extras]) -> None: ...

class ADOPT(Optimizer):
    """ADOPT (Taniguchi et al. 2024, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.001, betas: Betas = (0.9, 0.9999), eps: float = 1e-06, weight_decay: Number = 0, decoupled_weight_decay: bool = True, *, foreach: bool | None = None, maximize: bool = False, capturable: bool = False, fused: bool | None = None, differentiable: bool = False, **extras: Unpack[Extras]) -> None: ...
