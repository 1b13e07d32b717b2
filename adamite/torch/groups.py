"""Groups of a model's parameters: which of them decay, and how fast each layer learns."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn

from adamite.settings import unknown

NO_DECAY = ("bias", "norm", "embedding")
_KINDS = (*NO_DECAY, "1d")
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


def param_groups(
    model: nn.Module,
    weight_decay: float = 0.01,
    *,
    no_decay: Collection[str | re.Pattern[str]] = NO_DECAY,
    groups: Mapping[str, Mapping[str, Any]] | None = None,
    rest: bool = True,
    lr: float | None = None,
    layer_decay: float | None = None,
    layer: Callable[[str], int] | None = None,
    frozen: bool = False,
) -> list[dict[str, Any]]:
    r"""A model's parameters in groups, by name, for any optimizer: no weight decay on biases, norms and embeddings.

    Args:
        weight_decay: in [0, inf), of the parameters that decay.
        no_decay: what doesn't decay: the words "bias", "norm", "embedding" and "1d" (whatever has fewer than two
            axes), and compiled regular expressions that are searched for in the parameters' names.
        groups: groups of your own: {regular expression: {"lr": ..., "weight_decay": ..., ...}}. What a group doesn't
            say is as it would be without the group.
        rest: whether parameters outside of `groups` are taken too; if not, such a parameter is refused.
        lr: learning rate in [0, inf); needed for `layer_decay`.
        layer_decay: in (0, 1], layer-wise decay of lr: lr * layer_decay**(last - layer). Layers are counted along the
            model's longest `ModuleList` or `Sequential`: 0 is what comes before it, 1 its first block, and the last
            one is what comes after it.
        layer: the layer of a parameter by its name, a whole number from 0, instead of that.
        frozen: take parameters that need no gradient too.

    Returns:
        Groups of (name, parameter) pairs with the keys `params`, `weight_decay`, and `lr` and your own where given. A
        parameter with two names (tied weights) stands under its first; one that is an embedding anywhere is one.

    Raises:
        ValueError, TypeError: for a parameter in two of the groups or in none, a group without parameters, settings
            out of range, a model without parameters.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> for group in param_groups(model, weight_decay=0.1):
    ...     print(group["weight_decay"], [name for name, _ in group["params"]])
    0.1 ['0.weight', '2.weight']
    0.0 ['0.bias', '1.weight', '1.bias', '2.bias']

    Layer-wise decay is that of ELECTRA (Clark et al. 2020). torch has no such function.
    """
    _number("weight_decay", weight_decay, "[0, inf)")
    if lr is not None:
        _number("lr", lr, "[0, inf)")
    if layer_decay is not None:
        _number("layer_decay", layer_decay, "(0, 1]")
        if lr is None:
            raise ValueError("param_groups: layer_decay scales lr, so it needs lr=...")
    elif layer is not None:
        raise ValueError("param_groups: layer= says where a parameter stands for layer_decay=..., which isn't given")
    words, patterns = _split(no_decay)
    named = _named(model, frozen)
    kinds = _kinds(model)
    own = _own(groups or {}, named)
    if not rest:
        left = [name for name in named if name not in own]
        if left:
            raise ValueError(
                f"param_groups: {', '.join(map(repr, left[:5]))}{' ...' * bool(left[5:])} match none of the groups "
                f"{', '.join(map(repr, groups or {}))}; add a group for them, or take rest=True"
            )
    depth = _depths(model, named, layer) if layer_decay is not None else {}
    last = max(depth.values(), default=0)

    made: dict[Any, dict[str, Any]] = {}
    for name, p in named.items():
        plain = any(word in kinds[p] or (word == "1d" and p.dim() < 2) for word in words)
        plain = plain or any(pattern.search(_plain(name)) for pattern in patterns)
        settings: dict[str, Any] = {"weight_decay": 0.0 if plain else float(weight_decay)}
        if lr is not None:
            settings["lr"] = float(lr)
        settings.update(own.get(name, {}))
        if layer_decay is not None:
            settings["lr"] = settings["lr"] * layer_decay ** (last - depth[name])
        group = made.setdefault(repr(settings), {"params": [], **settings})
        group["params"].append((name, p))
    return list(made.values())


def _number(name: str, value: Any, allowed: str) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < 0 or (allowed == "(0, 1]" and not 0 < value <= 1):
        raise ValueError(f"param_groups: {name} must be a number in {allowed}, got {value!r}")


def _split(no_decay: Any) -> tuple[list[str], list[re.Pattern[str]]]:
    if isinstance(no_decay, (str, re.Pattern)):
        raise TypeError(f"param_groups: no_decay is a collection such as {NO_DECAY}, got {no_decay!r}")
    words = [item for item in no_decay if not isinstance(item, re.Pattern)]
    for word in words:
        if word not in _KINDS:
            raise ValueError(
                f"param_groups: no_decay takes {', '.join(map(repr, _KINDS))} and compiled regular expressions "
                f"(re.compile(...)), got {word!r}"
            )
    return words, [item for item in no_decay if isinstance(item, re.Pattern)]


def _named(model: Any, frozen: bool) -> dict[str, nn.Parameter]:
    """The parameters by their first names."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"param_groups takes a torch.nn.Module, got {type(model).__name__}")
    named = {name: p for name, p in model.named_parameters() if frozen or p.requires_grad}
    if not named:
        raise ValueError("param_groups: the model has no parameters that need gradients; frozen=True takes the others")
    for name, p in named.items():
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise ValueError(f"param_groups: parameter {name!r} has no shape yet; run the lazy model once before")
    return named


def _kinds(model: nn.Module) -> dict[torch.Tensor, set[str]]:
    """What each parameter is: a bias, a norm's, an embedding's; all that hold, if it is in several places."""
    kinds: dict[torch.Tensor, set[str]] = {}
    for module in model.modules():
        norm = isinstance(module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm))
        norm = norm or type(module).__name__.endswith("Norm")
        for name, p in module.named_parameters(recurse=False, remove_duplicate=False):
            found = kinds.setdefault(p, set())
            found |= {"norm"} if norm else {"embedding"} if isinstance(module, _EMBEDDINGS) else set()
            found |= {"bias"} if re.search(r"(^|_)bias", name) else set()
    return kinds


def _own(groups: Mapping[str, Mapping[str, Any]], named: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The settings of the parameters that the user's groups match."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for pattern, settings in groups.items():
        if not isinstance(settings, Mapping) or "params" in settings:
            raise TypeError(f"param_groups: group {pattern!r} must be a dict of settings, got {settings!r:.60}")
        try:
            matched = [name for name in named if re.search(pattern, _plain(name))]
        except (re.error, TypeError) as error:
            raise ValueError(f"param_groups: {pattern!r} is no regular expression: {error}") from None
        if not matched:
            raise ValueError(unknown("param_groups: the model", pattern, list(named), "parameter that matches"))
        for name in matched:
            if name in found:
                raise ValueError(
                    f"param_groups: parameter {name!r} is in two groups, {found[name][0]!r} and {pattern!r}; "
                    "make the expressions exclude each other"
                )
            found[name] = pattern, settings
    return {name: settings for name, (_, settings) in found.items()}


def _depths(model: nn.Module, named: Mapping[str, Any], layer: Callable[[str], int] | None) -> dict[str, int]:
    """The layer in which each parameter stands."""
    if layer is not None:
        depths = {name: layer(_plain(name)) for name in named}
        for name, depth in depths.items():
            if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
                raise ValueError(f"param_groups: layer({name!r}) must be a whole number of at least 0, got {depth!r}")
        return depths
    stacks = [(name, m) for name, m in model.named_modules() if isinstance(m, (nn.ModuleList, nn.Sequential))]
    if not stacks:
        raise ValueError("param_groups: the model has no ModuleList or Sequential to count layers in; give layer=...")
    stack, blocks = max(stacks, key=lambda found: len(found[1]))
    prefix = f"{stack}." if stack else ""
    depths, depth = {}, 0
    for name in named:
        inside = name.startswith(prefix) and name[len(prefix) :].partition(".")[0]
        depth = 1 + int(inside) if inside and inside.isdecimal() else (len(blocks) + 1 if depth else 0)
        depths[name] = depth
    return depths


def _plain(name: str) -> str:
    """A parameter's name without what wrappers put into it."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name
