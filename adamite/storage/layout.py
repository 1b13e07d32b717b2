"""How the tensors of one update are stored: the parameter's format and rounding, and the formats of its states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from adamite.storage.bfloat16 import BFLOAT16
from adamite.storage.eight_bit import EightBit
from adamite.storage.float16 import FLOAT16
from adamite.storage.format import FLOAT32, FLOAT64, Format
from adamite.storage.random import BLOCK

Rounding = Literal["nearest", "stochastic", "kahan"]
TOGETHER = "8bit"  # the random words of 8-bit states
COMPENSATION = "compensation"  # what a bfloat16 parameter couldn't hold, in bfloat16 beside it


class Layout(NamedTuple):
    """What a kernel is compiled for. States that aren't named are stored in the format that is computed in."""

    x: Format
    states: tuple[tuple[str, Format], ...] = ()
    rounding: Rounding = "nearest"  # of a bfloat16 parameter
    wide: Format | None = None  # the gradient's, if the parameter's can't hold it

    @property
    def g(self) -> Format:
        """The gradient's format."""
        return self.wide or self.x

    @property
    def compute(self) -> Format:
        """The format that a step is computed in: float64 if parameter or gradient is."""
        return self.x.compute if self.x.compute.itemsize >= self.g.compute.itemsize else self.g.compute

    def of(self, name: str) -> Format:
        """How an input of a graph is stored."""
        if name in ("x", "g"):
            return self.x if name == "x" else self.g
        return dict(self.states).get(name, self.x.compute)

    def with_gradient(self, gradient: Format) -> Layout:
        """The same layout with gradients of this format, if the parameter's can't hold them."""
        return self._replace(wide=gradient if gradient in _WIDER[self.x] else None)

    @property
    def blocks(self) -> bool:
        """Whether kernels work block by block: random words and scales belong to blocks."""
        return bool(self.states) or self.rounding != "nearest"

    def formats(self, inputs: Sequence[str]) -> dict[str, Format]:
        """The formats of a graph's inputs, and of the compensation if there is one."""
        return {name: self.of(name) for name in inputs} | dict.fromkeys(self._beside, BFLOAT16)

    def draws(self, outputs: Sequence[str]) -> dict[str, int]:
        """The outputs that are rounded at random, numbered: each has its own words, but 8-bit states share theirs."""
        eight = any(isinstance(self.of(name), EightBit) for name in outputs)
        narrow = [n for n in outputs if self.of(n) is BFLOAT16 and (n != "x" or self.rounding == "stochastic")]
        return {name: k for k, name in enumerate([*[TOGETHER] * eight, *narrow])}

    @property
    def unit(self) -> int:
        """Elements of one unit of a job's work."""
        return BLOCK if self.blocks else 1

    def units(self, elements: int) -> int:
        return -(-elements // self.unit)

    def pairs(self, names: Sequence[str]) -> bool:
        """Whether all of these that aren't 8-bit are bfloat16: then they are read as words of two elements."""
        return self.blocks and all(isinstance(self.of(n), EightBit) or self.of(n) is BFLOAT16 for n in names)

    @property
    def native(self) -> bool:
        """Whether there is machine code for it: not if only the gradient needs float64."""
        return self.compute is self.x.compute

    @property
    def more(self) -> tuple[str, ...]:
        """The columns of a job after those of the graph's inputs."""
        return (*self._beside, "elements", "seed") if self.blocks else ()

    @property
    def _beside(self) -> tuple[str, ...]:
        return (COMPENSATION,) * (self.rounding == "kahan")


# Formats that hold numbers which a parameter's can't.
_WIDER: dict[Format, tuple[Format, ...]] = {
    FLOAT16: (BFLOAT16, FLOAT32, FLOAT64),
    BFLOAT16: (FLOAT16, FLOAT32, FLOAT64),
    FLOAT32: (FLOAT64,),
    FLOAT64: (),
}
