"""Settings that end with the test that makes them."""

from collections.abc import Iterator

import pytest

from adamite import engine


@pytest.fixture
def small_shares(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Jobs of some thousand elements are shared among threads, in ranges that end within a vector."""
    monkeypatch.setattr(engine, "_crew", engine._crew._replace(worth=1_000))
    monkeypatch.setattr(engine, "_SHARE", 8_195)
    yield
    engine.set_threads(None)
