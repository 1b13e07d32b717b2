"""What TensorBoard finds in its files: the curves of a comparison to the last digit of float32, and the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamite.lab import problem as problems
from adamite.lab.compare import comparison, entrants, workers
from adamite.lab.compare.comparison import Comparison, Plan
from adamite.lab.compare.study import Study
from adamite.lab.problems import PROBLEMS

START = "_hparams_/session_start_info"
pytest.importorskip("tensorboardX", reason="needs tensorboardX: pip install 'adamite[tensorboard]'")
accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard, which reads what was written"
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    plan = Plan(
        problems.find("digits", PROBLEMS), [entrants.find(name) for name in ("adam", "sgd")], 2, seeds=2, steps=60
    )
    study = Study(tmp_path_factory.mktemp("study") / "study.sqlite")
    return comparison.run(plan, study, lambda work, jobs: (workers.Done(job, work(job), None, 1) for job in jobs))


def test_tensorboard_reads_the_curves(found: Comparison, tmp_path: Path) -> None:
    from adamite.lab.compare import tensorboard

    runs = tensorboard.write(found, tmp_path)
    assert [str(run.relative_to(tmp_path)) for run in runs] == [
        f"digits/{name}/seed-{seed}" for name in ("adam", "sgd") for seed in (0, 1)
    ]
    again = tensorboard.write(found, tmp_path)  # in the place of the first
    reported = [each for result in found.results for each in result.reported]
    for run, (trial, outcome) in zip(again, reported, strict=True):
        events = accumulator.EventAccumulator(str(run)).Reload()
        assert set(events.Tags()["scalars"]) == {"loss", "accuracy", "validation_loss", "final_accuracy"}
        curves = {"loss": outcome.losses, "accuracy": outcome.measures["accuracy"]}
        for tag, values in curves.items():
            points = events.Scalars(tag)
            assert [point.step for point in points] == outcome.steps
            assert np.array_equal([point.value for point in points], np.asarray(values, np.float32))
            gaps = np.diff([point.wall_time for point in points])
            assert np.allclose(gaps, np.diff(outcome.times), atol=1e-5)
        assert events.Scalars("final_accuracy")[-1].value == np.float32(outcome.measures["accuracy"][-1])
        assert settings(events) == {
            "optimizer": trial.entrant, "seed": trial.seed, "schedule": "constant", **trial.settings
        }  # fmt: skip


def settings(events: Any) -> dict[str, Any]:
    """As the table of hyperparameters shows them."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    data = plugin_data_pb2.HParamsPluginData.FromString(events.PluginTagToContent("hparams")[START])
    values = data.session_start_info.hparams
    return {name: value.string_value or value.number_value for name, value in values.items()}
