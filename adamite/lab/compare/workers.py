"""Many trainings at once: on this machine's cores, or on a cluster's.

Each of our processes is a pool of one: when it dies, it is known which training it died with. That training is tried
again, and reported where it fails for good.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
ATTEMPTS = 3
_LIMITS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ADAMITE_THREADS"
_ONE_THREAD = dict.fromkeys(_LIMITS, "1")


@dataclass(frozen=True)
class Done(Generic[Job]):
    """A job that came to its end: its result, or the words of its failure."""

    job: Job
    result: Any
    failure: str | None
    attempts: int


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local(work: Callable[[Job], Any], jobs: Sequence[Job], processes: int) -> Iterator[Done[Job]]:
    """Do all jobs, each process one at a time, with one thread: so results don't depend on how many there are."""
    waiting = [(job, 1) for job in reversed(jobs)]
    running: dict[Future[Any], tuple[Job, int, ProcessPoolExecutor]] = {}
    with _environment(_ONE_THREAD), contextlib.ExitStack() as opened:
        free = [_process(opened) for _ in range(min(processes, len(jobs)))]
        try:
            while waiting or running:
                while waiting and free:
                    job, attempt = waiting.pop()
                    process = free.pop()
                    running[process.submit(_guarded, work, job)] = job, attempt, process
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job, attempt, process = running.pop(future)
                    try:
                        result, failure = future.result()
                    except BrokenProcessPool:
                        free.append(_process(opened))
                        if attempt < ATTEMPTS:
                            waiting.append((job, attempt + 1))
                            continue
                        result, failure = None, "its process died, as when it is killed or out of memory"
                    else:
                        free.append(process)
                    yield Done(job, result, failure, attempt)
        except BaseException:
            for _, _, process in running.values():
                for child in list((process._processes or {}).values()):
                    child.kill()
            raise


def _process(opened: contextlib.ExitStack) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, context, _begin)
    opened.callback(pool.shutdown, wait=True, cancel_futures=True)
    return pool


def _begin() -> None:
    """Leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _guarded(work: Callable[[Any], Any], job: Any) -> tuple[Any, str | None]:
    """The result, or the words of what went wrong."""
    try:
        return work(job), None
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return None, f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes that begin meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
