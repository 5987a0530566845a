"""The way in, on a machine that is new: join a cluster, then make a vault or bring one along."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Callable

from admin.joining import Admission, join_cluster
from common.errors import NotFoundError, TesseraError, UsageError
from common.files import read_limited
from common.passphrase import check_new_passphrase
from common.vault.keys import VaultKey
from desktop.background import Background
from desktop.model.commands import command_line
from desktop.model.model import Model
from desktop.session import Session, Stage

_MAX_KEY_FILE = 4096
_JOIN = command_line("admin", "join") + " INVITE"
_CREATE = command_line("admin", "vault", "create")


class FirstStartModel(Model):
    """`stage`: JOIN, then VAULT. `doing`: what is being done, empty where nothing is."""

    def __init__(self, session: Session, background: Background, go_on: Callable[[], None]) -> None:
        """`go_on`: called once the vault is open."""
        super().__init__(session, background)
        self._go_on = go_on
        self.stage = session.stage
        self.doing = ""
        self.joined = ""  # what came of joining
        self.machine = socket.gethostname()
        self.command = _JOIN if self.stage is Stage.JOIN else _CREATE

    def join(self, invite: str, name: str) -> None:
        """Trade an invite, as it was pasted, for this machine's admission."""
        if not invite.strip():
            self.fail(UsageError("no invite was pasted", advice="paste the whole line that starts with tessera-"))
            return
        home, name = self.session.home, name.strip() or self.machine
        self._begin("Asking the broker…", _JOIN)
        self.background.run(lambda: join_cluster(home, invite, name), done=self._joined, failed=self._failed)

    def _joined(self, admission: Admission) -> None:
        self.doing = ""
        self.joined = f"This machine joined the cluster of the broker at {admission.broker} as {admission.name}."
        self.stage = self.session.stage
        self.command = _CREATE
        if self.stage is Stage.VAULT:
            self.changed()
        else:  # there was a vault before there was a cluster
            self._go_on()

    def create_vault(self, passphrase: str, again: str) -> None:
        """Make a new vault; the passphrase is typed twice."""
        if passphrase != again:
            self.fail(UsageError("the two passphrases differ", advice="type the same one twice"))
            return
        try:
            check_new_passphrase(passphrase)
        except UsageError as error:
            self.fail(error)
            return
        vault = self.session.vault
        self._begin("Making the vault…", _CREATE)
        self.background.run(lambda: vault.create(passphrase), done=self._opened, failed=self._failed)

    def import_vault(self, file: str, passphrase: str) -> None:
        """Take over a vault from its key file; its passphrase must open it."""
        if not file.strip():
            self.fail(UsageError("no key file was chosen", advice="choose the file that `admin.py vault export` wrote"))
            return
        vault = self.session.vault

        def take_over() -> VaultKey:
            try:
                content = read_limited(Path(file), _MAX_KEY_FILE)
            except FileNotFoundError:
                raise NotFoundError(f"no such file: {file}") from None
            except OSError as error:
                raise UsageError(f"{file} cannot be read: {error.strerror}") from None
            return vault.import_key_file(content, passphrase)

        self._begin("Opening the vault…", command_line("admin", "vault", "import", file))
        self.background.run(take_over, done=self._opened, failed=self._failed)

    def show_command(self, *, importing: bool) -> None:
        """The command for what the user is about to do."""
        self.command = command_line("admin", "vault", "import") + " FILE" if importing else _CREATE
        self.changed()

    def _begin(self, doing: str, command: str) -> None:
        self.error = None
        self.doing = doing
        self.command = command
        self.changed()

    def _opened(self, key: VaultKey) -> None:
        self.doing = ""
        self.session.open(key)
        self._go_on()

    def _failed(self, error: TesseraError) -> None:
        self.doing = ""
        self.fail(error)
