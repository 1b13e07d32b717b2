"""adamite's options beyond torch's arguments, and parameter groups that mention them: checked when they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypedDict

from adamite.frontend.settings import NonFinite, check_nonfinite
from adamite.sparse.rows import Sparse, check_sparse
from adamite.storage import Rounding, choice
from adamite.storage.choice import StateDtype, Storage
from adamite.torch.settings import OPTIONS, WHOLE, GroupSettings


class Extras(TypedDict, total=False):
    """What every class takes beyond torch's arguments."""

    clip_norm: float | None
    nonfinite: NonFinite
    ema: float | None
    cautious: bool
    state: StateDtype
    rounding: Rounding
    seed: int
    sparse: Sparse | None


def checked(settings: GroupSettings, option: str, value: Any) -> Any:
    """A value of an option of the whole optimizer, if it is one."""
    if option == "clip_norm":
        return None if value is None else settings.option(option, value)
    if option == "nonfinite":
        return check_nonfinite(value)
    if option == "sparse":
        return check_sparse(settings.owner, value, Storage())
    choice.check_choices(settings.owner, Storage(**{option: value}))
    return value


def check_group(
    settings: GroupSettings, group: Mapping[str, Any], defaults: Mapping[str, Any], of_all: Callable[[str], Any]
) -> None:
    """Refuse a group with misspelled settings, or with options of the whole optimizer that the optimizer doesn't have.

    `of_all` says what the optimizer has.
    """
    names = {*defaults, *OPTIONS, "params", "param_names"}
    for key in group.keys() - names - {*WHOLE}:
        close = get_close_matches(str(key), names, n=1, cutoff=0.85)
        if close:
            raise TypeError(f"{settings.owner}: a group says {key!r}; did you mean {close[0]!r}?")
    for name in (name for name in WHOLE if name in group):
        given, of_optimizer = checked(settings, name, group[name]), of_all(name)
        if given != of_optimizer:  # which wrappers put there that hand all of their arguments to groups
            raise ValueError(
                f"{settings.owner}: {name} applies to the whole optimizer and can't be set per group; a "
                f"group has {given!r}, the optimizer {of_optimizer!r}; give it to the optimizer: {name}={given!r}"
            )
    settings.check({**defaults, **group})


def refuse_all_at_once(clip_norm: float | None, nonfinite: NonFinite) -> None:
    """Refuse what needs all gradients at once, for a step in the backward pass."""
    if clip_norm is not None or nonfinite == "skip":
        option = "clip_norm" if clip_norm is not None else 'nonfinite="skip"'
        raise ValueError(f"step_in_backward() can't be used with {option}, which needs all gradients at once")
