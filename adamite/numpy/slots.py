"""One parameter with its states, and the checks of its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from adamite.engine.memory import Array, Ranges, address, dense, overlaps_itself
from adamite.frontend.settings import Settings
from adamite.numpy.tree import Tree
from adamite.sparse.rows import Rows
from adamite.storage import FORMATS, EightBit, Format, Layout


class RowsGiven(Exception):
    """A parameter's gradient is of rows, and its last one was dense."""


def _elsewhere(x: Any) -> str:
    """What to do with a parameter that isn't NumPy's."""
    if type(x).__module__.partition(".")[0] == "torch":
        return "torch's parameters are for the classes in adamite.torch"
    if hasattr(x, "__next__"):
        return "Give a list or a dict; model.parameters() of torch is for the classes in adamite.torch"
    return "Write np.array(...) around it"


class Slot:
    """One parameter with its states."""

    def __init__(self, index: int, name: str, x: Any) -> None:
        if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray):
            raise TypeError(
                f"parameter {name!r} must be a NumPy array, which can be updated in place; got "
                f"{type(x).__name__}. {_elsewhere(x)}"
            )
        if x.dtype not in FORMATS:
            raise TypeError(
                f"parameter {name!r} must be float32 or float64, got {x.dtype}; convert it with .astype(np.float32)"
            )
        if not x.flags.writeable:
            raise ValueError(f"parameter {name!r} is read-only, and a step works in place; give a copy")
        if overlaps_itself(x):
            raise ValueError(f"parameter {name!r} holds elements that share memory (a broadcast?); give a copy")
        self.index, self.name, self.x = index, name, x
        self.format: Format = FORMATS[x.dtype]
        self.dtype, self.shape, self.size, self.nbytes = self.format.dtype, x.shape, x.size, x.nbytes
        self.strides = x.strides
        self.boxed = np.zeros((), self.dtype)
        self.states: dict[str, Array] = {}
        self.layout: Layout
        self.stream = 0  # where its random bits begin
        self.settings: Settings
        self.absent: frozenset[str]
        self.by_rows = False  # whether its last gradient was of rows

    def box(self, gradients: list[Any]) -> None:
        """NumPy makes numbers of 0-d arrays: put such a gradient into an array."""
        g = gradients[self.index]
        if type(g) is self.dtype.type or type(g) is float:
            self.boxed[()] = g
            gradients[self.index] = self.boxed

    def dense_strides(self) -> tuple[int, ...] | None:
        """The strides of the parameter, where it and its states lie alike and without gaps."""
        self.strides = strides = self.x.strides
        plain = dense(self.x) and all(self._alike(name, a) for name, a in self.states.items())
        return strides if plain else None

    def _alike(self, name: str, state: Array) -> bool:
        """Whether a state's elements lie in the parameter's order. 8-bit ones are a list, in the order of indices."""
        if isinstance(self.layout.of(name), EightBit):
            return self.x.flags.c_contiguous
        return state.flags.aligned and all(
            theirs * self.x.itemsize == ours * state.itemsize
            for theirs, ours in zip(state.strides, self.x.strides, strict=True)
        )

    def refuse_change(self) -> NoReturn:
        raise ValueError(
            f"parameter {self.name!r} was {self.dtype} of shape {self.shape} and strides {self.strides} when the "
            f"optimizer was made, and is {self.x.dtype} of {self.x.shape} and {self.x.strides} now; make a new one"
        )

    def refuse_rows(self) -> NoReturn:
        raise TypeError(
            f"the gradient of {self.name!r} is sparse (adamite.Rows); say what becomes of the other rows when you make "
            'the optimizer: sparse="lazy" (they stay as they are) or sparse="exact" (they end up where dense gradients '
            "would have taken them)"
        )

    def place(self) -> int:
        """Where a parameter lies that isn't plainly contiguous."""
        if not self.x.flags.writeable:
            raise ValueError(
                f"parameter {self.name!r} has become read-only, and a step works in place; set flags.writeable = True"
            )
        return address(self.x)

    def admit(self, g: Any) -> Array | None:
        """A gradient that isn't simply an array of this shape and type: converted, or refused."""
        if g is None:
            return None
        if isinstance(g, Rows):
            raise RowsGiven
        if isinstance(g, np.generic):
            g = np.asarray(g)
        if not isinstance(g, np.ndarray) or isinstance(g, np.ma.MaskedArray):
            raise TypeError(
                f"the gradient of {self.name!r} must be a NumPy array, got {type(g).__name__}; np.asarray makes one"
            )
        if g.shape != self.shape:
            raise ValueError(
                f"the gradient of {self.name!r} must have the parameter's shape {self.shape}, got {g.shape}"
            )
        if g.dtype != self.dtype:
            raise TypeError(
                f"the gradient of {self.name!r} must be {self.dtype}, as its parameter is, got {g.dtype}; "
                f"convert it with .astype(np.{self.dtype})"
            )
        return g.view(np.ndarray)


def slots_of(owner: str, tree: Tree, params: Any) -> list[Slot]:
    """The parameters of a nesting, which share no memory."""
    slots = [Slot(index, name, x) for index, (name, x) in enumerate(zip(tree.names, tree.leaves, strict=True))]
    if not slots:
        raise ValueError(f"{owner}: there are no parameters in {params!r:.60}")
    conflict = Ranges([(f"parameter {s.name!r}", s.x) for s in slots]).conflict()
    if conflict:
        raise ValueError(
            f"{conflict[0]} and {conflict[1]} share memory, so one step would move it twice; give one of them"
        )
    return slots


def written(slots: Sequence[Slot]) -> Ranges:
    """The memory that a step writes."""
    states = [(f"state {name} of {s.name!r}", array) for s in slots for name, array in s.states.items()]
    return Ranges([(f"parameter {s.name!r}", s.x) for s in slots] + states)
