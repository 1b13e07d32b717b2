"""Parameters that are updated together: their life in a step, and their cohorts.

A step looks at all batches, takes norms if they are needed, prepares all, and only then lets them go: what can be
refused is refused before anything has changed. The front-ends make batches of their tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from adamite.engine.coefficients import CoefficientTable, Cohort, Key, size
from adamite.graph.lowering import lower
from adamite.language.update import Update
from adamite.storage import Layout


class Found(NamedTuple):
    """What a look at the rows of a batch found."""

    missing: Sequence[int] = ()  # rows without a gradient
    strided: Sequence[int] = ()  # rows whose tensors lie differently or with gaps: they go through buffers


ALL = Found()  # every row has a gradient, and lies as it should


class Batch:
    """Rows of one update and layout. `look`, `square`, `prepare`, `go` and `finish` make a step."""

    def __init__(self, update: Update, layout: Layout, rows: int, table: CoefficientTable) -> None:
        self.update, self.layout, self.graph = update, layout, lower(update)
        self.found = ALL
        self.cohorts: list[Cohort] = []
        self.active: list[Cohort] = []  # the cohorts that have gradients
        self.of: list[Cohort] = []  # the cohort of each row
        self._table, self._offsets = table, list[int]()  # in the table, of cohorts
        table.reserve(rows * size(self.graph, layout))

    # ---- cohorts

    def numbers(self, group: Any) -> Callable[[str], Any]:
        """The numbers that a group has now, by their names."""
        raise NotImplementedError

    def scheduled(self, cohort: Cohort) -> bool:
        """Whether its group has other numbers at every step, without being told."""
        return False

    def divide(self, keys: Sequence[Key]) -> None:
        """Make the cohorts of rows with these keys."""
        members: dict[Key, list[int]] = {}
        for row, key in enumerate(keys):
            members.setdefault(key, []).append(row)
        self.cohorts = []
        cohorts = {key: self._add(key, rows) for key, rows in members.items()}
        self.of = [cohorts[key] for key in keys]
        self.point()

    def _add(self, key: Key, rows: Sequence[int]) -> Cohort:
        if len(self.cohorts) == len(self._offsets):
            self._offsets.append(self._table.take(size(self.graph, self.layout)))
        offset = self._offsets[len(self.cohorts)]
        cohort = Cohort(self.graph, self.layout, self._table, offset, key, rows)
        self._read(cohort)
        self.cohorts.append(cohort)
        return cohort

    def _read(self, cohort: Cohort) -> None:
        cohort.read(self.numbers(cohort.group))
        cohort.scheduled = self.scheduled(cohort)

    def _part(self, missing: Collection[int]) -> None:
        """Rows without a gradient stay behind: they part from the others of their cohort."""
        count = len(self.cohorts)
        for cohort in self.cohorts[:count]:
            behind = [row for row in cohort.rows if row in missing]
            if behind and len(behind) < len(cohort.rows):
                cohort.rows = [row for row in cohort.rows if row not in missing]
                other = self._add((cohort.group, cohort.t, cohort.scalars), behind)
                for row in behind:
                    self.of[row] = other
        if len(self.cohorts) > count:
            self.point()

    def point(self) -> None:
        """Rows belong to other cohorts than before: let them read the coefficients of those."""

    def read(self) -> None:
        """Groups have other numbers than before."""
        for cohort in self.cohorts:
            self._read(cohort)

    def prepare(self) -> None:
        """Evaluate the coefficients of the next update, for the rows that have a gradient."""
        self.active = self.cohorts
        if self.found.missing:
            missing = set(self.found.missing)
            self._part(missing)
            self.active = [cohort for cohort in self.cohorts if cohort.rows[0] not in missing]
        for cohort in self.active:
            if cohort.scheduled:
                cohort.read(self.numbers(cohort.group))
            cohort.prepare()

    def clip(self, factor: float) -> None:
        """Multiply the gradients by this in the update that is prepared."""
        for cohort in self.active:
            cohort.clip(factor)

    # ---- the rest of a step, by the kinds of batches

    def square(self, before: float, scale: float) -> float:
        """The sum of the gradients' squares, tensor after tensor, after what came before."""
        raise NotImplementedError

    def nonfinite(self) -> Iterator[str]:
        """The parameters whose gradients hold NaN or infinity, after `square`."""
        raise NotImplementedError

    def go(self) -> None:
        """Update. May be interrupted and called again: nothing is done twice."""
        raise NotImplementedError

    def finish(self) -> None:
        """Count the step; harmless when repeated."""
        for cohort in self.active:
            cohort.count()
