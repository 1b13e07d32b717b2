"""Kernels, each made once and then cached, and the choice of the backend."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args

from adamite.backends import named
from adamite.backends.backend import Backend, BackendName, Kernel
from adamite.graph.lowering import lower
from adamite.language.update import Update
from adamite.storage import Format, Layout


@functools.cache
def step_kernel(update: Update, layout: Layout, backend: BackendName) -> Kernel:
    """The kernel of `Backend.step`."""
    return _made(backend, lambda makes: makes.step(lower(update), layout))


@functools.cache
def squares_kernel(format: Format, backend: BackendName) -> Kernel:
    """The kernel of `Backend.squares`."""
    return _made(backend, lambda makes: makes.squares(format))


@functools.cache
def catch_up_kernel(update: Update, format: Format, width: int, backend: BackendName) -> Kernel:
    """The kernel of `Backend.catch_up`."""
    return _made(backend, lambda makes: makes.catch_up(lower(update), format, width))


@functools.cache
def fingerprint_kernel(format: Format, backend: BackendName) -> Kernel:
    """The kernel of `Backend.fingerprints`."""
    return _made(backend, lambda makes: makes.fingerprints(format))


def _made(backend: BackendName, kernel: Callable[[Backend], Kernel]) -> Kernel:
    """A kernel of a backend; the NumPy backend's if nothing can be compiled."""
    try:
        return kernel(named(backend))
    except NotImplementedError:
        raise  # a bug of ours, not a broken installation
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        if backend == "numpy":
            raise
        _warn(f"{type(error).__name__}: {error}")
    return kernel(named("numpy"))


@functools.cache
def _warn(problem: str) -> None:
    warnings.warn(
        f"adamite can't compile here ({problem}); the same steps run in NumPy, several times slower. "
        "Reinstall llvmlite to mend it",
        RuntimeWarning,
        stacklevel=2,
    )


_forced: BackendName | None = None


def default_backend() -> BackendName:
    """llvm, unless `using` or ADAMITE_BACKEND says numpy."""
    name = _forced or os.environ.get("ADAMITE_BACKEND") or "llvm"
    names: tuple[BackendName, ...] = get_args(BackendName)
    if name not in names:
        raise ValueError(f"ADAMITE_BACKEND must be {' or '.join(names)}, got {name!r}")
    return name


@contextmanager
def using(backend: BackendName) -> Iterator[None]:
    """Optimizers made inside run on this backend, for comparing the machine code with its reference."""
    global _forced
    before, _forced = _forced, backend
    try:
        yield
    finally:
        _forced = before
