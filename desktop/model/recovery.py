"""Recovery codes: made after the passphrase was given once more, to be saved into a file or printed, never kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Optional

from admin.recovery_kit import kit_text, save_kit
from common.errors import TesseraError
from common.vault.folder import VaultFolder
from common.vault.recovery import MAX_CODES, make_codes
from desktop.background import Background
from desktop.model.commands import command_line
from desktop.model.model import Model
from desktop.session import Session

_PRINT_PATIENCE = 30.0  # seconds

__all__ = ["MAX_CODES", "RecoveryModel"]


class RecoveryModel(Model):
    """`text`: the sheets that are shown now. `told`: what was done with them."""

    def __init__(self, session: Session, background: Background) -> None:
        super().__init__(session, background)
        self.text: Optional[str] = None
        self.need, self.of = 3, 5
        self.doing = ""
        self.told = ""

    def make(self, passphrase: str, need: int, of: int) -> None:
        """Make a kit of which any `need` of `of` codes open the vault.

        It takes the passphrase, though the vault is open: a window left alone must not give the vault away.
        """
        vault = self.session.vault
        self.need, self.of = need, of
        self.command = command_line("admin", "vault", "recovery", "--of", str(of), "--need", str(need))
        self.doing, self.told, self.error = "Making codes …", "", None
        self.changed()
        self.background.run(lambda: _kit(vault, passphrase, need, of), done=self._made, failed=self._failed)

    def save(self, file: Path) -> None:
        """Write them into a new file that only its owner may read."""
        text = self.text
        if text is not None:
            told = f"Written to {file}. Print it, hand the codes out, and remove the file."
            self._handle(lambda: save_kit(file, text), told)

    @property
    def can_print(self) -> bool:
        """Whether there is a command here that prints what it is given, without a file."""
        return sys.platform != "win32" and _printer() is not None

    def print_out(self) -> None:
        text = self.text
        if text is not None:
            self._handle(lambda: _print(text), "Sent to the printer.")

    def forget(self) -> None:
        """They were written down, or are not wanted."""
        self.text = None
        self.told = ""
        self.changed()

    def _made(self, text: str) -> None:
        self.doing, self.text = "", text
        self.changed()

    def _handle(self, work: Callable[[], None], told: str) -> None:
        def done(_: None) -> None:
            self.told = told
            self.changed()

        self.error = None
        self.background.run(work, done=done, failed=self._failed)

    def _failed(self, error: TesseraError) -> None:
        self.doing = ""
        self.fail(error)


def _kit(vault: VaultFolder, passphrase: str, need: int, of: int) -> str:
    return kit_text(make_codes(vault.unlock(passphrase), need, of))


def _printer() -> Optional[str]:
    return shutil.which("lp") or shutil.which("lpr")


def _print(text: str) -> None:
    command = _printer()
    if command is None:
        raise TesseraError("there is no printer here", advice="save the codes, and print the file")
    ended = subprocess.run(
        [command], input=text.encode("ascii"), capture_output=True, timeout=_PRINT_PATIENCE, check=False
    )
    if ended.returncode:
        said = ended.stderr.decode("utf-8", "replace").strip()
        raise TesseraError(f"the codes were not printed: {said}", advice="save them, and print the file")
