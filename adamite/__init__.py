"""adamite: the Adam you can read is the Adam you run."""

from typing import TYPE_CHECKING, Any

from adamite.errors import NonFiniteError, RuleError, StateDictError
from adamite.language.maths import abs, maximum, minimum, sign, sqrt, where
from adamite.language.rule import Rule, Scalar, Unsigned, rule

if TYPE_CHECKING:
    from adamite import schedules
    from adamite.engine.threads import set_threads, threads
    from adamite.footprint import memory
    from adamite.minimization import minimize
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
    from adamite.sparse.rows import Rows

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


_MODULES = ("numpy", "schedules", "testing")
_ELSEWHERE = {
    "Rows": "sparse.rows",
    "memory": "footprint",
    "minimize": "minimization",
    "set_threads": "engine.threads",
    "threads": "engine.threads",
}


def __dir__() -> list[str]:
    return [*__all__, "__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    """What not every program needs is imported when it is asked for: those of torch or JAX have no NumPy arrays."""
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"adamite.{name}")
    if name not in __all__:
        from adamite.frontend.settings import unknown

        raise AttributeError(unknown("adamite", name, __all__, "attribute"))
    value = globals()[name] = getattr(import_module(f"adamite.{_ELSEWHERE.get(name, 'numpy')}"), name)
    return value
