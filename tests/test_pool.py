"""Threads woken by bare locks: every unit of a job is done once, whoever comes and whatever is raised."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from adamite import pool
from tests.support import python


class Work:
    """A call that counts: each address' units are claimed one by one until none is left."""

    def __init__(self, units: int) -> None:
        self.left, self.done, self.lock = units, 0, threading.Lock()
        self.threads: set[int] = set()

    def __call__(self, address: int) -> None:
        while True:
            with self.lock:
                if not self.left:
                    return
                self.left -= 1
            time.sleep(0.001)  # as native code, it lets others run
            with self.lock:
                self.done += 1
                self.threads.add(threading.get_ident())


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_all_is_done_by_as_many_threads(count: int) -> None:
    work = Work(60)
    pool.run(work, 0, count)
    assert work.done == 60 and len(work.threads) == count


def test_a_hundred_runs_end() -> None:
    for _ in range(100):
        work = Work(2)
        pool.run(work, 0, 3)
        assert work.done == 2


def test_whoever_comes_while_the_workers_are_busy_works_alone() -> None:
    works = [Work(40) for _ in range(4)]
    threads = [threading.Thread(target=pool.run, args=(work, 0, 3)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [work.done for work in works] == [40] * 4
    assert min(len(work.threads) for work in works) == 1


class Stop(Exception):
    pass


@pytest.fixture
def alarm() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_what_a_signal_raises_waits_for_all(alarm: None) -> None:
    raised = 0
    for number in range(30):
        work = Work(30)
        signal.setitimer(signal.ITIMER_REAL, 0.001 + number * 3e-4)
        try:
            pool.run(work, 0, 3)
        except Stop:
            raised += 1
            with work.lock:
                running = work.done + work.left
            assert running >= 29  # the call of this thread that was interrupted may have lost its unit
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert not pool._busy.locked()
    assert raised > 5
    work = Work(30)
    pool.run(work, 0, 3)
    assert work.done == 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_makes_its_own_workers() -> None:
    done = python(  # with no threads of other libraries about
        """
        import os, warnings
        warnings.simplefilter("ignore")
        from adamite import pool
        from tests.test_pool import Work

        pool.run(Work(10), 0, 3)
        child = os.fork()
        if not child:
            work = Work(10)
            pool.run(work, 0, 3)
            os._exit(0 if work.done == 10 and len(work.threads) == 3 else 1)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert done.returncode == 0, done.stderr
