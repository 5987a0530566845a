"""`share` and `unshare`: replace the grants in the commitment of every share of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

from admin.amending import amend, find_current, holders_of
from admin.vault_work import change_each
from common.errors import NotFoundError, RefusedError, UsageError
from common.protocol.messages import MAX_GRANTS
from common.repository.images import Held
from common.repository.repository import Repository
from common.vault.contact_card import ContactCard
from common.vault.keys import VaultKey

# The cards that an encoding is shared with → the new ones; None where nothing changes.
Change = Callable[[list[ContactCard]], Optional[list[ContactCard]]]


async def change_held(repository: Repository, hashes: Sequence[str], change: Change, name: str, done: str) -> int:
    """Change with whom these images are shared; a line for each. The exit code: 3 where one is not shared as it was
    to be taken back.
    """
    return await change_each(
        repository,
        (await repository.holdings(hashes)).images,
        lambda image: change_image(repository, image, change, name),
        done,
        "not reached; it is changed there when they come back",
    )


def adding(name: str, card: ContactCard, key: VaultKey) -> Change:
    """The change that shares with a contact; UsageError where the card is that of the vault with this `key`."""
    if card.owner == key.owner_id():
        raise UsageError(f"{name} is this very vault")

    def add(cards: list[ContactCard]) -> list[ContactCard]:
        others = [each for each in cards if each.owner != card.owner]
        if len(others) >= MAX_GRANTS:
            raise UsageError(f"an image is shared with {MAX_GRANTS} others at most")
        return [*others, card]

    return add


def removing(owner: bytes) -> Change:
    """The change that unshares with the vault of this owner id."""

    def remove(cards: list[ContactCard]) -> Optional[list[ContactCard]]:
        others = [each for each in cards if each.owner != owner]
        return None if len(others) == len(cards) else others

    return remove


async def shared_with(repository: Repository, image: Held) -> list[ContactCard]:
    """The cards that an image of this vault's own is shared with; NotEnoughError as of `find_current`."""
    cards: dict[bytes, ContactCard] = {}
    for encoding in repository.own(image):
        cards.update({card.owner: card for card in (await find_current(repository, encoding)).cards})
    return list(cards.values())


async def change_image(repository: Repository, image: Held, change: Change, name: str) -> list[str]:
    """Apply the change to all encodings of this vault's own; the names of devices that were not reached.

    NotFoundError where none is shared with `name`, with whom it was to be unshared.
    """
    own = repository.own(image)
    if not own:
        raise RefusedError("only its owner can share it or take it back; it is another vault's")
    currents = [await find_current(repository, encoding) for encoding in own]
    changed = [change(current.cards) for current in currents]
    # What an earlier run told too few devices is told again, though nothing is to change in the highest revision.
    changed = [
        current.cards if cards is None and not current.settled and current.revision > 1 else cards
        for current, cards in zip(currents, changed)
    ]
    if all(cards is None for cards in changed):
        raise NotFoundError(f"it is not shared with {name}; nothing was changed")
    untold: list[str] = []
    for encoding, current, cards in zip(own, currents, changed):
        if cards is not None:
            untold += await amend(repository, encoding.encoding_id, current, cards, holders_of(encoding))
    return sorted(set(untold) | set(repository.absent(own)))
