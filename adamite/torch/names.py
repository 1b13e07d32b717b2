"""Parameters' names with and without what wrappers put in: `torch.compile`, DistributedDataParallel, FSDP, ..."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from os.path import commonprefix

# The module of torch.compile, FSDP, activation checkpointing and Lightning's Fabric, wherever it stands. `module` is
# what data parallelism and averages of weights put in front of all names; else it may be a module's own name.
_INNER = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
_LEADING = re.compile(r"(?:_?module\.)*")
_ANYWHERE = re.compile(r"(?:^|(?<=\.))_?module\.")


def unwrapping(names: Sequence[str]) -> Callable[[str], str]:
    """What leaves out of such names what wrappers put into them: `module` where all begin with it."""
    start = _leading(commonprefix([_INNER.sub("", name) for name in names]))  # noqa: RUF071  # of words too
    return lambda name: _INNER.sub("", name).removeprefix(start)


def _leading(name: str) -> str:
    return _LEADING.match(name)[0]  # type: ignore[index]  # it matches nothing too


def _without_leading(name: str) -> str:
    bare = _INNER.sub("", name)
    return bare.removeprefix(_leading(bare))


def _barest(name: str) -> str:
    return _ANYWHERE.sub("", _INNER.sub("", name))


def pairs(here: Sequence[str], there: Sequence[str]) -> dict[str, str]:
    """The names here of the same parameters there, each without more than has to be left out of it to tell them apart.

    A name that has no other isn't in it.
    """
    ways: list[tuple[Callable[[str], str], Callable[[str], str]]] = [
        (str, str),
        (unwrapping(here), unwrapping(there)),
        (_without_leading, _without_leading),
        (_barest, _barest),
    ]
    best: dict[str, str] = {}
    for mine, theirs in ways:
        keys = {mine(name): name for name in here}
        others = {theirs(name): name for name in there}
        if len(keys) == len(set(here)) and len(others) == len(set(there)):  # no two that look alike now
            matched = {name: others[key] for key, name in keys.items() if key in others}
            best = max(best, matched, key=len)
    return best
