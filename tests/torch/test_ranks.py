"""Two processes over gloo make the steps of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.state_dict import get_state_dict

import adamite.torch as ours
from tests.torch import ranks as workers
from tests.torch.ranks import CLASSES, X, in_two_processes, model, train, weights

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of torch.distributed's own
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def close(found: Any, expected: Any, bar: float = 1e-11) -> bool:
    return found.keys() == expected.keys() and all(
        torch.allclose(found[k], expected[k], rtol=bar, atol=bar) for k in expected
    )


def alone(name: str, steps: int = 5, **options: Any) -> tuple[Any, Any]:
    m = model()
    library = ours if name not in dir(torch.optim) else torch.optim
    optimizer = getattr(library, name)(m.parameters(), **options)
    train(m, optimizer, X, steps)
    return m, optimizer


def test_replicated(tmp_path: Path) -> None:
    ranks = in_two_processes(workers.replicated, tmp_path)
    for name, options in CLASSES.items():
        expected = weights(alone(name, **options)[0])
        assert all(close(found[name], expected) for found in ranks), name
    expected = weights(alone("AdamW", lr=0.01)[0])
    assert all(close(found["ZeRO"], expected) for found in ranks)


def test_fully_sharded(tmp_path: Path) -> None:
    ranks = in_two_processes(workers.fully_sharded, tmp_path)
    for name, options in CLASSES.items():
        expected = weights(alone(name, **options)[0])
        assert all(close(found[name], expected) for found in ranks), name

    m = model()
    one = ours.AdamW(m.parameters(), lr=0.01, clip_norm=0.05, ema=0.9)
    train(m, one)
    for found in ranks:
        clipped, norm = found["clipped"]
        assert close(clipped, weights(m)) and norm == pytest.approx(one.gradient_norm, rel=1e-12)
        with one.averaged():
            assert close(found["averaged"], weights(m))

    for found in ranks:
        (weights_, states_), (weights_after, states_after), skipped = found["skipped"]
        assert skipped == 1 and all(torch.equal(weights_[k], weights_after[k]) for k in weights_)
        assert all(torch.equal(a, b) for a, b in zip(states_, states_after, strict=True))


def test_checkpoints(tmp_path: Path) -> None:
    m = model()
    optimizer = ours.AdamW(m.parameters(), lr=0.01)
    train(m, optimizer)
    weights_, kept = get_state_dict(m, optimizer)
    state_dict_saver.save({"model": weights_, "optimizer": kept}, checkpoint_id=tmp_path / "by-one", no_dist=True)
    train(m, optimizer)
    expected = weights(m)

    for after, from_one in in_two_processes(workers.checkpoint, tmp_path):
        assert close(after, expected) and close(from_one, expected)

    m = model(seed=5)
    optimizer = ours.AdamW(m.parameters(), lr=0.5)
    workers.load(m, optimizer, tmp_path / "by-two")
    assert optimizer.param_groups[0]["lr"] == 0.01
    train(m, optimizer)
    assert close(weights(m), expected)
