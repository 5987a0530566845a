"""One run of the consumer: connect, find the images, restore or list them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from common.errors import NotFoundError, TesseraError
from common.link.link import run_with_link
from common.membership.identity import ClientIdentity
from common.protocol.messages import EncodingAt
from common.repository.hashes import is_full
from common.repository.images import Holdings, find, unreadable
from common.repository.repository import Repository, open_repository
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from consumer.destination import Destination
from consumer.events import Emit, NotRestored
from consumer.restorer import Restorer, restore_all


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
        async with self._repository() as repository:
            return await repository.holdings()

    async def _restore(self, hashes: Sequence[str], everything: bool, destination: Destination) -> None:
        async with self._repository() as repository:
            restorer = Restorer(repository, self._emit)
            if everything:
                holdings = await repository.holdings()
                images = {image.sha256: image.encodings for image in holdings.images}
                await restore_all(restorer, images, destination.open)
                if holdings.unreadable:
                    self._emit(NotRestored("", unreadable(holdings)))
            else:
                await restore_all(restorer, await self._find_all(repository, hashes), destination.open)

    def _repository(self) -> AbstractAsyncContextManager[Repository]:
        return open_repository(self._identity, self._vault, self._key, self._emit)

    async def _find_all(self, repository: Repository, hashes: Sequence[str]) -> dict[str, list[EncodingAt]]:
        """SHA-256 → encodings of the images with these hashes, or beginnings of them; of the others it is told."""
        whole = [bytes.fromhex(text) for text in hashes if is_full(text)]
        located = await repository.locate_all(whole) if whole else {}
        holdings = await repository.holdings() if len(whole) < len(hashes) else Holdings([], 0)
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
