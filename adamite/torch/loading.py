"""A state_dict held against an optimizer: matched by name or by position, checked, copied."""

from __future__ import annotations

import copy
import numbers
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adamite import layouts
from adamite.errors import StateDictError
from adamite.torch.names import pairs
from adamite.torch.settings import OPTIONS, REFUSED, WHOLE
from adamite.torch.state import Owned, adapted, own_states, required, resting

if TYPE_CHECKING:
    from adamite.torch.base import Optimizer


class Loading:
    """The states and groups that a state_dict brings, if all of it fits."""

    def __init__(self, optimizer: Optimizer, state_dict: Mapping[str, Any]) -> None:
        self.owner = type(optimizer).__name__
        self.problems: list[str] = []
        missing = [key for key in ("state", "param_groups") if key not in state_dict]
        if missing:
            there = ", ".join(map(repr, list(state_dict)[:5])) or "nothing"
            raise StateDictError(
                f"{' and '.join(map(repr, missing))} not in the state ({there} is); "
                f"give what state_dict() of a {self.owner} returned"
            )
        here, saved = optimizer.param_groups, state_dict["param_groups"]
        if len(here) != len(saved):
            raise ValueError(
                "loaded state dict has a different number of parameter groups: "
                f"{len(saved)} in it, {len(here)} in this {self.owner}; make it with the groups that were saved"
            )
        for index, (mine, theirs) in enumerate(zip(here, saved)):
            if len(mine["params"]) != len(theirs["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                    f"group {index} has {len(theirs['params'])} parameters in it and {len(mine['params'])} here"
                )
        self.rests = optimizer._rests
        self.groups = [self._group(optimizer, mine, theirs) for mine, theirs in zip(here, saved)]
        self.converted: defaultdict[tuple[str, str], set[Tensor]] = defaultdict(set)  # parameters
        found: dict[Any, tuple[Tensor, str, list[str], Owned]] = {}
        for index, (mine, theirs, new) in enumerate(zip(here, saved, self.groups)):
            group = {**optimizer.defaults, **new}
            needed, owned = required(optimizer._settings, group), own_states(optimizer._settings, group)
            matched = self._match(index, mine, theirs)
            found.update({number: (p, name, needed, owned) for number, (p, name) in matched.items()})
        self.state: defaultdict[Any, Any] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key not in found:
                self.state[key] = copy.copy(value)
                continue
            p, name, needed, owned = found[key]
            if not isinstance(value, Mapping):
                self.problems.append(f"{name}: expected a dict of states, got {type(value).__name__}")
                continue
            missing = [state for state in needed if state not in value]
            if value and missing:
                other = "; is it another optimizer's?" if len(missing) == len(needed) else ""
                self.problems.append(f"{name}: {', '.join(missing)} not among its states ({', '.join(value)}){other}")
            self.state[p] = {k: self._copy(name, k, v, p, owned) for k, v in value.items()}
        if self.problems:
            listed = "".join(f"\n  {problem}" for problem in self.problems[:8])
            more = f"\n  and {len(self.problems) - 8} more" if self.problems[8:] else ""
            raise StateDictError(f"the state doesn't fit this {self.owner}, nothing was loaded:{listed}{more}")
        for (there, now), found_so in self.converted.items():
            layouts.tell_converted(self.owner, there, now, len(found_so))

    def _match(self, index: int, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[Any, tuple[Tensor, str]]:
        """The saved parameters' numbers -> parameters and names."""
        places, params = theirs["params"], mine["params"]
        names = mine.get("param_names")
        if names and theirs.get("param_names"):
            saved = dict(zip(theirs["param_names"], places))
            there = pairs(names, list(saved))
            odd = {"missing": set(names) - there.keys(), "unknown": saved.keys() - set(there.values())}
            for kind, some in odd.items():
                if some:
                    self.problems.append(f"group {index}: {kind} parameters {', '.join(sorted(some)[:6])}")
            return {saved[there[name]]: (p, name) for name, p in zip(names, params) if name in there}
        names = names or [f"parameter {k} of group {index}" for k in range(len(params))]
        return {number: (p, name) for number, p, name in zip(places, params, names)}

    def _copy(self, name: str, key: Any, value: Any, p: Tensor, owned: Owned) -> Any:
        """An entry of a parameter's state: the rule's are held against the parameter, the user's may be anything."""
        if key in owned.names and value is not None:
            with torch.no_grad():
                return self._own(name, key, value, p, owned)
        if key in owned.numbers and not _one_number(value):
            self.problems.append(f"{name}, state {key}: here one number, in the state {value!r:.60}")
        return value.detach().to(p.device, copy=True) if isinstance(value, Tensor) else copy.deepcopy(value)

    def _own(self, name: str, key: str, value: Tensor, p: Tensor, owned: Owned) -> Tensor:
        """One of the rule's states, in the format that it rests in here."""
        own = owned.names[key]
        format = resting(p, owned.update, self.rests).of(own)
        try:
            kept = adapted(value, p, own, format, owned.update)
        except ValueError as error:
            self.problems.append(f"{name}, state {key}: {error}")
            return value
        narrow = kept.dtype in _NARROW or (value.dtype in _NARROW and value.dtype != p.dtype)  # torch's are of p's type
        if not narrow or value.dtype == kept.dtype:
            return value.detach().to(p.device, copy=True)
        self.converted[word(value.dtype), word(kept.dtype)].add(p)
        return kept

    def _group(self, optimizer: Optimizer, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
        """What the checkpoint says of a group; what it doesn't know, or isn't of groups, stays as it is here."""
        theirs = {**theirs, **optimizer._settings.tidied(theirs)}
        new = {k: copy.deepcopy(v) for k, v in theirs.items() if k not in (*WHOLE, *REFUSED)}
        ours = {k: v for k, v in mine.items() if k in ("params", "param_names", *WHOLE, *REFUSED)}
        return {**{k: mine[k] for k in OPTIONS if k in mine}, **new, **ours}


_NARROW = (torch.uint8, torch.bfloat16)


def _one_number(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, numbers.Real)


def word(dtype: torch.dtype) -> str:
    """How a state of a type is asked for."""
    return "8bit" if dtype is torch.uint8 else str(dtype).removeprefix("torch.")
