"""Groups of a model's parameters: which of them decay, and how fast each layer learns.

Layer-wise decay is from ELECTRA (Clark et al. 2020), and counted as in BEiT (Bao et al. 2021); ELECTRA's code leaves
one layer empty between the last block and the head. Not decaying biases and norms is custom since BERT (Devlin et al.
2019), which decays embeddings: no_decay=("bias", "norm"). If you go by the number of axes: no_decay=("1d", "bias").
torch has no such function.
"""

from __future__ import annotations

import inspect
import math
import numbers
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from adamite.torch.names import unwrapping

NO_DECAY = ("bias", "norm", "embedding")
_KINDS = (*NO_DECAY, "1d")
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_ALIASES = {"learning_rate": "lr", "wd": "weight_decay"}


def param_groups(
    model: nn.Module,
    weight_decay: float = 0.01,
    *,
    no_decay: Collection[str | re.Pattern[str]] = NO_DECAY,
    groups: Mapping[Any, Mapping[str, Any]] | None = None,
    rest: bool = True,
    lr: float | torch.Tensor | None = None,
    layer_decay: float | None = None,
    layer: Callable[[str], int] | None = None,
    frozen: bool = False,
) -> list[dict[str, Any]]:
    r"""Named parameter groups of a model, for any optimizer: no weight decay on biases, norms and embeddings.

    Regular expressions are searched in names without the prefixes of wrappers (`module.`, `_orig_mod.`).

    Args:
        model: the model, wrapped (DistributedDataParallel, torch.compile) or not.
        weight_decay: in [0, inf), for the parameters that decay.
        no_decay: what doesn't decay: "bias" (by name: bias, in_proj_bias, bias_hh_l0), "norm" (of torch's norms, and of
            modules with "norm" in their class or name: RMSNormGated, norm1), "embedding" (Embedding, EmbeddingBag),
            "1d" (fewer than two axes), and compiled regular expressions. Parameters that the model exempts never decay
            unless `groups` says so: `_no_weight_decay = True` (Mamba), `_optim = {"weight_decay": 0.0}` (S4), and a
            module's `no_weight_decay()` and `no_weight_decay_keywords()` (timm, Swin).
        groups: your own groups: {regular expression: {"lr": ..., "weight_decay": ..., ...}}. Their settings apply to
            every parameter that matches, biases too; what they don't set is as it is without the group.
        rest: whether to take parameters outside of `groups`; if not, such a parameter is an error.
        lr: learning rate in [0, inf); required with `layer_decay`, else left to the optimizer.
        layer_decay: in (0, 1], layer-wise decay: lr * layer_decay**(last - layer), in your groups too. Layers are
            counted along the outermost `ModuleList` or `Sequential` with the most blocks that hold parameters: 1 is its
            first block, 0 what is registered before it, and what is registered after it follows its last block.
        layer: a function from a parameter's name to its layer, a whole number from 0, instead of counting.
        frozen: whether to take parameters that don't require a gradient. Frozen layers count in any case.

    Returns:
        Groups of (name, parameter) pairs with the keys `params`, `weight_decay`, and `lr` and your own where given.
        Parameters with equal settings share a group. A tied weight has its first name, but the kinds of all its names:
        an embedding that is also a head doesn't decay.

    Raises:
        ValueError, TypeError: a parameter is in two of the groups or in none, an expression matches nothing, a setting
            is out of range, the model has no parameters or lazy ones, or its layers can't be counted.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> for group in param_groups(model, weight_decay=0.1):
    ...     print(group["weight_decay"], [name for name, _ in group["params"]])
    0.1 ['0.weight', '2.weight']
    0.0 ['0.bias', '1.weight', '1.bias', '2.bias']
    """
    weight_decay = _number("weight_decay", weight_decay)
    lr, layer_decay = _rates(lr, layer_decay, layer)
    named = _named(model, frozen)
    exempt = {name: {"weight_decay": 0.0} for name in _spared(model, named, no_decay)}
    settings_of = _own({} if groups is None else groups, model, named)
    if not rest:
        _refuse_rest([name for name in named if name not in settings_of], len(named), bool(groups))
    usual, scales = {"weight_decay": weight_decay, "lr": lr}, _scales(model, layer, layer_decay)
    every = {name: {**usual, **exempt.get(name, {}), **settings_of.get(name, {})} for name in named}
    return _grouped((name, p, _scaled(every[name], scales.get(name))) for name, p in named.items())


def _rates(lr: Any, layer_decay: Any, layer: Any) -> tuple[Any, float | None]:
    """The learning rate and its layer-wise decay, checked."""
    lr = None if lr is None else _number("lr", lr)
    if layer_decay is None:
        if layer is not None:
            raise ValueError(
                "param_groups: layer= says where a parameter stands for layer_decay=..., which isn't given"
            )
        return lr, None
    decay = float(_number("layer_decay", layer_decay, "(0, 1]"))
    if lr is None:
        raise ValueError("param_groups: layer_decay scales lr, so it needs lr=...")
    return lr, decay


def _scales(model: nn.Module, layer: Callable[[str], int] | None, layer_decay: float | None) -> dict[str, float]:
    """What the learning rate of each parameter is multiplied by, by name; nothing without layer-wise decay."""
    if layer_decay is None:
        return {}
    depths = _depths(model, layer)
    last = max(depths.values(), default=0)
    return {name: layer_decay ** (last - depth) for name, depth in depths.items()}


def _scaled(settings: Mapping[str, Any], scale: float | None) -> dict[str, Any]:
    """Settings with their learning rate scaled, and without one that is None."""
    lr = settings["lr"] if scale is None else settings["lr"] * scale
    return {key: value for key, value in {**settings, "lr": lr}.items() if key != "lr" or value is not None}


def _grouped(parameters: Iterable[tuple[str, nn.Parameter, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Groups of parameters with equal settings."""
    groups: list[dict[str, Any]] = []
    for name, p, settings in parameters:
        group = next((g for g in groups if {**g, "params": None} == {"params": None, **settings}), None)
        if group is None:
            group = {"params": [], **settings}
            groups.append(group)
        group["params"].append((name, p))
    return groups


def _spared(model: nn.Module, named: Mapping[str, nn.Parameter], no_decay: Any) -> set[str]:
    """The names of the parameters that don't decay."""
    words, patterns = _split(no_decay)
    spared = {name for pattern in patterns for name in _matched("no_decay", pattern, model, named)}
    kinds, exempt = _kinds(model), _exempt(model)
    for name, p in named.items():
        if p in exempt or any(word in kinds[p] or (word == "1d" and p.dim() < 2) for word in words):
            spared.add(name)
    return spared


def _refuse_rest(left: Sequence[str], count: int, some: bool) -> None:
    """Refuse parameters outside of the groups, if there are any."""
    if left:
        raise ValueError(
            f"param_groups: {_some(left)} of {count} parameters "
            f"{'match none of the groups' if some else 'are in no group, as there is no groups=...'}; "
            "add a group for them, or take rest=True"
        )


def _number(what: str, value: Any, allowed: str = "[0, inf)") -> Any:
    """The number as a float, or a tensor of one element as it is."""
    tensor = isinstance(value, torch.Tensor) and value.numel() == 1
    if not tensor and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        raise TypeError(f"param_groups: {what} must be a number in {allowed}, got {value!r:.60}")
    number = float(value)
    if not math.isfinite(number) or number < 0 or (allowed == "(0, 1]" and not 0 < number <= 1):
        raise ValueError(f"param_groups: {what} must be a number in {allowed}, got {value!r}")
    return value if tensor else number


def _some(names: Collection[str]) -> str:
    return ", ".join(map(repr, list(names)[:5])) + ", ..." * (len(names) > 5)


def _split(no_decay: Any) -> tuple[list[str], list[re.Pattern[str]]]:
    if isinstance(no_decay, (str, re.Pattern)) or not isinstance(no_decay, Iterable):
        raise TypeError(f"param_groups: no_decay is a collection such as {NO_DECAY}, or () for none; got {no_decay!r}")
    items = list(no_decay)
    for word in items:
        if not isinstance(word, re.Pattern) and word not in _KINDS:
            raise ValueError(
                f"param_groups: no_decay takes {', '.join(map(repr, _KINDS))} and compiled regular expressions "
                f"(re.compile(...)), got {word!r}"
            )
    return [item for item in items if item in _KINDS], [item for item in items if isinstance(item, re.Pattern)]


def _named(model: Any, frozen: bool) -> dict[str, nn.Parameter]:
    """The parameters to take by their first names."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"param_groups takes a torch.nn.Module, got {type(model).__name__}")
    every = dict(model.named_parameters())
    if not every:
        raise ValueError(f"param_groups: the model, a {type(model).__name__}, has no parameters; there must be one")
    named = {name: p for name, p in every.items() if frozen or p.requires_grad}
    if not named:
        raise ValueError(f"param_groups: all {len(every)} parameters are frozen; unfreeze some, or take frozen=True")
    lazy = [name for name, p in named.items() if isinstance(p, nn.UninitializedParameter)]
    if lazy:
        raise ValueError(f"param_groups: {_some(lazy)} have no shape yet; call the lazy model on an example first")
    return named


def _kinds(model: nn.Module) -> dict[torch.Tensor, set[str]]:
    """What each parameter is: a bias, a norm's, an embedding's; all that hold, if it is in several places."""
    kinds: dict[torch.Tensor, set[str]] = {}
    unwrapped = _unwrapping(model)
    for place, module in model.named_modules(remove_duplicate=False):
        held = list(module.named_parameters(recurse=False, remove_duplicate=False))
        made: Any = module.parametrizations if is_parametrized(module) else {}
        held += [(name, p) for name, parts in made.items() for p in parts.parameters(False)]  # what it is made from
        for name, p in held:
            kind = kinds.setdefault(p, set())
            kind |= {"norm"} if _of_norm(unwrapped(f"{place}.{name}"), module, p) else set()
            kind |= {"embedding"} if isinstance(module, _EMBEDDINGS) else set()
            kind |= {"bias"} if re.search(r"(^|_)bias", name) else set()
    return kinds


def _of_norm(name: str, module: nn.Module, p: torch.Tensor) -> bool:
    """Whether a module's own parameter scales or shifts what is normalized."""
    words = type(module).__name__, *name.split(".")[-2:-1]
    if isinstance(module, _NORMS) or re.search(r"([Nn]orm|NORM)(\dd)?$", words[0]):
        return True
    # RMSNormGated, LayerNormAct2d, or so named in its model. A LayerNormLinear has matrices too.
    return p.dim() < 2 and any(re.search(r"([Nn]orm|NORM)(?![a-z])", word) for word in words)


def _exempt(model: nn.Module) -> set[torch.Tensor]:
    """The parameters that the model itself keeps from decaying: Mamba and S4 mark them, timm's models list them."""
    unwrapped = _unwrapping(model)
    named = [(unwrapped(name), p) for name, p in model.named_parameters(remove_duplicate=False)]
    exempt: set[torch.Tensor] = {p for _, p in named if _exempted(p)}
    for place, module in model.named_modules():
        start = unwrapped(f"{place}.") if place else ""
        patterns = [unwrapped(f"{place}.{name}" if place else name) for name in _listed(module, "no_weight_decay")]
        patterns += [f"{start}*{word}*" for word in _listed(module, "no_weight_decay_keywords")]
        exempt |= {p for name, p in named if any(fnmatchcase(name, pattern) for pattern in patterns)}
    return exempt


def _exempted(p: torch.Tensor) -> bool:
    """Whether a parameter is marked as one that doesn't decay, in Mamba's way or in S4's."""
    settings = getattr(p, "_optim", None)
    return bool(getattr(p, "_no_weight_decay", False)) or (
        isinstance(settings, Mapping) and settings.get("weight_decay") == 0
    )


def _listed(module: nn.Module, name: str) -> Collection[str]:
    """What a module lists under this name, in a method or an attribute; what is something else there lists nothing."""
    listing = getattr(module, name, None)
    if not callable(listing) or isinstance(listing, nn.Module):
        return listing if isinstance(listing, Collection) and _names(listing) else ()
    if not _callable_without_arguments(listing):
        return ()
    given: Any = listing()
    listed = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else given
    if listed is not None and not _names(listed):
        kind = type(module).__name__
        raise TypeError(
            f"param_groups: {name}() of the {kind} must give a collection of names, got {given!r:.60}; return a set of "
            "strings, or call the method something else"
        )
    return listed or ()


def _names(listed: Any) -> bool:
    """Whether it is several strings, not one."""
    several = isinstance(listed, Collection) and not isinstance(listed, (str, torch.Tensor))
    return several and all(isinstance(word, str) for word in listed)


def _callable_without_arguments(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def _unwrapping(model: nn.Module) -> Callable[[str], str]:
    """What makes the model's own names of its parameters' and modules'."""
    return unwrapping([name for name, _ in model.named_parameters(remove_duplicate=False)])


def _matched(what: str, pattern: Any, model: nn.Module, named: Collection[str]) -> list[str]:
    """The names in which an expression is found; there must be one."""
    unwrapped = _unwrapping(model)
    try:
        expression = re.compile(pattern)
        matched = [name for name in named if expression.search(unwrapped(name))]
    except (re.error, TypeError) as error:
        raise ValueError(f"param_groups: {what}: {pattern!r} is no regular expression: {error}") from None
    if not matched:
        text, plain = expression.pattern, [unwrapped(name) for name in named]
        other = [unwrapped(name) for name, _ in model.named_parameters(remove_duplicate=False)]
        other = [name for name in other if expression.search(name)]
        why = f"only {_some(other)}, frozen (frozen=True takes them) or tied to a name before" if other else "nothing"
        near = get_close_matches(re.sub(r"\W+", ".", text), plain, n=3, cutoff=0.0)
        raise ValueError(f"param_groups: {what}: {text!r} matches {why}; the nearest names are {_some(near)}")
    return matched


def _own(groups: Any, model: nn.Module, named: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """The settings of the parameters that the user's groups match."""
    if not isinstance(groups, Mapping):
        raise TypeError(f"param_groups: groups must be a dict of {{pattern: settings}}, got {groups!r:.60}")
    by_name: dict[str, tuple[Any, Mapping[str, Any]]] = {}
    for pattern, settings in groups.items():
        what = f"group {pattern!r}"
        if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
            raise TypeError(f"param_groups: {what} must be a dict of settings, got {settings!r:.60}")
        for key in settings:
            if key in ("params", "param_names"):
                raise TypeError(f"param_groups: {what} says {key!r}, which the expression does; leave it out")
            close = get_close_matches(key.lower(), ("lr", "weight_decay"), n=1, cutoff=0.8)
            near = close[0] if close else _ALIASES.get(key, key)
            if near != key:  # which torch would take, and never read
                raise TypeError(f"param_groups: {what} says {key!r}; did you mean {near!r}?")
            if key in ("lr", "weight_decay"):
                _number(f"{what}: {key}", settings[key])
        for name in _matched("groups", pattern, model, named):
            if name in by_name:
                raise ValueError(
                    f"param_groups: parameter {name!r} is in two groups, {by_name[name][0]!r} and {pattern!r}; "
                    "make the expressions exclude each other"
                )
            by_name[name] = pattern, settings
    return {name: settings for name, (_, settings) in by_name.items()}


def _depths(model: nn.Module, layer: Any) -> dict[str, int]:
    """The layer in which each parameter stands, frozen ones too."""
    depths: dict[str, int] = {}
    unwrapped = _unwrapping(model)
    names = [name for name, _ in model.named_parameters()]
    if layer is not None:
        if not callable(layer):
            raise TypeError(f"param_groups: layer must be a function of a parameter's name, got {layer!r:.60}")
        for name in names:
            depth = depths[name] = layer(unwrapped(name))
            if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
                raise ValueError(
                    f"param_groups: layer({unwrapped(name)!r}) must be a whole number from 0, got {depth!r}; "
                    "the model's first layer is 0"
                )
        return depths
    stacks: dict[str, list[str]] = {}
    for stack, module in model.named_modules():
        if isinstance(module, (nn.ModuleList, nn.Sequential)):
            blocks = [name for name, block in module.named_children() if next(block.parameters(), None) is not None]
            stacks[f"{stack}." if stack else ""] = blocks
    longest = max(map(len, stacks.values()), default=0)
    if not longest:
        raise ValueError("param_groups: no ModuleList or Sequential of blocks to count layers in; give layer=...")
    prefix, *others = [stack for stack, blocks in stacks.items() if len(blocks) == longest]
    rivals = [stack for stack in others if not stack.startswith(prefix)]
    if rivals:
        raise ValueError(
            f"param_groups: {_some([prefix[:-1], *(stack[:-1] for stack in rivals)])} have {longest} blocks each, so "
            "it isn't clear along which layers are counted; give layer=..., a function of a parameter's name"
        )
    outside = 0
    for name in names:
        block = name[len(prefix) :].partition(".")[0] if name.startswith(prefix) else None
        if block in stacks[prefix]:
            depths[name], outside = 1 + stacks[prefix].index(block), longest + 1
        else:
            depths[name] = outside
    return depths
