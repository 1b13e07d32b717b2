"""What a user names on the command line: module:name, or path/to/file.py:name."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class NotFoundError(ValueError):
    """Nothing is there; the message says what is missing."""


def load(where: str) -> Any:
    """What stands at module:name (seen from the current folder too), or at path/to/file.py:name.

    Raises:
        NotFoundError: where there is no such module, file or name.
    """
    place, _, name = where.rpartition(":")
    if not place or not name:
        raise NotFoundError(f"{where!r} doesn't say what of it; write module:name, or path/to/file.py:name")
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    if not hasattr(module, name):
        raise NotFoundError(f"{place} has no {name}")
    return getattr(module, name)


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}")
    name = f"_adamite_file_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as Python does with a script's: it may import its neighbours
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise NotFoundError(f"there is no module {error.name}, seen from {here}") from None
        raise
