"""Steps on some rows of tables: the rows of a job are rows of tables, where they lie.

Under "exact" the rows that a step leaves alone are behind: they have missed steps with a gradient of zero, which they
are given when they are next touched or read. `Behind` knows which steps; the kernel of `Backend.catch_up` does them.
Rows that somebody has assigned to meanwhile stay as they are: what was missed was owed to the values before.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adamite.backends import jobs
from adamite.backends.backend import BackendName
from adamite.codegen.job import COEFFICIENTS, HEADER, LENGTH, ROWS, TOTAL, G, Job, X
from adamite.engine import kernels, norms, running, threads
from adamite.engine.memory import address
from adamite.graph.idle import Unpredictable, idle, still
from adamite.graph.lowering import lower
from adamite.graph.nodes import Graph
from adamite.language.update import Update
from adamite.sparse.rows import Array, Indices, Sparse
from adamite.storage import Format, Layout

Table = np.ndarray[Any, np.dtype[np.int64]]
Words = np.ndarray[Any, np.dtype[np.uint64]]

LONGEST = 1 << 16  # steps that a row may be behind, before all rows are caught up: what they missed is kept
_FLUSHED = 1 << 16  # rows that are caught up at a time


def rows_mode(sparse: Sparse | None, graph: Graph) -> Sparse | None:
    """What is done with gradients of rows: as somebody asked, or a step on those alone where it is the dense one."""
    return sparse or ("lazy" if still(graph) else None)


def refuse_inexact(owner: str, graph: Graph) -> None:
    """Raise if rows that were left alone can't be caught up."""
    try:
        idle(graph)
    except Unpredictable as error:
        raise ValueError(
            f'{owner}: sparse="exact" needs a rule whose steps die away where the gradient is zero, and whose states '
            f'are only multiplied by numbers there; with these settings {error}. Take sparse="lazy"'
        ) from None


class Memory(NamedTuple):
    """Where a table lies: its parameter, then its states."""

    places: Sequence[int]  # of the first rows
    strides: Sequence[int]  # bytes from a row to the next
    width: int  # elements of a row


class Gradient(NamedTuple):
    """A gradient of some of a table's rows."""

    indices: Indices  # each once
    values: Array  # a row for each, one behind the other, as they are stored
    owner: Any = None  # whose memory that is


class Touched(NamedTuple):
    """A table with a gradient of some of its rows."""

    memory: Memory
    gradient: Gradient
    coefficients: int  # where those of the step lie
    behind: Behind | None = None

    @property
    def indices(self) -> Indices:
        return self.gradient.indices


class RowsJob(Job):
    """A job with another number of rows at every step."""

    def __init__(self, columns: int) -> None:
        super().__init__(0, columns)
        self.columns, self.room = columns, 0

    def resize(self, rows: int) -> Table:
        """Make it of so many rows; its table, a row a column, is returned."""
        if rows > self.room:
            self.room = 2 * rows
            self.cells = (ctypes.c_int64 * (HEADER + self.room * self.columns))()
            self.address = ctypes.addressof(self.cells)
        self.rows = self.cells[ROWS] = rows
        self.rewind()
        cells: Any = self.cells
        table: Table = np.frombuffer(cells, np.int64)[HEADER : HEADER + rows * self.columns].reshape(self.columns, rows)
        return table

    def count(self, elements: int) -> None:
        """Its rows have so many elements in total."""
        self.total = self.cells[TOTAL] = elements


class Steps:
    """The steps of a batch on the rows that have gradients."""

    def __init__(self, update: Update, layout: Layout, backend: BackendName) -> None:
        self.layout, self.backend = layout, backend
        self.kernel = kernels.step_kernel(update, layout, backend)
        self.job = RowsJob(2 + len(lower(update).inputs))
        self.late = CatchUp(update, layout.x, backend)
        self.touched: Sequence[Touched] = ()

    def square(self, gradients: Sequence[Gradient | None], before: float, scale: float) -> float:
        """The sum of the gradients' squares, table after table, after what came before."""
        values = [g.values for g in gradients if g is not None]
        squares = norms.Squares(self.layout.g, [v.size for v in values], self.backend)
        squares.run(list(map(address, values)), scale)
        return squares.total(before)

    def nonfinite(self, gradients: Sequence[Gradient | None]) -> list[int]:
        """The tables whose gradients hold NaN or infinity."""
        numbers = [None if g is None else self.layout.g.widen(g.values) for g in gradients]
        return [table for table, values in enumerate(numbers) if values is not None and not np.isfinite(values).all()]

    def prepare(self, touched: Sequence[Touched]) -> None:
        """Fill the job. Of the parameters nothing is changed, unless they are `LONGEST` behind."""
        self.touched = [t for t in touched if len(t.indices)]
        for t in touched:
            if t.behind is not None:
                if t.behind.count == LONGEST:
                    self.late.flush(t.memory, t.behind)
                    t.behind.restart()
                t.behind.note(t.memory, t.coefficients)
        self.counts = [(t, t.behind.count + 1) for t in touched if t.behind is not None]
        self.late.prepare([(t.memory, t.behind, t.indices) for t in self.touched if t.behind is not None])
        table = self.job.resize(sum(len(t.indices) for t in self.touched))
        start = 0
        for t in self.touched:
            part = table[:, start : start + len(t.indices)]
            part[LENGTH], part[COEFFICIENTS] = t.memory.width, t.coefficients
            row = t.memory.width * self.layout.g.itemsize
            part[G] = address(t.gradient.values) + row * np.arange(len(t.indices))
            _point(part, (X, *range(G + 1, len(part))), t.memory, t.indices)
            start += len(t.indices)
        self.job.count(int(table[LENGTH].sum()))
        running.ready(self.kernel, self.job)

    def go(self) -> None:
        """Catch up and update. May be interrupted and called again: nothing is done twice."""
        self.late.go()
        running.run(self.kernel, self.job)
        for t, count in self.counts:
            t.behind.touch(t.indices, count)  # type: ignore[union-attr]


def _point(part: Any, columns: Sequence[int], memory: Memory, indices: Indices) -> None:
    """Write where rows of the parameter and the states lie."""
    for column, place, stride in zip(columns, memory.places, memory.strides, strict=True):
        np.multiply(indices, stride, out=part[column])
        part[column] += place


# ---- exact


class Fingerprints:
    """A word for each row, which says what it holds."""

    def __init__(self, format: Format, backend: BackendName) -> None:
        self.format, self.kernel = format, kernels.fingerprint_kernel(format, backend)
        self.job = RowsJob(jobs.FINGERPRINT_COLUMNS)

    def of(self, memory: Memory, indices: Indices) -> Words:
        """Of some rows of a parameter."""
        words = np.zeros(len(indices), np.uint64)
        table = self.job.resize(len(indices))
        count = memory.width * self.format.itemsize // jobs.word_size(self.format)
        table[LENGTH], table[jobs.WORDS] = 1, count
        parameter = Memory(memory.places[:1], memory.strides[:1], memory.width)
        _point(table, (jobs.PLACE,), parameter, indices)
        table[jobs.RESULT] = np.arange(len(indices)) * words.itemsize + words.ctypes.data
        self.job.count(len(indices))
        running.run(self.kernel._replace(unit=max(1, count)), self.job)
        return words


class Behind:
    """Which steps the rows of one table have missed."""

    def __init__(self, update: Update, format: Format, rows: int, fresh: bool) -> None:
        graph = lower(update)
        self.idle, self.compute = idle(graph), format.compute
        self.fingerprints = Fingerprints(format, kernels.default_backend())
        self.seen = np.zeros(rows, np.uint64)  # fingerprints of the rows that are behind
        self.level: list[Indices] = [np.arange(rows)]  # rows that have missed nothing so far
        starts = {state.name: state.start for state in update.rule.states}
        powers = self.idle.powers or {}
        still = fresh and all(starts.get(name) == 0 for name, power in powers.items() if power > 0)
        # How many of the steps below a row has had; ~that where it has never had a gradient, and so has no momentum.
        self.had = np.full(rows, ~0 if still else 0, np.int32)
        self.count = 0  # how many there were
        self.coefficients = np.zeros((0, graph.coefficient_count), self.compute.dtype)
        self.logs = np.zeros((1, len(graph.inputs)))  # sums up to each step: Idle.logs

    def note(self, memory: Memory, coefficients: int) -> None:
        """Keep the coefficients of the step that comes next; it counts once `touch` says so."""
        if self.level:
            level = np.concatenate(self.level)
            self.seen[level] = self.fingerprints.of(memory, level)
        count = self.count
        if count == len(self.coefficients):
            self.coefficients, self.logs = (_longer(a, count + 16) for a in (self.coefficients, self.logs))
        row = self.coefficients[count]
        ctypes.memmove(row.ctypes.data, coefficients, row.nbytes)
        # As they were rounded: over a thousand steps the difference would show.
        np.add(self.logs[count], self.idle.logs(row.tolist()), out=self.logs[count + 1])

    def touch(self, indices: Indices, count: int) -> None:
        """These rows have had all steps, the last one with a gradient."""
        self.had[indices] = self.count = count
        self.level = [indices]

    def restart(self) -> None:
        """Forget the steps, which all rows have had."""
        self.count = 0
        self.had[...] = np.where(self.had < 0, ~0, 0)

    def missed(self, indices: Indices) -> Indices:
        """Those that have missed a step."""
        had = self.had[indices]
        return indices[np.where(had < 0, ~had, had) < self.count]

    def caught_up(self, indices: Indices) -> None:
        had = self.had[indices]
        self.had[indices] = np.where(had < 0, ~self.count, self.count)
        self.level.append(indices)

    def assigned(self, memory: Memory, indices: Indices) -> Any:
        """Which of some rows that are behind hold other values than when they fell behind."""
        return self.fingerprints.of(memory, indices) != self.seen[indices]

    def changed(self, memory: Memory) -> Indices:
        """All rows that are behind and hold other values than when they fell behind."""
        behind = self.missed(np.arange(len(self.had)))
        rows: Indices = behind[self.assigned(memory, behind)]
        return rows

    def pending(self) -> dict[str, Any]:
        """What a copy needs to continue."""
        history = {"coefficients": self.coefficients[: self.count], "logs": self.logs[: self.count + 1]}
        return {"count": self.count, "had": self.had, "seen": self.seen, "level": self.level, **history}

    def resume(self, pending: Mapping[str, Any]) -> None:
        """Go on where another one was."""
        for name, value in pending.items():
            setattr(self, name, copy.deepcopy(value))

    def steps(self, memory: Memory, indices: Indices) -> tuple[Any, Any, Any]:
        """Where each row's missed steps begin, how many of them count, and the factors of what comes after those."""
        had, assigned = self.had[indices], self.assigned(memory, indices)
        since = np.where(had < 0, ~had, had).astype(np.int64)
        many = np.zeros_like(since)
        if self.idle.powers is not None:
            bound = -self.logs[: self.count + 1, -1]
            negligible = float(-np.log(np.finfo(self.compute.dtype).eps / 16))
            until = np.searchsorted(bound, bound[since] + negligible)
            many = np.where((had < 0) | assigned, 0, np.minimum(until, self.count) - since)
        factors = np.exp(self.logs[self.count, :-1] - self.logs[since + many, :-1])
        factors[assigned, 0] = 1.0  # the parameter stays; its states decay
        return since, many, factors


def _longer(array: Any, rows: int) -> Any:
    """An array with so many more rows."""
    return np.concatenate([array, np.zeros((rows, *array.shape[1:]), array.dtype)])


class CatchUp:
    """Gives rows the steps that they have missed."""

    def __init__(self, update: Update, format: Format, backend: BackendName) -> None:
        self.update, self.format, self.backend = update, format, backend
        self.graph = lower(update)
        self.job = RowsJob(jobs.catch_up_columns(self.graph))
        self.pending: list[tuple[Behind, Indices]] = []

    def prepare(self, wanted: Sequence[tuple[Memory, Behind, Indices]]) -> None:
        """Fill the job with those of the rows that are behind."""
        late = [(memory, behind, behind.missed(indices)) for memory, behind, indices in wanted]
        late = [entry for entry in late if len(entry[2])]
        self.pending = [(behind, indices) for _, behind, indices in late]
        table = self.job.resize(sum(len(indices) for *_, indices in late))
        steps, start, work = jobs.steps_column(self.graph), 0, 0
        for memory, behind, indices in late:
            part = table[:, start : start + len(indices)]
            since, many, factors = behind.steps(memory, indices)
            part[LENGTH], part[steps] = memory.width, many
            part[jobs.FIRST] = behind.coefficients.ctypes.data + since * behind.coefficients.strides[0]
            _point(part, range(jobs.X, steps), memory, indices)
            part[steps + 1 :] = np.ascontiguousarray(factors.T).view(np.int64)
            start += len(indices)
            work += memory.width * int(many.sum())
        self.job.count(int(table[LENGTH].sum()))
        widest = int(table[LENGTH].max(initial=0))
        width = next((width for width in jobs.WIDTHS if width >= widest), jobs.WIDTHS[-1])
        if late:
            kernel = kernels.catch_up_kernel(self.update, self.format, width, self.backend)
            # A step in registers takes about an eighth of one from memory.
            self.kernel = kernel._replace(unit=1 + work // max(1, 8 * self.job.total))
        threads.threads()  # raises what would stop `go`

    def go(self) -> None:
        """May be interrupted and called again: nothing is done twice."""
        if not self.pending:
            return
        running.run(self.kernel, self.job)
        for behind, indices in self.pending:
            behind.caught_up(indices)

    def flush(self, memory: Memory, behind: Behind, indices: Indices | None = None) -> None:
        """Catch up all rows of a table, or some, a part at a time; an interrupt is raised between two."""
        count = len(behind.had) if indices is None else len(indices)
        for start in range(0, count, _FLUSHED):
            end = min(count, start + _FLUSHED)
            part = np.arange(start, end) if indices is None else indices[start:end]
            self.prepare([(memory, behind, part)])
            running.to_the_end(self.go)
