"""The interface of the backends whose kernels work on jobs, and the contract of those kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from adamite.codegen.job import Call
from adamite.graph.nodes import Graph
from adamite.storage import Format, Layout

if TYPE_CHECKING:
    from adamite.codegen.compiler import Compiled

BackendName = Literal["llvm", "numpy"]


class Kernel(NamedTuple):
    """What a backend makes: a function of a job's address.

    It does the units of the job that are left, claiming `grain` of them at a time by adding to the counter; a unit is
    `unit` elements. It reads what the job's columns point at and writes only the graph's outputs, each element from
    that element's inputs. An output may lie where an input does, and the gradient may be the parameter. It allocates
    nothing and never calls back into Python, unless it is the NumPy backend's. It sets the floating-point mode that it
    needs and restores the caller's. `call_held` keeps the GIL.
    """

    call: Call
    call_held: Call
    unit: int
    code: Compiled | None = None  # owns the machine code; None if a call can't be interrupted and continued


class Backend(Protocol):
    """Makes kernels. The kernels of all backends have the bits of the NumPy backend's."""

    def step(self, graph: Graph, layout: Layout, /) -> Kernel:
        """The kernel that updates every tensor of a job: length, coefficients, x, g, states, and `layout.more`."""

    def squares(self, format: Format, /) -> Kernel:
        """The kernel that sums squares: chunks, elements, g, where the sums go."""

    def catch_up(self, graph: Graph, format: Format, width: int, /) -> Kernel:
        """The kernel that does steps with gradients of zero, on `width` elements at once (columns: jobs.py)."""

    def fingerprints(self, format: Format, /) -> Kernel:
        """The kernel that computes one word from what a row holds (columns: jobs.py)."""
