"""Parameters' names with and without what wrappers put in: `torch.compile`, DistributedDataParallel, FSDP, ..."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

# The module of torch.compile, FSDP, activation checkpointing and Lightning's Fabric, wherever it stands. `module` is
# what data parallelism and averages of weights put in front; further in it may be a module's own name.
_INNER = r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
_WRAPPERS = re.compile(rf"^(?:_?module\.|{_INNER})+|(?<=\.){_INNER}")
_ANYWHERE = re.compile(rf"(?:^|(?<=\.))(?:_?module\.|{_INNER})")


def unwrapped(name: str) -> str:
    """A parameter's name without what wrappers put into it."""
    return _WRAPPERS.sub("", name)


def _barest(name: str) -> str:
    return _ANYWHERE.sub("", name)


def pairs(here: Sequence[str], there: Sequence[str]) -> dict[str, str]:
    """The names here of the same parameters there, each without more than has to be left out of it to tell them apart.

    A name that has no other isn't in it.
    """
    ways: tuple[Callable[[str], str], ...] = (str, unwrapped, _barest)
    best: dict[str, str] = {}
    for way in ways:
        keys = {way(name): name for name in here}
        others = {way(name): name for name in there}
        if len(keys) == len(set(here)) and len(others) == len(set(there)):  # no two that look alike now
            found = {name: others[key] for key, name in keys.items() if key in others}
            best = max(best, found, key=len)
    return best
