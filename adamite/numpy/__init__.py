"""The NumPy front-end: arrays in any nesting, updated in place.

The classes are made from the catalogue; `__init__.pyi`, which `make generate` writes, has their signatures.
"""

from adamite.numpy.base import Optimizer
from adamite.numpy.classes import CLASSES, OPTIMIZERS, optimizer
from adamite.numpy.hyperparameters import Group

__all__ = [*CLASSES, "OPTIMIZERS", "Group", "Optimizer", "optimizer"]
globals().update(CLASSES)
