# Written by scripts/generate.py from the catalogue; don't edit it, run `make generate`.

from typing import Any

from typing_extensions import Unpack

from adamite.keras.base import Optimizer
from adamite.keras.classes import OPTIMIZERS, optimizer
from adamite.keras.schedules import Schedule
from adamite.keras.settings import Extras, Options

__all__ = ['ADOPT', 'OPTIMIZERS', 'SGD', 'AdaBelief', 'Adadelta', 'Adagrad', 'Adam', 'AdamW', 'Adamax', 'Extras', 'Lion', 'Nadam', 'Optimizer', 'Options', 'RAdam', 'RMSprop', 'Schedule', 'Yogi', 'optimizer']

class SGD(Optimizer):
    """Gradient descent, plain or with momentum."""
    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, weight_decay: float | None = None, **options: Unpack[Extras]) -> None: ...

class RMSprop(Optimizer):
    """RMSprop (Hinton 2012, lecture 6e; Graves 2013, eq. 38-41)."""
    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-07, centered: bool = False, weight_decay: float | None = None, **options: Unpack[Extras]) -> None: ...

class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011)."""
    def __init__(self, learning_rate: Any = 0.001, initial_accumulator_value: float = 0.1, epsilon: float = 1e-07, weight_decay: float | None = None, **options: Unpack[Extras]) -> None: ...

class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012, algorithm 1)."""
    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float = 1e-07, weight_decay: float | None = None, **options: Unpack[Extras]) -> None: ...

class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1)."""
    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-07, amsgrad: bool = False, weight_decay: float | None = None, **options: Unpack[Extras]) -> None: ...

class AdamW(Adam):
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""
    def __init__(self, learning_rate: Any = 0.001, weight_decay: float = 0.004, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-07, amsgrad: bool = False, **options: Unpack[Extras]) -> None: ...

class AdaBelief(Optimizer):
    """AdaBelief (Zhuang et al. 2020, algorithm 2)."""
    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-16, weight_decay: float | None = None, *, epsilon_root: float | None = None, **options: Unpack[Extras]) -> None: ...

class Yogi(Optimizer):
    """Yogi (Zaheer et al. 2018, algorithm 2)."""
    def __init__(self, learning_rate: Any = 0.01, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 0.001, weight_decay: float | None = None, **options: Unpack[Extras]) -> None: ...

class Adamax(Optimizer):
    """Adamax (Kingma & Ba 2015, algorithm 2)."""
    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-07, weight_decay: float | None = None, **options: Unpack[Extras]) -> None: ...

class Nadam(Optimizer):
    """NAdam (Dozat 2016, algorithm 2)."""
    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-07, weight_decay: float | None = None, **options: Unpack[Extras]) -> None: ...

class RAdam(Optimizer):
    """RAdam (Liu et al. 2020, algorithm 2)."""
    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-08, weight_decay: float | None = None, **options: Unpack[Extras]) -> None: ...

class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2)."""
    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, weight_decay: float | None = None, **options: Unpack[Extras]) -> None: ...

class ADOPT(Optimizer):
    """ADOPT (Taniguchi et al. 2024, algorithm 2)."""
    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.9999, epsilon: float = 1e-06, weight_decay: float | None = None, **options: Unpack[Extras]) -> None: ...
