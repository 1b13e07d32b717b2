"""Many processes, some of which fail: real ones, killed for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent, indent
from typing import Any, NamedTuple

import pytest

from adamite.lab.compare import workers
from tests.support import process_environment

LONG = 300  # seconds; what should be gone by then would sleep for twice as long


class Job(NamedTuple):
    """What happens, and a file that a first attempt leaves for the second."""

    what: str
    mark: Path


def work(job: Job) -> Any:
    match job.what:
        case "raises":
            raise ValueError("no such luck")
        case "exits":
            sys.exit(3)
        case "gives a generator":
            return (letter for letter in job.what)
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "dies once" if not job.mark.exists():
            job.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        case "prints":
            print("a word")
        case "sets a thread aside":
            return {name: os.environ[name] for name in workers.ONE_THREAD}
    return job.what.upper()


def local(folder: Path, *what: str, processes: int = 2) -> dict[str, workers.Done[Job]]:
    jobs = [Job(name, folder / name) for name in what]
    return {done.job.what: done for done in workers.local(work, jobs, processes)}


@pytest.mark.parametrize("processes", [1, 2, 9])
def test_results_come_back_from_any_number_of_processes(processes: int, tmp_path: Path) -> None:
    found = local(tmp_path, "a", "b", "c", processes=processes)
    assert {name: done.result for name, done in found.items()} == {"a": "A", "b": "B", "c": "C"}
    assert all(done.failure is None and done.attempts == 1 for done in found.values())


def test_what_fails_is_reported_in_words_and_stops_nothing(tmp_path: Path) -> None:
    found = local(tmp_path, "raises", "a", "exits", "dies", "gives a generator", "b", "dies once")
    assert {name: done.result for name, done in found.items() if done.failure is None} == {
        "a": "A",
        "b": "B",
        "dies once": "DIES ONCE",
    }
    for what, line, error in (
        ("raises", 'raise ValueError("no such luck")', "ValueError: no such luck"),
        ("exits", "sys.exit(3)", "SystemExit: 3"),
    ):
        number = 1 + [text.strip() for text in Path(__file__).read_text().splitlines()].index(line)
        assert found[what].failure == f"line {number} of {__file__}: `{line}`: {error}"
    assert "generator" in (found["gives a generator"].failure or "")
    assert found["dies"].failure == workers.DIED
    attempts = {name: done.attempts for name, done in found.items() if done.attempts > 1}
    assert attempts == {"dies": workers.ATTEMPTS, "dies once": 2}


def test_what_is_printed_is_no_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert local(tmp_path, "prints")["prints"].result == "PRINTS"
    assert capfd.readouterr() == ("", "a word\n")


def test_a_process_has_one_thread_and_this_one_keeps_its_own(tmp_path: Path) -> None:
    before = dict(os.environ)
    (done,) = local(tmp_path, "sets a thread aside").values()
    assert done.result == workers.ONE_THREAD
    assert dict(os.environ) == before


def test_those_that_do_not_wait_for_the_rest_leave_no_process(tmp_path: Path) -> None:
    script = """
        for done in workers.local(job, [0.0, 600.0], 2):
            break
        print(done.result)
    """
    with Parent(script, tmp_path) as parent:
        output, errors = parent.process.communicate(timeout=LONG)
    assert output == "0.0\n", errors


@pytest.mark.parametrize("moment", ["begins", "works"])
def test_ctrl_c_leaves_no_process(moment: str, tmp_path: Path) -> None:
    with Parent("list(workers.local(job, [600.0] * 4, 2))", tmp_path) as parent:
        parent.wait_for(moment)
        os.killpg(parent.process.pid, signal.SIGINT)  # as a terminal does
        _, errors = parent.process.communicate(timeout=LONG)
    assert parent.process.returncode == -signal.SIGINT
    assert errors.count("KeyboardInterrupt") == 1, errors  # the parent's alone


def test_a_parent_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    with Parent("list(workers.local(job, [600.0] * 4, 2))", tmp_path) as parent:
        parent.wait_for("works")
        parent.process.kill()
        parent.process.communicate(timeout=LONG)


class Parent:
    """A program that employs workers. All of them have its output: that ends when the last of them has ended."""

    PROGRAM = """
        import sys, time
        from pathlib import Path
        from adamite.lab.compare import workers

        def job(seconds):
            Path(sys.argv[1], "works").touch()
            time.sleep(seconds)
            return seconds

        if __name__ == "__main__":
    """
    # What every interpreter runs first.
    BEGIN = """
        import sys, time
        from pathlib import Path

        if "--multiprocessing-fork" in sys.orig_argv:
            Path(__file__).with_name("begins").touch()
            time.sleep(0.5)
    """

    def __init__(self, script: str, folder: Path) -> None:
        self.folder = folder
        (folder / "program.py").write_text(dedent(self.PROGRAM) + indent(dedent(script), "    "))
        (folder / "sitecustomize.py").write_text(dedent(self.BEGIN))

    def __enter__(self) -> Parent:
        self.process = subprocess.Popen(
            [sys.executable, str(self.folder / "program.py"), str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=process_environment(self.folder),
        )
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def wait_for(self, name: str) -> None:
        """Until a process has left this mark."""
        while not (self.folder / name).exists():
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)
