"""What the vault holds: the catalog's encodings together with their mappings, and the way from a hash to an image.

Mappings that this machine lacks are asked of the devices, many at a time: so a machine that has never stored anything
sees the whole vault too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Optional, cast
from weakref import WeakValueDictionary

from common.chunks import chunks
from common.errors import NotEnoughError, NotFoundError, TesseraError
from common.link.stragglers import Stragglers
from common.protocol.device_messages import ShareName
from common.protocol.messages import EncodingAt, is_at_hand, shares_at_hand
from common.repository.devices import Description, Devices
from common.repository.hedging import Choice, HedgedRequest, Holder
from common.text import count, only_one
from common.vault.granting import open_any
from common.vault.index import Learned, VaultIndex
from common.vault.index_rows import Described, KeptEncoding, ObjectRow
from common.vault.keys import VaultKey
from common.vault.mapping import MAX_SEALED_MAPPING, PRUNE, SNAPSHOT, TREE, Mapping

_AT_ONCE = 1000  # mappings asked for together
_MOST_COMBINATIONS = 10_000  # of devices


@dataclass(frozen=True)
class Held:
    """One image of the vault: its mapping and all its encodings, the most complete first."""

    mapping: Mapping
    encodings: list[EncodingAt]

    @property
    def sha256(self) -> str:
        return self.mapping.image_sha256.hex()

    @property
    def restorable(self) -> bool:
        return any(map(is_at_hand, self.encodings))


@dataclass(frozen=True)
class ListedImage:
    """One image of the vault, as it is listed."""

    mapping: Described
    restorable: bool
    object_id: bytes
    paths: Sequence[bytes] = ()  # in the newest snapshots, where these are known

    @property
    def sha256(self) -> str:
        return self.mapping.sha256


class AtHand:
    """Tells whether enough shares are at hand; most encodings of a vault lie on the same devices."""

    def __init__(self, alive: frozenset[bytes]) -> None:
        """`alive`: the devices that are connected."""
        self._alive = alive
        self._known: dict[tuple[int, bytes], bool] = {}

    def listed(self, rows: Sequence[ObjectRow]) -> ListedImage:
        """What the index has of one image."""
        first = rows[0]
        described = cast(Described, first.described)  # an image is one since its mapping is known
        if len(rows) == len(first.encodings) == 1:
            return ListedImage(described, self._is_at_hand(first, first.encodings[0]), first.object_id, first.paths)
        at_hand = any(self._is_at_hand(row, each) for row in rows for each in row.encodings)
        return ListedImage(described, at_hand, first.object_id, first.paths)

    def _is_at_hand(self, row: ObjectRow, encoding: KeptEncoding) -> bool:
        key = encoding.k, encoding.places
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MOST_COMBINATIONS:
                self._known.clear()
            known = self._known[key] = is_at_hand(encoding.at(row.object_id, self._alive))
        return known


class Mappings:
    """Mappings by encoding id: those kept on this machine, and those asked for."""

    def __init__(self, devices: Devices, index: VaultIndex, key: VaultKey) -> None:
        self._devices = devices
        self._index = index
        self._key = key
        # Those that are still referenced, such as of images that are being restored.
        self._opened: WeakValueDictionary[tuple[bytes, bytes], Mapping] = WeakValueDictionary()

    def kept(self, encoding: EncodingAt) -> Optional[Mapping]:
        name = encoding.object_id, encoding.encoding_id
        mapping = self._opened.get(name)
        if mapping is None:
            mapping = self._index.mapping(*name)
            if mapping is not None:
                self._opened[name] = mapping
        return mapping

    async def of(self, encodings: Iterable[EncodingAt]) -> dict[tuple[bytes, bytes], Mapping]:
        """(object id, encoding id) → mapping, as far as they are available."""
        found: dict[tuple[bytes, bytes], Mapping] = {}
        missing: list[EncodingAt] = []
        for encoding in encodings:
            mapping = self.kept(encoding)
            if mapping is not None:
                found[encoding.object_id, encoding.encoding_id] = mapping
            else:
                missing.append(encoding)
        async for learned in self.learn(missing):
            found.update(((each.object_id, each.encoding_id), each.mapping) for each in learned)
        return found

    async def learn(self, encodings: Iterable[EncodingAt]) -> AsyncIterator[list[Learned]]:
        """Ask for mappings and keep them, some at a time; what no device has now is left out.

        Of what is not at hand devices may have made up all; that it is not waited for long says `_fetch_all`.
        """
        at_hand: list[EncodingAt] = []
        others: list[EncodingAt] = []
        for encoding in encodings:
            (at_hand if is_at_hand(encoding) else others).append(encoding)
        for some in chunks(at_hand, _AT_ONCE):
            yield self._keep(await self._fetch_all(some))
        for some in chunks(others, _AT_ONCE):
            learned = self._keep(await self._fetch_all(some))
            yield learned
            if not learned:
                return

    def _keep(self, fetched: Iterable[Optional[Learned]]) -> list[Learned]:
        learned = [each for each in fetched if each is not None]
        if learned:
            self._index.learn(learned)
        return learned

    async def _fetch_all(self, encodings: Sequence[EncodingAt]) -> list[Optional[Learned]]:
        """The mapping of each; None where no device has it, or only such as are late by what the others take.

        So whoever makes up encodings, and then answers nothing, holds nobody up.
        """
        tasks = [asyncio.ensure_future(self._fetch(encoding)) for encoding in encodings]
        to_come = [task for e, task in zip(encodings, tasks) if is_at_hand(e)]

        left = len(tasks)

        def ended(_: object) -> None:
            nonlocal left
            left -= 1

        for task in tasks:
            task.add_done_callback(ended)

        def enough() -> bool:
            return 2 * left <= len(tasks) or all(task.done() for task in to_come)

        try:
            late = await Stragglers().late(tasks, enough)
            return [None if task in late else task.result() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()

    async def _fetch(self, encoding: EncodingAt) -> Optional[Learned]:
        """A mapping from the first device that has a good one."""

        def ask(holder: Holder) -> asyncio.Future[Description]:
            name = ShareName(encoding.encoding_id, holder.share)
            return self._devices.description(holder.device, name, MAX_SEALED_MAPPING, with_recipe=False)

        def check(_holder: Holder, answer: asyncio.Future[Description]) -> Optional[tuple[bytes, Mapping]]:
            try:
                sealed = answer.result().mapping
                return sealed, open_any(self._key, sealed, encoding.object_id, encoding.encoding_id)
            except TesseraError:
                return None

        holders = [Holder(share, devices[0]) for share, devices in shares_at_hand(encoding).items()]
        found = await HedgedRequest(1, Choice(encoding.k, holders), self._devices, ask, check).run()
        for sealed, mapping in found.values():
            return Learned(encoding.object_id, encoding.encoding_id, sealed, mapping)
        return None


@dataclass(frozen=True)
class Holdings:
    """What the vault holds, as far as is known."""

    images: list[Held]
    unreadable: int  # images whose mapping no connected device has

    @property
    def files(self) -> list[Held]:
        """Those that are images, and no trees or snapshots."""
        return [image for image in self.images if image.mapping.kind is None]


def combine(encodings: Iterable[EncodingAt], mappings: dict[tuple[bytes, bytes], Mapping]) -> Holdings:
    """The images, each with all its encodings."""
    by_object: dict[bytes, list[EncodingAt]] = {}
    for encoding in encodings:
        by_object.setdefault(encoding.object_id, []).append(encoding)
    held: dict[tuple[bytes, bool], Held] = {}
    unread = 0
    for group in by_object.values():
        known = [mappings.get((encoding.object_id, encoding.encoding_id)) for encoding in group]
        mapping = next((mapping for mapping in known if mapping is not None), None)
        if mapping is None:
            unread += 1
            continue
        if mapping.kind == PRUNE:
            continue  # each encoding is another plan, and a passing one
        name = mapping.image_sha256, mapping.kind == SNAPSHOT
        if name in held:  # stored here, and shared by another or left for this vault as well
            held[name].encodings.extend(group)
        else:
            held[name] = Held(mapping, group)
    return Holdings(list(held.values()), unread)


def counted(mappings: Iterable[Mapping]) -> str:
    """How many images, trees and snapshots there are: "1,204 images, 96 trees and 12 snapshots"."""
    kinds = Counter(mapping.kind or "image" for mapping in mappings)
    *others, last = [count(kinds[kind], kind) for kind in ("image", TREE, SNAPSHOT) if kinds[kind]] or ["0 images"]
    return f"{', '.join(others)} and {last}" if others else last


def unreadable(number: int) -> NotEnoughError:
    """So many images cannot be read now."""
    return NotEnoughError(f"{count(number, 'more image')} cannot be read: their devices are not connected")


def find(prefix: str, holdings: Holdings) -> Held:
    """The one image whose SHA-256 begins so.

    NotFoundError where none does, NotEnoughError where it may be one that cannot be read now, UsageError where several
    do.
    """
    matches = [image for image in holdings.images if image.sha256.startswith(prefix)]
    if not matches and holdings.unreadable:
        raise NotEnoughError(
            f"no image that can be read now has a SHA-256 that begins with {prefix}; "
            f"{holdings.unreadable} cannot be, since their devices are not connected"
        )
    if not matches:
        raise NotFoundError(
            f"the vault holds no image whose SHA-256 begins with {prefix}",
            advice="see what it holds with: python consumer/consumer.py --list",
        )
    return only_one(matches, prefix)
