"""Many trainings at once: on this machine's cores, or on a cluster's.

Each of our processes is a pool of one: when it dies, it is known which training it died with. That training is tried
again, and reported where it fails for good.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Generic, TypeVar

from adamite.lab import fault

Job = TypeVar("Job")
ATTEMPTS = 3
DIED = "its process died, as when it is killed or out of memory"
_LIMITS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ADAMITE_THREADS"
ONE_THREAD = dict.fromkeys(_LIMITS, "1")


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


def local(work: Callable[[Job], Any], jobs: Sequence[Job], processes: int) -> Generator[Done[Job]]:
    """Do all jobs, each process one at a time, with one thread: so results don't depend on how many there are.

    Args:
        work: a function that pickle finds by its name, or a partial of one.
        jobs: what it is called with, one by one.
        processes: how many at once, at least 1.

    Returns:
        The jobs in the order in which they end. What a job raises is its failure, and so is a death of its process that
        happens ATTEMPTS times; neither stops the others.
    """
    waiting = [(job, 1) for job in reversed(jobs)]
    running: dict[Future[Any], tuple[Job, int, ProcessPoolExecutor]] = {}
    with contextlib.ExitStack() as opened:
        free: list[ProcessPoolExecutor | None] = [None] * min(processes, len(jobs))  # None: not begun, or dead
        while waiting or running:
            while waiting and free:
                job, attempt = waiting.pop()
                process = free.pop() or opened.enter_context(_process())
                try:
                    with starting():
                        future = process.submit(guarded, pickle.dumps((work, job)))
                except BrokenProcessPool:  # it died after its last job, through no fault of this one
                    free.append(None)
                    waiting.append((job, attempt))
                    continue
                running[future] = job, attempt, process
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, attempt, process = running.pop(future)
                try:
                    result, failure = future.result()
                    free.append(process)
                except BrokenProcessPool:
                    free.append(None)
                    if attempt < ATTEMPTS:
                        waiting.append((job, attempt + 1))
                        continue
                    result, failure = None, DIED
                yield Done(job, result, failure, attempt)


@contextlib.contextmanager
def _process() -> Iterator[ProcessPoolExecutor]:
    """A process, begun with its first job; it ends at the end, at once if that is an error or Ctrl-C."""
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin)
    try:
        yield pool
    except BaseException:
        for child in list((pool._processes or {}).values()):
            child.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """A process that begins meanwhile has one thread, and leaves Ctrl-C to us before it has come to `begin`."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]) if hasattr(signal, "pthread_sigmask") else None
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if held is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)


def begin() -> None:
    """Leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def guarded(packed: bytes) -> tuple[Any, str | None]:
    """The result of a pickled (work, job), or the words of what went wrong, from finding it to packing what it gave.

    What is printed on the way goes to stderr: stdout has the command's own words.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            work, job = pickle.loads(packed)
            result = work(job)
        pickle.dumps(result)
        return result, None
    except BaseException as error:  # SystemExit too, which would end the parent where the result is awaited
        return None, fault.words(error)
