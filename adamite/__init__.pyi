# Written by scripts/generate.py from the catalogue; don't edit it, run `make generate`.

from adamite import numpy as numpy
from adamite import schedules as schedules
from adamite import testing as testing
from adamite.engine.threads import set_threads as set_threads
from adamite.engine.threads import threads as threads
from adamite.errors import NonFiniteError as NonFiniteError
from adamite.errors import RuleError as RuleError
from adamite.errors import StateDictError as StateDictError
from adamite.footprint import memory as memory
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
from adamite.minimization import minimize as minimize
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
    Yogi,
    optimizer,
)
from adamite.sparse.rows import Rows as Rows

__version__: str
__all__ = ['ADOPT', 'SGD', 'AMSGrad', 'AdaBelief', 'Adadelta', 'Adagrad', 'Adam', 'AdamW', 'Adamax', 'Lion', 'Momentum', 'NAdam', 'NonFiniteError', 'Optimizer', 'RAdam', 'RMSprop', 'Rows', 'Rule', 'RuleError', 'Scalar', 'StateDictError', 'Unsigned', 'Yogi', 'abs', 'maximum', 'memory', 'minimize', 'minimum', 'optimizer', 'rule', 'schedules', 'set_threads', 'sign', 'sqrt', 'threads', 'where']
