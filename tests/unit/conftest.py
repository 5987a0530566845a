"""What unit tests share: hypothesis without its deadline, since how long a test takes is no promise; a store; and what
the desktop's models need, a vault that is open and time behind the window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from desktop.background import Background
from desktop.session import Session
from tests.support.clocks import SetClock
from tests.support.desktop_models import open_session
from tests.support.sample_shares import sample
from worker.store import ShareStore

settings.register_profile("tessera", deadline=None)
# For a second Python: fewer, where a test does not say how many (100 by default).
settings.register_profile("brief", deadline=None, max_examples=30)
settings.load_profile("tessera")


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[ShareStore]:
    """With one share, of which the brokers know."""
    store = ShareStore(tmp_path / "store", clock=clock)
    sample().put(store, 0)
    store.changes()
    yield store
    store.close()


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A vault in a new home, unlocked."""
    return open_session(tmp_path / "home", monkeypatch)
