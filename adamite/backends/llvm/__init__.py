"""The graph as machine code for this processor: LLVM's language as text, compiled in memory.

No fast-math, no contraction, no reassociation: the bits are those of the NumPy backend.
"""

from __future__ import annotations

import platform

from adamite.backends.backend import Kernel
from adamite.codegen.compiler import compile, cpu_name
from adamite.codegen.job import CHUNK
from adamite.graph.nodes import Graph
from adamite.storage import Format, Layout


def machine() -> str:
    """This processor's architecture: x86_64, aarch64, ..."""
    return platform.machine()


def step_text(graph: Graph, layout: Layout, target: str | None = None, processor: str | None = None) -> str:
    """The kernel that updates every tensor of a job, as LLVM's text; for this processor unless another is named."""
    target = target or machine()
    if layout.blocks:
        from adamite.backends.llvm import blocks

        return blocks.step_text(graph, layout, target, cpu_name() if processor is None else processor)
    from adamite.backends.llvm import elements

    return elements.step_text(graph, layout, target)


class LLVM:
    """Machine code for this processor. See `Backend`."""

    def step(self, graph: Graph, layout: Layout) -> Kernel:
        return _compiled(step_text(graph, layout), layout.unit)

    def squares(self, format: Format) -> Kernel:
        from adamite.backends.llvm.squares import squares_text

        return _compiled(squares_text(format, machine()), CHUNK)

    def catch_up(self, graph: Graph, format: Format, width: int) -> Kernel:
        from adamite.backends.llvm.catch_up import catch_up_text

        return _compiled(catch_up_text(graph, format, width, machine()), 1)

    def fingerprints(self, format: Format) -> Kernel:
        from adamite.backends.llvm.fingerprints import fingerprints_text

        return _compiled(fingerprints_text(format, machine()), 1)


def _compiled(text: str, unit: int) -> Kernel:
    code = compile(text)
    return Kernel(code.call, code.call_held, unit, code)
