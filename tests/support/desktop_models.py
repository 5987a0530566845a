"""What the tests of the desktop's models share: a session without a cluster, and time for background work."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Callable, Optional

import pytest

from common.link.link import Link
from common.vault.keys import VaultKey
from desktop.background import Background
from desktop.session import Session
from tests.support.memory_cluster import MemoryCluster
from tests.support.passphrases import cheap_passphrases
from tests.support.sample_images import EncodedImage

PASSPHRASE = "four words for keeping"
_TIMEOUT = 20.0  # seconds


def open_session(home: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A vault in a new home, unlocked."""
    monkeypatch.setenv("TESSERA_HOME", str(home))
    cheap_passphrases(monkeypatch)
    session = Session()
    session.open(session.vault.create(PASSPHRASE))
    return session


def reach(cluster: MemoryCluster, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have sessions reach this cluster in memory, as the owner of this one's vault."""
    cluster.owner = session.key.owner_id()

    @asynccontextmanager
    async def link(_: Session) -> AsyncIterator[Link]:
        yield cluster.link

    monkeypatch.setattr(Session, "link", link)


def keep(session: Session, image: EncodedImage, key: Optional[VaultKey] = None) -> None:
    """Have the vault's folder keep the image's mapping; `key`: the vault's, where it is locked."""
    index = session.vault.index(key or session.key)
    index.keep_mapping(image.commitment.object_id, image.encoding_id, image.commitment.mapping)


def deliver_until(background: Background, condition: Callable[[], object]) -> None:
    """Do what the window's thread would, until the condition holds."""
    end = time.monotonic() + _TIMEOUT
    while not condition():
        assert time.monotonic() < end, "nothing came of it in time"
        background.deliver()


def make_broker_folder(home: Path) -> None:
    """As if the broker were on this machine, with Tessera's folder `home`."""
    (home / "broker").mkdir()
    (home / "broker" / "broker.key").touch()
