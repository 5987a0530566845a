"""The contacts that images may be shared with, and those they are shared with now."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from admin.sharing import shared_with
from common.errors import TesseraError
from common.text import printable
from common.vault.contact_card import ContactCard, card_of
from common.vault.contacts import Contacts
from desktop.background import Background, Task
from desktop.model.entries import Entry
from desktop.model.model import Model
from desktop.session import Session


@dataclass(frozen=True)
class Recipient:
    """Somebody whom some of the images are shared with. `contact`: their name here, or empty."""

    name: str  # by which they are shown
    contact: str
    owner: bytes
    images: tuple[str, ...]  # SHA-256


class SharingModel(Model):
    """`contacts`: names. `recipients`: of the images that were asked about; None before.

    `told`: the error, as text.
    """

    def __init__(self, session: Session, background: Background) -> None:
        super().__init__(session, background)
        self.contacts: list[str] = []
        self.recipients: Optional[list[Recipient]] = None
        self._task: Optional[Task] = None

    @property
    def own_card(self) -> str:
        """This vault's contact card, to be given to others."""
        return card_of(self.session.key, socket.gethostname()).encode()

    def read(self, images: Sequence[Entry]) -> None:
        """Find the contacts, and whom these images are shared with."""
        self.leave()
        self.recipients, self.told = None, ""
        contacts = Contacts(self.session.home, self.session.key)
        self.background.run(contacts.all, done=lambda known: self._know(images, known), failed=self.fail)

    def leave(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _know(self, images: Sequence[Entry], known: dict[str, ContactCard]) -> None:
        self.contacts = list(known)
        self._task = self.background.start(
            lambda: self._shared_with([image.sha256 for image in images]),
            done=lambda cards: self._see(recipients_of(cards, known)),
            failed=self._not_told,
        )
        self.changed()

    async def _shared_with(self, hashes: Sequence[str]) -> dict[str, list[ContactCard]]:
        async with self.session.opened() as repository:
            held = {image.sha256: image for image in (await repository.holdings()).images}
            return {sha256: await shared_with(repository, held[sha256]) for sha256 in hashes if sha256 in held}

    def _see(self, recipients: list[Recipient]) -> None:
        self._task, self.recipients = None, recipients
        self.changed()

    def _not_told(self, error: TesseraError) -> None:
        """Sharing is possible all the same."""
        self._task, self.told = None, f"With whom it is shared now is not known: {error}."
        self.changed()


def recipients_of(cards: Mapping[str, Sequence[ContactCard]], contacts: Mapping[str, ContactCard]) -> list[Recipient]:
    """The owners of these cards, given by SHA-256, under the names of this machine's `contacts`."""
    called = {card.owner: name for name, card in contacts.items()}
    images: dict[bytes, list[str]] = {}
    named: dict[bytes, str] = {}
    for sha256, several in cards.items():
        for card in several:
            images.setdefault(card.owner, []).append(sha256)
            named[card.owner] = called.get(card.owner, card.name)
    found = [
        Recipient(printable(named[owner]), called.get(owner, ""), owner, tuple(hashes))
        for owner, hashes in images.items()
    ]
    return sorted(found, key=lambda recipient: recipient.name.casefold())
