"""What is kept for a parameter: made when its first gradient comes, or adopted from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adamite.conventions import Spelling
from adamite.errors import StateDictError
from adamite.torch.batch import Batch, kept_type
from adamite.torch.settings import Reading

AVERAGE = "ema"  # the averaged weights


def keys(spelling: Spelling) -> dict[str, str]:
    """The rule's states by torch's names."""
    return {**spelling.states, "average": AVERAGE}


def create(p: Tensor, start: float | str, numbers: Mapping[str, float]) -> Tensor:
    """A new state: zero, a number, a hyperparameter's value, or the parameter's."""
    with torch.no_grad():
        if start == "x":
            return p.detach().to(kept_type(p), copy=True)
        made = torch.zeros_like(p, dtype=kept_type(p), requires_grad=False)
        value = numbers[start] if isinstance(start, str) else start
        return made.fill_(value) if value else made


def complete(p: Tensor, state: dict[str, Any], reading: Reading, spelling: Spelling, name: str) -> bool:
    """Make the tensor states that are missing, convert those of another type; whether any of the rule's was there."""
    starts = {s.name: s.start for s in reading.update.rule.states} | {"average": "x"}
    names = keys(spelling)
    found = False
    for own in reading.update.states:
        key = names[own]
        old = state.get(key)
        if old is None:
            state[key] = create(p, starts[own], reading.numbers)
            continue
        found = found or key != AVERAGE
        if old.shape != p.shape:
            raise StateDictError(
                f"state {key} of {name} has shape {tuple(old.shape)}, and the parameter {tuple(p.shape)}; "
                "give the state that belongs to this parameter"
            )
        if old.dtype != kept_type(p) or old.device != p.device:
            state[key] = old.detach().to(device=p.device, dtype=kept_type(p))
    return found


def bind(batch: Batch, spelling: Spelling, started: Sequence[bool]) -> None:
    """Let the step numbers and Scalar states of a batch lie in one array each, of which the states hold views."""
    rows, scalars = len(started), batch.graph.scalars
    double = torch.get_default_dtype() is torch.float64
    steps = torch.zeros(rows, dtype=torch.float64 if double else torch.float32, device="cpu")
    table = torch.ones(rows, len(scalars), dtype=torch.float64, device="cpu")
    defaults = {s.name: s.start for s in batch.update.rule.states}
    names = [*["step"] * spelling.counts, *(spelling.states[own] for own in scalars)]
    for row, (m, known) in enumerate(zip(batch.members, started, strict=True)):
        steps[row] = float(m.state.get("step", 0)) if spelling.counts else float(known)
        for column, own in enumerate(scalars):
            table[row, column] = float(m.state.get(spelling.states[own], defaults[own]))
        views = [*[steps[row]] * spelling.counts, *table[row].unbind()]
        m.state.update(zip(names, views, strict=True))
    batch.watch([*names, *batch.names], steps, table if scalars else None)
