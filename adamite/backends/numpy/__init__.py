"""The graph in NumPy: the bit-exact reference, and what runs where LLVM is missing."""

from __future__ import annotations

from adamite.backends.backend import Kernel
from adamite.backends.numpy import elements
from adamite.codegen.job import CHUNK, Call
from adamite.graph.nodes import Graph
from adamite.storage import Format, Layout


class NumPy:
    """The reference. See `Backend`."""

    def step(self, graph: Graph, layout: Layout) -> Kernel:
        if layout.blocks:
            from adamite.backends.numpy import blocks

            return _kernel(blocks.Step(graph, layout), layout.unit)
        return _kernel(elements.step(graph, layout), layout.unit)

    def squares(self, format: Format) -> Kernel:
        return _kernel(elements.squares(format), CHUNK)

    def catch_up(self, graph: Graph, format: Format, width: int) -> Kernel:
        from adamite.backends.numpy.catch_up import catch_up

        return _kernel(catch_up(graph, format), 1)

    def fingerprints(self, format: Format) -> Kernel:
        from adamite.backends.numpy.fingerprints import fingerprints

        return _kernel(fingerprints(format), 1)


def _kernel(call: Call, unit: int) -> Kernel:
    return Kernel(call, call, unit)
