"""Training problems: the initial parameters, the loss of the next batch, and the metric.

A problem is a function of a seed, which draws the start and the order of the batches:

    def problem(seed):
        ...
        return params, loss              # or: params, loss, evaluate

`params` are NumPy arrays (one, or any nesting), updated in place, and `loss()` returns the loss of the next batch and
its gradient, nested alike. Or `params` is a torch module, or its parameters, and `loss()` returns the loss alone.
`evaluate()` returns further measures: a number, or a dict of several.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import numbers
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from adamite.frontend.settings import unknown
from adamite.lab import fault
from adamite.lab.where import NotFoundError, load, plain


class Run(NamedTuple):
    """One training, before its first step."""

    params: Any
    loss: Callable[[], Any]
    evaluate: Callable[[], Any] | None = None


class Plane(NamedTuple):
    """A loss of two parameters that can be drawn: the part of the plane to draw, and the minimum."""

    loss: Callable[[Any, Any], Any]  # a function of arrays of first and second parameters
    x: tuple[float, float]
    y: tuple[float, float]
    minimum: tuple[float, float]


@dataclass(frozen=True)
class Problem:
    """A function of a seed, and how its trainings are judged."""

    start: Callable[[int], Any]
    name: str = ""
    title: str = ""
    steps: int = 500
    metric: str = "loss"  # reported: the training loss of the last steps, or a measure of evaluate()
    higher: bool = False  # whether more of it is better
    tuned: str = ""  # the measure that chooses settings, lower is better; "" for the metric
    target: float | None = None  # of the metric
    source: str = ""  # where it comes from, in a few words
    plane: Plane | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # given to every rule that has them, unless they are tuned
    needs: Callable[[], Any] | None = None  # raises OSError or ValueError if data are missing, before any training
    where: str = field(default="", compare=False)  # as --problem takes it

    def __post_init__(self) -> None:
        words = dict.fromkeys(("name", "title", "metric", "tuned", "source"), str)
        kinds: dict[str, type] = {**words, "higher": bool, "options": Mapping}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"problem: {name} must be a {kind.__name__}, got {getattr(self, name)!r:.60}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"problem: steps must be a whole number, at least 1; got {self.steps!r:.60}")
        finite = isinstance(self.target, numbers.Real) and math.isfinite(self.target)
        if not finite and self.target is not None:
            raise ValueError(f"problem: target must be a finite number, or None; got {self.target!r:.60}")

    def begin(self, seed: int) -> Run:
        """Start a training, with the global random generators seeded too, since a problem may draw from them.

        Raises:
            Fault: the problem raises an error, or returns something invalid.
        """
        with fault.blamed_on(self.start):
            torch_was_imported = "torch" in sys.modules
            _seed(seed)
            returned = self.start(seed)
            if not torch_was_imported and "torch" in sys.modules:  # it may have drawn before torch was seeded
                _seed(seed)
                returned = self.start(seed)
        if not (isinstance(returned, tuple) and len(returned) in (2, 3) and _functions(*returned[1:])):
            raise fault.about(
                self.start,
                f"the problem {self.name} must return (params, loss) or (params, loss, evaluate), loss and evaluate "
                f"being functions without arguments; it returned {returned!r:.80}{fault.not_yield(returned)}",
            )
        run = Run(*returned)
        for name, function in (("loss", run.loss), ("evaluate", run.evaluate)):
            if function is not None and not _takes(function):
                raise fault.about(function, f"{name} is called without arguments, and this takes some")
        # A generator, as model.parameters() is, can be gone through once.
        return run._replace(params=list(run.params)) if isinstance(run.params, Iterator) else run

    def cost(self, value: float, measure: str = "") -> float:
        """A value of the metric, or of another measure, as a cost: lower is better, and NaN is the worst."""
        if value != value:
            return float("inf")
        return -value if self.higher and measure in ("", self.metric) else value

    @functools.cached_property
    def mark(self) -> str:
        """A hash of the problem's source, name, title and options."""
        try:
            text = Path(inspect.getfile(inspect.unwrap(self.start))).read_text(encoding="utf-8")
        except (OSError, TypeError):
            text = repr(self.start)
        described = self.name, self.title, sorted(self.options.items())  # one source may make several problems
        return hashlib.sha256(f"{described} {text}".encode()).hexdigest()[:16]


@overload
def problem(start: Callable[[int], Any], /) -> Problem: ...
@overload
def problem(**about: Any) -> Callable[[Callable[[int], Any]], Problem]: ...
def problem(start: Callable[[int], Any] | None = None, /, **about: Any) -> Any:
    """Declare a function of a seed as a problem, and how its trainings are judged: the fields of `Problem`."""
    options = [field.name for field in fields(Problem) if field.name not in ("start", "where")]
    for name in about:
        if name not in options:
            raise TypeError(unknown("problem", name, options))

    def made(start: Callable[[int], Any]) -> Problem:
        title = (inspect.getdoc(start) or "").partition("\n")[0].rstrip(".")
        return Problem(start, **{"name": getattr(start, "__name__", "problem"), "title": title, **about})

    return made if start is None else made(start)


def _seed(seed: int) -> None:
    """Seed the global generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the one that a problem may use
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _functions(loss: Any, evaluate: Any = None) -> bool:
    return callable(loss) and (evaluate is None or callable(evaluate))


def _takes(function: Callable[..., Any], *given: Any) -> bool:
    """Whether a function can be called with these arguments, as far as its signature is known."""
    try:
        inspect.signature(function).bind(*given)
    except TypeError:
        return False
    except ValueError:  # the signature is unknown
        pass
    return True


def find(where: str, builtin: Mapping[str, str]) -> Problem:
    """Find a problem by its name, or by its place: module:function, or path/to/file.py:function.

    Args:
        builtin: the places of problems by their names.

    Raises:
        NotFoundError: there is none, or its data are missing; the message says which.
    """
    named = look_up(where, builtin)
    if named.needs is not None:
        try:
            named.needs()
        except (OSError, ValueError) as error:
            raise NotFoundError(str(error)) from None
    return named


def look_up(where: str, builtin: Mapping[str, str]) -> Problem:
    """Like `find`, but doesn't check whether the data are there."""
    if where not in builtin and ":" not in where and not where.endswith(".py"):
        close = get_close_matches(where.lower(), builtin, n=1)
        others = f"there are {', '.join(builtin)}, and yours: module:function, or path/to/file.py:function"
        raise NotFoundError(f"there is no problem {where!r}; {f'did you mean {close[0]}?' if close else others}")
    loaded = load(builtin.get(where, where))
    if not isinstance(loaded, Problem) and not callable(loaded):
        raise NotFoundError(f"{where} is {loaded!r:.60}, not a function of a seed")
    made = loaded if isinstance(loaded, Problem) else problem(loaded)
    if not _takes(made.start, 0):
        name = where.rpartition(":")[2]
        raise NotFoundError(str(fault.about(made.start, f"a problem is called with a seed alone: def {name}(seed)")))
    return replace(made, where=where if where in builtin else plain(where))
