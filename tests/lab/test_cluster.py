"""Trainings on a Ray cluster, started here: same numbers as on this machine's cores, and deaths are counted."""

from __future__ import annotations

import itertools
import math
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adamite.lab import problem as problems
from adamite.lab.compare import cluster, comparison, entrants, workers
from adamite.lab.compare.comparison import Comparison, Plan
from adamite.lab.compare.study import Study
from adamite.lab.problems import PROBLEMS
from tests.support import process_environment

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'adamite[ray]'")


class Head(NamedTuple):
    """A cluster's addresses, from its own machine and from elsewhere."""

    address: str
    client: str


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A cluster with two cores, in processes of its own."""
    port, client = free_port(), free_port()
    folder = tempfile.mkdtemp(prefix="ray-")  # a short name, since it holds sockets
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
    command += [f"--port={port}", f"--ray-client-server-port={client}", f"--temp-dir={folder}"]
    command += ["--include-dashboard=false", "--disable-usage-stats"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes a key into the home folder
        patch.setenv("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            said = list(itertools.takewhile(lambda line: "runtime started" not in line, process.stdout or []))
            assert process.poll() is None, said
            yield Head(f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}")
        finally:
            ray.shutdown()
            process.terminate()
            process.communicate(timeout=300)
            shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


MINE = """
import os, signal
from pathlib import Path

import numpy as np
import adamite

def problem(seed):
    '''A line through noisy points, of a file beside; at the first start the process is killed.'''
    if not Path({mark!r}).exists():
        Path({mark!r}).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    x = np.loadtxt("points.txt")
    draw = np.random.default_rng(seed)
    w = draw.normal(size=2)
    def loss():
        rows = x[draw.integers(0, len(x), 8)]
        error = rows @ w - 1
        return error @ error / 8, rows.T @ error / 4
    return w, loss

@adamite.rule
def signum(g, m, *, t, lr=1e-3, beta=0.9):
    m = beta * m + (1 - beta) * g
    return lr * adamite.sign(m), m

def work(job):
    if job == "raises":
        raise ValueError("no such luck")
    if job == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return job, os.getcwd(), {{name: os.environ[name] for name in {limits!r}}}
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder, where the command runs."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "afar.py").write_text(MINE.format(mark=str(folder.parent / "begun"), limits=tuple(workers.ONE_THREAD)))
    (folder / "points.txt").write_text("1 2\n3 4\n5 7\n0 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        yield folder


def test_the_table_is_that_of_this_machines_cores(mine: Path, head: Head) -> None:
    found = [entrants.find(name) for name in ("adam", "afar:signum")]
    plan = Plan(problems.find("afar.py:problem", PROBLEMS), found, budget=2, seeds=2, steps=40)
    retried: list[int] = []
    there = comparison.run(
        plan,
        Study(mine / "there.sqlite"),
        lambda work, jobs: cluster.ray(work, jobs, head.address, mine),
        lambda progress: retried.append(progress.retried),
    )
    here = comparison.run(plan, Study(mine / "here.sqlite"), lambda work, jobs: workers.local(work, jobs, 2))
    assert seen(there) == seen(here)
    assert all(math.isfinite(result.final().median) for result in here.results)
    assert retried[-1] == 1


def seen(found: Comparison) -> list[Any]:
    """Everything except times."""
    times = {"times": None, "step_seconds": None}
    return [
        (result.entrant.name, [(trial, asdict(outcome) | times) for trial, outcome in result.tuning + result.reported])
        for result in found.results
    ]


def test_what_fails_is_reported_in_words_and_stops_nothing(mine: Path, head: Head) -> None:
    from afar import work  # type: ignore[import-not-found]

    found = {done.job: done for done in cluster.ray(work, ["a", "raises", "dies", "b"], head.address, mine)}
    assert {name: done.result and done.result[0] for name, done in found.items()} == {
        "a": "a", "b": "b", "raises": None, "dies": None
    }  # fmt: skip
    _, there, limits = found["a"].result
    assert limits == workers.ONE_THREAD and Path(there) != mine
    raised = found["raises"].failure or ""
    assert raised.startswith("line ") and raised.endswith(
        'afar.py: `raise ValueError("no such luck")`: ValueError: no such luck'
    )
    assert found["dies"].failure == workers.DIED
    assert {name: done.attempts for name, done in found.items()} == {
        "a": 1, "b": 1, "raises": 1, "dies": workers.ATTEMPTS
    }  # fmt: skip


def test_the_command_from_elsewhere(mine: Path, head: Head) -> None:
    """Through Ray's client; Ray's own messages about the death don't appear."""
    (mine.parent / "begun").unlink(missing_ok=True)
    what = ["--problem", "afar.py:problem", "--optimizers", "adam", "--budget", "1", "--seeds", "1", "--steps", "20"]
    answer = command(*what, "--ray", head.client, "--tensorboard", "curves")
    said = [line for line in answer.stderr.splitlines() if not line.startswith(("1/2 trainings", "2/2 trainings"))]
    assert (answer.returncode, said) == (0, [])
    assert (mine.parent / "begun").exists()
    title, *_, curves, end = answer.stdout.splitlines()
    assert title.startswith("A line through noisy points")
    assert curves == "1 training for TensorBoard: tensorboard --logdir curves"
    assert end.startswith("2 trainings, ")
    assert len(list(mine.glob("curves/afar-problem*/adam/seed-0/events.out.tfevents.*"))) == 2


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://127.0.0.1:1", "Connection refused"),
        ("nowhere", "give host:port, ray://host:port, auto or local"),
    ],
)
def test_an_address_where_nothing_is(address: str, words: str, mine: Path) -> None:
    answer = command("--ray", address)
    assert answer.returncode == 2 and answer.stdout == ""
    assert answer.stderr.endswith(f"Invalid value for '--ray': can't use the cluster of Ray at {address}: {words}\n")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adamite", "compare", *arguments],
        env=process_environment() | {"RAY_AUTH_MODE": "disabled", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
