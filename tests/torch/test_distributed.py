"""Training in several processes is the training of one, with every class and every extra, whatever a rank holds."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from adamite.frontend.catalogue import TORCH
from tests.torch import workers
from tests.torch.workers import OURS, THEIRS, Ranks, Values, alone, network, optimizer, train, values

OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"lr": 0.01} for name in TORCH},
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "RMSprop": {"lr": 0.003, "momentum": 0.5, "centered": True},
    "Adagrad": {"lr": 0.1},
    "Adadelta": {},
    "Adam": {"lr": 0.01, "amsgrad": True},
    "AdamW": {"lr": 0.01, "weight_decay": 0.1},
    "Lion": {"lr": 0.001},
}
pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings("ignore:torch.distributed is .* single process:UserWarning"),
]
TORCHS = [name for name in OPTIONS if hasattr(torch.optim, name)]
EXTRAS: dict[str, Any] = {"clip_norm": 0.2, "ema": 0.9, "nonfinite": "skip"}
STEPS = range(8)
SAME = 1e-12  # of what another library makes of the same gradients
SUMMED = 1e-9  # of what gradients make that were added up in another order


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    started = Ranks(tmp_path_factory.mktemp("ranks"))
    yield started
    started.stop()


def apart(found: Values, expected: Values, start: Values | None = None) -> float:
    """The largest difference, as a part of a tensor's displacement or, without a start, of its size."""
    assert found.keys() == expected.keys()
    worst = 0.0
    for name, value in expected.items():
        size = (value - start[name] if start else value).abs().max().item()
        difference = (found[name] - value).abs().max().item()
        assert math.isfinite(difference)
        worst = max(worst, difference / size if difference else 0.0)
    return worst


def assert_same(found: Any, expected: Any, bar: float) -> None:
    """Values, states and averages agree."""
    start = {"values": values(network())} if expected["values"].keys() == values(network()).keys() else {}
    for kind in ("values", "states", "averages"):
        assert apart(found[kind], expected[kind], start.get(kind)) <= bar
    norms = found["gradient_norm"], expected["gradient_norm"]
    assert norms == (None, None) or norms[0] == pytest.approx(norms[1], rel=bar)


def bits(found: Any) -> Any:
    """Something that is equal where all tensors are, bit for bit."""
    if isinstance(found, list):
        return [bits(each) for each in found]
    if isinstance(found, dict):
        return {key: bits(value) for key, value in found.items()}
    return (found.shape, found.tolist()) if isinstance(found, torch.Tensor) else found


# ---- the same training, in several processes


@pytest.mark.parametrize("name", OPTIONS)
def test_replicated_as_alone(ranks: Ranks, name: str) -> None:
    found = ranks(workers.replicated, OURS, name, OPTIONS[name], STEPS)
    assert bits(found[0]) == bits(found[1])
    assert_same(found[0], alone(OURS, name, OPTIONS[name], STEPS), SUMMED)


@pytest.mark.parametrize("name", OPTIONS)
def test_sharded_as_alone(ranks: Ranks, name: str) -> None:
    found = ranks(workers.fully_sharded, OURS, name, OPTIONS[name], STEPS)
    assert bits(found[0]) == bits(found[1])
    assert_same(found[0], alone(OURS, name, OPTIONS[name], STEPS), SUMMED)
    assert found[0]["apart"] == found[1]["apart"] == []


@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.parametrize("work", [workers.replicated, workers.fully_sharded], ids=lambda w: w.__name__)
def test_as_torch_in_the_same_processes(ranks: Ranks, work: Any, name: str) -> None:
    mine, theirs = (ranks(work, library, name, OPTIONS[name], STEPS)[0] for library in (OURS, THEIRS))
    assert apart(mine["values"], theirs["values"], values(network())) <= SAME
    assert apart(mine["states"], theirs["states"]) <= SAME


@pytest.mark.parametrize("name", ["AdamW", "SGD", "ADOPT"])
def test_without_redundancy(ranks: Ranks, name: str) -> None:
    """ZeRO's first stage, saved and loaded in the middle."""
    found = ranks(workers.without_redundancy, OURS, name, OPTIONS[name], STEPS)
    expected = alone(OURS, name, OPTIONS[name], STEPS)
    assert bits(found[0]["values"]) == bits(found[1]["values"])
    assert apart(found[0]["values"], expected["values"], values(network())) <= SUMMED
    assert all(0 < each["kept"] < len(expected["values"]) for each in found)


# ---- the extras


@pytest.mark.parametrize("work", [workers.replicated, workers.fully_sharded], ids=lambda w: w.__name__)
@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion"])
def test_extras_as_alone(ranks: Ranks, work: Any, name: str) -> None:
    options = {**OPTIONS[name], **EXTRAS}
    found = ranks(work, OURS, name, options, STEPS)
    expected = alone(OURS, name, options, STEPS)
    assert expected["gradient_norm"] > EXTRAS["clip_norm"]
    assert bits(found[0]) == bits(found[1])
    assert_same(found[0], expected, SUMMED)


@pytest.mark.parametrize("shape", [(2, 1), (1, 2)], ids=str)
def test_copies_of_shards_count_once(ranks: Ranks, shape: tuple[int, int]) -> None:
    """Ranks in two axes, of copies and of shards: a norm is that of one copy."""
    options = {**OPTIONS["AdamW"], **EXTRAS}
    found = ranks(workers.fully_sharded, OURS, "AdamW", options, STEPS, shape)
    assert bits(found[0]) == bits(found[1])
    assert_same(found[0], alone(OURS, "AdamW", options, STEPS), SUMMED)


def test_clipping_is_torchs(ranks: Ranks) -> None:
    net = network()
    opt = optimizer(THEIRS, "SGD", net.parameters(), OPTIONS["SGD"])

    def clip(*_: Any) -> None:
        torch.nn.utils.clip_grad_norm_(net.parameters(), EXTRAS["clip_norm"])

    opt.register_step_pre_hook(clip)
    train(net, opt, STEPS)
    found = ranks(workers.fully_sharded, OURS, "SGD", {**OPTIONS["SGD"], **EXTRAS}, STEPS)
    # torch adds 1e-6 to the norm
    assert apart(found[0]["values"], values(net), values(network())) <= 1e-5


def test_the_step_in_the_backward_pass_of_shards(ranks: Ranks) -> None:
    options = {**OPTIONS["NAdam"], "ema": 0.9}
    found = ranks(workers.fully_sharded, OURS, "NAdam", options, STEPS, (2,), True)
    assert_same(found[0], alone(OURS, "NAdam", options, STEPS), SUMMED)


# ---- bad gradients


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", ["0.weight", "4.bias"])  # the other rank's shard of the latter is empty
@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_what_is_bad_on_one_rank_is_skipped_on_all(ranks: Ranks, name: str, at: str, bad: float) -> None:
    found = ranks(workers.poisoned, name, {**OPTIONS[name], "nonfinite": "skip", "ema": 0.9}, at, bad)
    for each in found:
        assert each["after"] == {**each["after"], "skipped": 1, "gradient_norm": each["before"]["gradient_norm"]}
        for kind in ("values", "states", "averages"):
            assert bits(each["after"][kind]) == bits(each["before"][kind])
        assert each["end"]["skipped"] == 1 and all(v.isfinite().all() for v in each["end"]["values"].values())


def test_what_is_bad_on_one_rank_is_refused_on_all(ranks: Ranks) -> None:
    found = ranks(workers.poisoned, "AdamW", {**OPTIONS["AdamW"], "nonfinite": "raise"}, "0.weight", math.nan)
    assert "'parameter 0 of group 0'" in found[0]["error"] and "a parameter on another rank" in found[1]["error"]
    for each in found:
        assert bits(each["after"]) == bits(each["before"])


@pytest.mark.parametrize("bad", [math.nan, 1e200])
def test_a_bad_copy_beside_shards(ranks: Ranks, bad: float) -> None:
    """Ranks agree on a step though only one of them has a number that isn't finite or whose square isn't."""
    found = ranks(workers.partly_sharded, {"nonfinite": "skip", "clip_norm": 1.0}, bad)
    assert [each["skipped"] for each in found] == [int(math.isnan(bad))] * 2


# ---- how tensors are distributed


@pytest.mark.parametrize("of_gradient", ["rows", "columns", "copies", "parts"])
@pytest.mark.parametrize("of_parameter", ["rows", "columns", "copies"])
@pytest.mark.parametrize("more", [{}, {"clip_norm": 0.5}], ids=["plain", "clipped"])
def test_gradients_that_lie_otherwise(ranks: Ranks, of_parameter: str, of_gradient: str, more: dict[str, Any]) -> None:
    """Tensor parallelism: parameters in rows, columns or copies; gradients alike or not, or yet to be summed."""
    options = {"lr": 0.01, **more}
    found = ranks(workers.distributed_otherwise, OURS, options, of_parameter, of_gradient)
    expected = workers.one_tensor(OURS, options)
    for each in found:
        assert each["apart"] == []
        assert_same(each, expected, SUMMED)


@pytest.mark.parametrize("more", [{}, EXTRAS], ids=["plain", "extras"])
@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_tensor_parallel_as_alone(ranks: Ranks, name: str, more: dict[str, Any]) -> None:
    options = {**OPTIONS[name], **more}
    found = ranks(workers.tensor_parallel, OURS, name, options, STEPS)
    expected = workers.sequences(OURS, name, options, STEPS)
    for each in found:
        assert each["apart"] == []
        assert_same(each, expected, SUMMED)


# ---- checkpoints


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
@pytest.mark.parametrize("name", OPTIONS)
def test_saved_by_ranks_and_loaded_by_one(ranks: Ranks, tmp_path: Path, name: str, flat: bool) -> None:
    options = {**OPTIONS[name], "ema": 0.9} if flat else OPTIONS[name]
    ranks(workers.saved_by_ranks, OURS, name, options, STEPS[:4], tmp_path, flat)
    net = network(seed=1)
    opt = optimizer(OURS, name, net.parameters(), {**options, "lr": 0.5})
    workers.load(net, opt, tmp_path, flat, alone=True)
    train(net, opt, STEPS[4:])
    assert_same(workers.result(net, opt), alone(OURS, name, options, STEPS), SUMMED)


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
@pytest.mark.parametrize("name", OPTIONS)
def test_saved_by_one_and_loaded_by_ranks(ranks: Ranks, tmp_path: Path, name: str, flat: bool) -> None:
    options = {**OPTIONS[name], "ema": 0.9} if flat else OPTIONS[name]
    net = network()
    opt = optimizer(OURS, name, net.parameters(), options)
    train(net, opt, STEPS[:4])
    workers.save(net, opt, tmp_path, flat, alone=True)
    found = ranks(workers.loaded_by_ranks, OURS, name, {**options, "lr": 0.5}, STEPS[4:], tmp_path, flat)
    assert bits(found[0]) == bits(found[1]) and found[0]["apart"] == []
    assert_same(found[0], alone(OURS, name, options, STEPS), SUMMED)


@pytest.mark.parametrize(("before", "after"), [(OURS, THEIRS), (THEIRS, OURS)])
def test_a_checkpoint_of_the_other_library(ranks: Ranks, tmp_path: Path, before: str, after: str) -> None:
    options = OPTIONS["AdamW"]
    ranks(workers.saved_by_ranks, before, "AdamW", options, STEPS[:4], tmp_path, False)
    found = ranks(workers.loaded_by_ranks, after, "AdamW", options, STEPS[4:], tmp_path, False)
    expected = alone(THEIRS, "AdamW", options, STEPS)
    assert apart(found[0]["values"], expected["values"], values(network())) <= SUMMED


# ---- memory that processes share


@pytest.mark.parametrize("name", ["AdamW", "SGD", "RAdam"])
def test_processes_that_take_turns_on_shared_weights(ranks: Ranks, name: str) -> None:
    """Each steps with states of its own, and sees what the other did."""
    net = network()
    net.share_memory()
    found = ranks(workers.in_turns, net, name, OPTIONS[name], range(4))
    expected = network()
    two = [optimizer(OURS, name, expected.parameters(), OPTIONS[name]) for _ in range(2)]
    for step in range(8):
        train(expected, two[step % 2], [step])
    for each, opt in zip(found, two, strict=True):
        assert bits(each["states"]) == bits(workers.states(expected, opt))
    assert bits(values(net)) == bits(values(expected))


def test_processes_that_run_at_once_on_shared_weights(ranks: Ranks) -> None:
    net = network()
    net.share_memory()

    def loss() -> float:
        return float(sum((net(x) - y).square().mean().item() for x, y in map(workers.batch, range(4))))

    before = loss()
    ranks(workers.all_at_once, net, "Adam", {"lr": 0.01}, 100)
    assert loss() < 0.2 * before


@pytest.mark.parametrize("name", OPTIONS)
def test_an_optimizer_is_sent_to_another_process(ranks: Ranks, name: str) -> None:
    """Sending moves its tensors to shared memory: what one process does then, all see, the step number too."""
    options = {**OPTIONS[name], **EXTRAS, "cautious": True}
    net = network()
    opt = optimizer(OURS, name, net.parameters(), options)
    train(net, opt, STEPS[:2])
    for start in (2, 4):
        found = ranks(workers.go_on, net, opt, STEPS[start : start + 2])
        here = {"values": values(net), "states": workers.states(net, opt)}
        assert bits(found) == [bits(here)] * 2
        opt.zero_grad()
    train(net, opt, STEPS[6:])
    assert bits(workers.result(net, opt)) == bits(alone(OURS, name, options, STEPS))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_pickled_copy_goes_on_alone(name: str) -> None:
    options = {**OPTIONS[name], **EXTRAS}
    net = network()
    opt = optimizer(OURS, name, net.parameters(), options)
    train(net, opt, STEPS[:4])
    kept = bits(workers.result(net, opt))
    for other, its in (pickle.loads(pickle.dumps((net, opt))), copy.deepcopy((net, opt))):
        train(other, its, STEPS[4:])
        assert bits(workers.result(other, its)) == bits(alone(OURS, name, options, STEPS))
        assert bits(workers.result(net, opt)) == kept
