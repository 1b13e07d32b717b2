"""What a user names on the command line: module:name, or path/to/file.py:name."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from adamite.errors import RuleError
from adamite.graph.lowering import lower
from adamite.lab import fault
from adamite.language.rule import Rule
from adamite.language.update import Surroundings, build


class NotFoundError(fault.Fault):
    """There is nothing at a place, or nothing usable; the message says what is missing or wrong."""


def load(where: str) -> Any:
    """The object at module:name (also from the current folder), or at path/to/file.py:name.

    Raises:
        NotFoundError: there is no such module, file or name, or importing it fails.
    """
    place, _, name = where.rpartition(":")
    if not place or not name:
        raise NotFoundError(f"{where!r} doesn't say what of it; write module:name, or path/to/file.py:name")
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    if not hasattr(module, name):
        raise NotFoundError(f"{place} has no {name}{_instead(name, module)}")
    return getattr(module, name)


def rule(where: str) -> Rule:
    """The rule at a place, or the rule of an optimizer's class there; it is traced, to see whether it is valid.

    Raises:
        NotFoundError: see `load`; also if it isn't a rule, or can't be traced.
    """
    loaded = load(where)
    made = getattr(loaded, "_made_from", loaded)
    if not isinstance(made, Rule):
        raise NotFoundError(
            f"{where} is of the type {type(loaded).__name__}, not a rule: write @adamite.rule above a function"
        )
    absent = frozenset(name for name, number in made.numbers.items() if number.default is None)
    try:
        lower(build(made, tuple((c.name, c.default) for c in made.choices.values()), absent, Surroundings()))
    except RuleError as error:
        raise NotFoundError(fault.words(error)) from error
    return made


def plain(where: str) -> str:
    """A place in canonical form: a file below the current folder is named relative to it."""
    place, colon, name = where.rpartition(":")
    if not place.endswith(".py"):
        return where
    path, here = Path(place).resolve(), Path.cwd().resolve()
    return f"{(path.relative_to(here) if path.is_relative_to(here) else path).as_posix()}{colon}{name}"


def identity(where: str) -> str:
    """A unique name of a place, independent of the current folder: the full path of its file; for ours the name."""
    place, colon, name = where.rpartition(":")
    file = place if place.endswith(".py") else getattr(sys.modules.get(place), "__file__", None)
    return f"{Path(file).resolve().as_posix()}{colon}{name}" if file else where


def as_name(where: str) -> str:
    """A name for files and folders: mine.py:problem is mine-problem-1f0c3a9e.

    A user's place ends with digits of a hash, so that no two places share a name; ours keep their names.
    """
    suffix = f"-{hashlib.sha256(identity(where).encode()).hexdigest()[:8]}" if ":" in where else ""
    readable = re.sub(r"[^\w.-]+", "-", plain(where).replace(".py:", ":")).strip("-.")
    return readable[-100:] + suffix


def _instead(name: str, module: ModuleType) -> str:
    """A hint for a name that the module lacks: the closest name, or all its names."""

    def defined_here(value: Any) -> bool:
        function = getattr(value, "start", getattr(value, "function", value))  # of a problem, of a rule
        return getattr(function, "__module__", None) == module.__name__

    names = [each for each, value in inspect.getmembers(module) if defined_here(value) and not each.startswith("_")]
    close = get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; it has {', '.join(names[:8])}{', ...' * (len(names) > 8)}" if names else ""


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}")
    name = f"_adamite_file_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as Python does for a script, which may import its neighbours
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with _importing(path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module(name: str) -> ModuleType:
    if name.startswith("adamite."):
        return importlib.import_module(name)  # if one of our modules lacks a package, the command line says which
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with _importing(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                raise NotFoundError(f"there is no module {error.name}, seen from {here}") from None
            raise


@contextmanager
def _importing(place: object) -> Iterator[None]:
    try:
        yield
    except (NotFoundError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too
        raise NotFoundError(f"{place} can't be imported: {fault.words(error)}") from error
