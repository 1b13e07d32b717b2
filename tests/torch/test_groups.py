"""Which parameters decay, how fast each layer learns, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adamite.torch as ours
from adamite.torch import param_groups


class RootMeanSquareNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(size))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = RootMeanSquareNorm(4), nn.MultiheadAttention(4, 2)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))


class Language(nn.Module):
    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.last, self.head = nn.LayerNorm(4), nn.Linear(4, 11, bias=False)
        if tied:
            self.head.weight = self.embed.weight


def names(groups: Any, **wanted: Any) -> set[str]:
    return {
        name for group in groups if all(group.get(k) == v for k, v in wanted.items()) for name, _ in group["params"]
    }


def every(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def test_biases_norms_and_embeddings_do_not_decay() -> None:
    model = Language()
    groups = param_groups(model, 0.1)
    weights = {
        f"blocks.{k}.{name}"
        for k in range(3)
        for name in ("attention.in_proj_weight", "attention.out_proj.weight", "mlp.0.weight", "mlp.2.weight")
    }
    assert names(groups, weight_decay=0.1) == weights
    assert names(groups, weight_decay=0.0) == set(every(model)) - weights
    assert [set(group) for group in groups] == [{"params", "weight_decay"}] * 2


def test_untied_heads_decay() -> None:
    assert "head.weight" in names(param_groups(Language(tied=False), 0.1), weight_decay=0.1)


@pytest.mark.parametrize(
    ("no_decay", "expected"),
    [
        ((), set()),
        (("bias",), {"0.bias", "1.bias", "2.bias"}),
        (("norm",), {"1.weight", "1.bias"}),
        (("1d",), {"0.bias", "1.weight", "1.bias", "2.bias"}),
        ((re.compile(r"^2\."),), {"2.weight", "2.bias"}),
        (("norm", re.compile("0.*weight")), {"1.weight", "1.bias", "0.weight"}),
    ],
)
def test_what_does_not_decay_is_a_choice(no_decay: Any, expected: set[str]) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Linear(3, 1))
    assert names(param_groups(model, 0.1, no_decay=no_decay), weight_decay=0.0) == expected


def test_layers_learn_at_their_own_rates() -> None:
    groups = param_groups(Language(tied=False), 0.1, lr=1.0, layer_decay=0.5)
    assert names(groups, lr=1.0) == {"last.weight", "last.bias", "head.weight"}
    for k in range(3):
        assert {name.split(".")[1] for name in names(groups, lr=0.5 ** (3 - k))} == {str(k)}
    assert names(groups, lr=0.5**4) == {"embed.weight"}
    own = param_groups(Language(), lr=1.0, layer_decay=0.1, layer=lambda name: int("blocks" in name))
    assert names(own, lr=1.0) == {name for name in every(Language()) if "blocks" in name}


def test_groups_of_ones_own() -> None:
    model = Language(tied=False)
    groups = param_groups(model, 0.1, groups={r"^head\.": {"lr": 0.5}, "embed": {"weight_decay": 0.3, "lr": 0.1}})
    assert names(groups, lr=0.5, weight_decay=0.1) == {"head.weight"}
    assert names(groups, lr=0.1, weight_decay=0.3) == {"embed.weight"}
    assert len([name for group in groups for name, _ in group["params"]]) == len(every(model))


@pytest.mark.parametrize("library", [torch.optim, ours])
def test_optimizers_take_them(library: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    optimizer = library.AdamW(param_groups(model, 0.2, lr=0.1))
    model(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    assert [group["param_names"] for group in optimizer.param_groups] == [
        ["0.weight"],
        ["0.bias", "1.weight", "1.bias"],
    ]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]


def test_wrapped_and_frozen_models() -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    wrapped = Wrapper(model)
    groups = param_groups(wrapped, 0.1, groups={r"^1\.weight": {"lr": 0.3}})
    assert names(groups, lr=0.3) == {"module.1.weight"}
    assert "module.0.weight" not in names(groups)
    assert "module.0.weight" in names(param_groups(wrapped, frozen=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": -1.0}, r"weight_decay must be a number in \[0, inf\), got -1.0"),
        ({"weight_decay": "0.1"}, "weight_decay must be a number"),
        ({"lr": float("nan")}, "lr must be a number"),
        ({"layer_decay": 0.5}, "needs lr"),
        ({"layer_decay": 1.5, "lr": 1.0}, r"layer_decay must be a number in \(0, 1\], got 1.5"),
        ({"layer": len}, "layer_decay"),
        ({"layer_decay": 0.5, "lr": 1.0, "layer": lambda name: -1}, "whole number"),
        ({"no_decay": "bias"}, "collection"),
        ({"no_decay": ("biases",)}, "'bias'.*got 'biases'"),
        ({"groups": {"blocks": {"lr": 1.0}, "mlp": {"lr": 2.0}}}, "in two groups, 'blocks' and 'mlp'"),
        ({"groups": {"heads": {"lr": 1.0}}}, "no parameter that matches 'heads'"),
        ({"groups": {"(": {"lr": 1.0}}}, "no regular expression"),
        ({"groups": {"head": 3}}, "must be a dict"),
        ({"groups": {"blocks": {"lr": 1.0}}, "rest": False}, "match none of the groups"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        param_groups(Language(tied=False), **options)


def test_models_without_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="no parameters"):
        param_groups(nn.ReLU())
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module, got list"):
        param_groups([nn.Parameter(Tensor(1))])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no ModuleList"):
        param_groups(nn.Linear(2, 2), lr=0.1, layer_decay=0.5)
