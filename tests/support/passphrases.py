"""Vaults that cost little to open: the least that a key file may ask for, 20 ms in place of 400."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from common.vault import key_file
from common.vault.folder import VaultFolder
from common.vault.key_file import PassphraseCost

if TYPE_CHECKING:
    import pytest

LEAST_COST = PassphraseCost(passes=1, memory_kib=19 * 1024, lanes=1)


def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process make such vaults; a key file says itself what opening it costs, so programs need not know."""
    monkeypatch.setattr(key_file, "COST", LEAST_COST)


def create_cheap_vault(home: Path, passphrase: str) -> None:
    """One such vault."""
    with mock.patch.object(key_file, "COST", LEAST_COST):
        VaultFolder(home).create(passphrase)
