"""The command line: the only layer of adamite that prints."""

from __future__ import annotations

import errno
import sys
from typing import Any

_FULL = {number for name in ("ENOSPC", "EDQUOT") if (number := getattr(errno, name, None)) is not None}


def main() -> None:
    """Run the command line: the entry point of ``adamite`` and of ``python -m adamite``.

    It ends with 0; with 1 where what was asked for came to no good end; with 2 for what can't be asked for; with 130
    after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a pipe may know fewer letters than equations have
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        sys.exit(_stopped())


def _run() -> int | str | None:
    """Run it; return the exit status, or the words of what went wrong."""
    from adamite.cli import bare
    from adamite.lab import fault

    try:
        try:
            from adamite.cli.commands import app
        except ModuleNotFoundError as missing:
            return bare.run(sys.argv[1:], missing)
        app(prog_name="adamite")
    except SystemExit as end:
        return _stopped() if end.code == 130 else end.code  # which is what Typer makes of Ctrl-C
    except (fault.Fault, ModuleNotFoundError) as error:  # a command imports what it needs when it is called
        return f"adamite: {fault.words(error)}"
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            return f"adamite: the output can't be written: {error.strerror}; make room, or write it elsewhere"
        again = f"If that is no fault of yours, it is adamite's: {fault.WHOLE}=1 shows where it comes from."
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
