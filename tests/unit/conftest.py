"""What unit tests share: hypothesis without its deadline, since how long a test takes is no promise; and a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.unit.clocks import SetClock
from tests.unit.sample_shares import sample
from worker.store import ShareStore

settings.register_profile("tessera", deadline=None)
settings.load_profile("tessera")


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[ShareStore]:
    """With one share, of which the brokers know."""
    store = ShareStore(tmp_path / "store", clock=clock)
    sample().put(store, 0)
    store.news()
    yield store
    store.close()
