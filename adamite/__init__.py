"""adamite: the Adam you can read is the Adam you run."""

from typing import TYPE_CHECKING, Any

from adamite.engine import set_threads, threads
from adamite.errors import NonFiniteError, RuleError, StateDictError
from adamite.maths import abs, maximum, minimum, sign, sqrt, where
from adamite.numpy import (
    ADOPT,
    SGD,
    AdaBelief,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    AMSGrad,
    Lion,
    Momentum,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    optimizer,
)
from adamite.rows import Rows
from adamite.rule import Rule, Scalar, Unsigned, rule

if TYPE_CHECKING:
    from adamite import schedules
    from adamite.footprint import memory
    from adamite.minimization import minimize

__version__ = "0.1.0"

__all__ = [
    "ADOPT",
    "SGD",
    "AMSGrad",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Momentum",
    "NAdam",
    "NonFiniteError",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rows",
    "Rule",
    "RuleError",
    "Scalar",
    "StateDictError",
    "Unsigned",
    "abs",
    "maximum",
    "memory",
    "minimize",
    "minimum",
    "optimizer",
    "rule",
    "schedules",
    "set_threads",
    "sign",
    "sqrt",
    "threads",
    "where",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__", "testing"]


def __getattr__(name: str) -> Any:
    """What not every program needs is imported when it is asked for."""
    from importlib import import_module

    if name in ("schedules", "testing"):
        return import_module(f"adamite.{name}")
    if name == "minimize":
        return import_module("adamite.minimization").minimize
    if name == "memory":
        return import_module("adamite.footprint").memory
    from adamite.settings import unknown

    raise AttributeError(unknown("adamite", name, __all__, "attribute"))
