"""`vault rotate`: puts all images under a new vault key, and has the old one refused.

    look → make the new key → amend every encoding → keep that all are → retire the old owner → forget the old key

No image is stored anew: mappings are sealed under the new key, with object ids made by it, and replace the old ones as
the old key signs. An interrupted rotation goes on when it is run again: until its end the old key is kept, sealed under
the new one. The steward brings devices that are away up to date; k have to be connected for each image.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from admin.amending import Current, amend, find_current, right_to
from admin.deleting import by_object, list_trash
from admin.events import Emit
from admin.quorum import quorum
from admin.vault_work import change_each
from common.errors import NotEnoughError, RefusedError, TesseraError
from common.files import lock
from common.link.link import run_with_link
from common.link.questions import list_encodings
from common.link.replies import DeclinedError
from common.membership.identity import ClientIdentity
from common.process.events import Warned, waiting
from common.protocol.messages import Code, Empty, EncodingAt, shares_at_hand
from common.protocol.operations import RETIRE_OWNER
from common.repository.images import Held, combine
from common.repository.repository import Repository, open_repository
from common.vault.contacts import Contacts
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey

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

    def look(self) -> RotationScope:
        """NotEnoughError where too few devices are connected to rotate every image now."""
        return run_with_link(self._look())

    def begin(self, passphrase: str, backup: Path) -> None:
        """Make the new key, with a copy of its key file in `backup`; UsageError where that exists."""
        former, self._key = self._key, self._vault.begin_rotation(self._key, passphrase, backup)
        self._former = former

    def go_on(self, leave: Sequence[str]) -> int:
        """Give every image the new key, a line for each; the exit code, 0 where the old key is refused now.

        `leave`: SHA-256s, or beginnings of them, of images that stay under the old key.
        """
        if self._former is None:
            raise TesseraError("there is no rotation to go on with")
        Contacts(self._home, self._key).take_over(self._former)
        exit_code = run_with_link(self._go_on(self._former, leave))
        if exit_code == 0:
            self._vault.end_rotation()
        return exit_code

    @asynccontextmanager
    async def _repository(self, key: VaultKey) -> AsyncIterator[Repository]:
        async with open_repository(self._identity, self._vault, key, self._emit) as repository:
            await repository.list_devices(settled=True)
            yield repository

    # --- look

    async def _look(self) -> RotationScope:
        async with self._repository(self._key) as repository:
            with waiting(repository.emit, "listing what the vault holds"):
                encodings = await list_encodings(repository.link)
                holdings = combine(encodings, await repository.mappings.of(encodings))
            own = [e for image in holdings.images for e in repository.own(image)]
            lacking = [e for e in own if len(shares_at_hand(e)) < e.k]
            if lacking or holdings.unreadable:
                away = ", ".join(repository.absent(encodings)) or "none is known to be away"
                raise NotEnoughError(
                    f"{len(lacking) + holdings.unreadable} images have fewer shares at hand than the change needs",
                    advice=f"connect these devices and run it again: {away}",
                )
            images = sum(bool(repository.own(image)) for image in holdings.images)
            deleted = len(by_object(await list_trash(repository)))
            return RotationScope(images, len(holdings.images) - images, deleted)

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


async def _hand_over_all(old: Repository, new: Repository, leave: Sequence[str]) -> int:
    """Hand over until none is left, including what another machine stores meanwhile."""
    while True:
        there = {encoding.encoding_id: encoding for encoding in await list_encodings(new.link)}
        pending = [e for e in await list_encodings(old.link) if not _holds(there.get(e.encoding_id))]
        holdings = combine(pending, await old.mappings.of(pending))
        staying = tuple(leave)
        images = [image for image in holdings.images if old.own(image) and not image.sha256.startswith(staying)]
        exit_code = await _hand_over_images(old, new, images, there)
        if holdings.unreadable:
            away = ", ".join(old.absent(pending))
            text = f"{holdings.unreadable} images cannot be read now; connect these devices: {away}"
            new.emit(Warned(text))
            exit_code = exit_code or NotEnoughError.exit_code
        if exit_code != 0 or not images:
            return exit_code


async def _hand_over_images(
    old: Repository, new: Repository, images: Sequence[Held], there: Mapping[bytes, EncodingAt]
) -> int:
    async def hand_over(image: Held) -> list[str]:
        own = old.own(image)
        names: list[str] = []
        for encoding in own:
            names += await _hand_over(old, new, encoding, there.get(encoding.encoding_id))
        return sorted(set(names) | set(old.absent(own)))

    return await change_each(new, images, hand_over, "has the new key", _REST_AWAY)


def _holds(encoding: Optional[EncodingAt]) -> bool:
    """Whether so many devices have an encoding under the new key that it holds; the steward updates the others."""
    return encoding is not None and len(shares_at_hand(encoding)) >= quorum(encoding.k, encoding.n)


async def _hand_over(old: Repository, new: Repository, encoding: EncodingAt, there: Optional[EncodingAt]) -> list[str]:
    """Put an encoding under the new key; `there`: as far as an interrupted run has done so already."""
    known: list[Current] = []
    rights = []
    for repository, part in ((old, encoding), (new, there)):
        if part is not None and shares_at_hand(part):
            current = await find_current(repository, part)
            known.append(current)
            rights.append(right_to(repository, part))
    if not known:
        raise NotEnoughError("none of the devices that hold it is connected")
    newest = max(known, key=lambda current: current.rank)
    names = await amend(new, encoding.encoding_id, newest, newest.cards, rights)
    new.vault.forget_mapping(encoding.object_id, encoding.encoding_id)
    return names
