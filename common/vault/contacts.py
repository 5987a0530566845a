"""The contact cards that this machine knows, by the names that its user gave them.

    vault/contacts           where there is a vault: salt (32) ‖ ciphertext ‖ tag, sealed under it
    client/contacts.json     where there is none, as on a camera that only stores: plain, of mode 0600

Either is a JSON list of {"name", "card"}. Sealed under a one-time key of the contacts subkey (`one_time`).
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Callable, Optional

import msgspec

from common.errors import IntegrityError, NotFoundError, UsageError
from common.files import locked, read_limited, write_private
from common.vault.contact_card import ContactCard, decode_card, require_name
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from common.vault.one_time import open_sealed, seal

_LABEL = b"tessera/v1/contacts"
_MAX_FILE = 1 << 20


def open_contacts(home: Path, passphrase: Callable[[], str]) -> Contacts:
    """The contacts of this machine: under its vault where there is one, whose `passphrase` is asked for then.

    RefusedError where that is wrong.
    """
    vault = VaultFolder(home)
    if not vault.key_path.exists():
        return Contacts(home, None)
    vault.require()
    return Contacts(home, vault.unlock(passphrase()))


class _Entry(msgspec.Struct):
    name: str
    card: str


def _folded(name: str) -> str:
    """Equal for names that match: Unicode Standard, section 3.13, canonical caseless matching."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


class Contacts:
    def __init__(self, home: Path, key: Optional[VaultKey]) -> None:
        """`key`: the vault's, or None on a machine without one."""
        self._home = home
        self._path = home / "client" / "contacts.json" if key is None else home / "vault" / "contacts"
        self._key = key

    def all(self) -> dict[str, ContactCard]:
        """All cards by name, in the order of names; IntegrityError where the file is damaged."""
        try:
            content = read_limited(self._path, _MAX_FILE)
        except FileNotFoundError:
            return {}
        try:
            entries = msgspec.json.decode(self._opened(content), type=list[_Entry])
            return {entry.name: decode_card(entry.card) for entry in entries}
        except (IntegrityError, ValueError, RecursionError, UsageError):
            raise IntegrityError(f"{self._path} is damaged", advice="remove it, and add the contacts again") from None

    def card(self, name: str) -> ContactCard:
        """The card with this name; errors as of `called`."""
        return self.all()[self.called(name)]

    def called(self, name: str) -> str:
        """A contact's name as it was added, in whatever case it is typed; NotFoundError where there is none.

        UsageError where several differ from it in case only, and none is written exactly so; `add` refuses such names
        now.
        """
        names = self.all()
        found = [name] if name in names else [known for known in names if _folded(known) == _folded(name)]
        if len(found) > 1:
            raise UsageError(f"several contacts are called so: {', '.join(found)}", advice="write it as one of them is")
        if not found:
            raise NotFoundError(
                f"there is no contact called {name} on this machine",
                advice="see those that there are with: python admin/admin.py contacts list",
            )
        return found[0]

    def add(self, name: str, card: ContactCard) -> None:
        """Add a card by this name; UsageError where another card has the name, be it in another case."""
        require_name(name)
        with locked(self._lock):
            others: dict[str, ContactCard] = {}
            for known, other in self.all().items():
                if _folded(known) != _folded(name):
                    others[known] = other
                elif other != card:
                    raise UsageError(
                        f"there is another contact called {known}",
                        advice="remove that one first, or choose another name",
                    )
            self._save({**others, name: card})

    def remove(self, name: str) -> str:
        """Remove a card; its name as it was added. Errors as of `called`."""
        with locked(self._lock):
            called = self.called(name)
            self._save({known: card for known, card in self.all().items() if known != called})
            return called

    def take_over(self, former: VaultKey) -> None:
        """Seal what is sealed under the former vault key anew; harmless where that is done.

        IntegrityError as in `all`.
        """
        with locked(self._lock):
            try:
                self.all()
            except IntegrityError:
                self._save(Contacts(self._home, former).all())

    @property
    def _lock(self) -> Path:
        return self._path.with_name("contacts.lock")

    def _save(self, contacts: dict[str, ContactCard]) -> None:
        entries = [{"name": name, "card": card.encode()} for name, card in sorted(contacts.items())]
        content = json.dumps(entries).encode()
        if self._key is not None:
            content = seal(self._key.contacts_subkey(), _LABEL, content)
        write_private(self._path, content)

    def _opened(self, content: bytes) -> bytes:
        return content if self._key is None else open_sealed(self._key.contacts_subkey(), _LABEL, content)
