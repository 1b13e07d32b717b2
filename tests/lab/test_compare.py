"""A comparison: the same whatever the cores, a stop or a kill; what it says of what came out; what it refuses."""

from __future__ import annotations

import functools
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamite.lab import problem as problems
from adamite.lab.compare import comparison, entrants, search, statistics, training, workers
from adamite.lab.compare.comparison import Comparison, Plan
from adamite.lab.compare.entrants import Range
from adamite.lab.compare.study import Study, StudyError
from adamite.lab.problems import PROBLEMS
from tests.support import ROOT

MINE = """
import time
import numpy as np
import adamite

def problem(seed):
    '''A line through noisy points.'''
    draw = np.random.default_rng(seed)
    w = draw.normal(size=3)
    def loss():
        x = draw.normal(size=(16, 3))
        error = x @ (w - 1)
        return error @ error / 16, x.T @ error / 8
    return w, loss

def slow(seed):
    w, loss = problem(seed)
    def slowly():
        time.sleep(0.002)
        return loss()
    return w, slowly

def poor(seed):
    return 3

@adamite.rule
def signum(g, m, *, t, lr=1e-3, beta=0.9):
    '''The sign of the momentum.

    lr in [0, inf): the step. Tune 1e-4 to 0.1.
    beta in [0, 1): decay of the momentum. Tune 0.8 to 0.99.
    '''
    m = beta * m + (1 - beta) * g
    return lr * adamite.sign(m), m
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a user's file, where the command is called."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(problem: str = "mine.py:problem", names: str = "sgd,adam", **more: Any) -> Plan:
    given = {"budget": 4, "seeds": 3, "steps": 60, **more}
    return Plan(problems.find(problem, PROBLEMS), [entrants.find(n) for n in names.split(",")], **given)


def done(plan: Plan, study: Path, processes: int = 1, tell: Any = lambda progress: None) -> Comparison:
    return comparison.run(plan, Study(study), functools.partial(workers.local, processes=processes), tell)


def seen(found: Comparison) -> list[Any]:
    """All but times."""
    return [
        (r.entrant.name, r.best(), r.costs(), [o.losses for o in r.outcomes], [t.settings for t, _ in r.tuning])
        for r in found.results
    ]


def command(*arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adamite", "compare", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT)},
        **how,
    )


def test_the_same_whatever_the_processes_and_kept(mine: Path) -> None:
    alone, two = done(planned(), mine / "a", 1), done(planned(), mine / "b", 2)
    assert seen(alone) == seen(two)
    kept: list[int] = []
    again = done(planned(), mine / "a", tell=lambda progress: kept.append(progress.kept))
    assert seen(again) == seen(alone) and kept[-1] == planned().total
    larger = done(planned(budget=6), mine / "a", tell=lambda progress: kept.append(progress.kept))
    assert kept[-1] >= 2 * 4  # the first four settings are those of the smaller budget
    assert [t.settings for t, _ in larger.results[0].tuning][:4] == seen(alone)[0][4]


def test_killed_in_the_middle_it_goes_on(mine: Path) -> None:
    what = ["--problem", "mine.py:slow", "--optimizers", "sgd,adam", "--steps", "60"]
    arguments = [*what, "--budget", "4", "--seeds", "3", "--jobs", "2", "--out", "out"]
    first = subprocess.Popen(
        [sys.executable, "-m", "adamite", "compare", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while rows(mine / "out" / "study.sqlite") < 3:
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = rows(mine / "out" / "study.sqlite")
    assert 3 <= before < 14
    assert command(*arguments).returncode == 0
    plan = planned("mine.py:slow")
    assert seen(done(plan, mine / "out" / "study.sqlite")) == seen(done(plan, mine / "fresh"))
    assert rows(mine / "out" / "study.sqlite") == 14


def rows(study: Path) -> int:
    try:
        with sqlite3.connect(f"file:{study}?mode=ro", uri=True) as file:
            (count,) = file.execute("SELECT count(*) FROM trainings").fetchone()
            return int(count)
    except sqlite3.OperationalError:
        return 0


def test_a_changed_problem_is_trained_anew(mine: Path) -> None:
    done(planned(), mine / "a")
    (mine / "other.py").write_text(MINE.replace("w - 1", "w - 2"))
    done(planned("other.py:problem"), mine / "a")
    assert rows(mine / "a") == 2 * planned().total


@pytest.mark.parametrize("rule", ["mine:signum", "mine.py:signum"])
def test_ones_own_rule_takes_part(mine: Path, rule: str) -> None:
    answer = command("--problem", "mine:problem", "--optimizers", f"adam,{rule}", "--budget", "2", "--seeds", "2",
                     "--steps", "30", "--jobs", "1", cwd=mine)  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert f"{rule}: with beta 0." in answer.stdout and "A line through noisy points" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--problem", "nothing"], "there is no problem 'nothing'; there are"),
        (["--problem", "mine:nothing"], "mine has no nothing"),
        (["--problem", "nowhere:problem"], "there is no module nowhere"),
        (["--problem", "nowhere.py:problem"], "there is no file nowhere.py"),
        (["--problem", "mine:np"], "not a function of a seed"),
        (["--problem", "mine.py"], "write module:name, or path/to/file.py:name"),
        (["--out", "mine.py/x"], "Not a directory"),
        (["--optimizers", "adamm"], "adamm"),
        (["--optimizers", "mine:problem"], "not a rule"),
        (["--optimizers", ","], "give at least one"),
        (["--schedule", "cosin"], "constant, cosine"),
        (["--tune", "lr=1:0"], "write lr=1e-4:1"),
        (["--tune", "beta7=0.1:1"], "'--tune': sgd has no beta7 to tune"),
        (["--budget", "0"], "budget"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_is_said_in_a_line(mine: Path, arguments: list[str], words: str) -> None:
    answer = command(*arguments, cwd=mine)
    assert answer.returncode == 2
    assert words in " ".join(answer.stderr.replace("│", " ").split())
    assert "Traceback" not in answer.stderr


def test_a_problem_that_fails_is_reported_and_the_others_are_not_lost(mine: Path) -> None:
    answer = command("--problem", "mine.py:poor", "--optimizers", "sgd", "--budget", "1", "--jobs", "1", cwd=mine)
    assert answer.returncode == 1 and "must return (params, loss)" in " ".join(answer.stdout.split())
    assert "Traceback" not in answer.stderr


def test_a_target_never_reached(mine: Path) -> None:
    answer = command("--problem", "mine.py:problem", "--optimizers", "sgd", "--budget", "1", "--seeds", "2",
                     "--steps", "20", "--target", "-1", "--jobs", "1", cwd=mine)  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "never" in answer.stdout and "loss -1 was not reached" in answer.stdout


def test_settings_depend_on_seed_and_number_alone() -> None:
    space = {"lr": Range(1e-4, 1.0), "weight_decay": Range(0.0, 0.5, log=False)}
    tried = [search.settings(space, 3, number) for number in range(64)]
    assert search.settings(space, 3, 17) == tried[17] != search.settings(space, 4, 17)
    for name, (low, high, log) in space.items():
        shares = sorted(
            math.log(s[name] / low) / math.log(high / low) if log else (s[name] - low) / (high - low) for s in tried
        )
        assert max(abs(share - (k + 0.5) / 64) for k, share in enumerate(shares)) < 0.06  # as even as they can be


def test_what_is_tuned(mine: Path) -> None:
    assert entrants.find("adam").space == {"lr": Range(1e-5, 0.1)}
    assert entrants.find("sgd").space == {"lr": Range(1e-3, 10.0)}
    assert entrants.find("adamw").space.keys() == {"lr", "weight_decay"}
    assert entrants.find("mine:signum").space == {"lr": Range(1e-4, 0.1), "beta": Range(0.8, 0.99, log=False)}
    tuned = entrants.find("momentum", {"momentum": Range(0.5, 0.9, log=False)})
    assert tuned.options == {} and tuned.space["momentum"].high == 0.9


def test_tuning_and_reporting_have_seeds_of_their_own() -> None:
    plan = planned("regression")
    (entrant, _) = plan.entrants
    assert not {t.seed for t in plan.tuning(entrant)} & {t.seed for t in plan.reporting(entrant, {"lr": 0.1})}


def outcome(final: float, diverged: int | None = None) -> training.Outcome:
    return training.Outcome([1], [final], {}, [0.1], 1e-6, final, diverged)


def compared(**finals: Sequence[float]) -> Comparison:
    plan = planned("regression", ",".join(finals), seeds=5)
    results = []
    for entrant in plan.entrants:
        result = comparison.Result(entrant, plan.problem, plan.goal)
        for number, trial in enumerate(plan.tuning(entrant)):
            result.tuning.append((trial, outcome(float(number))))
        for trial, final in zip(plan.reporting(entrant, {"lr": 0.1}), finals[entrant.name], strict=True):
            result.reported.append((trial, outcome(final, None if math.isfinite(final) else 1)))
        results.append(result)
    return Comparison(plan, results)


def test_the_verdict_says_what_is_luck() -> None:
    good, alike, bad = (1.0, 2.0, 3.0, 4.0, 5.0), (1.1, 2.1, 3.1, 4.1, 5.1), (6.0, 7.0, 8.0, 9.0, math.inf)
    assert "sgd" in compared(adam=bad, sgd=good).verdict().split(" is best")[0]
    assert "adam can't be told from it" in compared(adam=alike, sgd=good).verdict()
    mixed = compared(sgd=good, adam=alike, rmsprop=bad).verdict()
    assert "adam can't be told" in mixed and "rmsprop is worse" in mixed
    assert "more than half of all trainings diverged" in compared(sgd=(math.inf,) * 5).verdict()


def test_what_is_no_luck_is_not_called_so() -> None:
    same = compared(sgd=(1.0,) * 5, adam=(2.0,) * 5).verdict()
    assert "every seed gave the same numbers" in same and "more than luck" not in same
    equal = compared(sgd=(1.0, 2.0, 3.0, 4.0, 5.0), adam=(1.5, 2.5, 3.0, 3.5, 4.5)).verdict()
    assert "and adam share the best median" in equal
    lost = compared(adam=(1.0, 2.0, 3.0, 4.0, 5.0), sgd=(math.inf,) * 5).verdict()
    assert "sgd diverged from other seeds than the one that chose the settings" in lost
    assert statistics.ties({"a": [1.0], "b": [2.0]}) == {"a": True, "b": True}


def test_a_damaged_study_is_told(mine: Path) -> None:
    done(planned(), mine / "a")
    with sqlite3.connect(mine / "a") as file:
        file.execute("ALTER TABLE trainings RENAME COLUMN outcome TO other")
    with pytest.raises(StudyError, match="is no study, or damaged: no such column: outcome; move it away"):
        done(planned(), mine / "a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("return np.ones(2), lambda: 1.0", r"loss\(\) must return \(loss, gradient\); it returned 1.0"),
        ("return [1.0], lambda: (1.0, [1.0])", "parameters must be NumPy arrays in any nesting, or a module"),
        ("return np.ones(2), lambda: (1.0, np.ones(2)), lambda: {'other': 1.0}", "must give 'loss', by which"),
    ],
)
def test_what_a_problem_must_give(mine: Path, text: str, words: str) -> None:
    (mine / "odd.py").write_text(f"import numpy as np\ndef problem(seed):\n    {text}\n")
    found = comparison.replace(problems.find("odd.py:problem", {}), metric="loss" if "other" not in text else "score")
    with pytest.raises((TypeError, ValueError), match=words.replace("'loss'", "'score'")):
        training.train(found, entrants.find("sgd"), training.Trial("", "sgd", {"lr": 0.1}, 0, 20))


def test_neighbours_and_global_generators(mine: Path) -> None:
    (mine / "sub").mkdir()
    (mine / "sub" / "neighbour.py").write_text("START = 2.0\n")
    (mine / "sub" / "uses.py").write_text(
        "import numpy as np\nimport neighbour\n\ndef problem(seed):\n    w = np.full(2, neighbour.START)\n"
        "    return w, lambda: (float(w @ w) + np.random.normal(), 2 * w + np.random.normal(size=2))\n"
    )
    plan = planned("sub/uses.py:problem")
    assert seen(done(plan, mine / "a")) == seen(done(plan, mine / "b", 2))


def test_few_seeds_say_so() -> None:
    assert not statistics.can_tell(3, 1) and statistics.can_tell(4, 1)
    assert statistics.can_tell(5, 6) and not statistics.can_tell(5, 7)


def test_intervals() -> None:
    found = statistics.interval([1.0, 2.0, 3.0, 4.0, 100.0])
    assert found.median == 3.0 and found.low == 1.0 and 4.0 <= found.high <= 100.0
    assert statistics.interval([1.0, 1.0, math.nan]).high == math.inf


def test_a_run_that_diverges_is_counted_and_seen(mine: Path) -> None:
    plan = Plan(problems.find("mine.py:problem", {}), [entrants.find("sgd", {"lr": Range(1e3, 1e6)})], 3, 2, steps=2000)
    found = done(plan, mine / "a")
    (result,) = found.results
    assert result.diverged == 3 and result.best() is None and not result.reported
    assert found.verdict() == "No optimizer came to an end."


def test_schedules_end_where_they_should() -> None:
    for name, make in training.SCHEDULES.items():
        schedule = make(0.5, 100)
        values = [schedule(k) if callable(schedule) else schedule for k in range(100)]
        assert max(values) == pytest.approx(0.5)
        assert name == "constant" or values[-1] < 0.02


def test_torch_and_numpy_train_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "both.py").write_text(
        MINE + "\ndef torchs(seed):\n"
        "    import torch\n"
        "    w, loss = problem(seed)\n"
        "    p = torch.nn.Parameter(torch.from_numpy(w))\n"
        "    def step():\n"
        "        value, gradient = loss()\n"
        "        return (p * torch.from_numpy(gradient)).sum()\n"
        "    return [p], step\n"
    )
    monkeypatch.chdir(tmp_path)
    ends = []
    for name in ("problem", "torchs"):
        found = problems.find(f"both.py:{name}", {})
        run = found.begin(5)
        fixed = comparison.replace(found, start=functools.partial(_given, run))
        training.train(fixed, entrants.find("adam"), training.Trial("", "adam", {"lr": 0.03}, 5, 40, "cosine"))
        ends.append(np.asarray(run.params if name == "problem" else run.params[0].detach()))
    assert (ends[0] == ends[1]).all()


def _given(run: Any, seed: int) -> Any:
    return run.params, run.loss
