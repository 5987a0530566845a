"""The vault that recovery codes give back, under a new passphrase."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from common.errors import RefusedError
from common.files import rename_new, sync_folder
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from common.vault.recovery_codes import read_codes, restore_key
from desktop.model.commands import command_line, renaming

_LOOKED_AT = 20  # mappings that are kept here, by which a key is known to be this vault's


class Recovered(NamedTuple):
    """What codes gave back."""

    key: VaultKey
    before: Optional[Path]  # where the key file went that was there
    altered: list[int]  # numbers of codes that were altered, and left out


def restore_command(vault: VaultFolder) -> str:
    """What does in a terminal what `recover` does; `vault restore` refuses where there is a key file."""
    restore = command_line("admin", "vault", "restore")
    if not vault.key_path.exists():
        return restore
    aside = next(path for path in _asides(vault.key_path) if not path.exists())
    return f"{renaming(vault.key_path, aside)} && {restore}"


def recover(vault: VaultFolder, text: str, passphrase: str) -> Recovered:
    """The vault of these recovery codes, under a new passphrase. A key file that is there is kept under another name.

    The errors of `read_codes` and `restore_key`; RefusedError where the codes are another vault's.
    """
    restored = restore_key(read_codes(text))
    before = None
    if vault.key_path.exists():
        _require_own(vault, restored.key)
        before = _put_aside(vault.key_path)
    try:
        vault.keep(restored.key, passphrase)
    except BaseException:
        if before is not None:
            rename_new(before, vault.key_path)
        raise
    return Recovered(restored.key, before, restored.altered)


def _require_own(vault: VaultFolder, key: VaultKey) -> None:
    kept = vault.kept_mappings()[:_LOOKED_AT]
    if kept and not any(vault.mapping(key, *name) for name in kept):
        raise RefusedError(
            "these recovery codes open another vault than the one on this machine; nothing was changed",
            advice="give the codes of this vault, or set TESSERA_HOME to keep another vault beside it",
        )


def _put_aside(path: Path) -> Path:
    """Give the file another name, which no file has; its folder keeps that durably."""
    for target in _asides(path):
        try:
            rename_new(path, target)
        except FileExistsError:
            continue
        break
    sync_folder(target.parent)
    return target


def _asides(path: Path) -> Iterator[Path]:
    """The names that a key file may get which makes room for another."""
    return (path.with_name(f"{path.name}.old-{number}") for number in itertools.count(1))
