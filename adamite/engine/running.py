"""Running jobs: inline when small, else on threads that claim ranges; Ctrl-C never leaves a step half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from adamite.backends.backend import Kernel
from adamite.codegen.job import GRAIN, Job
from adamite.engine.threads import crew, threads

HOLD = 20_000  # elements below which a call keeps the GIL and isn't shared: it takes a few microseconds
SHARE = 1 << 15  # the least number of elements that a thread claims at a time
_CLAIMS = 4  # about how often a thread claims: seldom, since each range starts cold, but so that no thread waits long


def ready(kernel: Kernel, job: Job) -> None:
    """Raise what would stop `run`: a wrong ADAMITE_THREADS."""
    if job.total * kernel.unit >= crew().worth:
        threads()


def run(kernel: Kernel, job: Job) -> None:
    """Do what is left of a job.

    Ctrl-C may end it with a part of the job done. Another call does what is left, so each unit is done once.
    """
    if kernel.code is None:
        with uninterrupted():  # only machine code can be continued
            job.cells[GRAIN] = max(1, job.total)
            kernel.call(job.address)
        return
    cells, unit = job.cells, kernel.unit
    elements = job.total * unit
    if elements < HOLD:
        cells[GRAIN] = job.total
        kernel.call_held(job.address)
    elif elements < crew().worth or (count := min(threads(), elements // SHARE)) < 2:
        cells[GRAIN] = job.total
        kernel.call(job.address)
    else:
        cells[GRAIN] = max(1, SHARE // unit, job.total // (count * _CLAIMS))
        crew().run(kernel, job.address, count)


def to_the_end(step: Callable[[], None]) -> None:
    """Do a step that can be repeated to do what is left of it; an interrupt (Ctrl-C, a signal) is raised afterwards."""
    try:
        step()
    except BaseException:
        for _ in range(8):
            with suppress(BaseException):
                step()
                break
        raise


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C takes effect at the end of the block."""
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield  # no handler of Python's to hold back, or a thread that Ctrl-C never reaches
        return
    came: list[Any] = []
    signal.signal(signal.SIGINT, lambda *event: came.append(event))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])
