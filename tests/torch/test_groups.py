"""Which parameters decay, how fast each layer learns, and what is refused."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import adamite.torch as ours
from adamite.torch import param_groups


class RootMeanSquareNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        normal: Tensor = self.gain * x / x.square().mean(-1, keepdim=True).sqrt()
        return normal


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = RootMeanSquareNorm(4), nn.MultiheadAttention(4, 2)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        x = x + self.mlp(self.attention(x, x, x)[0])
        return x


class Language(nn.Module):
    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.last, self.head = nn.LayerNorm(4), nn.Linear(4, 11, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        x = self.head(self.last(x))
        return x


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)
    )


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.PReLU(),
        nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip


def encoder() -> nn.Module:
    return nn.TransformerEncoder(
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2, nn.RMSNorm(4), enable_nested_tensor=False
    )


ENCODER = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
LANGUAGE = ("attention.in_proj_weight", "attention.out_proj.weight", "mlp.0.weight", "mlp.2.weight")
WORDS = torch.arange(6).reshape(2, 3)
# A model, what it is called with, and the weights that decay, told by hand.
MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor, set[str]]] = {
    "mlp": (mlp, torch.ones(4, 3), {"0.weight", "3.weight", "6.weight"}),
    # A PReLU's slope is none of the three: "1d" spares it.
    "convolutions": (convolutions, torch.rand(2, 1, 6, 6), {"0.weight", "2.weight", "4.weight", "6.weight"}),
    "encoder": (encoder, torch.rand(2, 3, 4), {f"layers.{k}.{name}" for k in range(2) for name in ENCODER}),
    "tied": (Language, WORDS, {f"blocks.{k}.{name}" for k in range(3) for name in LANGUAGE}),
    "untied": (
        lambda: Language(tied=False), WORDS,
        {f"blocks.{k}.{name}" for k in range(3) for name in LANGUAGE} | {"head.weight"},
    ),
}  # fmt: skip


def names(groups: Any, **wanted: Any) -> set[str]:
    return {
        name for group in groups if all(group.get(k) == v for k, v in wanted.items()) for name, _ in group["params"]
    }


def every(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def rates(model: nn.Module, **options: Any) -> dict[str, float]:
    groups = param_groups(model, **{"lr": 1.0, "layer_decay": 0.5, **options})
    return {name: group["lr"] for group in groups for name, _ in group["params"]}


# ---- what decays


@pytest.mark.parametrize("case", MODELS)
def test_biases_norms_and_embeddings_do_not_decay(case: str) -> None:
    make, _, weights = MODELS[case]
    model = make()
    groups = param_groups(model, 0.1)
    assert names(groups, weight_decay=0.1) == weights
    assert names(groups, weight_decay=0.0) == set(every(model)) - weights
    assert [list(group) for group in groups] == [["params", "weight_decay"]] * 2
    pairs = [pair for group in groups for pair in group["params"]]
    assert len(pairs) == len(every(model))
    assert all(dict(model.named_parameters())[name] is p for name, p in pairs)


@pytest.mark.parametrize("library", [torch.optim, ours], ids=["torch", "ours"])
@pytest.mark.parametrize("case", MODELS)
def test_optimizers_take_them(library: Any, case: str) -> None:
    """Without gradients AdamW does no more than decay; then it trains."""
    make, x, weights = MODELS[case]
    torch.manual_seed(0)
    model = make().double()
    x = x.double() if x.is_floating_point() else x
    groups = param_groups(model, 0.2, lr=0.01)
    listed = [[name for name, _ in group["params"]] for group in groups]
    optimizer = library.AdamW(groups)
    assert [group["param_names"] for group in optimizer.param_groups] == listed
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (1 - 0.01 * 0.2 * (name in weights)), rtol=1e-15, atol=0)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("no_decay", "expected"),
    [
        ((), set()),
        (("bias",), {"0.bias", "1.bias", "2.bias"}),
        (("norm",), {"1.weight", "1.bias"}),
        (("1d",), {"0.bias", "1.weight", "1.bias", "2.bias", "3.weight"}),
        (["embedding"], set()),
        ((re.compile(r"^2\."),), {"2.weight", "2.bias"}),
        ({"norm", re.compile("0.*weight")}, {"1.weight", "1.bias", "0.weight"}),
    ],
)
def test_what_does_not_decay_is_a_choice(no_decay: Any, expected: set[str]) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Linear(3, 1), nn.PReLU())
    assert names(param_groups(model, 0.1, no_decay=no_decay), weight_decay=0.0) == expected


def test_every_norm_embedding_and_bias_of_torch() -> None:
    spared = [
        nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2), nn.LayerNorm((2, 2)),
        nn.GroupNorm(1, 2), nn.RMSNorm((2, 2)), *(n(2, affine=True) for n in (nn.InstanceNorm1d, nn.InstanceNorm3d)),
        nn.Embedding(3, 2), nn.EmbeddingBag(3, 2), RootMeanSquareNorm(2),
    ]  # fmt: skip
    model = nn.ModuleDict({str(k): module for k, module in enumerate(spared)})
    assert names(param_groups(model), weight_decay=0.0) == set(every(model))
    own = type("ChannelNorm2d", (RootMeanSquareNorm,), {})(2)
    assert names(param_groups(own), weight_decay=0.0) == {"gain"}
    subclasses = [type("Scaled", (norm,), {}) for norm in (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d)]
    for scaled in (type("Scaled", (nn.GroupNorm,), {})(1, 2), *(norm(2) for norm in subclasses)):
        assert names(param_groups(scaled), weight_decay=0.0) == set(every(scaled))
    for layer in (nn.LSTM(2, 2, 2), nn.MultiheadAttention(2, 1, add_bias_kv=True), nn.Bilinear(2, 2, 2)):
        assert names(param_groups(layer), weight_decay=0.0) == {name for name in every(layer) if "bias" in name}


def test_norms_by_their_names() -> None:
    """RMSNormGated is one, LayerNormLinear is one with a matrix, and a Normalizer none."""

    def made(name: str, **shapes: tuple[int, ...]) -> nn.Module:
        module: nn.Module = type(name, (nn.Module,), {})()
        for parameter, shape in shapes.items():
            module.register_parameter(parameter, nn.Parameter(torch.ones(shape)))
        return module

    vector, matrix = (4,), (4, 4)
    model = nn.ModuleDict({
        **{name: made(name, weight=vector) for name in ("RMSNormGated", "LayerNormAct2d", "RMSNORM", "Batchnorm1dX")},
        "HeadNorm": made("HeadNorm", weight=matrix),
        "LayerNormLinear": made("LayerNormLinear", layer_norm_weight=vector, weight=matrix),
        **{name: made(name, weight=vector) for name in ("Normalizer", "Unnormed", "Enormous", "Scale")},
        **{name: made("Scale", gain=vector) for name in ("norm", "norm1", "q_norm", "post_layernorm", "normal")},
        "norm_gate": nn.Linear(4, 4, bias=False),
        "pre_norm": nn.Sequential(nn.Linear(4, 4, bias=False), nn.LayerNorm(4)),
    })  # fmt: skip
    assert names(param_groups(model, 0.1), weight_decay=0.1) == {
        "LayerNormLinear.weight", "Normalizer.weight", "Unnormed.weight", "Enormous.weight", "Scale.weight",
        "normal.gain", "norm_gate.weight", "pre_norm.0.weight",
    }  # fmt: skip


def test_mamba_decays_as_hugging_faces_trainer_has_it() -> None:
    from transformers import Mamba2Config, Mamba2ForCausalLM, Trainer

    config = Mamba2Config(
        hidden_size=8, num_heads=4, head_dim=4, state_size=4, n_groups=1, num_hidden_layers=2, vocab_size=11
    )
    model = Mamba2ForCausalLM(config)
    gated = {name for name in every(model) if name.endswith("mixer.norm.weight")}
    spared = names(param_groups(model, 0.1, no_decay=("bias", "norm")), weight_decay=0.0)
    assert len(gated) == 2 and gated <= spared
    theirs = set(every(model)) - set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]
    # Hugging Face doesn't know the last norm's name, norm_f.
    assert spared == theirs | {"backbone.norm_f.weight"}
    for name, p in model.named_parameters():
        p._no_weight_decay = name.endswith(("A_log", ".D"))  # type: ignore[attr-defined]  # as Mamba's authors do
    marked = names(param_groups(model, 0.1, no_decay=("bias", "norm")), weight_decay=0.0) - spared
    assert marked == {f"backbone.layers.{k}.mixer.{name}" for k in range(2) for name in ("A_log", "D")}


class Vision(nn.Module):
    """A model that says what doesn't decay, as timm's do: names, with wildcards, of itself and of a part."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token, self.pos_embed = nn.Parameter(torch.ones(1, 1, 4)), nn.Parameter(torch.ones(1, 9, 4))
        self.levels = nn.ParameterList(nn.Parameter(torch.ones(2, 2)) for _ in range(2))
        self.head = nn.Linear(4, 2)

    def no_weight_decay(self) -> set[str]:
        return {"cls_token", "pos_embed", "levels.*", "dist_token"}


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.neck = Vision(), nn.Linear(4, 4)
        self.neck.register_parameter("relative_position_table", nn.Parameter(torch.ones(3, 3)))

    def no_weight_decay_keywords(self) -> set[str]:
        return {"relative_position"}


@pytest.mark.parametrize("no_decay", [(), ("bias",), ("1d",)])
def test_what_a_model_exempts_does_not_decay(no_decay: Any) -> None:
    listed = {"cls_token", "pos_embed", "levels.0", "levels.1"}
    biases = {"head.bias"} if no_decay else set()
    assert names(param_groups(Vision(), 0.1, no_decay=no_decay), weight_decay=0.0) == listed | biases
    for model in (Detector(), compiled(Detector()), nn.DataParallel(Detector())):
        model.eval()
        found = names(param_groups(model, 0.1, no_decay=()), weight_decay=0.0)
        bare = {name.removeprefix("_orig_mod.").removeprefix("module.") for name in found}
        assert bare == {f"backbone.{name}" for name in listed} | {"neck.relative_position_table"}
    own = param_groups(Vision(), 0.1, groups={"pos_embed": {"weight_decay": 0.3}})
    assert names(own, weight_decay=0.3) == {"pos_embed"}


def test_an_exempt_parameter_is_exempt_under_each_of_its_names() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def no_weight_decay(self) -> list[str]:
            return ["second.weight"]

    assert names(param_groups(Tied(), 0.1), weight_decay=0.0) == {"first.weight"}


@pytest.mark.parametrize("wrong", ["pos_embed", 3, [nn.Parameter(torch.ones(1))]])
def test_an_exemption_that_lists_no_names_is_refused(wrong: Any) -> None:
    model: Any = nn.Linear(2, 2)
    model.no_weight_decay = lambda: wrong
    with pytest.raises(TypeError, match=r"no_weight_decay\(\) of the Linear must give a collection of names, got"):
        param_groups(model)


def test_a_norm_around_other_modules_spares_only_its_own() -> None:
    class PreNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.inside = nn.LayerNorm(2), nn.Linear(2, 2)

    assert names(param_groups(PreNorm(), 0.1), weight_decay=0.1) == {"inside.weight"}


def test_parametrized_parameters_are_what_they_were() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(3, 2), "linear": nn.Linear(2, 2)})
    parametrizations.spectral_norm(model["embed"])
    parametrizations.weight_norm(model["linear"], "bias")
    assert names(param_groups(model, 0.1), weight_decay=0.1) == {"linear.weight"}


def test_a_parameter_of_two_names_is_taken_once() -> None:
    model = Language()
    listed = [name for group in param_groups(model) for name, _ in group["params"]]
    assert sorted(listed) == sorted(every(model)) and "head.weight" not in listed

    class HeadFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.embed = nn.Linear(4, 11, bias=False), nn.Embedding(11, 4)
            self.head.weight = self.embed.weight

    assert [(g["weight_decay"], names([g])) for g in param_groups(HeadFirst())] == [(0.0, {"head.weight"})]
    linear: Any = nn.Linear(2, 2, bias=False)
    linear.bias = linear.weight
    assert [(g["weight_decay"], names([g])) for g in param_groups(linear)] == [(0.0, {"weight"})]


# ---- layers


@pytest.mark.parametrize("tied", [False, True])
def test_layers_learn_at_their_own_rates(tied: bool) -> None:
    model = Language(tied)
    expected = {"embed": 0.5**4, "last": 1.0, "head": 1.0}
    for name, rate in rates(model).items():
        first, second, *_ = name.split(".")
        assert rate == (0.5 ** (3 - int(second)) if first == "blocks" else expected[first]), name


def test_layers_are_blocks_with_parameters() -> None:
    assert {k: v for k, v in rates(mlp()).items() if k.endswith("weight")} == {
        "0.weight": 0.5**4, "1.weight": 0.5**3, "3.weight": 0.25, "4.weight": 0.5, "6.weight": 1.0,
    }  # fmt: skip
    named = nn.Sequential()
    for name in ("stem", "body", "head"):
        named.add_module(name, nn.Linear(2, 2, bias=False))
    assert rates(named) == {"stem.weight": 0.25, "body.weight": 0.5, "head.weight": 1.0}


def test_layers_count_from_the_optimizer_in_numbers() -> None:
    """The same weights after a step as by a hand that scales each block's rate."""
    model = encoder()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(param_groups(model, 0.0, lr=0.1, layer_decay=0.5))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        rate = {"layers.0": 0.025, "layers.1": 0.05}.get(name[:8], 0.1)
        torch.testing.assert_close(p.detach(), before[name] - rate)


def test_freezing_changes_no_rate() -> None:
    whole = rates(Language(tied=False))
    for frozen in (("blocks", "embed"), ("last", "head"), ("blocks.0",)):
        model = Language(tied=False)
        for name, p in model.named_parameters():
            p.requires_grad_(not name.startswith(frozen))
        assert rates(model) == {name: rate for name, rate in whole.items() if not name.startswith(frozen)}
        assert rates(model, frozen=True) == whole


def test_layers_by_a_function() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    seen = []

    def layer(name: str) -> int:
        seen.append(name)
        return 3 * (name[0] == "b")

    assert rates(compiled(model), layer=layer, no_decay=()) == {
        "_orig_mod.a.weight": 0.125, "_orig_mod.a.bias": 0.125, "_orig_mod.b.weight": 1.0, "_orig_mod.b.bias": 1.0,
    }  # fmt: skip
    assert seen == ["a.weight", "a.bias", "b.weight", "b.bias"]


def test_without_decay_of_layers_nothing_is_split() -> None:
    assert len(param_groups(Language(), lr=1.0, layer_decay=1.0)) == 2


# ---- groups of one's own


def test_groups_of_ones_own() -> None:
    model = Language(tied=False)
    own: Any = {r"^head\.": {"lr": 0.5}, re.compile("embed"): {"weight_decay": 0.3, "lr": 0.1, "betas": (0.8, 0.9)}}
    groups = param_groups(model, 0.1, groups=own)
    assert names(groups, lr=0.5, weight_decay=0.1) == {"head.weight"}
    assert names(groups, lr=0.1, weight_decay=0.3, betas=(0.8, 0.9)) == {"embed.weight"}
    assert len([name for group in groups for name, _ in group["params"]]) == len(every(model))
    assert own == {r"^head\.": {"lr": 0.5}, re.compile("embed"): {"weight_decay": 0.3, "lr": 0.1, "betas": (0.8, 0.9)}}
    assert list(groups[0]) == ["params", "weight_decay", "lr", "betas"]
    torch.optim.AdamW(groups)


def test_what_a_group_says_holds_for_biases_and_what_it_does_not_say_stays() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = param_groups(model, 0.1, lr=1.0, groups={"^0": {"weight_decay": 0.3}, "^1": {"lr": 0.2}})
    assert [(group["weight_decay"], group["lr"], *names([group])) for group in groups[1:]] == [
        (0.1, 0.2, "1.weight"),
        (0.0, 0.2, "1.bias"),
    ]
    assert names(groups, weight_decay=0.3, lr=1.0) == {"0.weight", "0.bias"}


def test_a_groups_rate_decays_with_its_layer() -> None:
    found = rates(encoder(), groups={"linear1": {"lr": 0.1}})
    assert found["layers.0.linear1.weight"] == 0.1 * 0.25 and found["layers.0.linear2.weight"] == 0.25


def test_equal_settings_are_one_group() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    options: dict[str, Any] = {"eps": 1e-4, "lr": 1}
    turned = dict(reversed(options.items()))
    groups = param_groups(model, 0, lr=1.0, groups={"^0": options, "^1": turned, "^2": {"lr": torch.tensor(1.00001)}})
    assert [sorted(names([group])) for group in groups] == [
        ["0.bias", "0.weight", "1.bias", "1.weight"],
        ["2.bias", "2.weight"],
    ]
    almost = {"^0": {"lr": torch.tensor(0.10001)}, "^1": {"lr": torch.tensor(0.10002)}}  # printed alike
    assert len(param_groups(model, 0, groups=almost)) == 3


def test_groups_may_have_to_cover_all() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = param_groups(model, rest=False, groups={"^0": {}, "^1": {"lr": 0.1}})
    assert len([name for group in groups for name, _ in group["params"]]) == 4
    model[1].requires_grad_(False)  # what isn't taken needs no group
    assert names(param_groups(model, rest=False, groups={"^0": {}})) == {"0.weight", "0.bias"}


# ---- frozen and wrapped


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    assert names(param_groups(model)) == {"0.bias", "1.weight", "1.bias"}
    assert names(param_groups(model, frozen=True)) == set(every(model))


@pytest.mark.usefixtures("process_group")
def test_wrapped_models() -> None:
    """Expressions see the names of the model, the groups have the wrapper's."""
    bare = Language(tied=False)
    options: dict[str, Any] = {
        "groups": {r"^embed\.": {"eps": 1e-3}, r"^blocks\.0\.": {"eps": 1e-4}},
        "no_decay": ("bias", re.compile("^last")),
    }
    expected = rates(bare, **options), param_groups(bare, **options)
    data_parallel: nn.Module = nn.parallel.DistributedDataParallel(bare)
    for prefix, wrapped in {
        "module.": data_parallel,
        "_orig_mod.": compiled(bare),
        "_orig_mod.module.": compiled(data_parallel),
    }.items():
        assert rates(wrapped, **options) == {prefix + name: rate for name, rate in expected[0].items()}
        assert [
            {**group, "params": [name.removeprefix(prefix) for name, _ in group["params"]]}
            for group in param_groups(wrapped, **options)
        ] == [{**group, "params": [name for name, _ in group["params"]]} for group in expected[1]]


def test_wrapped_parts_and_names_like_a_wrappers() -> None:
    model = Language(tied=False)
    model.blocks[1] = compiled(model.blocks[1])
    groups = param_groups(model, groups={r"^blocks\.1\.norm": {"lr": 0.1}})
    assert names(groups, lr=0.1) == {"blocks.1._orig_mod.norm.gain"}
    assert rates(model)["blocks.1._orig_mod.norm.gain"] == 0.25
    like = nn.ModuleDict({"submodule": nn.Linear(2, 2), "a": nn.ModuleDict({"module": nn.Linear(2, 2)})})
    own = {r"^submodule\.": {"lr": 0.1}, r"^a\.module\.": {"lr": 0.2}}
    assert len(names(param_groups(like, groups=own, rest=False))) == 4


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weight_decay": -1.0}, ValueError, r"weight_decay must be a number in \[0, inf\), got -1.0"),
        ({"weight_decay": float("inf")}, ValueError, "weight_decay must be"),
        ({"weight_decay": "0.1"}, TypeError, r"weight_decay must be a number in \[0, inf\), got '0.1'"),
        ({"weight_decay": True}, TypeError, "got True"),
        ({"lr": float("nan")}, ValueError, "lr must be a number"),
        ({"lr": torch.ones(2)}, TypeError, "lr must be a number"),
        ({"layer_decay": 0.5}, ValueError, "needs lr=..."),
        ({"layer_decay": 1.5, "lr": 1.0}, ValueError, r"layer_decay must be a number in \(0, 1\], got 1.5"),
        ({"layer_decay": 0, "lr": 1.0}, ValueError, r"layer_decay must be a number in \(0, 1\], got 0"),
        ({"layer": len}, ValueError, "for layer_decay=..., which isn't given"),
        ({"layer_decay": 0.5, "lr": 1.0, "layer": 3}, TypeError, "function of a parameter's name, got 3"),
        *(
            ({"layer_decay": 0.5, "lr": 1.0, "layer": lambda name, n=n: n}, ValueError,
             rf"layer\('embed.weight'\) must be a whole number from 0, got {n}")
            for n in (-1, 0.5, None, True)
        ),
        ({"no_decay": "bias"}, TypeError, r"collection such as \('bias', .*got 'bias'"),
        ({"no_decay": None}, TypeError, r"or \(\) for none; got None"),
        ({"no_decay": ("biases",)}, ValueError, r"'bias'.*'1d' and .*re\.compile.*got 'biases'"),
        ({"no_decay": (re.compile("gamma"),)}, ValueError, "no_decay: 'gamma' matches nothing; the nearest names are"),
        ({"groups": [1]}, TypeError, r"groups must be a dict of \{pattern: settings\}, got \[1\]"),
        ({"groups": {"blocks": {"lr": 1.0}, "mlp": {"lr": 2.0}}}, ValueError,
         r"'blocks.0.mlp.0.weight' is in two groups, 'blocks' and 'mlp'; make the expressions exclude"),
        ({"groups": {r"^heads\.": {"lr": 1.0}}}, ValueError, "matches nothing; the nearest names are 'head.weight'"),
        ({"groups": {re.compile("heads"): {"lr": 1.0}}}, ValueError, "'heads' matches nothing"),
        ({"groups": {"(": {"lr": 1.0}}}, ValueError, r"'\(' is no regular expression"),
        ({"groups": {b"head": {"lr": 1.0}}}, ValueError, "b'head' is no regular expression"),
        ({"groups": {3: {"lr": 1.0}}}, ValueError, "3 is no regular expression"),
        ({"groups": {"head": 3}}, TypeError, "group 'head' must be a dict of settings, got 3"),
        ({"groups": {"head": {1: 3}}}, TypeError, "must be a dict of settings"),
        ({"groups": {"head": {"params": []}}}, TypeError, "says 'params', which the expression does; leave it out"),
        ({"groups": {"head": {"lr": -1.0}}}, ValueError, r"group 'head': lr must be a number in \[0, inf\), got -1.0"),
        ({"groups": {"head": {"lr": None}}}, TypeError, "lr must be a number"),
        ({"groups": {"head": {"weight_decay": "0"}}}, TypeError, "group 'head': weight_decay must be a number"),
        ({"groups": {"head": {"weigth_decay": 0}}}, TypeError, "says 'weigth_decay'; did you mean 'weight_decay'"),
        ({"groups": {"head": {"learning_rate": 0}}}, TypeError, "says 'learning_rate'; did you mean 'lr'"),
        ({"groups": {"head": {"wd": 0}}}, TypeError, "says 'wd'; did you mean 'weight_decay'"),
        ({"groups": {"blocks": {"lr": 1.0}}, "rest": False}, ValueError,
         "'embed.weight', 'last.weight', 'last.bias', 'head.weight' of 31 .*match none of the groups; add a group"),
        ({"rest": False}, ValueError, "are in no group, as there is no groups=..."),
    ],
)  # fmt: skip
def test_what_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"param_groups.*{message}"):
        param_groups(Language(tied=False), **options)


def test_expressions_that_match_only_what_is_left_out() -> None:
    with pytest.raises(ValueError, match=r"matches only 'head.weight', frozen .* or tied to a name before"):
        param_groups(Language(), groups={"^head": {"lr": 0.1}})
    model = Language(tied=False)
    model.head.requires_grad_(False)
    with pytest.raises(ValueError, match=r"matches only 'head.weight', frozen \(frozen=True takes them\)"):
        param_groups(model, groups={"^head": {"lr": 0.1}})
    assert names(param_groups(model, groups={"^head": {"lr": 0.1}}, frozen=True), lr=0.1) == {"head.weight"}


def test_models_without_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="a ReLU, has no parameters"):
        param_groups(nn.ReLU())
    with pytest.raises(ValueError, match=r"all 2 parameters are frozen; .*frozen=True"):
        param_groups(nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module, got list"):
        param_groups([nn.Parameter(Tensor(1))])  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_parameters_are_refused_until_they_have_a_shape() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3))
    with pytest.raises(ValueError, match=r"'1.weight', '1.bias' have no shape yet; call the lazy model on an example"):
        param_groups(model)
    model(torch.ones(1, 2))
    assert names(param_groups(model, 0.1), weight_decay=0.1) == {"0.weight", "1.weight"}


def test_layers_that_cannot_be_told_are_refused() -> None:
    no_blocks = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Sequential(nn.ReLU(), nn.ReLU())})
    for model in (nn.Linear(2, 2), no_blocks):
        with pytest.raises(ValueError, match=r"no ModuleList or Sequential of blocks .*give layer="):
            rates(model)
    with pytest.raises(ValueError, match=r"'encoder.layers', 'decoder.layers' have 2 blocks each.*give layer="):
        rates(nn.Transformer(4, 2, 2, 2, 8, batch_first=True))


class Listing(nn.Linear):
    """A layer under whose names there may be anything."""

    def __init__(self, listed: Any) -> None:
        super().__init__(2, 2)
        self.no_weight_decay: Any = listed


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (lambda: None, set()),
        (lambda: (name for name in ("weight",)), {"weight"}),
        (lambda: {"weight": 1}.keys(), {"weight"}),
        (lambda: iter(["weight"]), {"weight"}),
        (lambda exclude=(): {"weight"}, {"weight"}),
        (functools.partial(list, ["weight"]), {"weight"}),
        (["weight"], {"weight"}),
        (lambda decay: {"weight"}, set()),
        (True, set()),
        (False, set()),
        (None, set()),
        (0.1, set()),
        ("weight", set()),
        (torch.ones(2), set()),
        (nn.Linear(1, 1), set()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_listed_and_what_only_has_the_name(listed: Any, expected: set[str]) -> None:
    model = Listing(listed)
    spared = names(param_groups(model, 0.1, no_decay=()), weight_decay=0.0)
    assert {name for name in spared if not name.startswith("no_weight_decay")} == expected


def test_s4s_marks() -> None:
    model = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(4))
    for layer, mark in zip(model, ({"weight_decay": 0.0}, {"weight_decay": 0, "lr": 0.01}, {"lr": 0.01}, "adam")):
        setattr(layer.weight, "_optim", mark)  # noqa: B010  # types know no such name
    assert names(param_groups(model, 0.1), weight_decay=0.0) == {"0.weight", "1.weight"}


def test_a_models_own_module_called_module() -> None:
    """It is no wrapper's, whether the model is wrapped or not."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.weight = nn.Linear(2, 2, bias=False), nn.Parameter(torch.ones(2, 2))

        def no_weight_decay(self) -> set[str]:
            return {"module.weight"}

    for model, prefix in ((Own(), ""), (nn.DataParallel(Own()), "module."), (compiled(Own()), "_orig_mod.")):
        groups = param_groups(model, 0.1, groups={"^weight": {"lr": 0.5}}, layer_decay=0.5, lr=1.0, layer=len)
        assert names(groups, weight_decay=0.0) == {f"{prefix}module.weight"}
        found = {name: group["lr"] for group in groups for name, _ in group["params"]}
        assert found == {f"{prefix}weight": 0.5 * 0.5**7, f"{prefix}module.weight": 1.0}
