"""The threads that large jobs run on: how many, and whose."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from adamite.backends.backend import Kernel
from adamite.engine import pool


def _available() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Crew(NamedTuple):
    """Threads that do one call together; it must be safe to repeat the call."""

    run: Callable[[Kernel, int, int], None]  # a kernel on the job at an address, on so many threads
    size: Callable[[], int]  # how many there are by default
    worth: int  # elements from which on waking them saves more than it costs


OWN = Crew(lambda kernel, address, count: pool.run(kernel.call, address, count), _available, 200_000)
_crew = OWN


def employ(crew: Crew) -> None:
    """From now on large steps run on these threads."""
    global _crew
    _crew = crew


def _from_environment() -> int:
    text = os.environ.get("ADAMITE_THREADS", "")
    if not text:
        return _crew.size()
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ValueError(f"ADAMITE_THREADS must be a whole number of at least 1, got {text!r}")
    return int(text)


_threads: int | None = None


def threads() -> int:
    """How many threads large steps use: by `set_threads`, else by ADAMITE_THREADS, else all available cores.

    With `adamite.torch` they are torch's own threads, and as many as `torch.get_num_threads()` says.
    """
    return _from_environment() if _threads is None else _threads


def set_threads(count: int | None) -> None:
    """Set how many threads large steps use; None goes back to the environment's setting.

    Raises:
        ValueError: for a count below 1.

    >>> set_threads(2)
    >>> threads()
    2
    >>> set_threads(None)
    """
    global _threads
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"set_threads takes a whole number of at least 1, or None; got {count!r}")
    _threads = count


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Inside, large steps use so many threads."""
    before = _threads
    set_threads(count)
    try:
        yield
    finally:
        set_threads(before)


def crew() -> Crew:
    """The threads that large steps run on."""
    return _crew
