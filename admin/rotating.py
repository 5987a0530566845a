"""`vault rotate`: puts all images under a new vault key, and has the old one refused.

    look → make the new key → amend every encoding → keep that all are → retire the old owner → forget the old key

No image is stored anew: mappings are sealed under the new key, with object ids made by it, and replace the old ones as
the old key signs. An interrupted rotation goes on when it is run again: until its end the old key is kept, sealed under
the new one. The steward brings devices that are away up to date; a quorum (`admin.quorum`) has to be connected for each
image.

Only what the owner stored, or may have stored, holds a rotation up: what does not open with the key when k of its
devices are connected is none of the vault's, nor is what no connected device can tell of while none is away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Optional

from admin.amending import Current, amend, find_current, holders_of
from admin.deleting import by_object, list_trash
from admin.events import Emit
from admin.quorum import quorum
from admin.vault_work import change_each
from common.coding.commitments import rank
from common.errors import NotEnoughError, RefusedError, TesseraError
from common.files import lock
from common.link.link import run_with_link
from common.link.questions import list_encodings
from common.link.replies import DeclinedError
from common.membership.identity import ClientIdentity
from common.process.events import Warned, waiting
from common.protocol.messages import Code, Empty, EncodingAt, is_at_hand, shares_at_hand
from common.protocol.operations import RETIRE_OWNER
from common.repository.images import Held, combine
from common.repository.repository import Repository, open_repository
from common.vault.contacts import Contacts
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from common.vault.mapping import own_object_id

UNREADABLE = "unreadable"  # in the place of a SHA-256: what cannot be read now stays under the old key
_REST_AWAY = "not connected; brought up to date when they come back"


@dataclass(frozen=True)
class RotationScope:
    """What a rotation would change."""

    images: int  # that get the new key
    shared_by_others: int  # that cannot be read under the new key until their owners share them again
    deleted: int  # that cannot be undeleted any more


class Rotating:
    """One run of `vault rotate`."""

    def __init__(self, identity: ClientIdentity, home: Path, passphrase: str, emit: Emit) -> None:
        self._identity = identity
        self._emit = emit
        self._home = home
        self._vault = VaultFolder(home)
        self._lock = lock(self._vault.folder / "rotation.lock")
        self._key = self._vault.unlock(passphrase)
        self._former: Optional[VaultKey] = self._vault.former_key(self._key)

    @property
    def unfinished(self) -> bool:
        """Whether an earlier run made the new key already."""
        return self._former is not None

    def look(self, leave: Sequence[str]) -> RotationScope:
        """NotEnoughError where too few devices are connected to rotate every image now but those to `leave`."""
        return run_with_link(partial(self._look, leave))

    def begin(self, passphrase: str, backup: Path) -> None:
        """Make the new key, with a copy of its key file in `backup`; UsageError where that exists."""
        former, self._key = self._key, self._vault.begin_rotation(self._key, passphrase, backup)
        self._former = former

    def go_on(self, leave: Sequence[str]) -> int:
        """Give every image the new key, a line for each; the exit code, 0 where the old key is refused now.

        `leave`: SHA-256s, or beginnings of them, of images that stay under the old key, or UNREADABLE.
        """
        if self._former is None:
            raise TesseraError("there is no rotation to go on with")
        Contacts(self._home, self._key).take_over(self._former)
        exit_code = run_with_link(partial(self._go_on, self._former, leave))
        if exit_code == 0:
            self._vault.end_rotation()
            self._vault.forget_other_indexes(self._key)
        return exit_code

    @asynccontextmanager
    async def _repository(self, key: VaultKey) -> AsyncIterator[Repository]:
        async with open_repository(self._identity, self._vault, key, self._emit) as repository:
            await repository.list_devices(settled=True)
            repository.link.require_changes_allowed()
            yield repository

    # --- look

    async def _look(self, leave: Sequence[str]) -> RotationScope:
        async with self._repository(self._key) as repository:
            with waiting(repository.emit, "listing what the vault holds"):
                encodings = await list_encodings(repository.link)
                found = await _find(repository, encodings, leave)
            lacking = [e for image in found.images for e in _needed(repository, image) if not _holds(e)]
            if lacking or found.unread:
                away = ", ".join(repository.absent([*lacking, *found.unread])) or "none is known to be away"
                raise NotEnoughError(
                    f"{len(lacking) + len(found.unread)} images have fewer shares at hand than the change needs",
                    advice=f"connect these devices and run it again: {away}; or revoke what will not come back, or "
                    f"leave such images under the old key: --leave HASH, --leave {UNREADABLE}",
                )
            deleted = len(by_object(await list_trash(repository)))
            return RotationScope(len(found.images), found.shared, deleted)

    # --- go on

    async def _go_on(self, former: VaultKey, leave: Sequence[str]) -> int:
        async with self._repository(self._key) as new:
            try:
                async with self._repository(former) as old:
                    exit_code = await _hand_over_all(old, new, leave)
                    if exit_code == 0:
                        self._vault.keep_replaced()
                        await old.link.request(RETIRE_OWNER, Empty())
                    return exit_code
            except DeclinedError as error:
                if error.code is not Code.REPLACED:
                    raise
                if self._vault.is_former_replaced:
                    return 0  # an earlier run came so far
                raise RefusedError(
                    "the vault key before was replaced by another machine, before this one was through",
                    advice="what lacks here has the key of that machine: bring its vault from there "
                    "(admin.py vault export FILE); the key before was kept here",
                ) from error


@dataclass(frozen=True)
class _Found:
    """What of the vault is to get the new key."""

    images: list[Held]  # this vault's own that can be read, with the encodings that are as their mapping has them
    shared: int  # images of others
    unread: list[EncodingAt]  # what may be this vault's own, when more devices are connected


async def _find(repository: Repository, encodings: Sequence[EncodingAt], leave: Sequence[str]) -> _Found:
    mappings = await repository.mappings.of(encodings)
    fitting = []
    for encoding in encodings:
        mapping = mappings.get((encoding.object_id, encoding.encoding_id))
        if mapping is not None and (mapping.k, mapping.n) == (encoding.k, encoding.n):
            fitting.append(encoding)
    staying = tuple(leave)
    holdings = combine(fitting, mappings)
    away = any(not device.alive for device in repository.listed)
    # What too few devices have is the rest of a put that was broken off: none can restore it.
    own = [i for i in holdings.images if (mine := repository.own(i)) and (away or any(map(is_at_hand, mine)))]
    read = {encoding.object_id for encoding in fitting}
    may_come = UNREADABLE not in leave and away
    unread = [e for e in encodings if may_come and not e.granted and e.object_id not in read and not is_at_hand(e)]
    return _Found([i for i in own if not i.sha256.startswith(staying)], len(holdings.images) - len(own), unread)


def _needed(repository: Repository, image: Held) -> list[EncodingAt]:
    """The encodings of an image that have to be handed over: not what others left, nor the rest of a put that was
    broken off, where there is another."""
    own = repository.own(image)
    object_id = own_object_id(repository.key, image.mapping)
    mine = [encoding for encoding in own if encoding.object_id == object_id] or own
    return [encoding for encoding in mine if is_at_hand(encoding)] or mine


async def _hand_over_all(old: Repository, new: Repository, leave: Sequence[str]) -> int:
    """Hand over until none is left, including what another machine stores meanwhile."""
    left: set[bytes] = set()  # encodings that others left, of images that are handed over without them
    while True:
        there = _best(await list_encodings(new.link))
        pending = [e for e in await list_encodings(old.link) if not _holds(there.get(e.encoding_id))]
        found = await _find(old, [e for e in pending if e.encoding_id not in left], leave)
        exit_code = await _hand_over_images(old, new, found.images, there, left)
        if found.unread:
            away = ", ".join(old.absent(found.unread)) or "none is known to be away"
            text = (
                f"{len(found.unread)} images cannot be read now; connect these devices: {away}; or revoke what "
                f"will not come back, or leave them under the old key: --leave {UNREADABLE}"
            )
            new.emit(Warned(text))
            exit_code = exit_code or NotEnoughError.exit_code
        if exit_code != 0 or not found.images:
            return exit_code


def _best(encodings: Iterable[EncodingAt]) -> dict[bytes, EncodingAt]:
    """Encoding id → what most devices say of it, whatever else some do."""
    best: dict[bytes, EncodingAt] = {}
    for encoding in encodings:
        other = best.get(encoding.encoding_id)
        if other is None or len(shares_at_hand(other)) < len(shares_at_hand(encoding)):
            best[encoding.encoding_id] = encoding
    return best


async def _hand_over_images(
    old: Repository, new: Repository, images: Sequence[Held], there: Mapping[bytes, EncodingAt], left: set[bytes]
) -> int:
    async def hand_over(image: Held) -> list[str]:
        own, needed = old.own(image), _needed(old, image)
        names: list[str] = []
        for encoding in sorted(own, key=lambda each: each not in needed):
            try:
                names += await _hand_over(old, new, encoding, there.get(encoding.encoding_id))
            except TesseraError as error:
                if encoding in needed:
                    raise
                left.add(encoding.encoding_id)
                new.emit(Warned(f"{image.sha256[:16]}: what of it is not needed stays under the old key: {error}"))
        return sorted(set(names) | set(old.absent(own)))

    return await change_each(new, images, hand_over, "has the new key", _REST_AWAY)


def _holds(encoding: Optional[EncodingAt]) -> bool:
    """Whether so many devices have an encoding under the new key that it holds; the steward updates the others."""
    return encoding is not None and len(shares_at_hand(encoding)) >= quorum(encoding.k, encoding.n)


async def _hand_over(old: Repository, new: Repository, encoding: EncodingAt, there: Optional[EncodingAt]) -> list[str]:
    """Put an encoding under the new key; `there`: as far as an interrupted run has done so already."""
    known: list[Current] = []
    devices: set[bytes] = set()
    for repository, part in ((old, encoding), (new, there)):
        if part is not None and shares_at_hand(part):
            known.append(await find_current(repository, part))
            devices |= holders_of(part)
    if not known:
        raise NotEnoughError("none of the devices that hold it is connected")
    newest = max(known, key=lambda current: rank(current.commitment))
    names = await amend(new, encoding.encoding_id, newest, newest.cards, devices, old.key)
    new.index.forget_mapping(encoding.object_id, encoding.encoding_id)
    return names
