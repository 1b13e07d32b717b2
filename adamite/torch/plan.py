"""What a step of an optimizer does, made once: it holds until a group, a parameter or a state is another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from adamite.engine import running
from adamite.engine.coefficients import CoefficientTable
from adamite.language.update import Update
from adamite.storage import Layout, choice
from adamite.storage.choice import Storage
from adamite.torch.assigned import Written
from adamite.torch.batch import Batch, Contents, Member, SparseRefusal
from adamite.torch.kinds import kind_for
from adamite.torch.settings import GroupSettings
from adamite.torch.sparse import RowsBatch, Tables
from adamite.torch.state import bind, complete, keys, refusal, stored
from adamite.torch.tensors import format_of, local, of_rows, optimizable, with_gradient

Groups = Sequence[dict[str, Any]]


class Plan:
    """The batches of a step over all parameters, or over `only` one.

    Parameters are in it that have a gradient or a state; `early`, before the first gradients, all are.
    """

    def __init__(
        self,
        settings: GroupSettings,
        groups: Groups,
        state: Any,
        clip: bool,
        storage: Storage,
        tables: Tables,
        written: Written,
        only: Tensor | None = None,
        early: bool = False,
    ) -> None:
        self.settings, self.clip, self.storage, self.only, self.early = settings, clip, storage, only, early
        self.tables, self.written = tables, written
        self.committed = False
        self._count = len(groups)
        self._groups = dict(enumerate(groups))
        self._before = list(accumulate((len(group["params"]) for group in groups), initial=0))
        if only is not None:
            self._groups = {i: g for i, g in self._groups.items() if any(p is only for p in g["params"])}
        self._params = {i: list(group["params"]) for i, group in self._groups.items() if only is None}
        self._values = {i: settings.values(group) for i, group in self._groups.items()}
        self._moving = {i: _moves(values) for i, values in self._values.items()}
        self.readings = {i: settings.read(group, clip) for i, group in self._groups.items()}
        listed = list(self._members(state))
        self.members = list({id(m.parameter): m for m in listed}.values())
        self.parameters = [m.parameter for m in self.members]
        self._complete = only is not None or len(listed) == sum(map(len, self._params.values()))
        self.batches: list[Batch] = []
        self._again: list[Batch] = []  # of parameters that a group lists again, which move again, as in torch
        self._bind(Counter(id(m.parameter) for m in listed))

    def _members(self, state: Any) -> Iterable[Member]:
        """Parameters that have a gradient or a state, with copies of their states: nothing is changed yet."""
        for index, group in self._groups.items():
            params = group["params"]
            stateless = self.early or not self.readings[index].update.states
            names = group.get("param_names", ())
            for k, p in enumerate(params):
                if self.only is not None and p is not self.only:
                    continue
                if p.grad is not None or state.get(p) or (stateless and optimizable(p)):
                    name = names[k] if len(names) == len(params) else f"parameter {k} of group {index}"
                    stream = self.storage.stream(self._before[index] + k)
                    yield Member(p, index, name, dict(state.get(p, {})), stream)

    def _bind(self, times: Mapping[int, int]) -> None:
        """Make the batches. Parameters that share memory, as tied ones may, move one after another, as in torch."""
        spelling = self.settings.spelling
        alike: dict[Any, tuple[list[Member], list[bool]]] = {}
        sharing, table = shared([local(p) for p in self.parameters]), CoefficientTable()
        for row, m in enumerate(self.members):
            p, reading = m.parameter, self.readings[m.group]
            part = local(p)
            layout, kind = self._placed(m)
            had_states = complete(p, m.state, reading, spelling, m.name, layout)
            mesh = (p.device_mesh, p.placements) if part is not p else None  # type: ignore[attr-defined]
            alone = row if row in sharing or times[id(p)] > 1 else None
            if self._rows(m, reading.update, layout):
                kind = RowsBatch
            key = (reading.update, layout, kind, p.device, p.dtype, mesh, alone)
            members, started = alike.setdefault(key, ([], []))
            members.append(m)
            started.append(had_states)
        for (update, layout, kind, *_), (members, started) in alike.items():
            contents = Contents(update, layout, members, keys(spelling), self.readings, table)
            rows = kind is RowsBatch
            batch: Batch = RowsBatch(contents, self.tables) if rows else kind(contents)
            batch.densifies = not rows and any(of_rows(m.parameter.grad) for m in members)
            bind(batch, update.rule, spelling, started)
            self.batches.append(batch)
            self._again += [batch] * (times[id(members[0].parameter)] - 1)

    def _placed(self, m: Member) -> tuple[Layout, type[Batch]]:
        """How a parameter, its gradient and its states are stored, and the kind of batch for it."""
        p, owner, storage = m.parameter, self.settings.owner, self.storage
        layout = with_gradient(stored(p, self.readings[m.group].update, storage), p.grad)
        if layout.blocks:
            choice.check(owner, storage._replace(rounding="nearest"), [format_of(p)])
            if not layout.native:
                raise ValueError(
                    f"{owner}: state={storage.state!r}, rounding={storage.rounding!r} is for steps that are computed "
                    f"in float32, and the gradient of {m.name} is of {layout.g.name}; make it float32"
                )
        kind = kind_for(p, layout)
        if isinstance(kind, str):
            narrower = ', or take state="bfloat16"' * (kind == "sharded")
            raise ValueError(f"{refusal(owner, storage, m.name, kind)}{narrower}")
        return layout, kind

    def _rows(self, m: Member, update: Update, layout: Layout) -> bool:
        """Whether a parameter is stepped on by rows."""
        p = m.parameter
        if p.grad is None:
            return id(p) in self.tables.tables
        if not of_rows(p.grad):
            self.tables.settle(p)
            return False
        return self.tables.take(m.name, p, update, layout)

    def follow(self, groups: Groups, state: Any) -> bool:
        """Take over changed numbers; whether the plan is still what the groups and states say."""
        if len(groups) != self._count or not self._same_members(groups, state):
            return False
        changed = False
        for index, group in self._groups.items():
            values = self.settings.values(group)
            try:
                same = not self._moving[index] and values == self._values[index]
            except (ValueError, RuntimeError):  # an array or a tensor of several numbers is there now
                same = False
            if not same:
                reading = self.settings.read(group, self.clip)
                if reading.update is not self.readings[index].update:
                    return False
                self._values[index], self._moving[index] = values, _moves(values)
                self.readings[index] = reading
                changed = True
        if changed:
            for batch in self.batches:
                batch.read()
        return True

    def look(self, sparse: SparseRefusal) -> bool:
        """Find the gradients, if all parameters and states are those that the plan was made for: whether they are.

        `sparse` says why a group refuses sparse gradients, if it does.
        """
        try:
            for batch in self.batches:
                if batch.look(sparse) is None:
                    self.release()
                    return False
        except BaseException:
            self.release()
            raise
        return True

    def find(self, sparse: SparseRefusal) -> None:
        """Find the gradients, for a plan that was just made."""
        try:
            for batch in self.batches:
                batch.find(sparse)
        except BaseException:
            self.release()
            raise

    def _same_members(self, groups: Groups, state: Any) -> bool:
        for index, group in self._groups.items():
            if groups[index] is not group:
                return False
        for index, params in self._params.items():
            now = groups[index]["params"]
            if len(now) != len(params) or not all(map(is_, now, params)):
                return False
        if self.only is None:
            values = state.values()
            if len(values) == len(self._listed) and all(map(is_, values, self._listed)):
                return True
        return all(state.get(p) is states for p, states in self._states)

    def late(self, groups: Groups) -> bool:
        """Whether a parameter that isn't in the plan has a gradient now."""
        if self._complete:
            return False
        planned = set(map(id, self.parameters))
        return any(id(p) not in planned and p.grad is not None for group in groups for p in group["params"])

    def commit(self, state: Any) -> None:
        """Let the optimizer keep the states that were made."""
        if not self.committed:
            for batch in self.batches:
                batch.keep(state)
            self._states = [(m.parameter, state[m.parameter]) for m in self.members if m.state]
            self._listed = [states for _, states in self._states]
            self.committed = True

    @property
    def number(self) -> int:
        """The number of the next step, of the parameter that has had most."""
        return 1 + max((int(batch.counts.max()) for batch in self.batches), default=0)

    def prepare(self, factor: float | None) -> None:
        """Evaluate the coefficients of the next update, which multiplies gradients by a factor if one is given."""
        prepare(self.batches, factor)

    def go(self, factor: float | None) -> None:
        """Update everything."""
        run(self.batches, self.written, self.present())
        for batch in self._again:
            prepare([batch], factor)
            run([batch], self.written, ())

    def present(self) -> list[Tensor]:
        """The parameters that have a gradient."""
        for batch in self.batches:
            if batch.found.missing:
                break
        else:
            return self.parameters
        return [p for batch in self.batches for p in batch.present()]

    def release(self) -> None:
        """Let the gradients go."""
        for batch in self.batches:
            batch.grads = []


def prepare(batches: Sequence[Batch], factor: float | None = None) -> None:
    """Make batches ready to go, whose gradients are multiplied by a factor if one is given."""
    for batch in batches:
        batch.prepare()
        if factor is not None:
            batch.clip(factor)


def run(batches: Sequence[Batch], written: Written, moved: Sequence[Tensor]) -> None:
    """Update batches that are prepared, and count a change of what is moved; an interrupt is raised after it."""
    for batch in batches:
        written.forget(batch.compensated)
    torch.autograd.graph.increment_version(moved)
    running.to_the_end(partial(_go, batches, written))


def _go(batches: Sequence[Batch], written: Written) -> None:
    """Called again after an interrupt it does what is left."""
    for batch in batches:
        batch.go()
        batch.finish()
        written.remember(batch.compensated)


_FIXED = (bool, int, float, str, np.generic, type(None))


def _moves(values: Iterable[Any]) -> bool:
    """Whether a value may change without being another object: a tensor, an array, a list."""
    return any(_moves(v) if isinstance(v, tuple) else not isinstance(v, _FIXED) for v in values)


def shared(tensors: Sequence[Tensor]) -> set[int]:
    """The rows that share memory with others."""
    spans = sorted(
        (x.device.type, *span(x), row)
        for row, x in enumerate(tensors)
        if not is_traceable_wrapper_subclass(x) and has_memory(x)
    )
    rows: set[int] = set()
    reach = "", 0, 0  # the device, the end of what was seen there, and the row that ends there
    for device, start, end, row in spans:
        if reach[0] == device and start < reach[1]:
            rows |= {reach[2], row}
        if reach[0] != device or end > reach[1]:
            reach = device, end, row
    return rows


def has_memory(x: Tensor) -> bool:
    return x.layout is torch.strided and x.device.type != "meta" and x.numel() > 0


def span(x: Tensor) -> tuple[int, int]:
    """The first address of a tensor, and the one past its last."""
    reach = sum(stride * (size - 1) for stride, size in zip(x.stride(), x.shape)) + 1
    return x.data_ptr(), x.data_ptr() + reach * x.element_size()
