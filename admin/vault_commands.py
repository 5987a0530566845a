"""The vault commands: made on this machine, copied, taken over, protected by another passphrase."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import typer

from common import system_keyring
from common.errors import NotFoundError, UsageError
from common.files import read_limited, write_private
from common.home import home
from common.passphrase import VARIABLE, check_new_passphrase, read_passphrase
from common.program import application, complain
from common.vault.folder import VaultFolder

vault = application("Make, copy and protect vaults.")

PASSPHRASE_FILE = typer.Option(None, envvar="TESSERA_PASSPHRASE_FILE", help="File that holds the vault's passphrase.")
_MAX_KEY_FILE = 4096


@vault.command()
def create(passphrase_file: Optional[Path] = PASSPHRASE_FILE) -> None:
    """Make a new vault on this machine."""
    folder = vault_folder()
    folder.require_none()
    chosen = choose_passphrase(passphrase_file, prompt="Passphrase for the new vault: ")
    folder.create(chosen)
    keep_keyring_true(chosen)
    print(f"made a vault: {folder.key_path}")
    complain("keep a copy of this file somewhere safe (admin.py vault export FILE):")
    complain("without it or without its passphrase nobody, not even you, gets an image back,")
    complain("save with recovery codes, which you can write down: admin.py vault recovery")


@vault.command()
def export(file: str = typer.Argument(..., help="Where to write the vault key file; - is stdout.")) -> None:
    """Copy the vault key file, for a backup or another machine. It stays wrapped by the passphrase."""
    content = vault_folder().key_file()
    if file == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        write_private(Path(file), content, replace=False)
    except FileExistsError:
        raise UsageError(f"{file} exists already; it was not touched") from None
    print(f"wrote {file}")


@vault.command("import")
def import_(
    file: Path = typer.Argument(..., help="A vault key file, as `vault export` wrote it."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> None:
    """Take over a vault on this machine; its passphrase must open it."""
    try:
        content = read_limited(file, _MAX_KEY_FILE)
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {file}") from None
    folder = vault_folder()
    chosen = read_passphrase(passphrase_file, ask_keyring=False)
    folder.import_key_file(content, chosen)
    keep_keyring_true(chosen)
    print(f"imported the vault: {folder.key_path}")


@vault.command()
def passphrase(
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
    new_passphrase_file: Optional[Path] = typer.Option(
        None, envvar="TESSERA_NEW_PASSPHRASE_FILE", help="File that holds the new passphrase."
    ),
) -> None:
    """Change the vault's passphrase; nothing that is stored changes."""
    folder = vault_folder()
    old = read_passphrase(passphrase_file, prompt="Passphrase now: ")
    folder.unlock(old)
    new = choose_passphrase(new_passphrase_file, prompt="New passphrase: ", variable="TESSERA_NEW_PASSPHRASE")
    folder.change_passphrase(old, new)
    print("changed the passphrase")
    complain("copies of the key file made before still open with the old one; replace them:")
    complain("admin.py vault export FILE")
    keep_keyring_true(new)


def choose_passphrase(file: Optional[Path], *, prompt: str, variable: str = VARIABLE) -> str:
    """A new passphrase, from where passphrases come from; UsageError where it is too weak."""
    passphrase = read_passphrase(file, prompt=prompt, confirm=True, variable=variable)
    check_new_passphrase(passphrase)
    return passphrase


def keep_keyring_true(passphrase: str) -> None:
    """Where the keyring had this machine's vault's passphrase, it has the one that opens the vault from now on."""
    if system_keyring.is_stored(home()):
        system_keyring.store(home(), passphrase)
        complain("the keyring has the new passphrase, too")


def vault_folder() -> VaultFolder:
    """The vault on this machine; there may be none yet."""
    return VaultFolder(home())
