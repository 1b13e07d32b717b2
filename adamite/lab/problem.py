"""What is trained: a start, the loss of the next batch, and what counts as good.

A problem is a function of a seed, which draws the start and the order of the batches:

    def problem(seed):
        ...
        return params, loss              # or: params, loss, evaluate

`params` are NumPy arrays (one, or any nesting), updated in place, and `loss()` gives the loss of the next batch and its
gradient, nested as they are. Or `params` is a module of torch, or a list of its parameters, and `loss()` gives the loss
alone, as a tensor. `evaluate()` gives what is measured besides: a number, or several by name.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from adamite.lab.where import NotFoundError, load


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

    def begin(self, seed: int) -> Run:
        """A training's start."""
        made = self.start(seed)
        if not isinstance(made, tuple) or len(made) not in (2, 3) or not callable(made[1]):
            raise TypeError(
                f"the problem {self.name} must return (params, loss) or (params, loss, evaluate), loss and evaluate "
                f"being functions without arguments; it returned {made!r:.80}"
            )
        return Run(*made)

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


def problem(**about: Any) -> Callable[[Callable[[int], Any]], Problem]:
    """Say of a function of a seed how its trainings are judged: the fields of `Problem`."""

    def made(start: Callable[[int], Any]) -> Problem:
        title = (inspect.getdoc(start) or "").partition("\n")[0].rstrip(".")
        return Problem(start, **{"name": start.__name__, "title": title, **about})

    return made


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
        raise NotFoundError(
            f"there is no problem {where!r}; there are {', '.join(known)}, and yours: module:function, or "
            "path/to/file.py:function"
        )
    made = load(known.get(where, where))
    if not isinstance(made, Problem):
        if not callable(made):
            raise NotFoundError(f"{where} is {made!r:.60}, not a function of a seed")
        made = problem()(made)
    return replace(made, where=where)
