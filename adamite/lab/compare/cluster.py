"""Many trainings at once on a cluster of Ray: what `workers.local` does on this machine's cores."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import adamite
from adamite.lab.compare.workers import ATTEMPTS, DIED, ONE_THREAD, Done, Job, cores, guarded

LOCAL = "local"  # starts a cluster on this machine, which ends with this process
_CLIENT, _CLIENT_PORT = "ray://", 10001
_NOT_SHIPPED = [".git", ".venv", "*.sqlite*"]  # in addition to .gitignore


class ClusterError(ValueError):
    """There is no such cluster, or it can't be used."""


def connect(address: str, folder: Path | None = None) -> None:
    """Connect this process to a cluster, once; it stays connected until it ends.

    The nodes get this adamite, and `folder`, in a copy of which they run: modules and files are found there by the
    names that they have here. What these import must be installed on the nodes, NumPy and llvmlite among it.

    Args:
        address: host:port of the head, seen from a node of the cluster; ray://host:port from elsewhere; auto for the
            cluster that this machine is a node of; local to begin one here.
        folder: shipped to the nodes, except for what its .gitignore names.

    Raises:
        ClusterError: the connection failed; the message says why.
    """
    # Read when Ray is imported: a worker's death, which we report, isn't printed besides.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.exceptions import RayError

    if ray.is_initialized():
        return
    environment: dict[str, Any] = {"env_vars": ONE_THREAD, "py_modules": [str(Path(adamite.__file__).parent)]}
    if folder is not None:
        environment |= {"working_dir": str(folder), "excludes": _NOT_SHIPPED}
    begin: dict[str, Any] = {"num_cpus": cores(), "include_dashboard": False} if address == LOCAL else {}
    try:
        if address not in (LOCAL, "auto"):
            _knock(address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice about Ray's next versions
            ray.init(address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR, **begin)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        words = getattr(error, "strerror", None) or str(error).partition("\n")[0].partition(". ")[0]
        raise ClusterError(f"can't use the cluster of Ray at {address}: {words}") from error


def _knock(address: str) -> None:
    """Fail early if nothing listens at the address: Ray itself waits two minutes."""
    host, colon, port = address.removeprefix(_CLIENT).rpartition(":")
    if not colon and address.startswith(_CLIENT):
        host, port = port, str(_CLIENT_PORT)
    if not host or not port.isdecimal():
        raise ValueError("give host:port, ray://host:port, auto or local")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def ray(
    work: Callable[[Job], Any], jobs: Sequence[Job], address: str = LOCAL, folder: Path | None = None
) -> Generator[Done[Job]]:
    """Run all jobs on a cluster, each on one core and thread: the results are those of `workers.local`.

    Args:
        work: a function that pickle finds by its name on the nodes, or a partial of one.
        jobs: the arguments of its calls.
        address, folder: as of `connect`.

    Returns:
        The jobs in the order in which they end. What a job raises is its failure, and so is a death of its process or
        of its node that happens ATTEMPTS times; neither stops the others.

    Raises:
        ClusterError: the cluster can't be used.
    """
    connect(address, folder)
    import ray as cluster
    from ray import exceptions

    deaths = exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError
    do = cluster.remote(num_cpus=1, max_retries=0)(guarded)  # we count the attempts
    running = {do.remote(pickle.dumps((work, job))): (job, 1) for job in jobs}
    try:
        while running:
            (ended,), _ = cluster.wait(list(running))
            job, attempt = running.pop(ended)
            try:
                result, failure = cluster.get(ended)
            except deaths:
                if attempt < ATTEMPTS:
                    running[do.remote(pickle.dumps((work, job)))] = job, attempt + 1
                    continue
                result, failure = None, DIED
            except exceptions.RayError as error:  # as where adamite's own imports fail on a node
                result, failure = None, f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
            yield Done(job, result, failure, attempt)
    finally:
        for still in running:
            cluster.cancel(still, force=True)
