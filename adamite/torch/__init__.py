"""Optimizers for PyTorch: torch's names, arguments, defaults and numbers, in one native call a step.

The classes are made from the catalogue; `__init__.pyi`, which `make generate` writes, has their signatures.
"""

from adamite.torch import threads
from adamite.torch.base import Optimizer
from adamite.torch.classes import CLASSES, OPTIMIZERS, optimizer
from adamite.torch.groups import param_groups
from adamite.torch.options import Extras
from adamite.torch.step_in_backward import StepInBackward

__all__ = [*CLASSES, "OPTIMIZERS", "Extras", "Optimizer", "StepInBackward", "optimizer", "param_groups"]
globals().update(CLASSES)
threads.employ()
