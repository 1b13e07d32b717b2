"""Runs a program of examples/ as its users run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import PATIENCE, ROOT, process_environment


def run(*arguments: str | Path, cwd: str | Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=process_environment() | {"COLUMNS": "80"} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
