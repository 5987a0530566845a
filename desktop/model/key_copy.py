"""A copy of the vault's key file, for another disk or another machine."""

from __future__ import annotations

from pathlib import Path

from common.errors import UsageError
from common.files import write_private
from common.vault.folder import VaultFolder
from desktop.model.commands import command_line
from desktop.model.model import Model


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
