"""One run with an unlocked vault: the link, what the vault holds, and the way from a hash to an image."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Optional

from admin.events import Changed, Emit, NotChanged
from common.erasure import ErasureCode
from common.errors import TesseraError
from common.home import ClientIdentity
from common.link.link import Link, reached
from common.link.questions import list_devices, list_encodings
from common.process.events import Warned, ignore, waiting
from common.protocol.messages import Device, EncodingAt
from common.repository.devices import Devices
from common.repository.hashes import check_hash
from common.repository.images import Held, Mappings, combine, find
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping


class Session:
    """What the images of one run share. `listed`: the devices of the cluster; `names`: device id → name."""

    def __init__(self, link: Link, vault: VaultFolder, key: VaultKey, emit: Emit = ignore) -> None:
        self.link = link
        self.emit = emit
        self.vault = vault
        self.key = key
        self.devices = Devices(link)
        self.mappings = Mappings(self.devices, vault, key)
        self.listed: list[Device] = []
        self.names: dict[bytes, str] = {}
        self.unreadable = 0  # images whose mapping no connected device has

    async def images(self, hashes: Optional[Sequence[str]]) -> list[Held]:
        """The images with these hashes or beginnings of them, all of the vault where there are none.

        NotFoundError, NotEnoughError or UsageError where a hash is no image's, cannot be told now, or is several's.
        """
        wanted = None if hashes is None else list(dict.fromkeys(check_hash(text) for text in hashes))
        with waiting(self.emit, "listing what the vault holds"):
            encodings = await list_encodings(self.link)  # once all devices that may come are here
            self.listed = await list_devices(self.link)
            self.names = {device.device_id: device.name for device in self.listed}
            holdings = combine(encodings, await self.mappings.of(encodings))
        if wanted is None:
            self.unreadable = holdings.unreadable
            return holdings.images
        return [find(text, holdings) for text in wanted]

    def mapping_of(self, image: Held, encoding: EncodingAt) -> Mapping:
        """The mapping of one of an image's encodings; that of another one where it is not to be had."""
        return self.mappings.kept(encoding) or image.mapping

    def unit(self, k: int, n: int) -> int:
        """The erasure code's smallest step in bytes."""
        return ErasureCode(k, n).block_unit

    def name_of(self, device: bytes) -> str:
        return self.names.get(device, device.hex())

    def absent(self, encodings: Sequence[EncodingAt]) -> list[str]:
        """The names of the devices that hold a share of these and are not connected."""
        return sorted({self.name_of(s.device_id) for e in encodings for s in e.shares if not s.alive})


async def change_each(
    session: Session, images: Sequence[Held], change: Callable[[Held], Awaitable[list[str]]], done: str, not_yet: str
) -> int:
    """Change images one after the other, and tell of each; the exit code, that of the first failure.

    `change` gives the names of the devices that it did not reach; `not_yet` says what becomes of these.
    """
    exit_code = 0
    for image in images:
        try:
            with waiting(session.emit, "asking the devices"):
                away = await change(image)
        except TesseraError as error:
            cause = session.link.cause(error)
            session.emit(NotChanged(image.sha256, str(cause)))
            exit_code = exit_code or cause.exit_code
            continue
        session.emit(Changed(image.sha256, done))
        if away:
            session.emit(Warned(f"{', '.join(away)}: {not_yet}"))
    return exit_code


class VaultWork:
    """What every command about images begins with: a vault, unlocked before anything is asked of the network."""

    def __init__(self, identity: ClientIdentity, home: Path, passphrase: str, emit: Emit) -> None:
        self._identity = identity
        self._emit = emit
        self._home = home
        self._vault = VaultFolder(home)
        self._key = self._vault.unlock(passphrase)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        async with reached(Link(self._identity, self._key.owner_token(), emit=self._emit)) as link:
            yield Session(link, self._vault, self._key, self._emit)
