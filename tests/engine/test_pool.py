"""Threads woken by bare locks: every unit of a job is done once, whoever comes and whatever is raised."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from adamite.engine import pool
from tests.support import python


class Work:
    """A call that counts: its units are claimed one by one until none is left.

    Each thread's first unit waits until so many threads are here, and the last one of all for an event, if given.
    """

    def __init__(self, units: int, threads: int = 1, end: threading.Event | None = None) -> None:
        self.left, self.done, self.lock = units, 0, threading.Lock()
        self.threads: set[int] = set()
        self.here, self.end = threading.Barrier(threads), end

    def __call__(self, address: int) -> None:
        while True:
            with self.lock:
                if not self.left:
                    return
                self.left -= 1
                last = self.left == 0
                first = threading.get_ident() not in self.threads
                self.threads.add(threading.get_ident())
            if first:
                self.here.wait(60)
            if last and self.end:
                assert self.end.wait(60)
            time.sleep(0.001)  # as native code, it lets others run
            with self.lock:
                self.done += 1


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_all_is_done_by_as_many_threads(count: int) -> None:
    work = Work(60, count)
    pool.run(work, 0, count)
    assert work.done == 60 and len(work.threads) == count


def test_a_hundred_runs_end() -> None:
    for _ in range(100):
        work = Work(2)
        pool.run(work, 0, 3)
        assert work.done == 2


def test_whoever_comes_while_the_workers_are_busy_works_alone() -> None:
    end = threading.Event()
    first, second = Work(40, 3, end), Work(40)
    thread = threading.Thread(target=pool.run, args=(first, 0, 3))
    thread.start()
    while len(first.threads) < 3:
        time.sleep(0.001)
    pool.run(second, 0, 3)
    assert (second.done, second.threads) == (40, {threading.get_ident()})
    end.set()
    thread.join()
    assert first.done == 40


class Stop(Exception):
    pass


@pytest.fixture
def alarm() -> Iterator[threading.Event]:
    """Set when the signal came, which raises."""
    came = threading.Event()

    def stop(*_: object) -> None:
        came.set()
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    yield came
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_what_a_signal_raises_waits_for_all(alarm: threading.Event) -> None:
    """Early, when threads are woken; in the middle; and while this one waits for the others."""
    for number in range(30):
        alarm.clear()
        work = Work(30, end=alarm)
        with pytest.raises(Stop):
            signal.setitimer(signal.ITIMER_REAL, 1e-5 + number * 5e-4)
            pool.run(work, 0, 3)
        with work.lock:
            running = work.done + work.left
        assert running >= 29  # the call of this thread that was interrupted may have lost its unit
        work = Work(30, 3)  # for which all are free again
        pool.run(work, 0, 3)
        assert work.done == 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_makes_its_own_workers() -> None:
    done = python(  # with no threads of other libraries about
        """
        import os, warnings
        warnings.simplefilter("ignore")
        from adamite.engine import pool
        from tests.engine.test_pool import Work

        pool.run(Work(10), 0, 3)
        child = os.fork()
        if not child:
            work = Work(10, 3)
            pool.run(work, 0, 3)
            os._exit(0 if work.done == 10 and len(work.threads) == 3 else 1)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert done.returncode == 0, done.stderr
