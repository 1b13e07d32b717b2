"""Outcomes in an SQLite file, written as they arrive, so that no training runs twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adamite.lab.compare.training import Outcome, Trial


class StudyError(OSError):
    """The file can't be read or written, or isn't a study."""


class Study:
    """A file of outcomes, keyed by what determines their training."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it.

        Raises:
            StudyError: it can't be opened; methods raise it too, if the file is damaged or the disk full.
        """
        self._path = path
        with self._told():
            self._file = sqlite3.connect(path, isolation_level=None)
        self._do("PRAGMA journal_mode = WAL")
        self._do(
            "CREATE TABLE IF NOT EXISTS trainings (key TEXT PRIMARY KEY, trial TEXT NOT NULL, "
            "outcome TEXT, failure TEXT, attempts INTEGER NOT NULL, made TEXT DEFAULT CURRENT_TIMESTAMP)"
        )

    def _do(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        with self._told():
            return self._file.execute(statement, values).fetchone()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise StudyError(
                f"{self._path} can't be used as a study: {error}; move it away, or give another --out"
            ) from None

    def find(self, key: str) -> Outcome | None:
        """A training's outcome; None if the study doesn't have it."""
        row = self._do("SELECT outcome FROM trainings WHERE key = ?", (key,))
        return None if row is None or row[0] is None else Outcome(**json.loads(row[0]))

    def keep(self, key: str, trial: Trial, outcome: Outcome | str, attempts: int = 1) -> None:
        """Store an outcome, or the message of a failure."""
        done = isinstance(outcome, Outcome)
        self._do(
            "INSERT OR REPLACE INTO trainings (key, trial, outcome, failure, attempts) VALUES (?, ?, ?, ?, ?)",
            (
                key,
                json.dumps(trial.as_dict()),
                json.dumps(asdict(outcome)) if isinstance(outcome, Outcome) else None,
                None if done else outcome,
                attempts,
            ),
        )

    def close(self) -> None:
        self._file.close()


def key(trial: Trial, *marks: Any) -> str:
    """A training's key: a hash of its trial and of the source that it runs."""
    about = trial.as_dict()
    for name in ("tuning", "number"):  # the same training, whatever its purpose
        del about[name]
    return hashlib.sha256(json.dumps([about, *marks], sort_keys=True).encode()).hexdigest()
