"""Settings that end with the test that makes them."""

from collections.abc import Iterator

import pytest

from adamite import engine
from tests.support import MNIST


@pytest.fixture(scope="session", autouse=True)
def _part_of_mnist() -> Iterator[None]:
    """Whatever trains on MNIST has the part in tests/data, in processes of its own too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAMITE_MNIST", str(MNIST))
        yield


@pytest.fixture
def small_shares(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Jobs of some thousand elements are shared among threads, in ranges that end within a vector."""
    monkeypatch.setattr(engine, "_crew", engine._crew._replace(worth=1_000))
    monkeypatch.setattr(engine, "_SHARE", 8_195)
    yield
    engine.set_threads(None)
