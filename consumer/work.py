"""One run of the consumer: connect, find the images, restore or list them."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import NotFoundError, TesseraError
from common.home import ClientIdentity
from common.link.link import Link, reached, run_with_link
from common.process.events import waiting
from common.protocol.messages import EncodingAt
from common.repository.hashes import is_full
from common.repository.images import Holdings, find, unreadable
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from consumer.destination import Destination
from consumer.events import Emit, NotRestored
from consumer.session import Session, restore_all

_LISTING = "listing what the vault holds"


class Work:
    def __init__(self, identity: ClientIdentity, vault: VaultFolder, key: VaultKey, emit: Emit) -> None:
        self._identity = identity
        self._vault = vault
        self._key = key
        self._emit = emit

    def holdings(self) -> Holdings:
        """What the vault holds."""
        return run_with_link(self._holdings())

    def restore(self, wanted: Sequence[str], everything: bool, destination: Destination) -> None:
        """Restore images; what came of each is told as soon as it is done.

        `wanted`: hashes, as `check_hash` returns them, each once.
        """
        run_with_link(self._restore(wanted, everything, destination))

    async def _holdings(self) -> Holdings:
        async with reached(self._link()) as link:
            return await self._listed(Session(link, self._vault, self._key))

    async def _restore(self, hashes: Sequence[str], everything: bool, destination: Destination) -> None:
        async with reached(self._link()) as link:
            session = Session(link, self._vault, self._key, self._emit)
            if everything:
                holdings = await self._listed(session)
                images = {image.sha256: image.encodings for image in holdings.images}
                await restore_all(session, images, destination.open)
                if holdings.unreadable:
                    self._emit(NotRestored("", unreadable(holdings)))
            else:
                await restore_all(session, await self._find_all(session, hashes), destination.open)

    def _link(self) -> Link:
        return Link(self._identity, self._key.owner_token(), emit=self._emit)

    async def _listed(self, session: Session) -> Holdings:
        with waiting(self._emit, _LISTING):
            return await session.holdings()

    async def _find_all(self, session: Session, hashes: Sequence[str]) -> dict[str, list[EncodingAt]]:
        """SHA-256 → encodings of the images with these hashes, or beginnings of them; of the others it is told."""
        whole = [bytes.fromhex(text) for text in hashes if is_full(text)]
        located = await session.locate_all(whole) if whole else {}
        holdings = await self._listed(session) if len(whole) < len(hashes) else Holdings([], 0)
        images: dict[str, list[EncodingAt]] = {}
        for text in hashes:
            try:
                if is_full(text):
                    found = located[bytes.fromhex(text)]
                    if isinstance(found, NotFoundError):
                        raise found
                    images[text] = found
                else:
                    image = find(text, holdings)
                    images[image.sha256] = image.encodings
            except TesseraError as error:
                self._emit(NotRestored(text, error))
        return images
