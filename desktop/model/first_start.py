"""The first start on a new machine: join a cluster, then make, import or restore a vault."""

from __future__ import annotations

import asyncio
import enum
import socket
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from admin.joining import Admission, join_cluster
from common.discovery.addresses import BrokerAddress
from common.discovery.search import browse
from common.errors import NotFoundError, UsageError
from common.files import read_limited
from common.protocol.identifiers import shown_key
from common.vault.keys import VaultKey
from common.vault.passphrase import check_new_passphrase
from desktop.background import Background, Task
from desktop.model.commands import command_line
from desktop.model.model import Model
from desktop.model.recovery import KeyCopyModel, Recovered, RecoveryModel, recover
from desktop.model.this_computer import ThisComputerModel
from desktop.session import Session, Stage

_MAX_KEY_FILE = 4096
_NOBODY_AFTER = 4.0  # seconds of searching for brokers until it is said that there is none
_SHOWN_BROKERS = 3
_LOOKING = "Looking for brokers on this network…"
_NOBODY = (
    "No broker announces itself on this network. An invite's whole line works all the same; its short code needs a "
    "broker that is found here."
)
_JOIN = command_line("admin", "join") + " INVITE"
_CREATE = command_line("admin", "vault", "create")
_RESTORE = command_line("admin", "vault", "restore")


class Nearby(NamedTuple):
    """A broker that announces itself on the LAN, unauthenticated."""

    address: str
    key: str  # the beginning of its public key


class VaultFrom(enum.Enum):
    """Where a vault on this machine comes from."""

    NEW = "new"
    KEY_FILE = "key file"
    CODES = "recovery codes"


_COMMANDS = {
    VaultFrom.NEW: _CREATE,
    VaultFrom.KEY_FILE: command_line("admin", "vault", "import") + " FILE",
    VaultFrom.CODES: _RESTORE,
}


class FirstStartModel(Model):
    """`stage`: JOIN, then VAULT, then OPEN for what a new vault's key needs.

    `nearby`: the brokers found on the LAN so far; searched for during JOIN.
    """

    def __init__(self, session: Session, background: Background, go_on: Callable[[], None]) -> None:
        """`go_on`: called once the vault is open."""
        super().__init__(session, background)
        self._go_on = go_on
        self.stage = session.stage
        self.joined = ""  # the outcome of joining
        self.recovery = RecoveryModel(session, background)
        self.copying = KeyCopyModel(session, background)
        self.here = ThisComputerModel(session, background, self._began_cluster)
        self.include(self.recovery, self.copying, self.here)
        self.machine = socket.gethostname()
        self.nearby: list[Nearby] = []
        self._nobody = _LOOKING  # shown while none is found
        self._search: Optional[Task] = None
        self.command = _JOIN if self.stage is Stage.JOIN else _CREATE

    def activate(self) -> None:
        if self.stage is not Stage.JOIN or self._search is not None:
            return
        post = self.background.post

        async def search() -> None:
            saying = asyncio.get_running_loop().call_later(_NOBODY_AFTER, post, self._found_nobody, _NOBODY)
            try:
                await browse(lambda broker: post(self._found, broker))
            finally:
                saying.cancel()

        self._search = self.background.start(
            search, done=lambda _: None, failed=lambda error: self._found_nobody(f"{error}.")
        )

    def deactivate(self) -> None:
        if self._search is not None:
            self._search.cancel()
            self._search = None

    @property
    def nearby_text(self) -> str:
        """The brokers found on the LAN, one a line."""
        if not self.nearby:
            return self._nobody
        lines = [f"Found on this network: broker at {each.address}, key {each.key}…" for each in self.nearby]
        more = len(lines) - _SHOWN_BROKERS
        return "\n".join(lines[:_SHOWN_BROKERS] + ([f"and {more} more"] if more > 0 else []))

    def _found(self, broker: BrokerAddress) -> None:
        nearby = Nearby(broker.host, shown_key(broker.public_key))
        if self._search is not None and nearby not in self.nearby:
            self.nearby.append(nearby)
            self.changed()

    def _found_nobody(self, why: str) -> None:
        self._nobody = why
        self.changed()

    def join(self, invite: str, name: str) -> None:
        """Join by an invite, the line as it was pasted or the code as it was typed."""
        if not invite.strip():
            advice = "paste the whole line that starts with tessera-, or type the code below it"
            self.fail(UsageError("no invite was given", advice=advice))
            return
        home, name = self.session.home, name.strip() or self.machine
        self.started("Asking the broker…", _JOIN)
        self.background.run(lambda: join_cluster(home, invite, name), done=self._joined, failed=self.failed)

    def _joined(self, admission: Admission) -> None:
        self._admitted(f"This machine joined the cluster of the broker at {admission.broker} as {admission.name}.")

    def _began_cluster(self, admission: Admission) -> None:
        self._admitted(
            f"This computer is the broker of a new cluster, and you are its admin, {admission.name}. Images are stored "
            "on three devices or more: once you are in, Devices, Invite … lets others in."
        )

    def _admitted(self, joined: str) -> None:
        self.doing = ""
        self.joined = joined
        self.stage = self.session.stage
        self.deactivate()
        self.command = _CREATE
        if self.stage is Stage.VAULT:
            self.changed()
        else:  # there was a vault before there was a cluster
            self._go_on()

    def create_vault(self, passphrase: str, again: str) -> None:
        """Make a new vault; the passphrase is typed twice."""
        if not self._will_do(passphrase, again):
            return
        vault = self.session.vault
        self.started("Making the vault…", _CREATE)
        self.background.run(lambda: vault.create(passphrase), done=self._made, failed=self.failed)

    def restore_vault(self, codes: str, passphrase: str, again: str) -> None:
        """Restore the vault of recovery codes, as they were typed or pasted, under a new passphrase."""
        if not self._will_do(passphrase, again):
            return
        vault = self.session.vault
        self.started("Restoring the vault…", _RESTORE)
        self.background.run(lambda: recover(vault, codes, passphrase), done=self._recovered, failed=self.failed)

    def _will_do(self, passphrase: str, again: str) -> bool:
        """Whether a new passphrase is accepted; shows what is wrong with it."""
        error = fault_of(passphrase, again)
        if error is not None:
            self.fail(error)
        return error is None

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

        self.started("Opening the vault…", command_line("admin", "vault", "import", file))
        self.background.run(take_over, done=self._imported, failed=self.failed)

    def show_command(self, source: VaultFrom) -> None:
        """The command for what the user is about to do."""
        self.command = _COMMANDS[source]
        self.changed()

    # --- recovery codes and a copy of the key

    @property
    def unfinished(self) -> str:
        return self.recovery.unfinished or self.here.unfinished

    def go_on(self) -> None:
        """Go on to the first view, with or without codes and a copy."""
        self._go_on()

    def _made(self, key: VaultKey) -> None:
        self.doing = ""
        self.session.open(key)
        self.stage = Stage.OPEN
        self.command = command_line("admin", "vault", "recovery")
        self.changed()

    def _recovered(self, recovered: Recovered) -> None:
        self.session.open(recovered.key)
        self.session.keep_settings(codes_for=self.session.vault_name)
        self._opened(recovered.key)

    def _imported(self, key: VaultKey) -> None:
        self.session.open(key)
        self.session.keep_settings(copy_for=self.session.vault_name)  # the file that it came from
        self._opened(key)

    def _opened(self, key: VaultKey) -> None:
        self.doing = ""
        self.session.open(key)
        self._go_on()


def fault_of(passphrase: str, again: str) -> Optional[UsageError]:
    """The error of a new passphrase, typed twice; None where it is accepted."""
    if passphrase != again:
        return UsageError("the two passphrases differ", advice="type the same one twice")
    try:
        check_new_passphrase(passphrase)
    except UsageError as error:
        return error
    return None
