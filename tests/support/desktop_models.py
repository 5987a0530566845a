"""What the tests of the desktop's models share: a session without a cluster, and time for background work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable

import pytest

from desktop.background import Background
from desktop.session import Session
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


def keep(session: Session, image: EncodedImage) -> None:
    """Have the vault's folder keep the image's mapping."""
    session.vault.keep_mapping(image.commitment.object_id, image.encoding_id, image.commitment.mapping)


def deliver_until(background: Background, condition: Callable[[], object]) -> None:
    """Do what the window's thread would, until the condition holds."""
    end = time.monotonic() + _TIMEOUT
    while not condition():
        assert time.monotonic() < end, "nothing came of it in time"
        background.deliver()
