"""The columns of jobs for catching up rows and for fingerprints of rows.

Catching up: length, coefficients of the first step, x, states..., how many steps, the factors of x and of the states.
Fingerprints: length (1), how many words, where they lie, where the fingerprint goes.
"""

from __future__ import annotations

from adamite.graph.nodes import Graph
from adamite.storage import Format

# ---- catching up

FIRST, X = 1, 2
WIDTHS = (16, 32, 64)  # how many elements a kernel takes at once: each step waits for the one before


def catching_up(graph: Graph) -> list[str]:
    """What is caught up: the parameter and the states."""
    return [name for name in graph.inputs if name != "g"]


def steps_column(graph: Graph) -> int:
    """Where the number of steps is, before the factors."""
    return X + len(catching_up(graph))


def catch_up_columns(graph: Graph) -> int:
    """How many there are."""
    return steps_column(graph) + 1 + len(catching_up(graph))


# ---- fingerprints

WORDS, PLACE, RESULT = range(1, 4)
FINGERPRINT_COLUMNS = 4


def word_size(format: Format) -> int:
    """Bytes of a word: an element has one, or two."""
    return min(format.itemsize, 4)
