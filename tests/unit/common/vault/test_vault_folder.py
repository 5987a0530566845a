"""A vault on this machine's disk: the key file is never lost."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import Callable

import pytest

from common import files
from common.errors import IntegrityError, NotFoundError, RefusedError, TesseraError, UsageError
from common.vault import key_file
from common.vault.folder import VaultFolder
from tests.support.passphrases import cheap_passphrases
from tests.support.sample_images import KEY, encode

IMAGE = encode(b"content")
OBJECT_ID, ENCODING_ID, SEALED = IMAGE.commitment.object_id, IMAGE.encoding_id, IMAGE.commitment.mapping


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passphrases(monkeypatch)


@pytest.fixture
def vault(tmp_path: Path) -> VaultFolder:
    return VaultFolder(tmp_path)


# --- rotation


def test_a_rotation_gives_the_vault_a_new_key_and_keeps_the_one_before(vault: VaultFolder, tmp_path: Path) -> None:
    old = vault.create("four words for keeping")
    new = vault.begin_rotation(old, "four words for later", tmp_path / "backup")
    assert new != old
    assert vault.unlock("four words for later") == new
    assert vault.former_key(new) == old
    assert key_file.open_key_file((tmp_path / "backup").read_bytes(), "four words for later") == new
    assert not vault.is_former_replaced
    for _ in range(2):
        vault.keep_replaced()
        assert vault.is_former_replaced
        assert vault.former_key(new) == old
    vault.end_rotation()
    assert vault.former_key(new) is None
    assert not vault.is_former_replaced
    with pytest.raises(RefusedError):
        vault.unlock("four words for keeping")


@pytest.mark.parametrize("at", range(6))
def test_a_rotation_that_is_cut_off_leaves_a_vault_that_opens_and_no_key_lost(
    vault: VaultFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    old = vault.create("old words")
    calls = iter(range(6))

    def cut(action: Callable[..., None]) -> Callable[..., None]:
        def perhaps(*arguments: object) -> None:
            if next(calls) == at:
                raise OSError(errno.EIO, "cut off")
            action(*arguments)

        return perhaps

    monkeypatch.setattr(files, "rename_new", cut(files.rename_new))
    monkeypatch.setattr(files, "rename_over", cut(files.rename_over))
    monkeypatch.setattr(files, "sync_folder", cut(files.sync_folder))
    with pytest.raises((OSError, TesseraError), match="cut off"):
        vault.begin_rotation(old, "new words", tmp_path / "backup")
    monkeypatch.undo()
    try:
        key = vault.unlock("old words")
        assert (key, vault.former_key(key)) == (old, None)
        again = vault.begin_rotation(old, "newer words", tmp_path / "another backup")
        assert vault.former_key(again) == old
    except RefusedError:
        assert vault.former_key(vault.unlock("new words")) == old


def test_a_former_key_that_is_damaged_is_said_and_does_not_keep_the_vault_shut(
    vault: VaultFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = vault.begin_rotation(vault.create("old words"), "new words", tmp_path / "backup")
    path = vault.folder / "former.key"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert vault.unlock("new words") == new
    assert "is damaged" in caplog.text
    with pytest.raises(IntegrityError, match="is damaged"):
        vault.former_key(new)


# --- the key


def test_a_vault_opens_with_its_passphrase_and_no_other(vault: VaultFolder) -> None:
    key = vault.create("four words for keeping")
    assert vault.unlock("four words for keeping") == key
    with pytest.raises(RefusedError):
        vault.unlock("four words for losing")


def test_a_vault_is_never_replaced_by_a_new_one(vault: VaultFolder) -> None:
    key = vault.create("first")
    with pytest.raises(UsageError, match="it was not touched"):
        vault.create("second")
    assert vault.unlock("first") == key


def test_without_a_vault_one_is_told_how_to_get_one(vault: VaultFolder) -> None:
    with pytest.raises(NotFoundError) as raised:
        vault.unlock("any")
    assert "vault create" in (raised.value.advice or "")
    assert "vault import" in (raised.value.advice or "")
    assert "vault restore" in (raised.value.advice or "")


def test_a_key_file_opens_on_another_machine(vault: VaultFolder, tmp_path: Path) -> None:
    key = vault.create("words")
    other = VaultFolder(tmp_path / "other")
    assert other.import_key_file(vault.key_file(), "words") == key
    assert other.unlock("words") == key
    assert other.key_file() == vault.key_file()


def test_importing_needs_the_passphrase_and_keeps_nothing_without(vault: VaultFolder, tmp_path: Path) -> None:
    vault.create("words")
    other = VaultFolder(tmp_path / "other")
    with pytest.raises(RefusedError):
        other.import_key_file(vault.key_file(), "wrong")
    with pytest.raises(IntegrityError):
        other.import_key_file(vault.key_file()[:-1], "words")
    assert not other.key_path.exists()


def test_importing_never_replaces_a_vault(vault: VaultFolder, tmp_path: Path) -> None:
    vault.create("words")
    other = VaultFolder(tmp_path / "other")
    key = other.create("own words")
    with pytest.raises(UsageError):
        other.import_key_file(vault.key_file(), "words")
    assert other.unlock("own words") == key


def test_a_new_passphrase_opens_the_same_vault_and_the_old_one_no_more(vault: VaultFolder) -> None:
    key = vault.create("old")
    vault.change_passphrase("old", "new")
    assert vault.unlock("new") == key
    with pytest.raises(RefusedError):
        vault.unlock("old")


def test_a_new_passphrase_changes_the_key_file_and_nothing_else(vault: VaultFolder) -> None:
    vault.create("old")
    vault.index(KEY).keep_mapping(OBJECT_ID, ENCODING_ID, SEALED)
    kept = {path: path.read_bytes() for path in vault.folder.rglob("*") if path.is_file()}
    vault.change_passphrase("old", "new")
    now = {path: path.read_bytes() for path in vault.folder.rglob("*") if path.is_file()}
    assert [path for path in kept if now[path] != kept[path]] == [vault.key_path]
    assert now.keys() == kept.keys()


@pytest.mark.parametrize("step", ["sync_file", "rename"])
def test_a_change_of_passphrase_that_is_cut_short_leaves_the_vault_as_it_was(
    vault: VaultFolder, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before its new name, the old file is untouched; and it gets that name only after it was synced."""
    key = vault.create("old")
    before = vault.key_file()
    steps: list[str] = []
    real_sync, real_replace = files.sync_file, os.replace

    def sync(descriptor: int) -> None:
        steps.append("sync_file")
        if step == "sync_file":
            raise OSError(errno.EIO, "fault")
        real_sync(descriptor)

    def replace(source: Path, target: Path) -> None:
        steps.append("rename")
        if step != "sync_file":
            raise OSError(errno.EIO, "fault")
        real_replace(source, target)

    monkeypatch.setattr(files, "sync_file", sync)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="fault"):
        vault.change_passphrase("old", "new")
    assert steps == (["sync_file"] if step == "sync_file" else ["sync_file", "rename"])
    assert vault.key_file() == before
    assert vault.unlock("old") == key
    assert [path.name for path in vault.folder.iterdir()] == ["vault.key"]


def test_a_change_of_passphrase_is_durable_when_it_returns(vault: VaultFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.create("old")
    steps: list[str] = []

    def noted(step: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            steps.append(step)
            real(*arguments)

        return call

    monkeypatch.setattr(files, "sync_file", noted("file", files.sync_file))
    monkeypatch.setattr(os, "replace", noted("rename", os.replace))
    monkeypatch.setattr(files, "sync_folder", noted("folder", files.sync_folder))
    vault.change_passphrase("old", "new")
    assert steps == ["file", "rename", "folder"]


def test_a_copy_of_the_old_key_file_still_opens_with_the_old_passphrase(vault: VaultFolder) -> None:
    """Which is why the command says so: a change of passphrase is no change of key."""
    key = vault.create("old")
    copy = vault.key_file()
    vault.change_passphrase("old", "new")
    assert key_file.open_key_file(copy, "old") == key


def test_changing_needs_the_old_passphrase(vault: VaultFolder) -> None:
    key = vault.create("old")
    before = vault.key_file()
    with pytest.raises(RefusedError):
        vault.change_passphrase("wrong", "new")
    assert vault.key_file() == before
    assert vault.unlock("old") == key


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_owner_may_read_key_and_mappings(vault: VaultFolder) -> None:
    vault.create("words")
    vault.index(KEY).keep_mapping(OBJECT_ID, ENCODING_ID, SEALED)
    for path in (each for each in vault.folder.rglob("*") if each.suffix != ".lock"):  # which are empty
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE(vault.folder.stat().st_mode) == 0o700


def test_no_temporary_files_are_left(vault: VaultFolder) -> None:
    vault.create("old")
    vault.change_passphrase("old", "new")
    vault.index(KEY).keep_mapping(OBJECT_ID, ENCODING_ID, SEALED)
    vault.index(KEY).close()
    names = sorted(path.name for path in vault.folder.rglob("*") if path.is_file())
    assert names == sorted(["vault.key", vault.index(KEY).path.name, vault.index(KEY).path.with_suffix(".lock").name])
