"""The MNIST database of handwritten digits (LeCun, Cortes and Burges), read from its four idx files.

An idx file is four bytes that say what it holds (0, 0, the type of a number, how many dimensions), each dimension as a
big-endian 32-bit number, and then the numbers. MNIST's are bytes: 28 x 28 pixels an image, one digit a label.
"""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Part = tuple[Bytes, Bytes]  # images and labels

VARIABLE = "ADAMITE_MNIST"
NAMES = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SIDE = 28
_UNSIGNED_BYTE, _GZIP = 8, b"\x1f\x8b"


def cache() -> Path:
    """The user's cache folder, which is searched last."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adamite" / "mnist"


def folder(given: Path | None = None) -> Path | None:
    """The folder of MNIST: the one given, else ADAMITE_MNIST, else the cache; None if there is none.

    If a folder is named, missing files are an error, and aren't looked for elsewhere.
    """
    named = given or os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    return cache() if cache().is_dir() else None


def load(place: Path) -> tuple[Part, Part]:
    """Training and test images with their labels, as bytes, in the form of `keras.datasets.mnist`."""
    if not place.is_dir():
        raise FileNotFoundError(f"MNIST was looked for in {place}, which is no folder: {_advice(place)}.")
    files = [find(place, name) for name in NAMES]
    x_train, y_train, x_test, y_test = (read(file) for file in files)
    _check(x_train, y_train, *files[:2])
    _check(x_test, y_test, *files[2:])
    return (x_train, y_train), (x_test, y_test)


def find(place: Path, name: str) -> Path:
    """The file of this name, gzipped or plain; some archives write a dot for the second hyphen."""
    for form in (name, name.replace("-idx", ".idx")):
        for file in (place / form, place / f"{form}.gz"):
            if file.is_file():
                return file
    raise FileNotFoundError(f"MNIST's file {name}.gz (or {name}) isn't in {place}: {_advice(place)}.")


def _advice(place: Path) -> str:
    return f"put the four idx files, gzipped or plain, into that folder or into {cache()}, or name another one"


def read(file: Path) -> Bytes:
    """The array in an idx file of bytes, gzipped or not whatever its name, since browsers unpack but keep the name."""
    content = file.read_bytes()
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise _corrupt(file, f"can't be unpacked ({str(error).rstrip('.')})") from None
    if content[:3] != bytes((0, 0, _UNSIGNED_BYTE)) or len(content) < 4:
        raise _corrupt(file, f"isn't an idx file of bytes: it begins with {content[:4].hex(' ') or 'nothing'}")
    start = 4 + 4 * content[3]
    shape = tuple(int(n) for n in np.frombuffer(content[4:start].ljust(start - 4, b"\0"), ">u4"))
    if len(content) != start + math.prod(shape):
        expected = f"{' x '.join(map(str, shape))} bytes after {start} of heading"
        raise _corrupt(file, f"should have {expected}, and has {len(content)} in all")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _check(images: Bytes, labels: Bytes, of_images: Path, of_labels: Path) -> None:
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or not len(images):
        raise _corrupt(of_images, f"should have images of {SIDE} x {SIDE}, and has an array of shape {images.shape}")
    if labels.shape != (len(images),):
        shape = f"and has an array of shape {labels.shape}"
        raise _corrupt(of_labels, f"should have a label for each of {len(images)} images, {shape}")
    if labels.max() > 9:
        raise _corrupt(of_labels, f"should have the digits 0 to 9, and has a {labels.max()}")


def _corrupt(file: Path, what: str) -> ValueError:
    return ValueError(f"{file} {what}: put the file as it was published in its place.")
