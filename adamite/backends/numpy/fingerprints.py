"""Fingerprints of rows of memory in NumPy, a word each."""

from __future__ import annotations

import numpy as np

from adamite.backends.jobs import FINGERPRINT_COLUMNS, word_size
from adamite.backends.numpy.elements import claims, view
from adamite.codegen.job import Call
from adamite.storage import Format
from adamite.storage.random import hashed


def fingerprints(format: Format) -> Call:
    """A kernel that computes one word from what a row holds."""
    kind = np.dtype(f"u{word_size(format)}")

    def kernel(address: int) -> None:
        for (_, words, place, result), _begin, _end in claims(address, FINGERPRINT_COLUMNS):
            factors = (hashed(np.arange(words), 0) | np.uint32(1)).astype(np.uint64)
            products = view(place, words, kind).astype(np.uint64) * factors
            view(result, 1, np.dtype(np.uint64))[0] = products.sum(dtype=np.uint64)

    return kernel
