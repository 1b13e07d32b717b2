"""How the tensors of one update rest: the parameter's format and rounding, and the formats of its states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from adamite.storage.bfloat16 import BFLOAT16
from adamite.storage.eight_bit import EightBit
from adamite.storage.format import Format
from adamite.storage.random import BLOCK

Rounding = Literal["nearest", "stochastic", "kahan"]
COMPENSATION = "compensation"  # what a bfloat16 parameter couldn't hold, in bfloat16 beside it


class Layout(NamedTuple):
    """What a kernel is compiled for. States that aren't named rest as they are computed."""

    x: Format  # and the gradient's
    states: tuple[tuple[str, Format], ...] = ()
    rounding: Rounding = "nearest"  # of a bfloat16 parameter

    @property
    def compute(self) -> Format:
        return self.x.compute

    def of(self, name: str) -> Format:
        """How an input of a graph is stored."""
        return self.x if name in ("x", "g") else dict(self.states).get(name, self.compute)

    @property
    def blocks(self) -> bool:
        """Whether it is read block by block: what is drawn at random, or has a scale, belongs to one."""
        return bool(self.states) or self.rounding != "nearest"

    def draws(self, name: str) -> bool:
        """Whether an output of the graph is rounded at random by itself; 8-bit states draw together."""
        return self.of(name) is BFLOAT16 and (name != "x" or self.rounding == "stochastic")

    @property
    def unit(self) -> int:
        """Elements of one unit of a job's work."""
        return BLOCK if self.blocks else 1

    def units(self, elements: int) -> int:
        return -(-elements // self.unit)

    def pairs(self, names: Sequence[str]) -> bool:
        """Whether all of these that isn't 8-bit is bfloat16: then it is read as words of two elements."""
        return self.blocks and all(isinstance(self.of(n), EightBit) or self.of(n) is BFLOAT16 for n in names)

    @property
    def more(self) -> tuple[str, ...]:
        """The columns of a job behind those of the graph's inputs."""
        return (*[COMPENSATION] * (self.rounding == "kahan"), "elements", "seed") if self.blocks else ()
