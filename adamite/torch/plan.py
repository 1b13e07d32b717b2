"""What a step of an optimizer does, made once: it holds until a group, a parameter or a state is another one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import is_, methodcaller
from typing import Any

from torch import Tensor

from adamite.torch.batch import ArrayBatch, Batch, MachineBatch, Member, format_of, local, native
from adamite.torch.settings import Settings
from adamite.torch.state import bind, complete, keys

_stands = methodcaller("stands")
Groups = Sequence[dict[str, Any]]


class Plan:
    """The batches of a step over all parameters, or over one."""

    def __init__(
        self,
        settings: Settings,
        groups: Groups,
        state: Any,
        clip: bool,
        only: Tensor | None = None,
        early: bool = False,  # before the first gradients
    ) -> None:
        self.settings, self.clip, self.only, self.early = settings, clip, only, early
        self._params = [list(group["params"]) for group in groups]
        self._values = [settings.values(group) for group in groups]
        self._moving = [_moves(values) for values in self._values]
        self.readings = [settings.read(group, clip) for group in groups]
        self.members = list(self._members(groups, state))
        self.parameters = [m.parameter for m in self.members]
        self._complete = only is not None or len(self.members) == sum(map(len, self._params))
        self.batches: list[Batch] = []
        self._committed: list[tuple[Tensor, dict[str, Any]]] | None = None
        self._bind()
        self.overlaps = only is None and _overlap([b for b in self.batches if isinstance(b, MachineBatch)])

    def _members(self, groups: Groups, state: Any) -> Iterable[Member]:
        for index, group in enumerate(groups):
            stateless = not self.readings[index].update.states
            names = group.get("param_names") or [f"parameter {k} of group {index}" for k in range(len(group["params"]))]
            for p, name in zip(group["params"], names, strict=True):
                if self.only is not None and p is not self.only:
                    continue
                if self.early or stateless or p.grad is not None or state.get(p):
                    yield Member(p, index, name, state.get(p, {}))
                if self.only is not None:
                    return

    def _bind(self) -> None:
        spelling = self.settings.spelling
        found: dict[Any, tuple[list[Member], list[bool]]] = {}
        for m in self.members:
            p, reading = m.parameter, self.readings[m.group]
            own = local(p)
            known = complete(p, m.state, reading, spelling, m.name)
            mesh = (p.device_mesh, p.placements) if own is not p else None  # type: ignore[attr-defined]
            key = (reading.update, format_of(p), native(own) and not FORCE_ARRAYS, p.device, p.dtype, mesh)
            members, started = found.setdefault(key, ([], []))
            members.append(m)
            started.append(known)
        for (update, format, machine, *_), (members, started) in found.items():
            kind = MachineBatch if machine else ArrayBatch
            batch = kind(update, format, members, keys(spelling))
            bind(batch, spelling, started)
            self.batches.append(batch)

    def holds(self, groups: Groups, state: Any) -> bool:
        """Whether the plan is still what the groups and states say; takes over changed numbers."""
        if len(groups) != len(self._params) or not self._same_members(groups, state):
            return False
        changed = False
        for index, group in enumerate(groups):
            values = self.settings.values(group)
            if values != self._values[index] or self._moving[index]:
                reading = self.settings.read(group, self.clip)
                if reading.update is not self.readings[index].update:
                    return False
                self._values[index], self._moving[index] = values, _moves(values)
                self.readings[index] = reading
                changed = True
        if changed:
            for batch in self.batches:
                batch.read(self.readings)
        return all(map(_stands, self.batches))

    def _same_members(self, groups: Groups, state: Any) -> bool:
        for group, params in zip(groups, self._params):
            now = group["params"]
            if len(now) != len(params) or not all(map(is_, now, params)):
                return False
        if self._committed is None:
            return not any(map(state.get, self.parameters))
        values = state.values()
        if len(values) == len(self._kept) and all(map(is_, values, self._kept)):
            return True
        return all(state.get(p) is kept for p, kept in self._committed)

    def late(self, groups: Groups) -> bool:
        """Whether a parameter that isn't in the plan has a gradient now."""
        if self._complete:
            return False
        known = set(map(id, self.parameters))
        return any(id(p) not in known and p.grad is not None for group in groups for p in group["params"])

    def commit(self, state: Any) -> None:
        """Let the optimizer keep the states that were made."""
        if self._committed is None:
            self._committed = [(m.parameter, m.state) for m in self.members if m.state]
            for p, kept in self._committed:
                state[p] = kept
            self._kept = [kept for _, kept in self._committed]

    def active(self) -> list[Tensor]:
        """The parameters that have a gradient."""
        for batch in self.batches:
            if batch.missing:
                break
        else:
            return self.parameters
        return [p for batch in self.batches for p in batch.active()]


FORCE_ARRAYS = False  # for tests: array operations where machine code would run


def _moves(values: Iterable[Any]) -> bool:
    """Whether a value may change without being another object."""
    return any(isinstance(v, Tensor) or (isinstance(v, (tuple, list)) and _moves(v)) for v in values)


def _overlap(batches: Sequence[MachineBatch]) -> bool:
    """Whether two rows may share memory, as tied parameters do."""
    spans = sorted(span(x) for batch in batches for x in batch.tensors if x.numel())
    return any(after[0] < before[1] for before, after in pairwise(spans))


def span(x: Tensor) -> tuple[int, int]:
    """The first address of a tensor, and the one past its last."""
    reach = sum(stride * (size - 1) for stride, size in zip(x.stride(), x.shape)) + 1
    return x.data_ptr(), x.data_ptr() + reach * x.element_size()
