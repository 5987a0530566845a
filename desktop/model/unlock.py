"""Unlocks the vault by its passphrase, from the system's keyring where it is stored there."""

from __future__ import annotations

from typing import Callable, Optional

from common.vault import system_keyring
from common.vault.keys import VaultKey
from desktop.background import Background
from desktop.model.commands import command_line
from desktop.model.first_start import fault_of
from desktop.model.model import Model
from desktop.model.recovery import Recovered, recover, restore_command
from desktop.session import Session

_UNLOCK = command_line("consumer", "--list")


class UnlockModel(Model):
    def __init__(self, session: Session, background: Background, go_on: Callable[[], None]) -> None:
        """`go_on`: called once the vault is open."""
        super().__init__(session, background)
        self._go_on = go_on
        self.command = _UNLOCK

    def activate(self) -> None:
        home = self.session.home
        if not self.doing and system_keyring.is_stored(home):
            self.started("Asking the system's keyring…")
            self.background.run(lambda: system_keyring.remembered(home), done=self._remembered, failed=self.failed)

    def unlock(self, passphrase: str) -> None:
        vault = self.session.vault
        self.started("Unlocking…")
        self.background.run(lambda: vault.unlock(passphrase), done=self._opened, failed=self.failed)

    def show_command(self, *, by_codes: bool) -> None:
        """The command for what the user is about to do: unlock the vault, or restore it by recovery codes."""
        self.command = restore_command(self.session.vault) if by_codes else _UNLOCK
        self.changed()

    def restore(self, codes: str, passphrase: str, again: str) -> None:
        """Set another passphrase by recovery codes, where the vault's own is forgotten."""
        vault, home = self.session.vault, self.session.home
        error = fault_of(passphrase, again)
        if error is not None:
            self.fail(error)
            return

        def work() -> Recovered:
            recovered = recover(vault, codes, passphrase)
            if system_keyring.is_stored(home):
                system_keyring.store(home, passphrase)
            return recovered

        self.started("Restoring the vault…", restore_command(vault))
        self.background.run(work, done=self._recovered, failed=self.failed)

    def _recovered(self, recovered: Recovered) -> None:
        self.session.open(recovered.key)
        self.session.keep_settings(codes_for=self.session.vault_name)
        self._opened(recovered.key)

    def _remembered(self, passphrase: Optional[str]) -> None:
        self.doing = ""
        if passphrase is None:
            self.changed()
        else:
            self.unlock(passphrase)

    def _opened(self, key: VaultKey) -> None:
        self.doing = ""
        self.session.open(key)
        self._go_on()
