"""An update as a list of operations, each on the results of earlier ones: what every backend reads.

    tensor NAME | coefficient INDEX | const VALUE
    add sub mul div neg sqrt abs | gt ge lt le eq ne and or not | where | flush
    maximum minimum sign, which expansion.py replaces by the operations that define them

Coefficients depend only on numbers: the program (numbers.py) evaluates them once a step. A state that is nearly
subnormal (below `Format.smallest_state`, or the value that the node gives) is flushed to zero when it is read and when
it is stored, since arithmetic on subnormal numbers is many times slower.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from adamite.graph.numbers import Program


class Node(NamedTuple):
    """An operation: `args` are indices of earlier nodes; leaves carry a `value`."""

    op: str
    args: tuple[int, ...] = ()
    value: Any = None


class Nodes:
    """A list of nodes that grows; a node that equals an earlier one isn't added again."""

    def __init__(self) -> None:
        self._indices: dict[Node, int] = {}

    def add(self, op: str, *args: int, value: Any = None) -> int:
        """The index of the node."""
        node = Node(op, args, _Bits(value) if isinstance(value, float) else value)
        return self._indices.setdefault(node, len(self._indices))

    def __iter__(self) -> Iterator[Node]:
        return iter(self._indices)


class _Bits(float):
    """A float that equals another by its bits: 0.0 and -0.0 are two constants, NaN is one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bits) and self.hex() == other.hex() and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(self.hex())


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


def under(nodes: Sequence[Node], roots: Iterable[int], without: Collection[int] = ()) -> set[int]:
    """The nodes that are needed to compute the roots, and these, if those in `without` are there already."""
    needed = set(roots).difference(without)
    for index in range(len(nodes) - 1, -1, -1):
        if index in needed:
            needed.update(a for a in nodes[index].args if a not in without)
    return needed
