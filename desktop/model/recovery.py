"""Ways to restore a vault: a copy of its key file, for another disk or another machine, and recovery codes.

Codes are made after the passphrase was given once more, to be saved into a file or printed, and never kept; the vault
that they give back gets a new passphrase.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from common.errors import RefusedError, TesseraError, UsageError
from common.files import rename_new, sync_folder, write_new, write_private
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from common.vault.recovery_codes import MAX_CODES, kit_sheets, make_codes, read_codes, restore_key
from desktop.background import Background
from desktop.model.commands import command_line, renaming
from desktop.model.model import Model
from desktop.session import Session

_PRINT_TIMEOUT = 30.0  # seconds

__all__ = ["MAX_CODES", "RecoveryModel"]


class RecoveryModel(Model):
    """`sheets`: those that are shown, one a code. `kept`: whether they were saved, printed or written down."""

    def __init__(self, session: Session, background: Background) -> None:
        super().__init__(session, background)
        self.sheets: list[str] = []
        self.kept = False
        self.need, self.of = 3, 5

    @property
    def text(self) -> Optional[str]:
        """All sheets, as they are saved or printed."""
        return "\n".join(self.sheets) if self.sheets else None

    def make(self, passphrase: str, need: int, of: int) -> None:
        """Make a kit of which any `need` of `of` codes open the vault.

        It takes the passphrase, though the vault is open: an unattended window must not give the vault away.
        """
        vault = self.session.vault
        self.need, self.of = need, of
        self._make(lambda: kit_sheets(make_codes(vault.unlock(passphrase), need, of)))

    def _make(self, work: Callable[[], list[str]]) -> None:
        if self.sheets or self.doing:
            return  # those that are shown are not saved yet
        options = ("--of", str(self.of), "--need", str(self.need))
        self.started("Making codes …", command_line("admin", "vault", "recovery", *options))
        self.background.run(work, done=self._made, failed=self.failed)

    def make_at_once(self) -> None:
        """Make a kit without the passphrase, for a vault that was just made."""
        key, need, of = self.session.key, self.need, self.of
        self._make(lambda: kit_sheets(make_codes(key, need, of)))

    def save(self, file: Path) -> None:
        """Write them into a new file that only its owner may read."""
        text = self.text
        if text is not None:
            told = f"Written to {file}. Print it, hand the codes out, and remove the file."
            self._handle(lambda: write_new(file, text.encode("ascii")), told)

    @property
    def can_print(self) -> bool:
        """Whether this system has a command that prints from a pipe."""
        return sys.platform != "win32" and _printer() is not None

    def print_out(self) -> None:
        text = self.text
        if text is not None:
            self._handle(lambda: _print(text), "Sent to the printer.")

    @property
    def unfinished(self) -> str:
        if not self.sheets or self.kept:
            return ""
        return "The recovery codes are shown only now, and were neither saved nor printed."

    def written_down(self) -> None:
        """The user says that they are written down."""
        self._keep("")

    def forget(self) -> None:
        """Clear them: they are kept, or not wanted."""
        self.sheets, self.kept = [], False
        self.told = ""
        self.changed()

    def _made(self, sheets: list[str]) -> None:
        self.doing, self.sheets = "", sheets
        self.changed()

    def _handle(self, work: Callable[[], None], told: str) -> None:
        self.error = None
        self.background.run(work, done=lambda _: self._keep(told), failed=self.failed)

    def _keep(self, told: str) -> None:
        self.kept, self.told = True, told
        self.session.keep_settings(codes_for=self.session.vault_name)
        self.changed()


def _printer() -> Optional[str]:
    return shutil.which("lp") or shutil.which("lpr")


def _print(text: str) -> None:
    command = _printer()
    if command is None:
        raise TesseraError("there is no printer here", advice="save the codes, and print the file")
    ended = subprocess.run(
        [command], input=text.encode("ascii"), capture_output=True, timeout=_PRINT_TIMEOUT, check=False
    )
    if ended.returncode:
        said = ended.stderr.decode("utf-8", "replace").strip()
        raise TesseraError(f"the codes were not printed: {said}", advice="save them, and print the file")


class Recovered(NamedTuple):
    """The result of restoring from codes."""

    key: VaultKey
    before: Optional[Path]  # the new name of an earlier key file
    altered: list[int]  # numbers of codes that were altered, and left out


def restore_command(vault: VaultFolder) -> str:
    """The equivalent of `recover` in a terminal; `vault restore` refuses where there is a key file."""
    restore = command_line("admin", "vault", "restore")
    if not vault.key_path.exists():
        return restore
    aside = next(path for path in _asides(vault.key_path) if not path.exists())
    return f"{renaming(vault.key_path, aside)} && {restore}"


def recover(vault: VaultFolder, text: str, passphrase: str) -> Recovered:
    """Restore the vault of these recovery codes, under a new passphrase. An existing key file is renamed.

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
    if vault.is_anothers(key):
        raise RefusedError(
            "these recovery codes open another vault than the one on this machine; nothing was changed",
            advice="give the codes of this vault, or set TESSERA_HOME to keep another vault beside it",
        )


def _put_aside(path: Path) -> Path:
    """Rename the file to a free name, durably."""
    for target in _asides(path):
        try:
            rename_new(path, target)
        except FileExistsError:
            continue
        break
    sync_folder(target.parent)
    return target


def _asides(path: Path) -> Iterator[Path]:
    """The names for a key file that is put aside."""
    return (path.with_name(f"{path.name}.old-{number}") for number in itertools.count(1))


class KeyCopyModel(Model):
    """`told`: where the copy went."""

    def save(self, file: Path) -> None:
        """Copy the key file into a new file that only its owner may read; it stays wrapped by the passphrase."""
        vault = self.session.vault
        self.started("Writing the copy …", command_line("admin", "vault", "export", str(file)))
        self.background.run(lambda: _copy(vault, file), done=lambda _: self._saved(file), failed=self.failed)

    def _saved(self, file: Path) -> None:
        self.doing = ""
        self.told = f"Written to {file}. Keep it on a disk of its own; it opens with the passphrase that you have now."
        self.session.keep_settings(copy_for=self.session.vault_name)
        self.changed()


def _copy(vault: VaultFolder, file: Path) -> None:
    try:
        write_private(file, vault.key_file(), replace=False)
    except FileExistsError:
        raise UsageError(f"{file} exists already; it was not touched", advice="choose another name") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", advice="choose another folder") from None
