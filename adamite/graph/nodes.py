"""An update in primitive operations, each on earlier ones: what every backend reads.

    tensor NAME | coefficient INDEX | const VALUE
    add sub mul div neg sqrt abs | gt ge lt le eq ne and or not | where | flush

Coefficients depend on numbers alone: the program (numbers.py) evaluates them once a step. A state is flushed to zero
near the subnormal numbers (below `Format.smallest_state`, unless the node says another value), as it is read and as it
is stored, since arithmetic on those is many times slower.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from adamite.graph.numbers import Program


class Node(NamedTuple):
    """A primitive operation: `args` are indices of earlier nodes; leaves carry a `value`."""

    op: str
    args: tuple[int, ...] = ()
    value: Any = None


@dataclass(frozen=True, eq=False)
class Graph:
    """The loop's body and the function of its coefficients."""

    inputs: tuple[str, ...]  # tensors in the order of the engine's table
    outputs: tuple[tuple[str, int], ...]  # name and node of what is stored
    nodes: tuple[Node, ...]
    coefficient_count: int
    numbers: tuple[str, ...]  # what the program takes after t, the Scalar states last
    scalars: tuple[str, ...]  # Scalar states
    program: Program  # (t, *numbers) -> coefficients, then new Scalar states

    def __repr__(self) -> str:
        return f"<graph: {', '.join(self.inputs)} -> {', '.join(name for name, _ in self.outputs)}>"

    @property
    def evaluate(self) -> Callable[..., tuple[float, ...]]:
        """The program on Python's numbers."""
        return self.program.evaluate

    @functools.cached_property
    def read(self) -> tuple[str, ...]:
        """The inputs that its outputs depend on, or are stored in."""
        nodes = under(self.nodes, [index for _, index in self.outputs])
        names = {self.nodes[k].value for k in nodes if self.nodes[k].op == "tensor"} | dict(self.outputs).keys()
        return tuple(name for name in self.inputs if name in names)


def under(nodes: Sequence[Node], roots: Sequence[int]) -> set[int]:
    """The nodes that some depend on, and these."""
    found = set(roots)
    for index in range(len(nodes) - 1, -1, -1):
        found.update(nodes[index].args if index in found else ())
    return found
