"""The names, types and sizes of the tensors in a .safetensors file, from its header: no tensor is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from operator import index
from pathlib import Path
from typing import Any, NamedTuple

_LONGEST = 100_000_000  # bytes of a header, by the format's specification
_TYPES = {"F": "float", "BF": "bfloat", "I": "int", "U": "uint", "C": "complex"}


class Entry(NamedTuple):
    """One tensor of a file."""

    name: str
    dtype: str  # as NumPy spells it, if NumPy has it
    elements: int
    nbytes: int


def read(path: Path) -> list[Entry]:
    """The tensors of a file, of all files that an index names (model.safetensors.index.json), or of a folder.

    Raises:
        ValueError: if there is no such file, or it isn't a .safetensors file.
    """
    entries: dict[str, Entry] = {}
    for file in _files(path):
        for entry in _header(file):
            if entry.name in entries:
                raise ValueError(f"{path} has {entry.name} twice, a second time in {file.name}; name one of its files")
            entries[entry.name] = entry
    return list(entries.values())


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(path.glob("*.safetensors.index.json")) or sorted(path.glob("*.safetensors"))
        if not files:
            raise ValueError(f"there is no .safetensors file in {path}")
        if len(files) > 1 and files[0].suffix == ".json":
            raise ValueError(f"{path} has {len(files)} indices; name one: {', '.join(f.name for f in files)}")
        return [part for file in files for part in _files(file)]
    if path.suffix != ".json":
        return [path]
    listed = _json(path, _bytes(path))
    names = listed.get("weight_map") if isinstance(listed, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{path} is no index of .safetensors files: it has no weight_map of names")
    return [path.parent / name for name in sorted(set(names.values()))]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None


def _json(path: Path, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{path} isn't a file of this kind: where JSON should be there is {text[:20]!r}") from None


def _header(path: Path) -> Iterator[Entry]:
    """A file is eight bytes with the length of the header, little-endian; the header, in JSON; and the tensors."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _LONGEST):
                raise ValueError(
                    f"{path} isn't a whole .safetensors file: of {size} bytes its header takes {length}; "
                    "give one, or where a function is that returns a model, as file.py:function"
                )
            header = _json(path, file.read(length))
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path} isn't a .safetensors file: its header is no dict")
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            begin, end = entry["data_offsets"]
            dtype, elements, nbytes = _type(entry["dtype"]), math.prod(map(index, entry["shape"])), end - begin
            whole = 0 <= index(begin) <= index(end) <= size - 8 - length and elements >= 0
        except (TypeError, KeyError, ValueError, AttributeError):
            raise ValueError(f"{path} isn't a .safetensors file: of {name} its header says {entry!r:.60}") from None
        if not whole:
            raise ValueError(f"{path} is cut off: {name} ends at byte {end} of {size - 8 - length}")
        yield Entry(name, dtype, elements, nbytes)


def _type(name: str) -> str:
    """F32 -> float32."""
    letters = name.rstrip("0123456789")
    return _TYPES[letters] + name[len(letters) :] if letters in _TYPES else name.lower()
