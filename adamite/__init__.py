"""adamite: the Adam you can read is the Adam you run."""

from typing import Any

from adamite.errors import NonFiniteError as NonFiniteError
from adamite.errors import RuleError as RuleError
from adamite.errors import StateDictError as StateDictError
from adamite.language.maths import abs as abs
from adamite.language.maths import maximum as maximum
from adamite.language.maths import minimum as minimum
from adamite.language.maths import sign as sign
from adamite.language.maths import sqrt as sqrt
from adamite.language.maths import where as where
from adamite.language.rule import Rule as Rule
from adamite.language.rule import Scalar as Scalar
from adamite.language.rule import Unsigned as Unsigned
from adamite.language.rule import rule as rule

__version__ = "0.1.0"

_HERE = [
    "NonFiniteError", "Rule", "RuleError", "Scalar", "StateDictError", "Unsigned",
    "abs", "maximum", "minimum", "rule", "sign", "sqrt", "where",
]  # fmt: skip
_MODULES = ["numpy", "schedules", "testing"]
_ELSEWHERE = {
    "Rows": "sparse.rows",
    "memory": "footprint",
    "minimize": "minimization",
    "set_threads": "engine.threads",
    "threads": "engine.threads",
}


def _names() -> list[str]:
    """All that this module exports: the optimizers of the NumPy front-end too."""
    from adamite.numpy import CLASSES

    return sorted([*_HERE, *_ELSEWHERE, *CLASSES, "Optimizer", "optimizer", "schedules"])


def __dir__() -> list[str]:
    return [*_names(), "__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    """What not every program needs is imported when it is asked for: those of torch or JAX have no NumPy arrays."""
    from importlib import import_module
    from importlib.util import find_spec

    if name in _MODULES:
        return import_module(f"adamite.{name}")
    if name != "__all__" and (name.startswith("_") or not name.isidentifier()):
        raise AttributeError(f"module 'adamite' has no attribute {name!r}")
    if name != "__all__" and find_spec(f"adamite.{name}"):
        raise AttributeError(f"adamite.{name} is a module that isn't imported yet; write `import adamite.{name}`")
    if name == "__all__":
        value: Any = _names()
    elif name in _ELSEWHERE or name in _names():
        value = getattr(import_module(f"adamite.{_ELSEWHERE.get(name, 'numpy')}"), name)
    else:
        from adamite.frontend.settings import unknown

        raise AttributeError(unknown("adamite", name, _names(), "attribute"))
    globals()[name] = value
    return value
