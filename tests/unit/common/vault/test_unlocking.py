"""A vault that is opened beside other work: the same key, the same errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import NotFoundError, RefusedError
from common.vault.folder import VaultFolder
from common.vault.unlocking import Unlocking


def test_the_key_is_the_vaults_whenever_it_is_asked_for(tmp_path: Path) -> None:
    vault = VaultFolder(tmp_path)
    key = vault.create("four words for keeping")
    unlocking = Unlocking(vault, "four words for keeping")
    assert [unlocking.key(), unlocking.key()] == [key, key]


def test_what_keeps_the_vault_shut_is_said_where_the_key_is_asked_for(tmp_path: Path) -> None:
    vault = VaultFolder(tmp_path)
    with pytest.raises(NotFoundError):
        Unlocking(vault, "any").key()
    vault.create("four words for keeping")
    with pytest.raises(RefusedError):
        Unlocking(vault, "four words for losing").key()
