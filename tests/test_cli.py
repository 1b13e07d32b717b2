"""The command line, run as its users run it: in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


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
    assert "seed 0" not in result.stderr  # no progress bar in a pipe
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
    # A module found before the installed one, that fails as a missing one does.
    failing = f"raise ModuleNotFoundError('it is not there', name='{package}')"
    (tmp_path / f"{package}.py").write_text(failing)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = adamite("demo", "--out", str(tmp_path / "out"), PYTHONPATH=paths)
    assert result.returncode == 1
    assert package in result.stderr
    assert "pip install 'adamite[lab]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal of Ctrl-C as Unix does")
def test_ctrl_c_ends_with_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    # Where tests run in the background Ctrl-C is ignored, and a child would inherit that.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "adamite", "demo", "--seeds", "100", "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    signal.signal(signal.SIGINT, handler)
    while not folder.exists() and process.poll() is None:  # made when the training begins
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert (output, errors.strip()) == ("", "Stopped.")
    # CPython ends by the signal itself when it came inside exec; a shell calls both 130.
    assert process.returncode in (130, -signal.SIGINT)
