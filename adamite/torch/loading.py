"""A state_dict held against an optimizer: matched by name or by position, checked, copied."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adamite.errors import StateDictError
from adamite.frontend.loading import Problems
from adamite.language.update import Update
from adamite.storage import Format
from adamite.storage.choice import Storage
from adamite.torch.names import pairs
from adamite.torch.settings import OPTIONS, REFUSED, WHOLE, GroupSettings
from adamite.torch.state import adapted, numbers_of, one_number, required, stored, tensors_of
from adamite.torch.tensors import optimizable


class Loading:
    """The states and groups that a state_dict brings, if all of it fits."""

    def __init__(
        self,
        settings: GroupSettings,
        storage: Storage,
        groups: Sequence[Mapping[str, Any]],
        defaults: Mapping[str, Any],
        state_dict: Mapping[str, Any],
    ) -> None:
        self.owner, self.settings = settings.owner, settings
        self.problems = Problems(self.owner)
        missing = [key for key in ("state", "param_groups") if key not in state_dict]
        if missing:
            there = ", ".join(map(repr, list(state_dict)[:5])) or "nothing"
            raise StateDictError(
                f"{' and '.join(map(repr, missing))} not in the state ({there} is); "
                f"give what state_dict() of a {self.owner} returned"
            )
        here, saved = groups, state_dict["param_groups"]
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
        self.storage, self.spelling = storage, settings.spelling
        self.groups = [self._group(mine, theirs) for mine, theirs in zip(here, saved)]
        by_number: dict[Any, tuple[Tensor, str, list[str], Update]] = {}
        for index, (mine, theirs, new) in enumerate(zip(here, saved, self.groups)):
            update = settings.read({**defaults, **new}, clip=False).update
            needed, matched = required(update, self.spelling), self._match(index, mine, theirs)
            by_number.update({number: (p, name, needed, update) for number, (p, name) in matched.items()})
        self.state: defaultdict[Any, Any] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key not in by_number:
                self.state[key] = copy.copy(value)
                continue
            p, name, needed, update = by_number[key]
            if not isinstance(value, Mapping):
                self.problems.add(f"{name}: expected a dict of states, got {type(value).__name__}")
                continue
            missing = [state for state in needed if state not in value]
            if value and missing:
                other = "; is it another optimizer's?" if len(missing) == len(needed) else ""
                self.problems.add(f"{name}: {', '.join(missing)} not among its states ({', '.join(value)}){other}")
            self.state[p] = self._copy(name, value, p, update) if value else {}
        self.problems.refuse()

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
                    self.problems.add(f"group {index}: {kind} parameters {', '.join(sorted(some)[:6])}")
            return {saved[there[name]]: (p, name) for name, p in zip(names, params) if name in there}
        names = names or [f"parameter {k} of group {index}" for k in range(len(params))]
        return {number: (p, name) for number, p, name in zip(places, params, names)}

    def _copy(self, name: str, state: Mapping[Any, Any], p: Tensor, update: Update) -> dict[Any, Any]:
        """A parameter's state: what is ours is held against the parameter, what is the user's may be anything."""
        tensors = tensors_of(update, stored(p, update, self.storage), self.spelling) if optimizable(p) else {}
        numbers = numbers_of(update, self.spelling)
        made = {}
        for key, value in state.items():
            rule_name, format = tensors.get(key, (None, None))
            # torch's SGD, which counts no steps, has None before the first.
            begins = value is None and rule_name in self.spelling.states and not self.spelling.counts
            if rule_name is not None and format is not None and not begins:
                with torch.no_grad():
                    made[key] = self._tensor(f"{name}, state {key}", value, p, rule_name, format, update)
                continue
            if key in numbers and not one_number(value):
                self.problems.add(f"{name}, state {key}: here one number, in the state {value!r:.60}")
            made[key] = value.detach().to(p.device, copy=True) if isinstance(value, Tensor) else copy.deepcopy(value)
        return made

    def _tensor(self, what: str, value: Any, p: Tensor, name: str, format: Format, update: Update) -> Any:
        """One of the rule's tensors, in the format that it has here."""
        try:
            state = adapted(value, p, name, format, update)
        except ValueError as error:
            self.problems.add(f"{what}: {error}")
            return value
        there, here = value.dtype, state.dtype
        narrow = here in _NARROW or (there in _NARROW and there != p.dtype)  # torch's are of p's type
        if not narrow or there == here:
            return value.detach().to(p.device, copy=True)
        self.problems.convert(word(there), word(here), p)
        return state

    def _group(self, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
        """What the checkpoint says of a group; what it doesn't know, or isn't of groups, stays as it is here."""
        theirs = {**theirs, **self.settings.tidied(theirs)}
        new = {k: copy.deepcopy(v) for k, v in theirs.items() if k not in (*WHOLE, *REFUSED)}
        ours = {k: v for k, v in mine.items() if k in ("params", "param_names", *WHOLE, *REFUSED)}
        return {**{k: mine[k] for k in OPTIONS if k in mine}, **new, **ours}


_NARROW = (torch.uint8, torch.bfloat16)


def word(dtype: torch.dtype) -> str:
    """How a state of a type is asked for."""
    return "8bit" if dtype is torch.uint8 else str(dtype).removeprefix("torch.")
