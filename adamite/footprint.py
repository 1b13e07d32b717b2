"""The memory of a training before it starts: weights, gradients and states, for each format of the states."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from adamite.errors import counted
from adamite.frontend.about import about
from adamite.frontend.catalogue import TORCH
from adamite.language.rule import Rule
from adamite.language.update import Update
from adamite.numpy import optimizer as class_of
from adamite.storage import BFLOAT16, COMPENSATION, FLOAT16, FLOAT32, FLOAT64, EightBit, Format, choice, safetensors
from adamite.storage.choice import StateDtype, Storage

FORMATS: dict[str, Format] = {
    **{format.name: format for format in (FLOAT16, BFLOAT16, FLOAT32, FLOAT64)},
    "complex64": FLOAT32,  # as pairs of real numbers
    "complex128": FLOAT64,
}
DTYPES = ("float32", "bfloat16", "float16", "float64")  # that weights can be converted to
STEP, SCALAR = 4, 8  # bytes of a tensor's step number and of a Scalar state, in adamite.torch
_UNCOUNTED = {spelling.convention.rule for spelling in TORCH.values() if not spelling.counts}
HEADERS = ("type", "rounding", "state", "weights", "gradients", "states", "total", "B/param")


class Weight(NamedTuple):
    """A tensor of a model; if it isn't trained, it has no gradient and no states."""

    dtype: str
    elements: int
    nbytes: int
    trained: bool = True

    @property
    def format(self) -> Format | None:
        """Its storage format, if adamite can train it."""
        return FORMATS.get(self.dtype) if self.trained else None

    def to(self, dtype: str) -> Weight:
        """The tensor converted to another type; integers and complex numbers keep theirs."""
        if self.dtype not in DTYPES:
            return self
        return self._replace(dtype=dtype, nbytes=self.elements * FORMATS[dtype].itemsize)


def stored(format: Format, elements: int) -> int:
    """The bytes of this number of elements in a format."""
    return format.length(elements) if isinstance(format, EightBit) else elements * format.itemsize


def state_bytes(update: Update, weight: Weight, storage: Storage) -> int:
    """The bytes of an optimizer's state for one tensor: states, compensation, step number, scalars."""
    if weight.format is None:
        return 0
    pair = weight.dtype.startswith("complex")
    layout = choice.layout(
        update, weight.format, weight.elements, storage._replace(state="float32") if pair else storage
    )
    formats = [*map(layout.of, update.states), *[BFLOAT16] * (COMPENSATION in layout.more)]
    counts = update.rule not in _UNCOUNTED or layout.blocks  # random bits are drawn by the step number
    numbers = STEP * counts + SCALAR * len(update.scalars)
    return sum(stored(format, weight.elements * (1 + pair)) for format in formats) + numbers


@dataclass(frozen=True)
class Row:
    """One choice, in bytes."""

    dtype: str  # of the trained weights
    rounding: str  # of bfloat16 weights
    state: str
    weights: int
    gradients: int
    states: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.states


@dataclass(frozen=True)
class Memory:
    """The memory of training a model with an optimizer, a row for each choice; it prints as a table."""

    optimizer: str
    parameters: int  # the number of trained elements
    tensors: int
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        return f"{self.optimizer}: {counted(self.parameters, 'parameter')} in {counted(self.tensors, 'tensor')}"

    @property
    def cells(self) -> list[tuple[str, ...]]:
        """The table under HEADERS."""
        return [
            (
                *(row.dtype, row.rounding, row.state),
                *map(shown, (row.weights, row.gradients, row.states, row.total)),
                f"{row.total / self.parameters:.2f}",
            )
            for row in self.rows
        ]

    @property
    def verdict(self) -> str:
        """How much the smallest choice saves compared with the first."""
        first, least = self.rows[0], min(self.rows, key=lambda row: row.total)
        if least.total == first.total:
            return "There is no smaller choice than the first."
        chosen = ", ".join(filter(None, (least.dtype, least.rounding, least.state)))
        saved = first.total - least.total
        return f"The smallest saves {shown(saved)} of {shown(first.total)} ({saved / first.total:.0%}): {chosen}."

    def __str__(self) -> str:
        rows = [HEADERS, *self.cells]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            "  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
            for row in rows
        ]
        return "\n".join([self.title, "", *(line.rstrip() for line in lines), "", self.verdict])


def memory(model: Any, optimizer: str | Rule = "adamw", dtype: str | None = None) -> Memory:
    """Predict the memory of a training: weights, gradients, and states in each storage format.

    Args:
        model: a torch module, a built Keras model, arrays or tensors in any nesting, or the path of a .safetensors
            file, its index or their folder. Integers, and tensors that require no gradient, have no states.
        optimizer: a name such as "adamw", or a rule.
        dtype: the type that the weights are converted to: "float32", "bfloat16", "float16" or "float64"; by default
            their own, and float32 weights are shown in bfloat16 too.

    Returns:
        A `Memory`, which prints as a table. Activations and the allocator's overhead are not counted.

    Raises:
        ValueError, TypeError: an argument isn't known, or nothing is trained.

    >>> import adamite, numpy as np
    >>> print(adamite.memory({"w": np.zeros((1000, 1000), np.float32)}, "lion"))
    Lion: 1,000,000 parameters in 1 tensor
    <BLANKLINE>
    type      rounding    state     weights  gradients   states    total  B/param
    float32               float32   4.00 MB    4.00 MB  4.00 MB  12.0 MB    12.00
    float32               bfloat16  4.00 MB    4.00 MB  2.00 MB  10.0 MB    10.00
    float32               8bit      4.00 MB    4.00 MB  1.00 MB  9.00 MB     9.00
    bfloat16  stochastic  float32   2.00 MB    2.00 MB  4.00 MB  8.00 MB     8.00
    bfloat16  stochastic  bfloat16  2.00 MB    2.00 MB  2.00 MB  6.00 MB     6.00
    bfloat16  stochastic  8bit      2.00 MB    2.00 MB  1.00 MB  5.00 MB     5.00
    bfloat16  kahan       float32   2.00 MB    2.00 MB  6.00 MB  10.0 MB    10.00
    bfloat16  kahan       bfloat16  2.00 MB    2.00 MB  4.00 MB  8.00 MB     8.00
    bfloat16  kahan       8bit      2.00 MB    2.00 MB  3.00 MB  7.00 MB     7.00
    <BLANKLINE>
    The smallest saves 7.00 MB of 12.0 MB (58%): bfloat16, stochastic, 8bit.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"memory: dtype must be one of {', '.join(map(repr, DTYPES))}, or None; got {dtype!r}")
    cls = class_of(optimizer)
    it = about(cls.__name__, cls.conventions())
    weights = list(_weights(model))
    trained = [w for w in weights if w.format is not None]
    parameters = sum(w.elements for w in trained)
    if not parameters:
        raise ValueError(
            f"memory: of {counted(len(weights), 'tensor')} none can be trained; give a built model, or float tensors"
        )
    if dtype is not None:
        kinds: tuple[str | None, ...] = (dtype,)
    else:
        kinds = (None, "bfloat16") if any(w.dtype == "float32" for w in trained) else (None,)
    seen = [weights if kind is None else [w.to(kind) for w in weights] for kind in kinds]
    rows = [row for each in seen for row in _rows(it.update, each)]
    return Memory(it.name, parameters, len(trained), tuple(rows))


def _rows(update: Update, weights: list[Weight]) -> Iterator[Row]:
    """A row for each combination of rounding and state format in which these weights can be trained."""
    formats = [w.format for w in weights if w.format is not None]
    types = {w.dtype for w in weights if w.format is not None}
    computed = {format.compute.name for format in formats}
    narrow = computed == {"float32"} and bool(update.states)
    states: tuple[StateDtype, ...] = get_args(StateDtype) if narrow else ("float32",)
    wide = _one(computed) if update.states else "none"
    # Rounding to nearest takes as many bytes as stochastic rounding, but loses small steps.
    for rounding in ("stochastic", "kahan") if BFLOAT16 in formats else ("",):
        for state in states:
            storage = Storage(state, rounding or "nearest")
            yield Row(
                dtype=_one(types),
                rounding=rounding,
                state=state if narrow else wide,
                weights=sum(w.nbytes for w in weights),
                gradients=sum(w.nbytes for w in weights if w.format is not None),
                states=sum(state_bytes(update, w, storage) for w in weights),
            )


def _one(names: set[str]) -> str:
    return next(iter(names)) if len(names) == 1 else "mixed"


def shown(count: int) -> str:
    """Bytes to three digits, in units of powers of a thousand."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    digits = 0 if units[0] == "B" else max(0, 2 - int(math.log10(max(size, 1))))
    return f"{size:.{digits}f} {units[0]}"


# ---- models ----------------------------------------------------------------------------------------


def _weights(model: Any) -> Iterator[Weight]:
    """The tensors of a model, recognized by their attributes, so that no framework is imported."""
    if isinstance(model, (str, os.PathLike)):
        yield from (Weight(e.dtype, e.elements, e.nbytes) for e in safetensors.read(Path(model)))
    elif callable(getattr(model, "parameters", None)):  # torch
        yield from (_weight(p, p.requires_grad) for p in model.parameters())
        yield from (_weight(b, False) for b in getattr(model, "buffers", tuple)())
    elif hasattr(model, "trainable_variables"):  # Keras
        trained = set(map(id, model.trainable_variables))
        yield from (_weight(v, id(v) in trained) for v in model.variables)
    else:
        leaves = list({id(leaf): leaf for leaf in _leaves(model)}.values())
        some = any(getattr(leaf, "requires_grad", False) for leaf in leaves)  # in a state_dict none does
        yield from (_weight(leaf, not some or leaf.requires_grad) for leaf in leaves)


def _leaves(nesting: Any) -> Iterator[Any]:
    if hasattr(nesting, "shape") and hasattr(nesting, "dtype"):
        yield nesting
    elif isinstance(nesting, Mapping):
        yield from (leaf for value in nesting.values() for leaf in _leaves(value))
    elif isinstance(nesting, Iterable) and not isinstance(nesting, (str, bytes)):
        yield from (leaf for value in nesting for leaf in _leaves(value))
    else:
        raise TypeError(f"memory takes a model, or arrays and tensors in any nesting; got {nesting!r:.60} in it")


def _weight(tensor: Any, trained: bool) -> Weight:
    dtype = str(getattr(tensor.dtype, "name", tensor.dtype)).removeprefix("torch.")
    elements = math.prod(tensor.shape)
    nbytes = getattr(tensor, "nbytes", None)
    return Weight(dtype, elements, elements * _itemsize(dtype) if nbytes is None else int(nbytes), trained)


def _itemsize(dtype: str) -> int:
    """Bytes per element, for tensors without `nbytes`."""
    if dtype == "bfloat16":
        return 2
    return 1 if dtype.startswith("float8") else int(np.dtype(dtype).itemsize)
