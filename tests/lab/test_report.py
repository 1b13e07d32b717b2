"""The report of a comparison: in a real browser, light, dark and on a phone; user texts in it; its other files."""

from __future__ import annotations

import base64
import csv
import fcntl
import json
import math
import os
import re
import select
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from adamite import cli
from adamite.lab import plots
from adamite.lab.compare import report, report_curves, report_figures, workers
from adamite.lab.compare.comparison import Comparison, Plan, Result
from adamite.lab.compare.entrants import Entrant, Range, find
from adamite.lab.compare.training import Outcome, Trial, train
from adamite.lab.compare.workers import Done
from adamite.lab.problem import Plane, Problem, Run, problem

COMMAND = "adamite compare --problem 'my valley.py:valley'"


# ---- comparisons ----------------------------------------------------------------------------------


def height(x: Any, y: Any) -> Any:
    return x**2 + 10 * y**2


@problem(steps=60, target=1e-2, plane=Plane(height, (-2, 2), (-1, 1), (0, 0)))
def valley(seed: int) -> Run:
    """A valley of two parameters."""
    w = np.array([1.5, 0.8]) + np.random.default_rng(seed).normal(0, 0.1, 2)
    return Run(w, lambda: (height(*w), np.array([2 * w[0], 20 * w[1]])), lambda: {"distance": float(np.hypot(*w))})


def compared(
    of: Problem, names: str | Sequence[Entrant] = "sgd,adam,adamw", budget: int = 6, seeds: int = 5
) -> Comparison:
    """A comparison, trained in this process."""
    plan = Plan(of, [find(name) for name in names.split(",")] if isinstance(names, str) else names, budget, seeds)
    results = []
    for entrant in plan.entrants:
        result = Result(entrant, of, plan.goal)
        for trial in plan.tuning(entrant):
            result.add(trial, train(of, entrant, trial))
        best = result.best()
        for trial in () if best is None else plan.reporting(entrant, best):
            result.add(trial, train(of, entrant, trial))
        results.append(result)
    return Comparison(plan, results)


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compared(valley)


@pytest.fixture(scope="module")
def page(found: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(found, tmp_path_factory.mktemp("report"), COMMAND)


# ---- a browser ------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """A browser without a window or a network, told what to do through its DevTools protocol."""

    def __init__(self, profile: Path) -> None:
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        options += ["--disable-background-networking", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
        options += ["--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run", "--disable-extensions"]
        # The protocol has its ends at 3 and 4, so ours must be elsewhere until they are put there.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
        command = f"exec {shlex.join([str(CHROMIUM), *options])} 3<&{ends[0]} 4>&{ends[1]}"
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(["bash", "-c", command], pass_fds=ends, **quiet)
        for end in (theirs_in, theirs_out, *ends):
            os.close(end)
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []

    def connect(self) -> None:
        """Open a tab, and hear of all that happens in it."""
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], 30)[0], "the browser doesn't answer"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has gone"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def open(self, page: Path, width: int = 1200, *, dark: bool = False) -> None:
        """Open a page, and wait until its scripts have run."""
        phone = width < 600
        scale = 2 if phone else 1
        self("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=scale, mobile=phone)
        self("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.prefer("dark" if dark else "light")
        self.events.clear()
        self("Page.navigate", url=page.absolute().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def prefer(self, scheme: str) -> None:
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def ask(self, expression: str) -> Any:
        """What a script's expression is on the page."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def complaints(self) -> list[dict[str, Any]]:
        """Errors and warnings of scripts and of the browser since the page was opened."""
        bad = "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"
        return [event for event in self.events if event.get("method") in bad]

    def requests(self) -> list[str]:
        asked = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in asked]

    def picture(self, path: Path) -> None:
        """The whole page as PNG, for one's own eyes."""
        size = self("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    try:
        opened.connect()
        yield opened
    finally:
        opened.close()


DRAWN = "[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('.main-svg .scatterlayer path').length)"
PAPERS = "[...document.querySelectorAll('.plot .main-svg:first-of-type')].map(s => s.style.background)"
SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(22, 27, 34)"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_is_whole_in_a_browser_without_a_network(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width, dark=dark)
    drawn = browser.ask(DRAWN)
    assert len(drawn) == 3  # the loss is the metric here
    assert min(drawn) > 5
    assert browser.ask("document.querySelectorAll('#ways .contourlayer path').length") > 5
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("Math.max(...[...document.querySelectorAll('.plot')].map(p => p.scrollWidth))") <= width
    paper = DARK if dark else LIGHT
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == paper
    assert set(browser.ask(PAPERS)) == {paper}
    assert browser.complaints() == []
    assert browser.requests() == [page.absolute().as_uri()]


def test_on_a_phone_the_table_moves_under_the_names(browser: Browser, page: Path) -> None:
    browser.open(page, 390)
    assert browser.ask("document.querySelector('.wide').scrollWidth") > 390
    browser.ask("document.querySelector('.wide').scrollLeft = 200")
    assert browser.ask("document.querySelector('tbody td').getBoundingClientRect().left") == 16
    assert browser.ask("document.querySelectorAll('tbody td')[1].getBoundingClientRect().left") < 16


def test_on_a_phone_the_results_are_seen_at_once(browser: Browser, page: Path, found: Comparison) -> None:
    browser.open(page, 390)
    for row, result in enumerate(found.ranked()):
        cell = f"document.querySelectorAll('tbody tr')[{row}].children[1]"
        assert browser.ask(f"{cell}.firstChild.textContent") == f"{result.final().median:.4g}"
        assert browser.ask(f"{cell}.getBoundingClientRect().right") <= 390


def test_pictures_follow_the_reader_into_the_dark(browser: Browser, page: Path) -> None:
    browser.open(page)
    line = "document.querySelector('#loss .scatterlayer .js-line[style*=\"width: 2px\"]').style.stroke"
    assert browser.ask(line) == "rgb(77, 77, 77)"
    browser.prefer("dark")
    browser.ask(SETTLED)
    assert set(browser.ask(PAPERS)) == {DARK}
    assert browser.ask(line) == "rgb(201, 209, 217)"


def test_switches_change_the_axes(browser: Browser, page: Path, found: Comparison) -> None:
    browser.open(page)
    plot = "document.querySelector('#loss .plot')"
    assert browser.ask(f"{plot}.layout.yaxis.type") == "log"
    assert browser.ask(f"{plot}.data[1].x.at(-1)") == 60
    for choice in ("seconds", "linear"):
        browser.ask(f"document.querySelector('#loss input[value={choice}]').click()")
        browser.ask(SETTLED)
    assert browser.ask(f"{plot}.layout.yaxis.type") == "linear"
    assert browser.ask("document.querySelector('#loss .xtitle').textContent") == "seconds of training"
    ends = [outcome.times[-1] for outcome in found.results[0].outcomes]
    assert browser.ask(f"{plot}.data[1].x.at(-1)") == pytest.approx(np.median(ends), rel=1e-5)
    assert browser.complaints() == []


def test_many_optimizers_have_room(browser: Browser, tmp_path: Path) -> None:
    many = [replace(find("sgd"), name=f"my.rules:number_{k}") for k in range(30)]
    browser.open(report.write(compared(valley, many, budget=3, seeds=2), tmp_path, COMMAND), 390)
    bottom = "document.querySelector('#{0} .{1}').getBoundingClientRect().{2}"
    for name in ("loss", "lr", "ways"):
        title, legend = (bottom.format(name, *what) for what in (("xtitle", "bottom"), ("legend", "top")))
        assert browser.ask(f"{title} < {legend}")
        assert browser.ask(f"document.querySelectorAll('#{name} .legend .traces').length") >= 30
    assert browser.ask("document.documentElement.scrollWidth") <= 390
    assert browser.complaints() == []


# ---- what users write -----------------------------------------------------------------------------

EVIL = '</script></td><script>window.evil = 1</script><img src="https://evil/" onerror="window.evil = 2">&amp; $x$ ${y}'


def evil() -> Comparison:
    """Everything that a user can name is named so."""

    def start(seed: int) -> Run:
        w, loss, _ = valley.begin(seed)
        return Run(w, loss, lambda: {EVIL: float(np.hypot(*w))})

    of = Problem(start, EVIL, EVIL, 30, EVIL, target=0.1, plane=valley.plane, where=EVIL, source=EVIL)
    made = compared(of, [replace(find("sgd"), name=EVIL), replace(find("adam"), name=f"_{EVIL}")], budget=3, seeds=2)
    made.results[0].add(Trial(EVIL, EVIL, {EVIL: 0.1}, 0, 30), EVIL)
    return made


def test_words_of_users_stay_words(browser: Browser, tmp_path: Path) -> None:
    browser.open(report.write(evil(), tmp_path, f"adamite compare --problem {shlex.quote(EVIL)} --target \udcff"))
    assert browser.ask("window.evil ?? null") is None
    assert browser.ask("document.querySelectorAll('img').length") == 0
    assert browser.ask("document.querySelector('h1').textContent") == EVIL
    assert EVIL in browser.ask("document.querySelector('pre').textContent")
    assert browser.ask("document.querySelector('tbody td').textContent").lstrip("_").startswith(EVIL)
    short = EVIL.rpartition(":")[2]  # as of path/to/file.py:rule
    assert short in browser.ask("document.querySelector('#metric .legendtext').textContent")
    assert browser.ask("document.querySelector('#metric .ytitle').textContent") == EVIL
    assert min(browser.ask(DRAWN)) > 3
    assert browser.complaints() == []
    assert len(browser.requests()) == 1


def test_no_number_gets_into_the_figures_that_isnt_one() -> None:
    text = report_figures.as_json({"data": [np.array([1.0, np.nan, np.inf]), -math.inf, "</script>&"], "layout": {}})
    assert text == r'{"data":[[1.0,null,null],null,"\u003c/script\u003e\u0026"],"layout":{}}'
    assert json.loads(text)["data"][2] == "</script>&"


# ---- what is said ---------------------------------------------------------------------------------


def test_the_page_says_what_came_out(found: Comparison, page: Path) -> None:
    html = re.sub(r"<script.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert f'<p class="lead">{escape(found.verdict())}</p>' in html
    rows = re.findall(r"<tr><td>.*</tr>", html)
    assert [name in row for name, row in zip([r.entrant.name for r in found.ranked()], rows, strict=True)] == [True] * 3
    for result, row in zip(found.ranked(), rows, strict=True):
        final = result.final()
        assert f"<td>{final.median:.4g}<small>" in row
        assert f"lr&nbsp;{(result.best() or {})['lr']:g}" in row
        assert f"{result.entrant.state_bytes}&nbsp;B" in row
        assert f"{result.diverged} of 6" in row
    assert "$" not in html  # nothing of the template left open
    assert not re.search(r"https?:|//\w|@import", html)
    links = re.findall(r'href="([^"]*)"', html)
    assert {path.name for path in page.parent.iterdir()} - {*links} == {"report.html"}


def test_pictures_lie_beside_the_page(page: Path) -> None:
    names = {f"{name}{end}.png" for name in ("loss", "lr", "ways") for end in ("", "-dark")}
    assert {path.name for path in page.parent.glob("*.png")} == names
    for name in names:
        content = (page.parent / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 300_000


def test_tables_lie_beside_the_page(found: Comparison, page: Path) -> None:
    with (page.parent / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["optimizer"] for row in rows] == [result.entrant.name for result in found.ranked()]
    for row, result in zip(rows, found.ranked(), strict=True):
        assert (float(row["median"]), float(row["low"]), float(row["high"])) == result.final()
        assert float(row["lr"]) == (result.best() or {})["lr"]
        assert (row["weight_decay"] != "") == (result.entrant.name == "adamw")
        assert float(row["steps_to_target"]) == result.steps_to_goal()
    with (page.parent / "trainings.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found.plan.total
    assert [row["purpose"] for row in rows[:11]] == ["tuning"] * 6 + ["report"] * 5
    for row, (trial, outcome) in zip(rows, [*found.results[0].tuning, *found.results[0].reported], strict=False):
        assert (float(row["lr"]), int(row["seed"])) == (trial.settings["lr"], trial.seed)
        assert float(row["final_loss"]) == outcome.final_loss
        assert row["diverged_at_step"] == ("" if outcome.diverged is None else str(outcome.diverged))
        if outcome.diverged is None:
            assert float(row["final distance"]) == outcome.measures["distance"][-1]


def test_what_went_wrong_is_told() -> None:
    made = compared(valley, [find("sgd", {"lr": Range(1e-5, 0.2)})], budget=4, seeds=2)
    assert report.notes(made) == ["No training diverged or failed, and no best setting lies at the edge of its range."]
    made = compared(valley, [find("sgd", {"lr": Range(1e-4, 1e-3)})], budget=3, seeds=2)
    sgd = made.results[0]
    lost = Trial("", "sgd", {"lr": 0.1}, 7, 60)
    sgd.add(lost, "its process died")
    sgd.add(lost, "its process died")
    sgd.reported[0][1].diverged = 3
    assert report.notes(replace(made, retried=2)) == [
        "Seeds that diverged with the best settings: sgd 1 of 2.",
        "The best lr lies at the edge of the search range, so a wider range (--tune) may have a better one: sgd.",
        "sgd: 2 trainings failed, the first with seed 7, lr 0.1: its process died",
        "Retried because a process died: 2 (each training at most 3 times).",
    ]


def test_a_report_is_written_where_no_optimizer_came_to_an_end(browser: Browser, tmp_path: Path) -> None:
    def start(seed: int) -> Run:
        losses = iter([1.0, math.nan])
        return Run(np.ones(2), lambda: (next(losses), np.ones(2)))

    made = compared(Problem(start, "hopeless", plane=valley.plane), "sgd,adam", budget=3)
    browser.open(report.write(made, tmp_path, COMMAND))
    assert browser.ask("document.querySelector('.lead').textContent") == "No optimizer finished a training."
    assert "Settings that diverged: sgd 3 of 3, adam 3 of 3." in browser.ask("document.body.innerText")
    assert browser.ask("document.querySelectorAll('#lr .plot path.point').length") == 8  # 2 × 3 ×, 2 ▲
    assert browser.complaints() == []


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "local", lambda work, jobs, processes: (Done(j, work(j), None, 1) for j in jobs))


@pytest.mark.usefixtures("in_this_process")
def test_the_command_writes_it_and_says_where(tmp_path: Path) -> None:
    given = ["compare", "--problem", "regression", "--optimizers", "sgd", "--budget", "2", "--seeds", "2"]
    given += ["--steps", "20", "--tune", "lr=0.01:0.1", "--out", str(tmp_path / "[my] report")]
    result = CliRunner().invoke(cli.app, given, env={"COLUMNS": "40"}, catch_exceptions=False)
    page = tmp_path / "[my] report" / "report.html"
    assert f"Report: {page}\n" in result.stdout
    (typed,) = re.findall(r"<pre>(.*)</pre>", page.read_text(encoding="utf-8"))
    words = shlex.split(unescape(re.sub("<.*?>", "", typed)))
    assert words[0] == "adamite"
    pairs = dict(zip(words[2::2], words[3::2], strict=True))
    assert pairs.items() >= dict(zip(given[1::2], given[2::2], strict=True)).items()
    assert pairs.items() >= {"--schedule": "constant", "--seed": "0"}.items()


@pytest.mark.usefixtures("in_this_process")
def test_each_problem_has_a_folder_and_none_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("here.py", "below/here.py", "below-here.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(
            "import numpy as np\ndef problem(seed):\n    w = np.ones(2)\n    return w, lambda: (w @ w, 2 * w)\n"
        )

    def compare(where: str, *more: str) -> Any:
        given = ["compare", "--problem", where, "--optimizers", "sgd", "--budget", "2", "--seeds", "1", "--steps=9"]
        return CliRunner().invoke(cli.app, [*given, *more], catch_exceptions=False)

    places = {
        "regression": "regression", "here.py:problem": "here-problem-{}", "./here.py:problem": "here-problem-{}",
        "here:problem": "here-problem-{}", f"{tmp_path}/below/here.py:problem": "below-here-problem-{}",
        "below-here.py:problem": "below-here-problem-{}",
    }  # fmt: skip
    found = {}
    for where, folder in places.items():
        result = compare(where)
        report = re.search(r"Report: adamite-compare/(.*)/report.html", result.stdout)
        assert report and re.fullmatch(folder.format("[0-9a-f]{8}"), report[1]), result.output
        found[where] = report[1]
    assert len(set(found.values())) == 4  # three spellings are of one
    first = (tmp_path / "adamite-compare" / "regression" / "report.html").read_bytes()
    result = compare("here.py:problem", "--out", "adamite-compare/regression")
    assert result.exit_code == 2 and "'--out': adamite-compare/regression has a report of regression" in result.output
    assert (tmp_path / "adamite-compare" / "regression" / "report.html").read_bytes() == first
    assert compare("here.py:problem", "--out", f"{tmp_path}/shared").exit_code == 0
    monkeypatch.chdir(tmp_path / "below")  # where here.py is another problem
    result = compare("here.py:problem", "--out", f"{tmp_path}/shared")
    words = "".join(result.output.split())
    assert result.exit_code == 2
    assert f"{tmp_path}/sharedhasareportof{tmp_path}/here.py:problem," in words
    assert f"thisoneisof{tmp_path}/below/here.py:problem;giveanotherfolder" in words


def test_axes_have_few_labels() -> None:
    """Plotly labels decades alone where the axis has more than 0.7 of them for a label."""
    for low, high, most in ((1e-4, 1e1, 6), (0.05, 2.5, 2), (1e-9, 1e3, 5), (1.0, 2e2, 3)):
        axis = report_figures._decades([low, high])
        decades = math.ceil(math.log10(high / low) / axis["nticks"])
        assert math.log10(high / low) / axis["nticks"] > 0.7 and math.log10(high / low) / decades + 1 <= most + 1
    for low, high, labels in (
        (0.6, 1.0, [0.6, 0.7, 0.8, 0.9, 1.0]),
        (1.0, 3.0, [1.0, 1.5, 2.0, 2.5, 3.0]),
        (0.3, 4.0, [0.5, 1.0, 2.0]),
        (0.07, 1.2, [0.1, 0.2, 0.5, 1.0]),
    ):
        ticks = report_figures._decades([low, high])["tickvals"]  # Plotly draws what lies on the axis
        assert [tick for tick in ticks if low <= tick <= high] == pytest.approx(labels)


# ---- what is drawn --------------------------------------------------------------------------------


def outcome(*losses: float) -> Outcome:
    steps = list(range(10, 10 * len(losses) + 1, 10))
    return Outcome(steps=steps, losses=list(losses), times=[step / 1000 for step in steps])


def test_a_training_that_diverged_goes_on_as_the_worst() -> None:
    seeds = [outcome(5, 4, 3), outcome(4, 3, 2), outcome(3, 2, 1), outcome(2), outcome(1, math.nan)]
    made = report_curves.curve(seeds, "loss", higher=False)
    assert made is not None
    assert made.band.steps.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(made.band.middle, [3, 4, 3])
    np.testing.assert_array_equal(made.band.low, [2, 3, 2])
    np.testing.assert_array_equal(made.band.high, [4, np.nan, np.nan])
    np.testing.assert_allclose(made.seconds, [0.01, 0.02, 0.03])
    best = report_curves.curve(seeds, "loss", higher=True)
    assert best is not None
    np.testing.assert_array_equal(best.band.middle, [3, 2, 1])
    assert report_curves.curve([outcome(), outcome()], "loss", higher=False) is None


def test_ways_end_where_they_leave_the_plane_for_good() -> None:
    assert valley.plane is not None
    there = Outcome(path=[[0.0, 0.0], [0.0, 1e-9], [1.0, 0.5], [1e200, 0.0], [math.nan, 0.0]])
    made = compared(valley, "adam", budget=1, seeds=1)
    made.results[0].reported[:] = [(made.results[0].reported[0][0], there)]
    ((name, look, way),) = report_curves.ways(made, valley.plane)
    assert (name, look, way.tolist()) == ("adam", 0, [[0, 0], [1, 0.5]])


def test_many_optimizers_are_told_apart() -> None:
    looks = {(report_figures.colour(look), report_figures.dash(look)) for look in range(21)}
    assert len(looks) == 21


def test_names_of_any_length_have_room_below_a_picture() -> None:
    for longest in (3, 12, 30, 60, 200):
        figure = Figure(figsize=plots.SIZE, dpi=plots.DPI, layout="constrained")
        axes = figure.add_subplot()
        for k in range(5):
            axes.plot([0, 1], [0, k], label="m" * longest)
        plots.legend(axes)
        (made,) = figure.legends
        assert made.get_window_extent().width <= figure.bbox.width
        assert all(text.get_text().startswith("m" * min(longest, 20)) for text in made.get_texts())


def test_marks_in_one_place_are_stacked() -> None:
    assert plots.stacked([1e-3, 1e-2, 1e-3, 1e-3]) == [0, 0, 1, 2]
