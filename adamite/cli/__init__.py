"""The command line: the only layer of adamite that prints."""

from __future__ import annotations

import errno
import sys
from typing import Any

_FULL = {number for name in ("ENOSPC", "EDQUOT") if (number := getattr(errno, name, None)) is not None}


def main() -> None:
    """Run the command line: the entry point of ``adamite`` and of ``python -m adamite``.

    It exits with 0 on success, 1 if the result is negative, 2 for a usage error, and 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a pipe's encoding may lack the equations' symbols
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        sys.exit(_stopped())


def _run() -> int | str | None:
    """Run a command; return the exit status, or a message."""
    from adamite.cli import bare
    from adamite.lab import fault

    try:
        try:
            from adamite.cli.commands import app
        except ModuleNotFoundError as missing:
            return bare.run(sys.argv[1:], missing)
        app(prog_name="adamite")
    except SystemExit as end:
        return _stopped() if end.code == 130 else end.code  # Typer's status after Ctrl-C
    except (fault.Fault, ModuleNotFoundError) as error:  # commands import what they need when called
        return f"adamite: {fault.words(error)}"
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            return f"adamite: the output can't be written: {error.strerror}; make room, or write it elsewhere"
        again = f"If the fault isn't yours, it is adamite's: {fault.WHOLE}=1 shows where it comes from."
        return f"adamite: {fault.words(error)}\n{again}"
    return 0


def _stopped() -> int:
    print("Stopped.", file=sys.stderr)
    return 130


def __getattr__(name: str) -> Any:
    if name == "app":
        from adamite.cli.commands import app

        return app
    raise AttributeError(name)


__all__ = ["app", "main"]
