"""The command line, run as its users run it: in a process of its own."""

import functools
import io
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import adamite as package
from adamite import cli
from adamite.backends.text import equations
from adamite.cli import terminal
from adamite.cli.bare import commands
from adamite.frontend.about import about
from adamite.lab import extras, verify
from adamite.numpy import OPTIMIZERS, optimizer
from adamite.rules import RULES

COMMANDS = ("bench", "claims", "compare", "demo", "find-lr", "list", "memory", "problems", "show", "verify")


def adamite(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adamite", *arguments],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        check=False,
    )


def test_demo_prints_both_tables_and_where_the_page_is(tmp_path: Path) -> None:
    result = adamite("demo", "--seeds", "1", "--out", str(tmp_path / "made"))
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stderr  # no progress bar in a pipe
    assert "0.8156   2.0227   0.8925" in result.stdout
    assert "AdaBelief" in result.stdout
    *lines, last = result.stdout.splitlines()
    assert last.endswith(str(tmp_path / "made" / "index.html"))
    assert (tmp_path / "made" / "index.html").is_file()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dmo"], "No such command 'dmo'"),
        (["demo", "--sedes", "3"], "No such option"),
        (["demo", "--seeds", "0"], "'--seeds'"),
        (["demo", "--seeds", "101"], "'--seeds'"),
        (["demo", "--seeds", "many"], "'--seeds'"),
        (["demo", "--out", __file__], "is a file"),
        (["demo", "--out", f"{__file__}/below"], "'--out'"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_wrong_input_is_answered_in_words(arguments: list[str], said: str) -> None:
    result = adamite(*arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
@pytest.mark.parametrize("arguments", [["list"], ["--version"], ["show", "adam"]], ids=" ".join)
def test_a_full_disk_is_told_as_such(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "adamite", *arguments], stdout=full, stderr=subprocess.PIPE, encoding="utf-8"
        )
    said = "adamite: the output can't be written: No space left on device; make room, or write it elsewhere\n"
    assert (result.returncode, result.stderr) == (1, said)


def test_claims_refuse_a_folder_that_cant_be_written() -> None:
    result = adamite("claims", "--quick", "--only", "robust", "--out", f"{__file__}/below", COLUMNS="200")
    assert result.returncode == 2 and "Invalid value for '--out': " in result.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    result = adamite("demo", "--out", str(tmp_path))
    assert result.returncode == 2
    assert "not writable" in result.stderr


def test_help_names_the_commands() -> None:
    result = adamite("--help")
    assert result.returncode == 0
    assert "demo" in result.stdout


@pytest.mark.parametrize("package", ["typer", "rich", "matplotlib", "sklearn"])
def test_a_missing_package_is_named_with_what_to_install(package: str, tmp_path: Path) -> None:
    check_missing(package, ["demo", "--out", str(tmp_path / "out")], "pip install 'adamite[lab]'", tmp_path)


@pytest.mark.parametrize(
    ("package", "command", "what"),
    [
        ("torch", "verify torch", "'adamite[torch]'"),
        ("expecttest", "verify torch", "'adamite[lab]'"),
        ("jax", "bench jax", "'adamite[jax]'"),
        ("optax", "bench jax", "'adamite[jax]'"),
        ("keras", "bench keras", "'adamite[keras]'"),
    ],
)
def test_a_package_that_only_some_commands_need(package: str, command: str, what: str, tmp_path: Path) -> None:
    check_missing(package, command.split(), f"pip install {what}", tmp_path)


@pytest.mark.parametrize(("backend", "said"), [("numpy", "'numpy'; give tensorflow, jax or torch"), ("tf", "tf")])
def test_a_backend_on_which_keras_cant_be_measured(backend: str, said: str) -> None:
    result = adamite("bench", "keras", KERAS_BACKEND=backend)
    assert result.returncode == 2 and result.stdout == ""
    assert re.search(f"Invalid value for KERAS_BACKEND: .*{said}$", result.stderr)
    assert_fits(result.stderr)


def check_missing(package: str, command: list[str], advice: str, tmp_path: Path) -> None:
    # A module that is found before the installed one and fails like a missing one.
    failing = f"raise ModuleNotFoundError('it is not there', name='{package}')"
    (tmp_path / f"{package}.py").write_text(failing)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = adamite(*command, PYTHONPATH=paths)
    assert result.returncode == 1
    assert package in result.stderr
    assert result.stderr.rstrip().endswith(advice)
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal of Ctrl-C as Unix does")
def test_ctrl_c_ends_with_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    # If tests run in the background, Ctrl-C is ignored, and a child would inherit that.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "adamite", "demo", "--seeds", "100", "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    signal.signal(signal.SIGINT, handler)
    while not folder.exists() and process.poll() is None:  # created when the training starts
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert (output, errors.strip()) == ("", "Stopped.")
    # CPython is ended by the signal itself if it arrives inside exec; a shell reports 130 for both.
    assert process.returncode in (130, -signal.SIGINT)


# ---- without the packages of the lab --------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with failing modules, found before the lab's packages."""
    folder = tmp_path_factory.mktemp("bare")
    for name in extras.WHERE:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('it is not there', name='{name}')")
    return folder


def without(bare: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return adamite(*arguments, PYTHONPATH=os.pathsep.join([str(bare), os.environ.get("PYTHONPATH", "")]))


def test_version_and_help_need_no_more_than_the_library(bare: Path) -> None:
    version = without(bare, "--version")
    assert (version.returncode, version.stdout) == (0, f"adamite {package.__version__}\n"), version.stderr
    printed = without(bare, "--help")
    assert printed.returncode == 0 and printed.stderr == ""
    assert_fits(printed.stdout)
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\w.*\.$", printed.stdout, re.MULTILINE)
    assert printed.stdout.endswith("pip install 'adamite[lab]'\n")
    one = without(bare, "compare", "--help")
    assert one.returncode == 0 and "--optimizers" in one.stdout and one.stderr == ""
    assert_fits(one.stdout)


def test_what_isnt_there_is_told_whatever_is_installed(bare: Path) -> None:
    for arguments, said in (
        (["--versoin"], "Error: No such option '--versoin'. Did you mean '--version'?\n"),
        (["-V"], "Error: No such option '-V'.\n"),
        (["shwo"], "Error: No such command 'shwo'. Did you mean 'show'?\n"),
        (["compar", "--help"], "Error: No such command 'compar'. Did you mean 'compare'?\n"),
    ):
        answer = without(bare, *arguments)
        assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", said)
        assert narrow(*arguments).returncode == 2
    for run in (narrow, functools.partial(without, bare)):
        for arguments in (["-h"], ["verify", "-h"], ["bench", "-h"]):
            answer = run(*arguments)
            assert answer.returncode == 0
            assert len(arguments) == 1 or "a rule of yours, file.py:name" in " ".join(answer.stdout.split())


@pytest.mark.parametrize("arguments", [["list"], ["show", "adam"], ["verify", "torch"]], ids=" ".join)
def test_a_command_says_what_it_needs(bare: Path, arguments: list[str]) -> None:
    answer = without(bare, *arguments)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "adamite: this command needs typer; install it with: pip install 'adamite[lab]'\n"


def test_that_help_names_what_every_command_takes() -> None:
    """It is read from the commands' source; here it is compared with what Typer makes of them."""
    made = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert set(commands()) == set(made) == set(COMMANDS)
    for name, command in commands().items():
        theirs = [p.opts[0] if p.param_type_name == "option" else p.metavar for p in made[name].params]
        assert sorted(each.name for each in command.parameters) == sorted(theirs), name
        assert all(each.help for each in command.parameters), name
        assert command.help.splitlines()[0] in " ".join((made[name].help or "").split())


# ---- errors in users' code ------------------------------------------------------------------------

FILE = """
import numpy as np
import adamite

def problem(seed):
    w = np.ones(2)
    return w, lambda: (w @ w, 2 * w)

def failing(seed):
    raise OSError("no data")

def model():
    return [np.zeros((4, 4), np.float32)]

def no_model():
    raise OSError("no weights")

@adamite.rule
def plain(g, m, *, t, lr=1e-3):
    '''Plain (nobody 2020).

    lr in [0, inf): rate.
    '''
    m = 0.9 * m + g
    return lr * m, m

@adamite.rule
def rooted(g, *, t, lr=1e-3):
    return lr * np.sqrt(g)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("import numpy\ndef f(:\n    pass\n")
    (tmp_path / "lacking.py").write_text("import nowhere_at_all\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ended(*arguments: str) -> Any:
    """The exit status of the command line, in this process, or the message that Python would print."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["adamite", *arguments])
        cli.main()
    return end.value.code


ROOTED = "`return lr * np.sqrt(g)`: a symbol has no value yet.*: use adamite.sqrt"
BROKEN = "line 2 of .*broken.py: `def f(:`: SyntaxError: invalid syntax"
LACKING = "lacking.py can't be imported: line 1 of .*: `import nowhere_at_all`: there is no module nowhere_at_all here"


WRONG = {
    "mine.py:rooted": ROOTED,
    "broken.py:f": BROKEN,
    "lacking.py:f": LACKING,
    "mine.py:model": "mine.py:model is of the type function, not a rule",
    "mine.py:plan": "mine.py has no plan; did you mean plain?",
}
TAKING = ("show {}", "verify {}", "bench {}", "memory mine.py:model --optimizer {}", "find-lr --optimizer {}")


@pytest.mark.parametrize(("name", "said"), WRONG.items(), ids=WRONG)
@pytest.mark.parametrize("command", [*TAKING, "compare --optimizers sgd,{}"])
def test_every_command_tells_what_is_wrong_with_a_rule(
    mine: Path, command: str, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = ended(*command.format(name).split())
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    pattern = re.escape(said).replace(re.escape(".*"), ".*")
    assert re.search(pattern, " ".join(printed.err.split())), printed.err
    assert not (mine / "adamite-compare").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("find-lr --problem mine.py:failing", '`raise OSError("no data")`: OSError: no data'),
        ("memory mine.py:no_model", '`raise OSError("no weights")`: OSError: no weights'),
        ("memory mine.py:problem", "`def problem(seed):`: a function that returns a model is called without arguments"),
        ("bench mine.py:plain --size 1e15", "MemoryError: "),
    ],
)
def test_what_fails_ends_in_words(mine: Path, command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = ended(*command.split())
    words = code if isinstance(code, str) else capsys.readouterr().err
    assert said in words and "Traceback" not in words
    assert code == 2 or words.startswith("adamite: ")


def test_every_line_is_told_on_demand(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAMITE_TRACEBACK", "1")
    code = ended("find-lr", "--problem", "mine.py:failing")
    assert "Traceback (most recent call last)" in code and "in failing" in code


def test_a_rule_of_the_users_is_taken_everywhere(mine: Path) -> None:
    for command, said in (
        ("show mine.py:plain", "xₜ = xₜ₋₁ − η mₜ"),
        ("show mine.py:plain --latex", r"x_{t} = x_{t-1} - \eta \, m_{t}"),
        ("verify mine.py:plain", "hold."),
        ("bench mine.py:plain --size 1e6 --rounds 1", "plain"),
        ("memory mine.py:model --optimizer mine.py:plain", "Plain: 16 parameters in 1 tensor"),
    ):
        result = CliRunner().invoke(cli.app, command.split(), env={"COLUMNS": "80"}, catch_exceptions=False)
        assert result.exit_code == 0 and said in result.output, result.output


def test_letters_that_a_pipe_lacks_are_told_as_marks() -> None:
    result = adamite("show", "adam", PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "") and "    x? = x??? ? ? m?? / (?v?? + ?)" in result.stdout


# ---- list, show, verify, bench --------------------------------------------------------------------


def narrow(*arguments: str) -> subprocess.CompletedProcess[str]:
    """On a screen of 80 columns, and in this process, where most kernels are compiled already."""
    result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "80"}, prog_name="adamite", catch_exceptions=False)
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def answer(*arguments: str) -> str:
    """What a command prints on success."""
    result = narrow(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def cells(table: str) -> list[list[str]]:
    """The rows of a table: cells are two spaces apart."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


def assert_fits(text: str, width: int = 80) -> None:
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_numbers_are_whole_on_a_narrow_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = "", "accuracy of the validation", "interval", "a step", "bytes"
    row = "my_very_long_optimizer_name", "0.06744", "0.0612–0.0681", "16.8 µs", "8"
    shown = {}
    for width in (40, 60, 80):
        written = io.StringIO()
        screen = Console(width=width, file=written, highlight=False, markup=False)
        monkeypatch.setattr(terminal, "out", screen)
        screen.print(terminal.whole(headers, [row], spare=("bytes", "a step")))
        shown[width] = written.getvalue()
        assert_fits(shown[width], width)
        assert "0.06744" in shown[width] and "0.0612–0.0681" in shown[width] and "…" not in shown[width]
        assert row[0] in "".join(cells(line)[0][0] for line in shown[width].splitlines() if line.startswith(" "))
    there = [("bytes" in text, "a step" in text) for text in shown.values()]
    assert there == [(False, False), (True, True), (True, True)]


def test_list_has_every_optimizer_and_rule() -> None:
    printed = answer("list")
    assert_fits(printed)
    first = [row[0] for row in cells(printed)]
    assert [name for name in first if name.lower() in OPTIMIZERS] == [cls.__name__ for cls in OPTIMIZERS.values()]
    assert all(re.search(rf"\b{name}\b", printed) for name in RULES)
    assert [next(row for row in cells(printed) if row[0] == "AdamW")[i] for i in (0, -1)] == ["AdamW", "8"]


@pytest.mark.parametrize("name", [*OPTIMIZERS, *(name for name in RULES if name not in OPTIMIZERS)])
def test_show_says_all_of_it(name: str) -> None:
    """In this process, since one for each takes too long."""
    result = CliRunner().invoke(cli.app, ["show", name], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    it = about(optimizer(name).__name__, optimizer(name).conventions())
    assert result.output.startswith(it.title[:60])
    *_, final = equations(it.update)
    assert f"    {final}" in result.output
    assert all(argument.name in result.output for argument in it.arguments)
    table = [line for line in result.output.splitlines() if not line.startswith("    ")]
    assert max(map(len, table)) <= 80 and "…" not in result.output
    words = " ".join(result.output.split())
    assert f"{it.state_bytes} bytes of state" in words


def test_show_adam() -> None:
    printed = answer("show", "Adam")
    assert_fits(printed)
    for said in (
        "Adam (Kingma & Ba 2015, algorithm 1).",
        "    xₜ = xₜ₋₁ − η m̂ₜ / (√v̂ₜ + ε)",
        "8 bytes of state a float32 parameter",
        'with convention="torch", "keras" or "optax":',
        "In torch: weight_decay is L2",
        "    xₜ = xₜ₋₁ − ηₜ mₜ / (√vₜ + ε)",
    ):
        assert said in printed
    assert re.search(r"β₂ +beta2 +0\.999 +\[0, 1\) +decay of the second moment", printed)


def test_show_in_latex() -> None:
    lines = answer("show", "adam", "--latex").splitlines()
    assert lines[-1] == r"x_{t} = x_{t-1} - \frac{\eta \, \hat{m}_{t}}{\sqrt{\hat{v}_{t}} + \epsilon}"
    assert len(lines) == 5


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="names registers of x86")
@pytest.mark.parametrize("name", ["adam", "sgd_lr_inside"])
def test_show_the_compiled_loop(name: str) -> None:
    result = narrow("show", name, "--asm")
    assert result.returncode == 0, result.stderr
    *lines, jump = result.stdout.splitlines()
    assert re.search(r"%[xyz]mm\d", result.stdout)
    assert lines[0].endswith(":") and lines[0][:-1] in jump
    assert not re.search(r"\bv?(fn?m|call)", result.stdout)  # nothing contracted, no call
    stores = [line for line in lines if re.search(r"v?mov\w+\s+%[xyz]mm\d+, .*\(", line)]
    assert len(stores) >= {"adam": 3, "sgd_lr_inside": 1}[name]
    assert_fits(result.stderr)


def test_verify_holds_on_this_machine() -> None:
    printed = answer("verify")
    assert_fits(printed)
    rows = {row[0]: row[1:] for row in cells(printed) if row[0].partition(" ")[0] in RULES}
    assert list(rows) == [verify.label(rule, options) for rule, options in verify.CASES]
    for checks, error, ulps, largest, median in rows.values():
        held, made = checks.split("/")
        assert held == made and int(made) > 10
        assert float(error) <= verify.LIMIT and float(ulps) >= 0 and 0 < float(median) <= verify.NEAR <= float(largest)
    assert f"All {len(verify.CASES)} hold." in printed


def measured(*options: str) -> str:
    """What bench prints, in this process, where most kernels are compiled already."""
    arguments = ["bench", "--size", "1000000", "--rounds", "1", *options]
    result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_bench_prints_a_table() -> None:
    printed = measured()
    large = printed[printed.index("1M float32") :]
    assert "kept" not in large and "missed" not in large and "promised for 40,000,000 elements" in large
    for said in ("1M float32", "limit", "AdamW", "your own rule", "2 parameters", "compile", "import", *RULES):
        assert said in printed
    assert_fits(printed)


def test_bench_in_json() -> None:
    rows = json.loads(measured("--json"))
    keys = {"case", "name", "seconds", "yardstick", "ratio", "bar", "gigabytes", "kept"}
    assert isinstance(rows, list) and all(set(row) == keys for row in rows)
    assert {row["name"] for row in rows} > {"limit", "AdamW", *RULES}
    for row in rows:
        value = row["seconds"] if row["ratio"] is None else row["ratio"]
        assert row["kept"] == (None if row["bar"] is None else value <= row["bar"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shwo", "adam"], "No such command 'shwo'"),
        (["list", "adam"], "unexpected extra argument"),
        (["show"], "Missing argument"),
        (["show", "adma"], "did you mean adam?"),
        (["show", "adam_w"], "did you mean adamw?"),
        (["show", "foo"], "has no optimizer 'foo'"),
        (["show", "Muon"], "has no optimizer 'Muon', which orthogonalizes matrices; the nearest here is momentum"),
        (["show", "adamw_8bit"], "the nearest here is adamw with state='8bit'"),
        (["show", "nowhere.py:rule"], "there is no file nowhere.py"),
        (["show", ""], "has no optimizer ''"),
        (["show", "adam", "lion"], "unexpected extra argument"),
        (["show", "adam", "--latx"], "--latex"),
        (["show", "adam", "--asm", "--latex"], "--asm"),
        (["verify", "adam"], "'adam'; give numpy, torch, states or a rule of yours, file.py:name"),
        (
            ["bench", "adam"],
            "'adam'; give numpy, torch, jax, keras, bytes, sparse or a rule of yours, file.py:name",
        ),
        (["verify", "torch", "adam"], "unexpected extra argument"),
        (["bench", "--size", "10"], "'--size'"),
        (["bench", "--size", "1e5"], "'--size'"),
        (["bench", "--size", "many"], "'--size'"),
        (["bench", "--size", "-5"], "'--size'"),
        (["bench", "--rounds", "0"], "'--rounds'"),
        (["bench", "--rounds", "1001"], "'--rounds'"),
        (["bench", "--sizes", "1000000"], "--size"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_fits_the_screen(arguments: list[str], said: str) -> None:
    result = narrow(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert said in " ".join(result.stderr.split())
    assert_fits(result.stderr)


def test_help_names_all_commands() -> None:
    printed = answer("--help")
    assert_fits(printed)
    for command in COMMANDS:
        assert re.search(rf"^ +{command} +\w", printed, re.MULTILINE)
        one = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "80"})
        assert one.exit_code == 0
        assert_fits(one.output)
