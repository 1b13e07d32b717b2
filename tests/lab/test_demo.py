"""The demonstration: the tutorial's trajectory, trainings that repeat, a complete folder."""

import re
from pathlib import Path

import numpy as np
import pytest

from adamite.lab import demo
from adamite.lab.problems import digits

# The tutorial's program as its own Adam ran it, after every tenth epoch: loss, w, b.
TRAJECTORY = """
10   9.9775  0.9757  0.9061
20   1.3384  1.7800  1.1389
30   1.1569  2.2140  0.8627
40   1.2934  2.2494  0.8156
50   0.8713  2.0942  0.9341
60   0.8289  1.9734  0.9082
70   0.8377  1.9624  0.8766
80   0.8158  2.0042  0.9039
90   0.8167  2.0285  0.8975
100  0.8156  2.0227  0.8925
"""


def test_the_line_follows_the_tutorial() -> None:
    expected = [tuple(row.split()) for row in TRAJECTORY.strip().splitlines()]
    assert demo.fit_line().table().rows[:-1] == expected


def test_the_line_reaches_least_squares() -> None:
    fit = demo.fit_line(epochs=1000)
    np.testing.assert_allclose(fit.path[-1], fit.problem.solution(), atol=1e-6)
    assert demo.fit_line().table().rows[-1] == ("least squares", "0.8149", "2.0138", "0.8962")


@pytest.mark.parametrize("entrant", demo.ENTRANTS, ids=lambda entrant: entrant.name)
def test_a_seed_gives_the_same_training_twice(entrant: demo.Entrant) -> None:
    data = digits.load()
    first, again = (demo.train(data, entrant, seed=3, steps=60) for _ in range(2))
    np.testing.assert_array_equal(first.losses, again.losses)
    np.testing.assert_array_equal(first.accuracies, again.accuracies)
    for name, weights in first.params.items():
        np.testing.assert_array_equal(weights, again.params[name])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> demo.Report:
    return demo.run(tmp_path_factory.mktemp("demo") / "made" / "here", seeds=1)


def test_every_optimizer_learns_the_digits(report: demo.Report) -> None:
    final = {entrant.name: runs[0].accuracies[-1] for entrant, runs in report.race.runs.items()}
    assert len(final) == 7
    assert min(final.values()) > 0.94, final


def test_every_picture_is_written_and_small(report: demo.Report) -> None:
    folder = report.page.parent
    names = {f"{name}{end}.png" for name in demo.PICTURES for end in ("", "-dark")}
    assert {path.name for path in folder.iterdir()} == names | {"index.html"}
    for name in names:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 300_000


def test_the_page_needs_nothing_but_its_folder(report: demo.Report) -> None:
    html = report.page.read_text(encoding="utf-8")
    links = re.findall(r'(?:src|srcset|href)="([^"]*)"', html)
    assert len(links) == 2 * len(demo.PICTURES)
    assert all((report.page.parent / link).is_file() for link in links)
    assert not re.search(r"https?:|//\w|url\(|@import|<script", html)


def test_the_page_shows_the_tables_and_the_rule(report: demo.Report) -> None:
    html = report.page.read_text(encoding="utf-8")
    for table in (report.fit.table(), report.race.table()):
        for row in table.rows:
            assert all(f"{cell}</td>" in html for cell in row)
    assert "m = beta1 * m + (1 - beta1) * g" in html
    assert "$" not in html  # the template is filled in completely


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    demo.run(tmp_path, seeds=1, progress=lambda *now: told.append(now))
    total = len(demo.ENTRANTS) + len(demo.PICTURES)
    assert [done for done, _, _ in told] == list(range(total + 1))
    assert {all_ for _, all_, _ in told} == {total}


def test_steps_to_the_goal_are_counted_from_one_and_may_be_infinite() -> None:
    late = demo.Run({}, np.empty(0), np.array([0.5, 0.94, 0.95, 0.90]), 0.0)
    never = demo.Run({}, np.empty(0), np.array([0.5, 0.6]), 0.0)
    assert late.steps_to_goal == 3 * demo.CHECK_EVERY
    assert never.steps_to_goal == float("inf")
