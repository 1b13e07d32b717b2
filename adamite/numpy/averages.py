"""Averages of the weights: when they begin, and how they are swapped with the weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from adamite.numpy.slots import Slot
from adamite.numpy.state import made
from adamite.storage.choice import AVERAGE


def begin(slots: Iterable[Slot]) -> None:
    """Averages begin at what parameters are before their first step, whatever was assigned since they were made."""
    for slot in slots:
        slot.states[AVERAGE][...] = made(slot.x, slot.layout.of(AVERAGE), None)


def exchange(slots: Sequence[Slot]) -> None:
    """Swap parameters and averages."""
    for slot in slots:
        if not slot.x.flags.writeable:
            raise ValueError(f"parameter {slot.name!r} is read-only; nothing was swapped")
    for slot in slots:
        for x, average in np.nditer(
            [slot.x, slot.states[AVERAGE]],
            ["external_loop", "buffered", "zerosize_ok"],
            [["readwrite"], ["readwrite"]],
        ):
            weights = x.copy()
            x[...] = average
            average[...] = weights
