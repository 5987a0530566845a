"""One open vault and the cluster that holds its images: which there are, whose they are, where they lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Callable, Optional, TypeVar, Union

from common.coding.commitments import CommitmentVerifier
from common.errors import NotFoundError
from common.link.link import Link, reached, run_with_link
from common.link.questions import list_devices, locate, settled_devices
from common.membership.identity import ClientIdentity
from common.process.events import WaitGoesOn, ignore, waiting
from common.protocol.codec import pack
from common.protocol.messages import BadShare, Device, EncodingAt, ReportBad, is_at_hand
from common.protocol.operations import REPORT_BAD
from common.repository.catching_up import catch_up
from common.repository.devices import Devices
from common.repository.images import AtHand, Held, Holdings, ListedImage, Mappings, combine, find
from common.text import check_hash
from common.vault.folder import VaultFolder
from common.vault.index import located
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping, granted_object_id, own_object_id

T = TypeVar("T")


@asynccontextmanager
async def open_repository(
    identity: ClientIdentity,
    vault: VaultFolder,
    key: VaultKey,
    emit: Callable[[Any], None],
    *,
    takes_back: bool = False,
) -> AsyncIterator[Repository]:
    """A repository by a link of its own; errors as of `reached`. `takes_back`: as of `Link`; True where it was done."""
    proof = key.owner_proof(identity.key_pair.public)
    async with reached(Link(identity, proof, takes_back=takes_back or vault.is_taken_back, emit=emit)) as link:
        yield Repository(link, vault, key, emit)


def run_with_repository(
    identity: ClientIdentity,
    vault: VaultFolder,
    key: VaultKey,
    emit: Callable[[Any], None],
    work: Callable[[Repository], Coroutine[Any, Any, T]],
) -> T:
    """Run a client's coroutine with such a repository."""

    async def opened() -> T:
        async with open_repository(identity, vault, key, emit) as repository:
            return await work(repository)

    return run_with_link(opened)


class Repository:
    """`listed`: the devices of the cluster as the broker listed them last; empty before."""

    def __init__(self, link: Link, vault: VaultFolder, key: VaultKey, emit: Callable[[Any], None] = ignore) -> None:
        """`emit` gets the waits, and events of images as each program has them."""
        self.link = link
        self.emit = emit
        self.vault = vault
        self.key = key
        self.devices = Devices(link)
        self.verifier = CommitmentVerifier()
        self.index = vault.index(key)
        self.mappings = Mappings(self.devices, self.index, key)
        self.listed: list[Device] = []
        self._names: dict[bytes, str] = {}

    # --- devices

    async def list_devices(self, *, settled: bool = False) -> None:
        """Ask which devices there are; `settled`: once a new broker has waited for all that may come."""
        self.listed = await (settled_devices(self.link) if settled else list_devices(self.link))
        self._names = {device.device_id: device.name for device in self.listed}

    @property
    def alive(self) -> frozenset[bytes]:
        """Those that were connected then."""
        return frozenset(device.device_id for device in self.listed if device.alive)

    def name_of(self, device: bytes) -> str:
        return self._names.get(device, device.hex())

    def absent(self, encodings: Sequence[EncodingAt]) -> list[str]:
        """The names of the devices that hold a share of these and are not connected."""
        return sorted({self.name_of(s.device_id) for e in encodings for s in e.shares if not s.alive})

    async def report_bad(self, bad: Sequence[BadShare]) -> None:
        """Report shares that were found bad to the broker, which has them repaired."""
        if bad:
            await self.link.request(REPORT_BAD, ReportBad(), payload=pack(list(bad)), hurried=True)

    # --- which images there are

    async def list_encodings(self) -> list[EncodingAt]:
        """All that the cluster knows of the vault's, by object id, once all devices that may come are here."""
        await self.catch_up()
        return self.index.encodings(self.alive)

    async def catch_up(self) -> None:
        """Have the index say what the cluster has now, once all devices that may come are here."""
        with waiting(self.emit, "listing what the vault holds"):
            await self.list_devices(settled=True)
            await catch_up(self.link, self.index)

    async def learn(self) -> AsyncIterator[list[ListedImage]]:
        """Ask for the mappings of all of which none is known; the images among these, as they come."""
        rows = self.index.lacking()
        lacking = [encoding for row in rows for encoding in located(row, self.alive)]
        if not lacking:
            return
        what, done, at_hand = "reading what the vault holds", 0, AtHand(self.alive)
        with waiting(self.emit, what):
            async for learned in self.mappings.learn(lacking):
                done += len(learned)
                self.emit(WaitGoesOn(what, f"{done:,} of {len(lacking):,}"))
                new = self.index.objects({each.object_id for each in learned}).values()
                images = [row for row in new if row.described is not None and row.described.kind is None]
                yield [at_hand.listed([row]) for row in images]
            self.index.keep_dates()

    def images(self) -> Iterator[ListedImage]:
        """The images that are known here, by when they were stored; `catch_up` goes before."""
        at_hand = AtHand(self.alive)
        return (at_hand.listed(rows) for rows in self.index.images())

    async def holdings(
        self, hashes: Optional[Sequence[str]] = None, encodings: Optional[Sequence[EncodingAt]] = None
    ) -> Holdings:
        """The images with these hashes or beginnings of them; all where None. `encodings`: if listed before.

        NotFoundError where a hash is no image's, NotEnoughError where that cannot be known now, UsageError where it is
        several images'.
        """
        wanted = None if hashes is None else dict.fromkeys(check_hash(text) for text in hashes)
        if wanted is not None:
            return await self._found(wanted, is_listed=encodings is not None)
        if encodings is None:
            encodings = await self.list_encodings()
        with waiting(self.emit, "reading what the vault holds"):
            return combine(encodings, await self.mappings.of(encodings))

    async def _found(self, wanted: Iterable[str], *, is_listed: bool) -> Holdings:
        """The images with these hashes, by the index."""
        unread = await self.learn_all(is_listed=is_listed)
        return Holdings([await self.find(text, unread) for text in wanted], 0)

    async def learn_all(self, *, is_listed: bool = False) -> int:
        """Know what all is that the cluster has, as far as devices can tell; how many objects they cannot tell of."""
        if not is_listed:
            await self.catch_up()
        async for _ in self.learn():
            pass
        return self.index.count_lacking()

    async def find(self, text: str, unread: int) -> Held:
        """The image with this hash, or beginning of one, once all is known; errors as of `holdings`."""
        encodings = [each for row in self.index.find(text) for each in located(row, self.alive)]
        return find(text, Holdings(combine(encodings, await self.mappings.of(encodings)).images, unread))

    async def locate(self, sha256: bytes) -> list[EncodingAt]:
        """All encodings of an image, this vault's own first, then those that others share with it or left for it.

        NotFoundError where the cluster has none, once that is certain.
        """
        located = (await self.locate_all([sha256]))[sha256]
        if isinstance(located, NotFoundError):
            raise located
        return located

    async def locate_all(self, sha256s: Sequence[bytes]) -> dict[bytes, Union[list[EncodingAt], NotFoundError]]:
        """SHA-256 → what `locate` gives or raises, for all of them with one question."""
        names = {sha256: self.object_ids(sha256) for sha256 in sha256s}
        asked = [name for both in names.values() for name in both]
        (found, settled), _ = await asyncio.gather(locate(self.link, asked), self.list_devices())
        lacking = [both for both in names.values() if not any(is_at_hand(e) for name in both for e in found[name])]
        if lacking and not settled:
            await self.list_devices(settled=True)
            found.update((await locate(self.link, [name for both in lacking for name in both]))[0])
        located = {sha256: [e for name in both for e in found[name]] for sha256, both in names.items()}
        away = [device.name for device in self.listed if not device.alive]
        hint = f"; not connected, and perhaps holding it: {', '.join(away)}" if away else ""
        return {
            sha256: encodings or NotFoundError(f"the vault holds no image with the SHA-256 {sha256.hex()}{hint}")
            for sha256, encodings in located.items()
        }

    def located_here(self, sha256s: Sequence[bytes]) -> dict[bytes, list[EncodingAt]]:
        """SHA-256 → its encodings as the index has them, without a question; `catch_up` goes before."""
        names: dict[bytes, tuple[bytes, ...]]
        if self.index.may_have_granted():
            names = {sha256: self.object_ids(sha256) for sha256 in sha256s}
        else:
            names = {sha256: (self.key.object_id(sha256),) for sha256 in sha256s}
        rows, alive = self.index.objects([name for some in names.values() for name in some]), self.alive
        return {
            sha256: [each for name in some if name in rows for each in located(rows[name], alive)]
            for sha256, some in names.items()
        }

    def object_ids(self, sha256: bytes) -> tuple[bytes, bytes]:
        """The object ids of an image: as the vault's own, and as shared with it or left for it."""
        return self.key.object_id(sha256), self.key.granted_object_id(sha256)

    def object_ids_of(self, mapping: Mapping) -> tuple[bytes, bytes]:
        """The same of what this mapping describes."""
        return own_object_id(self.key, mapping), granted_object_id(self.key, mapping)

    # --- whose they are

    def own(self, image: Held) -> list[EncodingAt]:
        """The image's encodings that are this vault's, and not another's that are shared with it.

        Own is also what others left for it by its contact card, under the object id that shared ones have too.
        """
        return [encoding for encoding in image.encodings if not encoding.granted]
