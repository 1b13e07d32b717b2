"""The graph in NumPy, block by block: the bit-exact reference of llvm/blocks.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adamite.backends.numpy.elements import claims, evaluate, view
from adamite.codegen.job import CHUNK
from adamite.graph.nodes import Graph
from adamite.graph.passes import scaled
from adamite.storage import BFLOAT16, COMPENSATION, TOGETHER, Array, EightBit, Layout
from adamite.storage.eight_bit import LIMIT_BITS, codable
from adamite.storage.random import BLOCK, VECTORS, hashed, places

_BYTE, _FLOAT = np.dtype(np.uint8), np.dtype(np.float32)


class Step:
    """A kernel that updates every tensor of a job."""

    def __init__(self, graph: Graph, layout: Layout) -> None:
        self.graph, self.layout = scaled(graph, layout), layout
        self.columns = [*graph.inputs, *layout.more]
        formats = layout.formats(graph.inputs)
        self.eight = {name: f for name, f in formats.items() if isinstance(f, EightBit)}
        self.plain = {name: f for name, f in formats.items() if name not in self.eight}
        self.draws = layout.draws([name for name, _ in graph.outputs])
        self.vectors, self.lanes = places(layout.pairs([*formats]))

    def __call__(self, address: int) -> None:
        for row, begin, end in claims(address, 2 + len(self.columns)):
            numbers = view(row[1], self.graph.coefficient_count + 1, _FLOAT)
            step = int(numbers[-1:].view(np.uint32)[0])
            words = {n: hashed(np.arange(VECTORS) + k * VECTORS, step)[self.vectors] for n, k in self.draws.items()}
            cells = dict(zip(self.columns, row[2:], strict=True))
            for first in range(begin, end, CHUNK // BLOCK):
                blocks = np.arange(first, min(first + CHUNK // BLOCK, end))
                drawn = hashed(blocks[:, None] * VECTORS + np.arange(VECTORS), cells["seed"])[:, self.lanes]
                self._step(cells, row[0], blocks, numbers, {name: drawn ^ word for name, word in words.items()})

    def _step(
        self, cells: Mapping[str, int], length: int, blocks: Array, numbers: Array, random: Mapping[str, Array]
    ) -> None:
        """Update some blocks of one tensor, which is `length` blocks long."""
        at, shape = int(blocks[0]) * BLOCK, (blocks.size, BLOCK)
        size = min(blocks.size * BLOCK, cells["elements"] - at)
        parts = {name: view(cells[name] + at * f.itemsize, size, f.dtype) for name, f in self.plain.items()}
        tensors: dict[str, Array] = {}
        for name, format in self.plain.items():
            padded = np.zeros(blocks.size * BLOCK, np.float32)
            padded[:size] = format.widen(parts[name])
            tensors[name] = padded.reshape(shape)
        if COMPENSATION in tensors:
            tensors["x"] = BFLOAT16.whole(tensors["x"], tensors[COMPENSATION])
        codes = {name: view(cells[name] + at, blocks.size * BLOCK, _BYTE).reshape(shape) for name in self.eight}
        after = length * BLOCK + int(blocks[0])
        exponents = {name: view(cells[name] + after, blocks.size, _BYTE) for name in self.eight}
        tensors |= {name: f.raw(codes[name]) for name, f in self.eight.items()}
        scales = {name: f.factor(exponents[name]) for name, f in self.eight.items()}

        new = evaluate(self.graph, tensors, numbers, self.layout.compute, scales)
        new = {name: np.broadcast_to(value, shape) for name, value in new.items()}
        bad = self._bad([(f, new[name]) for name, f in self.eight.items()])
        for name, form in self.eight.items():
            values = np.where(bad, np.float32(0), new[name])
            codes[name][...], exponents[name][...] = form.codes(values, random[TOGETHER])
        for name in new.keys() - self.eight.keys():
            self._store(name, parts, new[name], random.get(name))

    def _bad(self, states: Sequence[tuple[EightBit, Array]]) -> Array | bool:
        """The elements with a state that isn't finite, in blocks whose largest magnitude shows that there is one."""
        if not states:
            return False
        seen = np.any([form.largest(values) >= LIMIT_BITS for form, values in states], axis=0)
        bad: Array = ~np.all([codable(values) for _, values in states], axis=0) & seen[:, None]
        return bad

    def _store(self, name: str, parts: Mapping[str, Array], values: Array, random: Array | None) -> None:
        size, format = parts[name].size, self.plain[name]
        stored = BFLOAT16.narrow(values, random) if format is BFLOAT16 else format.narrow(values)
        parts[name][...] = stored.reshape(-1)[:size]
        if name == "x" and COMPENSATION in parts:
            parts[COMPENSATION][...] = BFLOAT16.compensation(values, stored).reshape(-1)[:size]
