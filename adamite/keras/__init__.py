"""Optimizers for Keras 3: Keras's names, arguments, defaults and numbers, on TensorFlow, JAX and torch.

The classes are made from the catalogue; `__init__.pyi`, which `make generate` writes, has their signatures.
"""

from adamite.keras.base import Optimizer
from adamite.keras.classes import CLASSES, OPTIMIZERS, optimizer
from adamite.keras.schedules import Schedule
from adamite.keras.settings import Extras, Options

__all__ = [*CLASSES, "OPTIMIZERS", "Extras", "Optimizer", "Options", "Schedule", "optimizer"]
globals().update(CLASSES)
