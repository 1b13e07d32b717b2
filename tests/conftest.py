"""What tests start from, whoever runs them and wherever; settings that end with the test that makes them."""

import os
import signal
from collections.abc import Iterator

import pytest

from adamite.engine import running, threads
from tests.support import MNIST

# A screen of 80 columns without colours, and adamite as it comes, whatever the shell says: before anything reads it.
os.environ["COLUMNS"] = "80"
for _name in ("LINES", "TERMINAL_WIDTH", "FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE", "NO_COLOR", "GITHUB_ACTIONS"):
    os.environ.pop(_name, None)
for _name in ("ADAMITE_BACKEND", "ADAMITE_THREADS", "PYTHONWARNINGS"):
    os.environ.pop(_name, None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background jobs have it, and what they start
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever trains on MNIST has the part in tests/data, and Keras no settings; in processes of their own too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAMITE_MNIST", str(MNIST))
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras-home")))
        yield


@pytest.fixture
def small_shares(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Jobs of some thousand elements are shared among threads, in ranges that end within a vector."""
    monkeypatch.setattr(threads, "_crew", threads._crew._replace(worth=1_000))
    monkeypatch.setattr(running, "HOLD", 1_000)
    monkeypatch.setattr(running, "SHARE", 8_195)
    yield
    threads.set_threads(None)
