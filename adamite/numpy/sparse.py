"""Arrays whose gradients are of rows: a batch that steps on those rows alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from adamite.engine import kernels
from adamite.engine.batch import Found
from adamite.engine.coefficients import CoefficientTable
from adamite.engine.memory import address
from adamite.graph.lowering import lower
from adamite.language.update import Update
from adamite.numpy.batch import Batch, Guard, History
from adamite.numpy.hyperparameters import Hyperparameters
from adamite.numpy.slots import Slot
from adamite.sparse.rows import Indices, Rows, Sparse, checked, merged
from adamite.sparse.tables import Behind, Gradient, Memory, Steps, Touched, rows_mode
from adamite.storage import Layout


class RowsBatch(Batch):
    """Parameters that one native call updates, each in some of its rows."""

    by_rows = True

    def __init__(
        self,
        update: Update,
        layout: Layout,
        slots: list[Slot],
        hyper: Hyperparameters,
        table: CoefficientTable,
        sparse: Sparse,
    ) -> None:
        super().__init__(update, layout, slots, hyper, table)
        self.steps = Steps(update, layout, kernels.default_backend())
        self.sparse = sparse
        self.rows: list[Gradient | None] = []  # of each parameter's gradient
        self.behind: list[Behind | None] = [None] * len(slots)
        self._xs: list[int] = []  # where the parameters lay
        for slot in slots:
            refuse_scattered(slot)

    def start(self, history: Mapping[str, History]) -> None:
        super().start(history)
        if self.sparse == "exact":
            self.behind = [
                Behind(self.update, self.layout.x, len(slot.x), fresh=history[slot.name][0] == 0) for slot in self.slots
            ]

    def look(self, gradients: list[Any], guard: Guard) -> Found:
        self.gradients = gradients
        rows: list[Gradient | None] = []
        places = []
        for slot in self.slots:
            places.append(where(slot))
            g = gradients[slot.index]
            rows.append(None if g is None else admitted(slot, g))
        ranges = guard(places != self._xs)
        self._xs = places
        for row, g in enumerate(rows):
            if g is not None and ranges.clash(g.values) is not None:
                rows[row] = g._replace(values=g.values.copy())  # which the step would write
        self.rows, self.found = rows, Found([row for row, g in enumerate(rows) if g is None])
        return self.found

    def square(self, before: float, scale: float = 1.0) -> float:
        return self.steps.square(self.rows, before, scale)

    def nonfinite(self) -> Iterator[str]:
        return (self.slots[row].name for row in self.steps.nonfinite(self.rows))

    def prepare(self) -> None:
        super().prepare()
        tables = zip(self.slots, self.rows, self.behind, self.of, strict=True)
        self.steps.prepare([Touched(memory(s), g, c.address, behind) for s, g, behind, c in tables if g is not None])

    def go(self) -> None:
        self.steps.go()

    def flush(self, rows: Mapping[str, Indices] | None = None) -> None:
        """Catch up the rows that are behind, all or those of some parameters."""
        for slot, behind in zip(self.slots, self.behind, strict=True):
            if behind is None or (rows is not None and slot.name not in rows):
                continue
            where(slot)
            self.steps.late.flush(memory(slot), behind, None if rows is None else rows[slot.name])

    def pending(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for slot, behind in zip(self.slots, self.behind, strict=True):
            if behind is not None:
                yield slot.name, behind.pending()

    def resume(self, pending: Mapping[str, Mapping[str, Any]]) -> None:
        for slot, behind in zip(self.slots, self.behind, strict=True):
            if behind is not None and slot.name in pending:
                behind.resume(pending[slot.name])


def refuse_scattered(slot: Slot) -> None:
    """Raise if the rows of a table aren't stretches of memory."""
    for array in (slot.x, *slot.states.values()):
        if array.ndim == 0:
            raise ValueError(f"parameter {slot.name!r} is a number, which has no rows; give its gradient as an array")
        if (array.size and not array[0:1].flags.c_contiguous) or not array.flags.aligned:
            raise ValueError(
                f"parameter {slot.name!r} of strides {slot.x.strides} has rows that aren't contiguous, and a step on "
                "some rows works where they lie; make the table with np.ascontiguousarray"
            )


def mode_of(slot: Slot, update: Update, sparse: Sparse | None) -> Sparse | None:
    """What is done with a gradient of some of a parameter's rows; None where it is refused."""
    mode = rows_mode(sparse, lower(update))
    return None if slot.layout.blocks else mode  # rows have no blocks of their own


def numbers_of_rows(slots: Sequence[Slot], rows: Any) -> dict[str, Indices]:
    """The rows that `flush` is asked for, each once, by their parameters' names."""
    by_name = {slot.name: slot for slot in slots}
    if not isinstance(rows, Mapping) or not rows.keys() <= by_name.keys():
        raise ValueError(
            f"flush takes {{a parameter's name: the rows' indices}}, of {', '.join([*by_name][:6])}; got {rows!r:.60}"
        )
    for name in rows:
        refuse_scattered(by_name[name])
    indices = {name: checked(given, len(by_name[name].x), f" of {name!r}") for name, given in rows.items()}
    return {name: np.unique(numbers) for name, numbers in indices.items()}


def where(slot: Slot) -> int:
    """Where a parameter lies now, if it is what it was."""
    x = slot.x
    if x.shape != slot.shape or x.dtype != slot.dtype or x.strides != slot.strides:
        slot.refuse_change()
    return slot.place()


def memory(slot: Slot) -> Memory:
    """Where the rows lie."""
    arrays = [slot.x, *slot.states.values()]
    width = slot.size // len(slot.x) if slot.size else 0
    return Memory([address(a) for a in arrays], [a.strides[0] for a in arrays], width)


def admitted(slot: Slot, g: Rows) -> Gradient:
    """A gradient of this table's rows, each row once; or refused."""
    indices = checked(g.indices, len(slot.x), f" of {slot.name!r}")
    if g.values.dtype != slot.dtype:
        raise TypeError(
            f"the gradient of {slot.name!r} must be {slot.dtype}, as its parameter is, got values of {g.values.dtype}; "
            f"convert them with .astype(np.{slot.dtype})"
        )
    if g.values.shape != (len(indices), *slot.shape[1:]):
        raise ValueError(
            f"the gradient of {slot.name!r} must have values of shape {(len(indices), *slot.shape[1:])}, a row of the "
            f"parameter for each index, got {g.values.shape}"
        )
    return Gradient(*merged(indices, g.values.view(np.ndarray)))
