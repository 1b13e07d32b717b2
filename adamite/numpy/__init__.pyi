# Written by scripts/generate.py from the catalogue; don't edit it, run `make generate`.

from collections.abc import Mapping
from typing import Any, TypedDict

from typing_extensions import Unpack

from adamite.frontend.settings import NonFinite, Schedule
from adamite.frontend.spelling import Framework
from adamite.language.update import Decay
from adamite.numpy.base import Optimizer
from adamite.numpy.classes import OPTIMIZERS, optimizer
from adamite.numpy.hyperparameters import Group
from adamite.sparse.rows import Sparse
from adamite.storage.choice import StateDtype

__all__ = ['ADOPT', 'OPTIMIZERS', 'SGD', 'AMSGrad', 'AdaBelief', 'Adadelta', 'Adagrad', 'Adam', 'AdamW', 'Adamax', 'Group', 'Lion', 'Momentum', 'NAdam', 'Optimizer', 'RAdam', 'RMSprop', 'Yogi', 'optimizer']
Number = float | Schedule

class Options(TypedDict, total=False):
    convention: Framework
    groups: Mapping[str, Mapping[str, Any]] | None
    weight_decay: float | Schedule | None
    decay: Decay | None
    clip_norm: float | Schedule | None
    nonfinite: NonFinite
    ema: float | Schedule | None
    maximize: bool
    state: StateDtype
    seed: int
    sparse: Sparse | None

class SGD(Optimizer):
    """Gradient descent, plain or with momentum."""
    def __init__(self, params: Any, lr: Number = 0.01, *, momentum: Number | None = None, dampening: Number = 0.0, nesterov: bool = False, **options: Unpack[Options]) -> None: ...

class Momentum(Optimizer):
    """Gradient descent with momentum (Polyak 1964)."""
    def __init__(self, params: Any, lr: Number = 0.01, *, momentum: Number | None = 0.9, dampening: Number = 0.0, nesterov: bool = False, **options: Unpack[Options]) -> None: ...

class RMSprop(Optimizer):
    """RMSprop (Hinton 2012, lecture 6e; Graves 2013, eq. 38-41)."""
    def __init__(self, params: Any, lr: Number = 0.001, *, rho: Number = 0.9, eps: Number = 1e-08, momentum: Number | None = None, centered: bool = False, **options: Unpack[Options]) -> None: ...

class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011)."""
    def __init__(self, params: Any, lr: Number = 0.01, *, eps: Number = 1e-10, s0: Number = 0.0, lr_decay: Number = 0.0, **options: Unpack[Options]) -> None: ...

class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012, algorithm 1)."""
    def __init__(self, params: Any, lr: Number = 1.0, *, rho: Number = 0.95, eps: Number = 1e-06, **options: Unpack[Options]) -> None: ...

class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1)."""
    def __init__(self, params: Any, lr: Number = 0.001, *, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-08, **options: Unpack[Options]) -> None: ...

class AdamW(Optimizer):
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.001, *, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-08, **options: Unpack[Options]) -> None: ...

class AMSGrad(Optimizer):
    """AMSGrad (Reddi, Kale & Kumar 2018, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.001, *, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-08, eps_root: Number | None = 0.0, bias_correction_mu: bool = True, bias_correction_nu: bool = True, **options: Unpack[Options]) -> None: ...

class AdaBelief(Optimizer):
    """AdaBelief (Zhuang et al. 2020, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.001, *, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-08, eps_root: Number | None = 1e-08, **options: Unpack[Options]) -> None: ...

class Yogi(Optimizer):
    """Yogi (Zaheer et al. 2018, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.01, *, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 0.001, **options: Unpack[Options]) -> None: ...

class Adamax(Optimizer):
    """Adamax (Kingma & Ba 2015, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.002, *, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-08, **options: Unpack[Options]) -> None: ...

class NAdam(Optimizer):
    """NAdam (Dozat 2016, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.002, *, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-08, momentum_decay: Number = 0.004, **options: Unpack[Options]) -> None: ...

class RAdam(Optimizer):
    """RAdam (Liu et al. 2020, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.001, *, beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-08, threshold: Number = 4.0, **options: Unpack[Options]) -> None: ...

class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.0001, *, beta1: Number = 0.9, beta2: Number = 0.99, **options: Unpack[Options]) -> None: ...

class ADOPT(Optimizer):
    """ADOPT (Taniguchi et al. 2024, algorithm 2)."""
    def __init__(self, params: Any, lr: Number = 0.001, *, beta1: Number = 0.9, beta2: Number = 0.9999, eps: Number = 1e-06, **options: Unpack[Options]) -> None: ...
