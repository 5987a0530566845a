"""The vault commands: create, export, import, passphrase, rotate, keyring."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from common.errors import NotAgreedError, NotFoundError, UsageError, cannot_write
from common.files import read_limited, require_new, write_new
from common.home import home
from common.membership.identity import client_identity
from common.process.program import application, warn
from common.process.streams import stdout_bytes
from common.text import check_hash, parse_duration
from common.vault import system_keyring
from common.vault.folder import VaultFolder
from common.vault.key_file import check_key_file
from common.vault.passphrase import read_new_passphrase, read_passphrase

if TYPE_CHECKING:
    from admin.rotating import RotationScope

vault = application("Make, copy and protect vaults.")

PASSPHRASE_FILE = typer.Option(None, envvar="TESSERA_PASSPHRASE_FILE", help="File that holds the vault's passphrase.")
NEW_PASSPHRASE_FILE = typer.Option(
    None, envvar="TESSERA_NEW_PASSPHRASE_FILE", help="File that holds the new passphrase."
)
_NEW_VARIABLE = "TESSERA_NEW_PASSPHRASE"
_MAX_KEY_FILE = 4096


@vault.command()
def create(passphrase_file: Optional[Path] = PASSPHRASE_FILE) -> None:
    """Make a new vault on this machine."""
    folder = vault_folder()
    folder.require_none()
    chosen = read_new_passphrase(passphrase_file, prompt="Passphrase for the new vault: ")
    folder.create(chosen)
    keep_keyring_true(chosen)
    print(f"made a vault: {folder.key_path}")
    warn("keep a copy of this file somewhere safe (admin.py vault export FILE):")
    warn("without it or without its passphrase nobody, not even you, gets an image back,")
    warn("save with recovery codes, which you can write down: admin.py vault recovery")


@vault.command()
def export(file: str = typer.Argument(..., help="Where to write the vault key file; - is stdout.")) -> None:
    """Copy the vault key file, for a backup or another machine. It stays wrapped by the passphrase."""
    content = vault_folder().key_file()
    if file == "-":
        try:
            stdout_bytes().write(content)
        except OSError as error:
            raise cannot_write("to stdout", error) from None
        return
    write_new(Path(file), content)
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
    check_key_file(content)
    folder = vault_folder()
    folder.require_none()
    chosen = read_passphrase(passphrase_file, ask_keyring=False)
    folder.import_key_file(content, chosen)
    keep_keyring_true(chosen)
    print(f"imported the vault: {folder.key_path}")


@vault.command()
def passphrase(
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
    new_passphrase_file: Optional[Path] = NEW_PASSPHRASE_FILE,
) -> None:
    """Change the vault's passphrase; nothing that is stored changes."""
    folder = vault_folder()
    folder.require()
    new = new_passphrase_given(new_passphrase_file, _NEW_VARIABLE)
    old = read_passphrase(passphrase_file, prompt="Passphrase now: ")
    folder.unlock(old)
    if new is None:
        new = read_new_passphrase(None, prompt="New passphrase: ", variable=_NEW_VARIABLE)
    folder.change_passphrase(old, new)
    print("changed the passphrase")
    warn("copies of the key file made before still open with the old one; replace them:")
    warn("admin.py vault export FILE")
    keep_keyring_true(new)


@vault.command()
def rotate(
    backup: Optional[Path] = typer.Option(
        None, envvar="TESSERA_BACKUP", help="Where a copy of the new key file goes: onto another disk."
    ),
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    leave: Optional[list[str]] = typer.Option(
        None, help="SHA-256 of an image that cannot get the new key, or `unreadable` for all such: it stays behind."
    ),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
    new_passphrase_file: Optional[Path] = NEW_PASSPHRASE_FILE,
) -> int:
    """Give the vault another key, because somebody else has this one. What was interrupted goes on."""
    from admin.printer import AdminPrinter
    from admin.rotating import UNREADABLE, Rotating

    identity = client_identity()
    folder = vault_folder()
    folder.require()
    staying = [text if text == UNREADABLE else check_hash(text) for text in leave or []]
    chosen = None
    if not folder.has_former:
        _require_beginnable(backup, yes)
        chosen = new_passphrase_given(new_passphrase_file, _NEW_VARIABLE)
    work = Rotating(identity, home(), read_passphrase(passphrase_file), AdminPrinter("rotating"))
    if not work.unfinished:
        fresh = _require_beginnable(backup, yes)
        _agree(work.look(staying), yes)
        if chosen is None:
            chosen = read_new_passphrase(
                new_passphrase_file, prompt="Passphrase for the new key: ", variable=_NEW_VARIABLE
            )
        work.begin(chosen, fresh)
        keep_keyring_true(chosen)
    exit_code = work.go_on(staying)
    if exit_code != 0:
        warn("the vault opens with its new passphrase only; run `vault rotate` again until it is done")
        warn("what another left and is not as it should be: restore it with a copy of the old key file, and --leave it")
        return exit_code
    print("the vault has its new key, and the old one is refused")
    warn("void are: recovery codes, copies of the key file and contact cards made before. Make them anew:")
    warn("admin.py vault recovery, vault export FILE, contacts card; other machines: vault import FILE")
    return 0


@vault.command()
def reclaim(
    since: str = typer.Option(..., help="How long ago it began, such as 12h or 3d; all is as it was then."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Take back what somebody else with this vault's key deleted, changed or gave away, as long as devices hold it."""
    from admin.printer import AdminPrinter
    from admin.reclaiming import run_reclaim

    seconds = parse_duration(since)
    identity = client_identity()
    vault_folder().require()
    exit_code = run_reclaim(identity, home(), read_passphrase(passphrase_file), AdminPrinter("taking back"), seconds)
    warn("whoever did it has the key still, and can do it again: revoke their machines at the broker, then replace it:")
    warn("admin.py vault rotate --backup FILE")
    return exit_code


def _require_beginnable(backup: Optional[Path], yes: bool) -> Path:
    """The path of the new key's copy; UsageError where a rotation cannot begin, before a passphrase is asked for."""
    if backup is None:
        raise UsageError("give --backup FILE: the new key must be in two places before anything is put under it")
    require_new(backup)
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; say --yes to rotate without asking")
    return backup


def _agree(scope: RotationScope, yes: bool) -> None:
    """Print what a rotation changes, and ask whether to begin; NotAgreedError where the answer is no."""
    warn(f"{scope.images} images get the new key; the old key file and its passphrase open nothing then")
    if scope.shared_by_others:
        warn(f"{scope.shared_by_others} images are others': they must share them again, with the new contact card")
    if scope.deleted:
        warn(f"{scope.deleted} deleted images cannot be taken back any more")
    if not yes and not typer.confirm("Rotate?", err=True):
        raise NotAgreedError("nothing was changed")


def new_passphrase_given(file: Optional[Path], variable: str) -> Optional[str]:
    """A new passphrase from file or environment, checked before anything is asked; None where there is none."""
    if file is None and variable not in os.environ:
        return None
    return read_new_passphrase(file, prompt="", variable=variable)


def keep_keyring_true(passphrase: str) -> None:
    """Replace the vault's passphrase in the keyring, if it is there."""
    if system_keyring.is_stored(home()):
        system_keyring.store(home(), passphrase)
        warn("the keyring has the new passphrase, too")


def vault_passphrase(file: Optional[Path]) -> str:
    """The vault's passphrase; NotFoundError or IntegrityError, before asking, where there is no good vault."""
    vault_folder().require()
    return read_passphrase(file)


def vault_folder() -> VaultFolder:
    """The vault on this machine; there may be none yet."""
    return VaultFolder(home())


keyring = application("Keep the vault's passphrase in this system's keyring, so that it is not asked for.")


@keyring.command()
def store(passphrase_file: Optional[Path] = PASSPHRASE_FILE) -> None:
    """Put the vault's passphrase into the keyring; whoever is logged in here then opens the vault."""
    folder = vault_folder()
    folder.require()
    system_keyring.require_library()
    passphrase = read_passphrase(passphrase_file, ask_keyring=False)
    folder.unlock(passphrase)  # a wrong one would fail each time
    system_keyring.store(home(), passphrase)
    print("stored the passphrase in the keyring")


@keyring.command()
def forget() -> None:
    """Take the vault's passphrase out of the keyring; it is asked for again."""
    forgotten = system_keyring.forget(home())
    print("took the passphrase out of the keyring" if forgotten else "the keyring has no passphrase of this vault")
