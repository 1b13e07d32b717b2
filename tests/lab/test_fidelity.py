"""How low-precision states are compared with float32 ones, and the report."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch

from adamite.lab import fidelity
from adamite.lab.fidelity import OURS, Replay, Report, Training, kinds
from adamite.lab.problems import mnist
from adamite.storage import choice
from tests.test_cli import assert_fits, narrow


def good() -> Report:
    return Report(
        [Training("digits", kind, (0.10, 0.12, 0.11, 0.14, 0.12), (0.11, 0.12, 0.11, 0.14, 0.12)) for kind in OURS],
        [Replay("digits", kind, 2.0, 2.0, 0.01) for kind in OURS],
        dict.fromkeys(OURS, 1.0),
        {"float32": 0.01, "nearest, float32 states": 0.0, "stochastic, 8bit states": 0.0101},
    )


def test_what_holds() -> None:
    report = good()
    assert report.failures == []
    assert [t.within for t in report.trainings] == [True] * len(OURS)
    assert report.trainings[0].differences == pytest.approx([-0.01, 0, 0, 0, 0])


def test_what_fails_is_named() -> None:
    report = good()
    worse = tuple(loss + 0.05 for loss in report.trainings[2].plain)
    report.trainings[2] = dataclasses.replace(report.trainings[2], losses=worse)
    report.replays[1] = dataclasses.replace(report.replays[1], largest=3.1)
    report.moved["stochastic, 8bit states"] = 0.009
    said = report.failures
    assert len(said) == 3
    assert "digits, 8bit" in said[0] and "digits, bfloat16" in said[1] and "stochastic, 8bit" in said[2]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_fails(value: float) -> None:
    report = good()
    report.trainings[1] = dataclasses.replace(report.trainings[1], losses=(value,) * 5)
    report.replays[1] = dataclasses.replace(report.replays[1], largest=value)
    report.moved["stochastic, 8bit states"] = value
    assert len(report.failures) == 3


def test_a_few_seeds_and_peers_are_not_judged() -> None:
    report = good()
    few = Training("digits", "8bit", (1.0, 1.0), (0.1, 0.2))
    peer = Training("digits", "peer", (9.0,) * 5, (0.1, 0.2, 0.1, 0.2, 0.1))
    report.trainings = [few, peer]
    report.replays = [Replay("digits", "peer", 900.0, 2.0, 9.0)]
    assert report.failures == []


def test_no_tensor_is_spared_while_training() -> None:
    before = choice.SMALLEST
    with fidelity.sparing_none():
        p = torch.zeros(300)
        p.grad = torch.ones(300)
        optimizer = fidelity.adamw("8bit", [p], 0.1)
        optimizer.step()
    assert optimizer.state[p]["exp_avg"].dtype is torch.uint8
    assert before == choice.SMALLEST


def test_a_replay_is_of_the_steps_over_lr() -> None:
    gradients = [[torch.full((600,), 2.0), torch.full((2, 3), -1.0)]] * 4
    for kind in OURS:
        for u in fidelity.directions(kind, gradients):
            expected = torch.cat([torch.ones(600), -torch.ones(6)]).double()
            assert (u - expected).abs().max() < {"float32": 1e-6, "bfloat16": 0.02, "8bit": 0.4}[kind]


def test_float32_beside_itself() -> None:
    assert fidelity.after_silence("float32", 20) == 1.0
    found = fidelity.replays("digits", 1e-3, ["float32", "float32"], 5)
    assert [(r.ratio, r.error) for r in found] == [(1.0, 0.0)] * 2


def test_the_command() -> None:
    result = narrow("verify", "states", "--quick")
    assert result.returncode == 0, result.stderr
    printed = result.stdout
    assert_fits(printed)
    assert "nan" not in printed and "inf" not in printed
    for name in fidelity.LEARNING_RATES:
        for kind in kinds():
            assert len(re.findall(rf"^ +{name} +{kind} +\d", printed, re.M)) == 2, (name, kind)
    for row in ("nearest, float32 states", "stochastic, 8bit states", "kahan, 8bit states"):
        assert re.search(rf"{row} +\d\.\d+", printed)
    assert "All of it holds." in printed


def test_data_that_are_missing_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAMITE_MNIST", "/nowhere")
    mnist.load.cache_clear()  # filled by another test
    monkeypatch.setattr(fidelity, "LEARNING_RATES", {"mnist": 1e-3, "digits": 1e-3})
    before = torch.get_num_threads()
    report = fidelity.verify(quick=True)
    assert {t.problem for t in report.trainings} == {"digits"}
    assert len(report.missing) == 1 and report.missing[0].startswith("mnist is left out: MNIST was looked for in /now")
    assert torch.get_num_threads() == before
    assert all(math.isfinite(loss) for t in report.trainings for loss in t.losses)


def test_quick_is_of_states() -> None:
    result = narrow("verify", "--quick")
    assert result.returncode == 2 and "adamite verify states" in " ".join(result.stderr.split())
