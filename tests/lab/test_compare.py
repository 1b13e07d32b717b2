"""A comparison: independent of cores, interruptions and kills; its verdicts; what it refuses."""

from __future__ import annotations

import functools
import math
import os
import re
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

from adamite.cli.compare import print_comparison
from adamite.lab import problem as problems
from adamite.lab.claims.lab import here
from adamite.lab.compare import comparison, entrants, report, search, statistics, training, workers
from adamite.lab.compare.comparison import Comparison, Plan
from adamite.lab.compare.entrants import Range, TuneError
from adamite.lab.compare.study import Study, StudyError
from adamite.lab.fault import Fault
from adamite.lab.problems import PROBLEMS
from adamite.lab.where import NotFoundError
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
    """A folder with a user's file, where the command runs."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(problem: str = "mine.py:problem", names: str = "sgd,adam", **more: Any) -> Plan:
    given = {"budget": 4, "seeds": 3, "steps": 60, **more}
    return Plan(problems.find(problem, PROBLEMS), [entrants.find(n) for n in names.split(",")], **given)


def done(plan: Plan, study: Path, processes: int = 1, tell: Any = lambda progress: None) -> Comparison:
    return comparison.run(plan, Study(study), functools.partial(workers.local, processes=processes), tell)


def seen(found: Comparison) -> list[Any]:
    """Everything except times."""
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
    again = done(planned(), mine / "a", tell=lambda progress: kept.append(progress.reused))
    assert seen(again) == seen(alone) and kept[-1] == planned().total
    larger = done(planned(budget=6), mine / "a", tell=lambda progress: kept.append(progress.reused))
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
        (["--problem", "digit"], "there is no problem 'digit'; did you mean digits?"),
        (["--problem", "mine:nothing"], "mine has no nothing; it has poor, problem, signum, slow"),
        (["--problem", "mine.py:problm"], "mine.py has no problm; did you mean problem?"),
        (["--problem", "nowhere:problem"], "there is no module nowhere"),
        (["--problem", "nowhere.py:problem"], "there is no file nowhere.py"),
        (["--problem", "mine:np"], "not a function of a seed"),
        (["--problem", "mine.py"], "write module:name, or path/to/file.py:name"),
        (["--out", "mine.py/x"], "Not a directory"),
        (["--optimizers", "adamm"], "adamm"),
        (["--optimizers", "mine:problem"], "mine:problem is of the type function, not a rule: write @adamite.rule"),
        (["--optimizers", "adam,muon"], "no optimizer 'muon', which orthogonalizes matrices; the nearest here is"),
        (["--optimizers", ","], "give at least one"),
        (["--schedule", "cosin"], "constant, cosine"),
        (["--tune", "lr=1:0"], "write lr=1e-4:1"),
        (["--tune", "beta7=0.1:1"], "'--tune': sgd has no beta7 to tune"),
        (["--tune", "lr=-1:1"], "'--tune': lr of sgd must lie in [0, inf); got -1 to 1"),
        (["--optimizers", "adam", "--tune", "beta1=0.5:1.5"], "beta1 of adam must lie in [0, 1); got 0.5 to 1.5"),
        (["--tune", "lr=1:2", "--tune", "lr=3:4"], "lr is given twice"),
        (["--target", "nan"], "'--target': nan; give a finite number"),
        (["--budget", "0"], "budget"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_is_said_in_a_line(mine: Path, arguments: list[str], words: str) -> None:
    answer = command(*arguments, cwd=mine)
    assert answer.returncode == 2
    assert words in " ".join(answer.stderr.replace("│", " ").split())
    assert "Traceback" not in answer.stderr


def test_a_problem_that_fails_stops_the_command_with_its_line(mine: Path) -> None:
    answer = command("--problem", "mine.py:poor", "--optimizers", "sgd", "--budget", "9", "--jobs", "2", cwd=mine)
    line = MINE.splitlines().index("def poor(seed):") + 1
    assert (answer.returncode, answer.stdout) == (1, "")
    begin = "adamite: the first training of sgd (lr 0.6744, seed 1000000) failed: "
    assert answer.stderr.startswith(
        f"{begin}line {line} of {mine / 'mine.py'}: `def poor(seed):`: the problem poor must"
    )
    assert len(answer.stderr.splitlines()) == 1


# Mistakes in a problem, and the messages; the reported line ends with a mark, or is the first.
ONES = "    return np.ones(2), "
TORCH = "    import torch\n    w = torch.ones(2, requires_grad=True)\n    return [w], "
FAULTS = {
    "raises": ("    raise OSError('no data')  # here", "OSError: no data"),
    "exits": ("    exit(3)  # here", "SystemExit: 3"),
    "asserts": ("    assert not seed  # here", "AssertionError$"),
    "needs a module": ("    import nowhere_at_all  # here", "there is no module nowhere_at_all"),
    "fails in torch": ("    import torch; torch.nn.Linear(3)  # here", "TypeError: .*out_features"),
    "fails in NumPy": ("    np.linalg.inv(np.ones((2, 3)))  # here", "LinAlgError: "),
    "fails in the loss": (f"    def loss():\n        return [][0]  # here\n{ONES}loss", "IndexError: list index out"),
    "nothing": ("    pass", r"must return \(params, loss\).*; it returned None"),
    "a generator": ("    yield np.ones(2), lambda: 1.0", "it returned <generator.*; write return, not yield"),
    "no loss": (f"{ONES}1.0", r"must return \(params, loss\)"),
    "a loss of something": (f"{ONES}lambda w: (1.0, w)  # here", "loss is called without arguments"),
    "no gradient": (f"{ONES}lambda: 1.0  # here", r"loss\(\) must return \(loss, gradient\); it returned 1.0"),
    "a long loss": (f"{ONES}lambda: (np.ones(2), np.ones(2))  # here", r"one number; it has the shape \(2,\)"),
    "a loss in words": (f"{ONES}lambda: ('low', np.ones(2))  # here", "the loss must be a number; got 'low'"),
    "a long gradient": (f"{ONES}lambda: (1.0, np.ones(3))  # here", r"ValueError: .*shape \(2,\), got \(3,\)"),
    "a gradient of NaN": (
        f"{ONES}lambda: (1.0, np.ones(2) * np.nan)  # here",
        r"loss\(\) gave a gradient with NaN or infinity at the first step",
    ),
    "NaN": (f"{ONES}lambda: (np.nan, np.ones(2))  # here", r"loss\(\) gave nan at the first step"),
    "lists": ("    return [1.0], lambda: (1.0, [1.0])", r"parameters must be NumPy arrays in .*; got \[1.0\]"),
    "integers": ("    return np.ones(2, int), lambda: (1.0, np.ones(2))", "must be float32 or float64, got int64"),
    "measured words": (
        f"{ONES}lambda: (1.0, np.ones(2)), lambda: 'good'  # here",
        "score must be a number; got 'good'",
    ),
    "torch, no tensor": (f"{TORCH}lambda: 1.0  # here", "must return the loss alone, a tensor; it returned 1.0"),
    "torch, a long loss": (f"{TORCH}lambda: w * w  # here", r"one number; it has the shape \(2,\)"),
    "torch, no gradient": (f"{TORCH}lambda: w.detach().sum()  # here", "doesn't depend on parameters that require a"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_problem_is_told_by_its_line(mine: Path, fault: str) -> None:
    body, words = FAULTS[fault]
    text = f"import numpy as np\n\ndef problem(seed):\n{body}\n"
    (mine / "odd.py").write_text(text)
    mark = "  # here" if "  # here" in text else "def problem(seed):"
    number, line = next((n, line) for n, line in enumerate(text.splitlines(), 1) if mark in line)
    with pytest.raises(Fault) as error:
        comparison.run(planned("odd.py:problem"), Study(mine / "a"), here)
    begin = f"the first training of sgd (lr 0.6744, seed 1000000) failed: line {number} of {mine / 'odd.py'}: "
    assert str(error.value).startswith(f"{begin}`{line.strip()}`: ")
    assert re.search(words, str(error.value)), str(error.value)
    assert rows(mine / "a") == 1  # nothing else was trained


DECLARED = "from adamite.lab.problem import problem\n@problem({})\ndef problem(seed): ..."
UNUSABLE = [
    ("def problem(seed)\n    return 1", r"line 1 of {}: `def problem\(seed\)`: SyntaxError: expected ':'"),
    ("import nowhere_at_all", "line 1 of {}: `import nowhere_at_all`: there is no module nowhere_at_all here"),
    ("x = 1\n1 / 0", "line 2 of {}: `1 / 0`: ZeroDivisionError: division by zero"),
    ("import sys\nsys.exit(4)", r"line 2 of {}: `sys.exit\(4\)`: SystemExit: 4"),
    (DECLARED.format("metrics='x'"), r"line 2 of {}: `@problem\(metrics='x'\)`: TypeError: .*did you mean metric\?"),
    (DECLARED.format("steps=0"), r"line 2 of {}: `@problem\(steps=0\)`: ValueError: .*at least 1; got 0"),
    (DECLARED.format("target='low'"), "a finite number, or None; got 'low'"),
    (DECLARED.format("higher='yes'"), "must be a bool, got 'yes'"),
    ("def problem(): ...", r"line 1 of {}: `def problem\(\): \.\.\.`: a problem is called with a seed alone"),
    ("def problem(seed, more): ...", "called with a seed alone"),
]


@pytest.mark.parametrize(("text", "words"), UNUSABLE)
def test_a_file_that_cant_be_used_is_told_by_its_line(mine: Path, text: str, words: str) -> None:
    (mine / "odd.py").write_text(text)
    with pytest.raises(NotFoundError, match=words.format(re.escape(str(mine / "odd.py")))):
        problems.find("odd.py:problem", PROBLEMS)


def test_what_a_neighbour_lacks_is_told_with_the_neighbours_line(mine: Path) -> None:
    (mine / "lacking.py").write_text("\nimport nowhere_at_all")
    (mine / "odd.py").write_text("import lacking")
    with pytest.raises(NotFoundError, match=f"line 2 of {mine / 'lacking.py'}: `import nowhere_at_all`: there is no"):
        problems.find("odd.py:problem", PROBLEMS)


def test_only_the_first_training_stops_the_others(mine: Path) -> None:
    """Later failures, as with some learning rates, are reported; the other trainings continue."""
    some = "\ndef some(seed):\n    if seed == 1:\n        raise OSError('no data')\n    return problem(seed)\n"
    (mine / "odd.py").write_text(MINE + some)
    found = comparison.run(planned("odd.py:some"), Study(mine / "a"), here)
    assert [len(result.reported) for result in found.results] == [2, 2]
    assert all("OSError: no data" in words for result in found.results for _, words in result.failures)


def test_what_raises_on_numbers_that_are_none_has_diverged(mine: Path) -> None:
    (mine / "odd.py").write_text(
        "import numpy as np\ndef problem(seed):\n    w = np.ones(2)\n    def loss():\n"
        "        assert np.isfinite(w).all()\n        return 1.0, w * w * 1e300\n    return w, loss\n"
    )
    (result,) = comparison.run(planned("odd.py:problem", "sgd", steps=20), Study(mine / "a"), here).results
    assert not result.failures and result.diverged == 4


@pytest.mark.parametrize("names", ["sgd,adam", "sgd"])
@pytest.mark.parametrize("noise", [0, 1])
def test_a_loss_that_never_moves_is_a_fault(mine: Path, noise: int, names: str) -> None:
    (mine / "odd.py").write_text(
        "import numpy as np\ndef problem(seed):\n    w, draw = np.ones(2), np.random.default_rng(seed)\n"
        f"    kept = w.copy()\n    return w, lambda: (kept @ kept + {noise} * draw.normal(), 2 * kept)\n"
    )
    words = r"the loss never moved: does the problem update its arrays in place\?$"
    with pytest.raises(Fault, match=f"line 2 of {mine / 'odd.py'}: `def problem.*`: {words}"):
        comparison.run(planned("odd.py:problem", names), Study(mine / "a"), here)


def test_a_loss_that_never_moves_is_found_beside_measures_that_do(mine: Path) -> None:
    """An overflow in evaluate() at a high learning rate says nothing about the loss."""
    (mine / "odd.py").write_text(
        "import numpy as np\ndef problem(seed):\n    w = np.ones(2)\n    kept = w.copy()\n"
        "    return w, lambda: (kept @ kept, 2 * kept), lambda: float((w @ w) ** 6)\n"
    )
    them = [entrants.find("sgd", {"lr": Range(1e-3, 1e6)})]
    plan = Plan(problems.find("odd.py:problem", {}), them, 4, 1, steps=30)
    tuning = [(trial, training.train(plan.problem, them[0], trial)) for trial in plan.tuning(them[0])]
    assert {each.diverged is None for _, each in tuning} == {True, False}
    with pytest.raises(Fault, match="the loss never moved"):
        comparison.run(plan, Study(mine / "a"), here)


def test_a_problem_that_its_seed_doesnt_determine_is_told(mine: Path) -> None:
    free = MINE.replace("default_rng(seed)", "default_rng()")
    (mine / "odd.py").write_text(free)
    found = comparison.run(planned("odd.py:problem"), Study(mine / "a"), here)
    first = [outcome.first or math.nan for result in found.results for _, outcome in result.tuning]
    said = f"from one seed the first loss was {min(first):.4g} and {max(first):.4g}. Draw everything from it"
    (note,) = [note for note in report.notes(found) if "isn't determined by its seed" in note]
    assert said in note
    assert not comparison.run(planned(), Study(mine / "a"), here).chance()


def test_torch_is_seeded_though_the_problem_imports_it(mine: Path) -> None:
    """In a process without torch the first start equals the second, and draws from NumPy once."""
    (mine / "odd.py").write_text(
        "import numpy as np\ndef problem(seed):\n    import torch\n    w = torch.randn(2, requires_grad=True)\n"
        "    x = np.random.normal()\n    return [w], lambda: (w * w).sum() + x + np.random.normal()\n"
    )
    script = (
        "import sys\nfrom adamite.lab import problem\nassert 'torch' not in sys.modules\n"
        "it = problem.find('odd.py:problem', {})\nprint(*(it.begin(3).loss().item() for _ in range(2)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    first, second = map(float, answer.stdout.split())
    assert first == second


@pytest.mark.parametrize("range_", [Range(0.9999, 0.99999, log=False), Range(1.00001, 1.0001), Range(-1.0, 1.0, False),
                                    Range(1 / 3, 20 / 3), Range(0.1234567, 0.1234568, False)], ids=str)  # fmt: skip
def test_values_lie_within_their_range_and_apart(range_: Range) -> None:
    tried = [range_.at(k / 50) for k in range(51)]
    assert min(tried) >= range_.low and max(tried) <= range_.high
    assert len(set(tried)) == 51
    assert Range(1e-4, 1.0).at(0.3) == 0.001585  # easy to type


@pytest.mark.parametrize("option", ["--out", "--tensorboard"])
def test_what_cant_be_written_is_told_before_the_work(mine: Path, option: str) -> None:
    answer = command("--problem", "mine.py:poor", "--optimizers", "sgd", option, "mine.py/below", cwd=mine)
    assert (answer.returncode, answer.stdout) == (2, "")  # else it would have failed with the problem's error
    assert f"Invalid value for '{option}': mine.py/below: Not a directory" in answer.stderr


def test_what_cant_be_written_in_the_end_is_told(mine: Path) -> None:
    what = ["--problem", "mine.py:problem", "--optimizers", "sgd", "--budget", "1", "--seeds", "1", "--steps", "5"]
    (mine / "out" / "results.csv").mkdir(parents=True)
    answer = command(*what, "--jobs", "1", "--out", "out", cwd=mine)
    assert answer.returncode == 2 and "'--out': out/results.csv: Is a directory" in answer.stderr
    (mine / "new" / "study.sqlite").mkdir(parents=True)
    answer = command(*what, "--jobs", "1", "--out", "new", cwd=mine)
    assert answer.returncode == 2 and "unable to open database file; move it away, or give" in answer.stderr


@pytest.mark.parametrize("more", [{"steps": 1}, {"budget": 1, "names": "sgd"}, {"budget": 1, "steps": 2}], ids=str)
def test_a_loss_that_moves_is_none(mine: Path, more: dict[str, Any]) -> None:
    assert comparison.run(planned(**more), Study(mine / "a"), here).ranked()


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
        assert max(abs(share - (k + 0.5) / 64) for k, share in enumerate(shares)) < 0.06  # as even as possible


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


def test_a_median_that_diverged_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(compared(adam=(1.0, 2.0, 3.0, 4.0, 5.0), sgd=(math.inf,) * 5))
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(" sgd")]
    assert row[2:4] == ["diverged", "diverged–diverged"]


def test_what_is_no_luck_is_not_called_so() -> None:
    same = compared(sgd=(1.0,) * 5, adam=(2.0,) * 5).verdict()
    assert "every seed gave the same numbers" in same and "more than luck" not in same
    equal = compared(sgd=(1.0, 2.0, 3.0, 4.0, 5.0), adam=(1.5, 2.5, 3.0, 3.5, 4.5)).verdict()
    assert "and adam share the best median" in equal
    tie = compared(sgd=(1.0, 2.0, 3.0, 4.0, 5.0), adam=(1.0, 2.0, 3.0, 4.0, 5.0)).verdict()
    assert tie == "sgd (lr 0.6744) and adam ended exactly alike, from every seed: a tie."
    two = compared(sgd=(2.0,) * 5, adam=(1.0,) * 5, adamw=(1.0,) * 5).verdict()
    assert two.startswith(
        "adam (lr 0.006744) and adamw ended exactly alike, before all others, and every seed gave the"
    )
    lost = compared(adam=(1.0, 2.0, 3.0, 4.0, 5.0), sgd=(math.inf,) * 5).verdict()
    assert "sgd diverged from other seeds than the one that chose the settings" in lost
    assert statistics.ties({"a": [1.0], "b": [2.0]}) == {"a": True, "b": True}


def test_a_damaged_study_is_told(mine: Path) -> None:
    comparison.run(planned(), Study(mine / "a"), here)
    with sqlite3.connect(mine / "a") as file:
        file.execute("ALTER TABLE trainings RENAME COLUMN outcome TO other")
    with pytest.raises(StudyError, match="a can't be used as a study: no such column: outcome; move it away"):
        comparison.run(planned(), Study(mine / "a"), here)


def test_what_a_problem_is_judged_by_must_be_given(mine: Path) -> None:
    (mine / "odd.py").write_text(
        "import numpy as np\nfrom adamite.lab.problem import problem\n\n@problem(metric='gap')\ndef one(seed):\n"
        "    return np.ones(2), lambda: (1.0, np.ones(2)), lambda: {'score': 1.0}\n\n@problem(metric='gap')\n"
        "def other(seed):\n    return np.ones(2), lambda: (1.0, np.ones(2))\n"
    )
    judged = r"evaluate\(\) must give 'gap', by which the problem is judged"
    for name, words in (
        ("one", f"line 6 .*{judged}; it gave score"),
        ("other", rf"{judged}; return \(params, loss, eva"),
    ):
        with pytest.raises(Fault, match=words):
            trial = training.Trial("", "sgd", {"lr": 0.1}, 0, 20)
            training.train(problems.find(f"odd.py:{name}", {}), entrants.find("sgd"), trial)


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
    assert found.verdict() == "No optimizer finished a training."


def test_what_ends_far_above_the_start_has_diverged(mine: Path) -> None:
    """Sign steps all have one size, so losses don't grow: they are high from the second step on."""
    names, ranges = ("lion", "mine.py:signum"), {"lr": Range(1e-3, 1e4)}
    plan = Plan(problems.find("mine.py:problem", {}), [entrants.find(n, ranges) for n in names], 8, 2, steps=60)
    found = comparison.run(plan, Study(mine / "a"), here)
    lost = {trial.settings["lr"]: outcome.diverged for r in found.results for trial, outcome in r.tuning}
    kept = [outcome.final_loss for r in found.results for _, outcome in r.tuning if outcome.diverged is None]
    assert {lr: step for lr, step in lost.items() if lr > 20} == dict.fromkeys([lr for lr in lost if lr > 20], 60)
    assert not any(lost[lr] for lr in lost if lr < 1) and max(kept) < 300
    again = comparison.run(plan, Study(mine / "a"), here)
    assert again.reused == plan.total and seen(again) == seen(found)


def test_ranges_of_rules_are_checked(mine: Path) -> None:
    def space(name: str, lr: str, words: str) -> Any:
        (mine / f"{name}.py").write_text(
            f"import adamite\n@adamite.rule\ndef own(g, *, t, {lr}):\n    '''Own.\n\n    lr in [0, 1): rate. {words}\n"
            "    '''\n    return lr * g\n"
        )
        return entrants.find(f"{name}.py:own").space

    assert space("one", "lr=0.5", "Tune 1e-3 to 0.1.") == {"lr": Range(1e-3, 0.1)}
    assert space("two", "lr", "") == {"lr": Range(1e-5, 0.1)}
    with pytest.raises(TuneError, match=r"lr of three.py:own must lie in \[0, 1\); got 0.1 to 2"):
        space("three", "lr=0.5", "Tune 0.1 to 2.")
    with pytest.raises(TuneError, match=r"Tune 0\.1 to 0\.01; the first must be below the second"):
        space("four", "lr=0.5", "Tune 0.1 to 0.01.")


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
        "    return (each for each in [p]), step\n"  # as model.parameters() is
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
