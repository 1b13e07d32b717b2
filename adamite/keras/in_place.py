"""Steps in place on Keras's torch backend: on a CPU one native call for all variables of a dtype."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter, is_
from typing import Any, NamedTuple

import torch
from keras import ops
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.compiler import is_dynamo_compiling

from adamite.engine.coefficients import CoefficientTable
from adamite.language.update import Update
from adamite.storage import COMPENSATION, Format, Layout, choice
from adamite.storage.choice import Storage
from adamite.torch import state
from adamite.torch.arrays import ArrayBatch
from adamite.torch.assigned import Written
from adamite.torch.batch import Batch, Contents, Member
from adamite.torch.kinds import kind_for
from adamite.torch.plan import prepare, run, shared
from adamite.torch.settings import Resolved
from adamite.torch.tensors import FORMATS, format_of

_shape, _dtype = attrgetter("shape"), attrgetter("dtype")
_value = attrgetter("_value")  # as `value`, which looks for scopes first that an optimizer isn't in


_untraced: Any = _disable_dynamo(lambda function, *args: function(*args))


def outside_of_traces(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function outside of torch.compile, which can't trace machine code."""
    return _untraced(function, *args) if is_dynamo_compiling() else function(*args)


def tensors(gradients: Sequence[Any]) -> Sequence[Tensor]:
    """Gradients as tensors. Keras accepts NumPy arrays too."""
    return gradients if all(map(torch.is_tensor, gradients)) else list(map(ops.convert_to_tensor, gradients))


def number(value: Any) -> float:
    """The number in a variable or a tensor."""
    return float(getattr(value, "_value", value))


def check(owner: str, variables: Sequence[Any], storage: Storage) -> None:
    """Refuse variables whose states can't be stored like that."""
    choice.check(owner, storage, [format_of(variable.value) for variable in variables])


def stored(owner: str, variable: Any, update: Update, storage: Storage) -> Layout:
    """How a variable and its states are stored.

    Raises:
        ValueError: for a storage dtype that this variable can't have.
    """
    p = variable.value
    layout = state.stored(p, update, storage)
    kind = kind_for(p, layout)
    if isinstance(kind, str):
        raise ValueError(state.refusal(owner, storage, variable.path, kind))
    return layout


def made(variable: Any, start: float | str, numbers: Mapping[str, float], format: Format) -> Tensor:
    """A new state in a storage format of its own."""
    return state.create(variable.value, start, numbers, format)


def adapted(value: Any, variable: Any, name: str, layout: Layout, update: Update) -> Tensor:
    """A saved state in the format of this optimizer, if either is 8-bit."""
    return state.adapted(ops.convert_to_tensor(value), variable.value, name, layout.of(name), update)


class Row(NamedTuple):
    """A variable, the dtype of its gradient, and its states by the rule's names."""

    variable: Any
    gradient: torch.dtype
    states: Mapping[str, Any]
    update: Update
    layout: Layout
    stream: int  # where its random bits begin


class InPlace:
    """The batches of a step. They are valid until a tensor is replaced or moves."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._variables = [v for row in rows for v in (row.variable, *row.states.values())]
        self._tensors = list(map(_value, self._variables))
        self.parameters: list[Tensor] = [row.variable._value for row in rows]
        self._shapes = list(map(_shape, self.parameters))
        self._types = [row.gradient for row in rows]
        self._batches: list[tuple[Batch, list[int]]] = []  # with the numbers of the rows
        self._readings: dict[int, Resolved] = {}
        table, alike = CoefficientTable(), dict[Any, list[int]]()
        sharing = shared(self.parameters)  # a variable listed twice too: these move one after another
        for index, (row, p) in enumerate(zip(rows, self.parameters, strict=True)):
            layout = row.layout.with_gradient(FORMATS[row.gradient])
            kind = kind_for(p, layout)
            if isinstance(kind, str):  # blocks with gradients of a wider type
                kind = ArrayBatch
            alone = index if index in sharing else None
            alike.setdefault((row.update, layout, kind, p.device, alone), []).append(index)
        for (update, layout, kind, *_), indices in alike.items():
            members = [
                Member(p, 0, row.variable.path, {name: s._value for name, s in row.states.items()}, row.stream)
                for row, p in ((rows[i], self.parameters[i]) for i in indices)
            ]
            names = {name: name for name in (*update.states, COMPENSATION)}
            batch = kind(Contents(update, layout, members, names, self._readings, table, given=()))
            batch.densifies = True
            scalars = torch.zeros(len(members), len(update.scalars), dtype=torch.float64) if update.scalars else None
            batch.watch([], torch.zeros(len(members), dtype=torch.float64), scalars)
            self._batches.append((batch, indices))
        self._numbers: Mapping[str, float] = {}
        self._written = Written()

    def stands(self, gradients: Sequence[Tensor]) -> bool:
        """Whether all tensors are the same and in their places, and the gradients have the same dtypes."""
        return (
            all(map(is_, map(_value, self._variables), self._tensors))
            and list(map(_dtype, gradients)) == self._types
            and all(batch.same_places() for batch, _ in self._batches)
        )

    def fits(self, gradients: Sequence[Tensor]) -> bool:
        """Whether gradients have the variables' shapes."""
        return list(map(_shape, gradients)) == self._shapes

    def step(
        self, gradients: Sequence[Tensor], done: float, numbers: Mapping[str, float], scalars: Sequence[float]
    ) -> Sequence[float]:
        """Update everything after `done` steps; returns the new Scalar states."""
        changed = numbers != self._numbers
        for batch, indices in self._batches:
            batch.given = [gradients[i] for i in indices]
            batch.find(_taken)
            batch.counts.fill(done)
            if batch.scalars is not None:
                batch.scalars[...] = scalars
            if changed:
                self._readings[0] = Resolved(batch.update, numbers)
                batch.read()
        self._numbers = numbers
        batches = [batch for batch, _ in self._batches]
        prepare(batches)
        run(batches, self._written, self.parameters)
        for batch in batches:
            batch.grads, batch.given = [], ()
        return self._batches[0][0].cohorts[0].scalars if scalars else ()


def _taken(group: int) -> str | None:
    """Accept sparse gradients, which are made dense."""
    return None
