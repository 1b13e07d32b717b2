"""Many trainings at once: on this machine's cores, or on a cluster's.

Each of our processes is a pool of one, so if it dies, we know which training it was running. That training is retried,
and reported if it keeps failing.
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
    """A finished job: its result, or the message of its failure."""

    job: Job
    result: Any
    failure: str | None
    attempts: int


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local(work: Callable[[Job], Any], jobs: Sequence[Job], processes: int) -> Generator[Done[Job]]:
    """Run all jobs. Each process has one thread, so results don't depend on the number of processes.

    Args:
        work: a function that pickle finds by its name, or a partial of one.
        jobs: the arguments of its calls.
        processes: the number of processes, at least 1.

    Returns:
        The jobs in the order in which they end. What a job raises is its failure, and so is a death of its process that
        happens ATTEMPTS times; neither stops the others.
    """
    waiting = [(job, 1) for job in reversed(jobs)]
    running: dict[Future[Any], tuple[Job, int, ProcessPoolExecutor]] = {}
    with contextlib.ExitStack() as opened:
        free: list[ProcessPoolExecutor | None] = [None] * min(processes, len(jobs))  # None: not started, or dead
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
    """A process, started by its first job; on an error or Ctrl-C it is killed."""
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
    """A process started inside has one thread, and ignores Ctrl-C even before `begin` runs in it."""
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
    """Leave Ctrl-C to the parent, and exit when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def guarded(packed: bytes) -> tuple[Any, str | None]:
    """Run a pickled (work, job): its result, or a message if anything fails, from unpickling to pickling the result.

    What it prints goes to stderr, since stdout is the command's.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            work, job = pickle.loads(packed)
            result = work(job)
        pickle.dumps(result)
        return result, None
    except BaseException as error:  # SystemExit too, which would end the waiting parent
        return None, fault.words(error)
