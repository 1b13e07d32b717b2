"""What a graph becomes: machine code, NumPy's arithmetic, a framework's operations, print."""

from __future__ import annotations

from adamite.backends.backend import Backend, BackendName


def named(name: BackendName) -> Backend:
    """The backend of a name. It is imported here, since most programs need only one, and only for an optimizer."""
    if name == "llvm":
        from adamite.backends.llvm import LLVM

        return LLVM()
    if name == "numpy":
        from adamite.backends.numpy import NumPy

        return NumPy()
    raise ValueError(f"there is no backend {name!r}")
