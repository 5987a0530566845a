"""`share` and `unshare`: who else may read an image is written anew beside every share of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

from admin.amending import amend, find_current, right_to
from admin.ownership import is_own
from admin.session import Session, VaultWork, change_each
from common.errors import NotFoundError, RefusedError, UsageError
from common.link.link import run_with_link
from common.program import complain
from common.protocol.messages import MAX_GRANTS
from common.vault.contact_card import ContactCard
from common.vault.contacts import Contacts
from consumer.holdings import Held

Change = Callable[[list[ContactCard]], list[ContactCard]]


class Sharing(VaultWork):
    """One run of `share` or `unshare`."""

    def share(self, hashes: Sequence[str], name: str) -> int:
        """Share images with a contact; a line for each. The exit code."""
        card = Contacts(self._home, self._key).card(name)
        if card.owner == self._own_owner():
            raise UsageError(f"{name} is this very vault")

        def add(cards: list[ContactCard]) -> list[ContactCard]:
            others = [each for each in cards if each.owner != card.owner]
            if len(others) >= MAX_GRANTS:
                raise UsageError(f"an image is shared with {MAX_GRANTS} others at most")
            return [*others, card]

        return run_with_link(self._change(hashes, add, f"shared with {name}"))

    def unshare(self, hashes: Sequence[str], name: str) -> int:
        """Take images back from a contact; a line for each. The exit code."""
        card = Contacts(self._home, self._key).card(name)

        def remove(cards: list[ContactCard]) -> list[ContactCard]:
            others = [each for each in cards if each.owner != card.owner]
            if len(others) == len(cards):
                raise NotFoundError(f"is not shared with {name}")
            return others

        exit_code = run_with_link(self._change(hashes, remove, f"taken back from {name}"))
        complain(f"{name} cannot fetch it any more; what {name} has copied stays copied")
        return exit_code

    async def _change(self, hashes: Sequence[str], change: Change, done: str) -> int:
        async with self.session() as session:
            return await change_each(
                await session.images(hashes),
                lambda image: _change_image(session, image, change),
                done,
                "not reached; it is changed there when they come back",
            )


async def _change_image(session: Session, image: Held, change: Change) -> list[str]:
    """Change all encodings of this vault's own; the names of devices that could not be told."""
    own = [e for e in image.encodings if is_own(session.key, e, session.mapping_of(image, e))]
    if not own:
        raise RefusedError("only its owner can share it or take it back; it is another vault's")
    untold: list[str] = []
    for encoding in own:
        current = await find_current(session, encoding)
        rights = [right_to(session, encoding, current.mapping)]
        untold += await amend(session, encoding.encoding_id, current, change(current.cards), rights)
    return sorted(set(untold) | set(session.absent(own)))
