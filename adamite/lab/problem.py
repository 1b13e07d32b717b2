"""What is trained: a start, the loss of the next batch, and what counts as good.

A problem is a function of a seed, which draws the start and the order of the batches:

    def problem(seed):
        ...
        return params, loss              # or: params, loss, evaluate

`params` are NumPy arrays (one, or any nesting), updated in place, and `loss()` gives the loss of the next batch and its
gradient, nested as they are. Or `params` is a module of torch, or its parameters, and `loss()` gives the loss alone.
`evaluate()` gives what is measured besides: a number, or several by name.
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
    """A loss of two parameters that can be drawn: over a part of the plane, with its lowest place."""

    loss: Callable[[Any, Any], Any]  # of arrays of first and second parameters
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
    metric: str = "loss"  # what is reported: the training loss of the last steps, or what evaluate() calls so
    higher: bool = False  # whether more of it is better
    tuned: str = ""  # what settings are chosen by, of which less is better; the metric, if nothing is said
    target: float | None = None  # of the metric
    source: str = ""  # who it is from, in a few words
    plane: Plane | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # of every rule that has them, where they aren't tuned
    needs: Callable[[], Any] | None = None  # raises OSError or ValueError where data are missing, before any training
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
        """A training's start; the global generators that a problem may draw from begin with its seed.

        Raises:
            Fault: where the problem raises something, or returns something else than it should.
        """
        with fault.blamed_on(self.start):
            known = "torch" in sys.modules
            _seed(seed)
            made = self.start(seed)
            if not known and "torch" in sys.modules:  # it imported torch, and may have drawn from what wasn't seeded
                _seed(seed)
                made = self.start(seed)
        if not (isinstance(made, tuple) and len(made) in (2, 3) and _functions(*made[1:])):
            raise fault.about(
                self.start,
                f"the problem {self.name} must return (params, loss) or (params, loss, evaluate), loss and evaluate "
                f"being functions without arguments; it returned {made!r:.80}{fault.not_yield(made)}",
            )
        run = Run(*made)
        for name, function in (("loss", run.loss), ("evaluate", run.evaluate)):
            if function is not None and not _takes(function):
                raise fault.about(function, f"{name} is called without arguments, and this takes some")
        # A generator, as model.parameters() is, can be gone through once.
        return run._replace(params=list(run.params)) if isinstance(run.params, Iterator) else run

    def cost(self, value: float, measure: str = "") -> float:
        """A value of the metric, or of another measure, as something that should be low; NaN is the worst."""
        if value != value:
            return float("inf")
        return -value if self.higher and measure in ("", self.metric) else value

    @functools.cached_property
    def mark(self) -> str:
        """What changes where the problem's text does, or what is said of it."""
        try:
            text = Path(inspect.getfile(inspect.unwrap(self.start))).read_text(encoding="utf-8")
        except (OSError, TypeError):
            text = repr(self.start)
        said = self.name, self.title, sorted(self.options.items())  # a function that makes problems is one text
        return hashlib.sha256(f"{said} {text}".encode()).hexdigest()[:16]


@overload
def problem(start: Callable[[int], Any], /) -> Problem: ...
@overload
def problem(**about: Any) -> Callable[[Callable[[int], Any]], Problem]: ...
def problem(start: Callable[[int], Any] | None = None, /, **about: Any) -> Any:
    """Say of a function of a seed how its trainings are judged: the fields of `Problem`."""
    known = [field.name for field in fields(Problem) if field.name not in ("start", "where")]
    for name in about:
        if name not in known:
            raise TypeError(unknown("problem", name, known))

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
    """Whether a function can be called so, as far as it says."""
    try:
        inspect.signature(function).bind(*given)
    except TypeError:
        return False
    except ValueError:  # it doesn't say
        pass
    return True


def find(where: str, known: Mapping[str, str]) -> Problem:
    """A problem by its name, or by where it is: module:function, or path/to/file.py:function.

    Raises:
        NotFoundError: that says what is wrong, or which data are missing.
    """
    found = look_up(where, known)
    if found.needs is not None:
        try:
            found.needs()
        except (OSError, ValueError) as error:
            raise NotFoundError(str(error)) from None
    return found


def look_up(where: str, known: Mapping[str, str]) -> Problem:
    """The problem that `find` finds, whether or not its data are there."""
    if where not in known and ":" not in where and not where.endswith(".py"):
        close = get_close_matches(where.lower(), known, n=1)
        others = f"there are {', '.join(known)}, and yours: module:function, or path/to/file.py:function"
        raise NotFoundError(f"there is no problem {where!r}; {f'did you mean {close[0]}?' if close else others}")
    found = load(known.get(where, where))
    if not isinstance(found, Problem) and not callable(found):
        raise NotFoundError(f"{where} is {found!r:.60}, not a function of a seed")
    made = found if isinstance(found, Problem) else problem(found)
    if not _takes(made.start, 0):
        name = where.rpartition(":")[2]
        raise NotFoundError(str(fault.about(made.start, f"a problem is called with a seed alone: def {name}(seed)")))
    return replace(made, where=where if where in known else plain(where))
