"""The keyring's commands: the vault's passphrase into the system's keyring, and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from admin.vault_commands import PASSPHRASE_FILE, vault_folder
from common.home import home
from common.process.program import application
from common.vault import system_keyring
from common.vault.passphrase import read_passphrase

keyring = application("Keep the vault's passphrase in this system's keyring, so that it is not asked for.")


@keyring.command()
def store(passphrase_file: Optional[Path] = PASSPHRASE_FILE) -> None:
    """Put the vault's passphrase into the keyring; whoever is logged in here then opens the vault."""
    folder = vault_folder()
    folder.require()
    system_keyring.require_library()
    passphrase = read_passphrase(passphrase_file, ask_keyring=False)
    folder.unlock(passphrase)  # a wrong one would be in the way each time
    system_keyring.store(home(), passphrase)
    print("stored the passphrase in the keyring")


@keyring.command()
def forget() -> None:
    """Take the vault's passphrase out of the keyring; it is asked for again."""
    forgotten = system_keyring.forget(home())
    print("took the passphrase out of the keyring" if forgotten else "the keyring has no passphrase of this vault")
