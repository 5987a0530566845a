"""`share` and `unshare`: who else may read an image is written anew beside every share of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

from admin.amending import amend, find_current, right_to
from admin.vault_work import change_each
from common.errors import NotFoundError, RefusedError, UsageError
from common.protocol.messages import MAX_GRANTS
from common.repository.images import Held
from common.repository.repository import Repository
from common.vault.contact_card import ContactCard
from common.vault.keys import VaultKey

# With whom an encoding is shared → with whom from now on; None where it is so already.
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
    """The change that shares with a contact, of a vault with this key; UsageError where the card is its own."""
    if card.owner == key.owner_id():
        raise UsageError(f"{name} is this very vault")

    def add(cards: list[ContactCard]) -> list[ContactCard]:
        others = [each for each in cards if each.owner != card.owner]
        if len(others) >= MAX_GRANTS:
            raise UsageError(f"an image is shared with {MAX_GRANTS} others at most")
        return [*others, card]

    return add


def removing(owner: bytes) -> Change:
    """The change that takes back from the vault with this owner id."""

    def remove(cards: list[ContactCard]) -> Optional[list[ContactCard]]:
        others = [each for each in cards if each.owner != owner]
        return None if len(others) == len(cards) else others

    return remove


async def shared_with(repository: Repository, image: Held) -> list[ContactCard]:
    """The cards of those whom an image of this vault's own is shared with; NotEnoughError as in `find_current`."""
    cards: dict[bytes, ContactCard] = {}
    for encoding in repository.own(image):
        cards.update({card.owner: card for card in (await find_current(repository, encoding)).cards})
    return list(cards.values())


async def change_image(repository: Repository, image: Held, change: Change, name: str) -> list[str]:
    """Change all encodings of this vault's own that are not so yet; the names of devices that could not be told.

    NotFoundError where none is shared with `name`, from whom it was to be taken back.
    """
    own = repository.own(image)
    if not own:
        raise RefusedError("only its owner can share it or take it back; it is another vault's")
    currents = [await find_current(repository, encoding) for encoding in own]
    changed = [change(current.cards) for current in currents]
    if all(cards is None for cards in changed):
        raise NotFoundError(f"it is not shared with {name}; nothing was changed")
    untold: list[str] = []
    for encoding, current, cards in zip(own, currents, changed):
        if cards is not None:
            rights = [right_to(repository, encoding, current.mapping)]
            untold += await amend(repository, encoding.encoding_id, current, cards, rights)
    return sorted(set(untold) | set(repository.absent(own)))
