"""MNIST's files: written by `struct` and `gzip`, gzipped and plain, damaged in many ways."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adamite.lab import mnist
from tests.support import MNIST, whole_mnist

Array = np.ndarray
RNG = np.random.default_rng(0)
ARRAYS = {
    name: RNG.integers(0, 256 if "images" in name else 10, (count, 28, 28) if "images" in name else count, np.uint8)
    for name, count in zip(mnist.NAMES, (5, 5, 3, 3), strict=True)
}
IMAGES, LABELS = mnist.NAMES[:2]


def idx(array: Array) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    for name, array in ARRAYS.items():
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def assert_loaded(place: Path) -> None:
    (x_train, y_train), (x_test, y_test) = mnist.load(place)
    for found, expected in zip((x_train, y_train, x_test, y_test), ARRAYS.values(), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.uint8


def test_plain_files(plain: Path) -> None:
    assert_loaded(plain)


def test_gzipped_files(plain: Path) -> None:
    for name in mnist.NAMES:
        file = plain / name
        (plain / f"{name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert_loaded(plain)


def test_gzipped_or_not_whatever_the_name_says(plain: Path) -> None:
    (plain / IMAGES).rename(plain / f"{IMAGES}.gz")
    (plain / LABELS).write_bytes(gzip.compress(idx(ARRAYS[LABELS])))
    assert_loaded(plain)


def test_names_with_a_dot(plain: Path) -> None:
    for name in mnist.NAMES:
        (plain / name).rename(plain / name.replace("-idx", ".idx"))
    assert_loaded(plain)


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty": (IMAGES, lambda b: b"", "it begins with nothing"),
    "another format": (IMAGES, lambda b: b"\x89PNG" + b, "it begins with 89 50 4e 47"),
    "a page of a server": (IMAGES, lambda b: b"<!DOCTYPE html>", "it begins with 3c 21 44 4f"),
    "numbers of 32 bits": (IMAGES, lambda b: b"\0\0\x0c\x03" + b[4:], "isn't an idx file of bytes"),
    "half of the magic": (IMAGES, lambda b: b[:3], "it begins with 00 00 08"),
    "half of the heading": (IMAGES, lambda b: b[:9], "has 9 in all"),
    "no pixels": (IMAGES, lambda b: b[:16], "5 x 28 x 28 bytes after 16 of heading, and has 16 in all"),
    "a pixel too few": (IMAGES, lambda b: b[:-1], "has 3935 in all"),
    "a pixel too many": (IMAGES, lambda b: b + b"\0", "has 3937 in all"),
    "gzip, cut": (IMAGES, lambda b: gzip.compress(b)[:-20], "can't be unpacked"),
    "gzip, a bit flipped": (IMAGES, lambda b: flipped(gzip.compress(b)), "can't be unpacked"),
    "gzip, of nothing": (IMAGES, lambda b: gzip.compress(b""), "it begins with nothing"),
    "labels for images": (IMAGES, lambda b: idx(ARRAYS[LABELS]), "images of 28 x 28, and has an array of shape (5,)"),
    "other sizes": (IMAGES, lambda b: idx(np.zeros((5, 32, 32), np.uint8)), "has an array of shape (5, 32, 32)"),
    "no images": (IMAGES, lambda b: idx(np.zeros((0, 28, 28), np.uint8)), "has an array of shape (0, 28, 28)"),
    "images for labels": (LABELS, lambda b: idx(ARRAYS[IMAGES]), "a label for each of 5 images"),
    "a label too few": (LABELS, lambda b: idx(ARRAYS[LABELS][1:]), "a label for each of 5 images"),
    "no digit": (LABELS, lambda b: idx(np.full(5, 10, np.uint8)), "the digits 0 to 9, and has a 10"),
}


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_named(damage: str, plain: Path) -> None:
    name, change, message = DAMAGE[damage]
    file = plain / name
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        mnist.load(plain)
    said = str(error.value)
    assert said.startswith(f"{file} ") and said.endswith(".") and "\n" not in said


@pytest.mark.parametrize("name", mnist.NAMES)
def test_a_missing_file_is_named(name: str, plain: Path) -> None:
    (plain / name).unlink()
    with pytest.raises(FileNotFoundError) as error:
        mnist.load(plain)
    said = str(error.value)
    assert f"{name}.gz" in said and f"isn't in {plain}:" in said and f"or into {mnist.cache()}" in said


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"looked for in .*nowhere, which is no folder: put the four idx files"):
        mnist.load(tmp_path / "nowhere")


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ADAMITE_MNIST", raising=False)
    assert mnist.folder() is None
    cache = tmp_path / "cache" / "adamite" / "mnist"
    cache.mkdir(parents=True)
    assert mnist.folder() == cache
    monkeypatch.setenv("ADAMITE_MNIST", "~/digits")
    assert mnist.folder() == Path.home() / "digits"
    assert mnist.folder(tmp_path) == tmp_path
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("ADAMITE_MNIST", "")
    assert mnist.folder() in (None, Path.home() / ".cache" / "adamite" / "mnist")


def sums(place: Path) -> list[str]:
    """MD5 of the four files unpacked, in the order of their names."""
    (x_train, y_train), (x_test, y_test) = mnist.load(place)
    return [hashlib.md5(idx(array)).hexdigest() for array in (x_train, y_train, x_test, y_test)]


def test_the_part_that_is_here() -> None:
    """It is made as its README says."""
    assert sums(MNIST) == [
        "e5745bbfadcc33b878fede0ec121d742",
        "13b93db4247929e07df96478a06f95de",
        "bac4371a484d0b5651e81d99305acb5a",
        "556860b2f10365a8f7444c1e79c7e9af",
    ]
    said = (MNIST / "README.md").read_text(encoding="utf-8")
    assert [digest for digest in sums(MNIST) if digest not in said] == []


def test_the_whole_and_how_the_part_was_made_of_it(tmp_path: Path) -> None:
    """Against the published checksums of the four files."""
    whole = whole_mnist()
    assert sums(whole) == [
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ]
    (code,) = re.findall(r"```python\n(.*?)```", (MNIST / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    subprocess.run([sys.executable, "-c", code, whole, tmp_path], check=True)
    assert sums(tmp_path) == sums(MNIST)
