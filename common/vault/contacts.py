"""The contact cards that this machine knows, by the names that its user gave them.

    vault/contacts           where there is a vault: salt (32) ‖ ciphertext ‖ tag, sealed under it
    client/contacts.json     where there is none, as on a camera that only stores: plain, of mode 0600

Either is a JSON list of {"name", "card"}. Sealed by AES-256-GCM with HKDF-Expand(contacts subkey, label ‖ salt), which
is used once, and so a nonce of zeros.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Callable, Optional

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import IntegrityError, NotFoundError, UsageError
from common.files import locked, read_limited, write_private
from common.vault.contact_card import MAX_NAME, ContactCard, decode_card
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey, expand

_LABEL = b"tessera/v1/contacts"
_SALT_SIZE = 32
_NONCE = bytes(12)
_MAX_FILE = 1 << 20


def open_contacts(home: Path, passphrase: Callable[[], str]) -> Contacts:
    """The contacts of this machine: under its vault where there is one, whose `passphrase` is asked for then.

    RefusedError where that is wrong.
    """
    vault = VaultFolder(home)
    return Contacts(home, vault.unlock(passphrase()) if vault.key_path.exists() else None)


class _Entry(msgspec.Struct):
    name: str
    card: str


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
        except (InvalidTag, ValueError, RecursionError, UsageError):
            raise IntegrityError(f"{self._path} is damaged", advice="remove it, and add the contacts again") from None

    def card(self, name: str) -> ContactCard:
        """The card with this name; NotFoundError where there is none."""
        found = self.all().get(name)
        if found is None:
            raise NotFoundError(
                f"there is no contact called {name} on this machine",
                advice="see those that there are with: python admin/admin.py contacts list",
            )
        return found

    def add(self, name: str, card: ContactCard) -> None:
        """Know a card by this name; UsageError where the name is taken by another card."""
        if not 1 <= len(name.encode("utf-8", "replace")) <= MAX_NAME or not name.isprintable():
            raise UsageError(f"a contact's name has 1 to {MAX_NAME} bytes, all printable")
        with locked(self._lock):
            contacts = self.all()
            if contacts.get(name, card) != card:
                raise UsageError(
                    f"there is another contact called {name}",
                    advice="remove that one first, or choose another name",
                )
            self._save({**contacts, name: card})

    def remove(self, name: str) -> None:
        """Forget a card; NotFoundError where there is none of this name."""
        with locked(self._lock):
            self.card(name)
            self._save({known: card for known, card in self.all().items() if known != name})

    def take_over(self, former: VaultKey) -> None:
        """Seal what is sealed under the vault key before; harmless where that is done. IntegrityError as in `all`."""
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
            salt = secrets.token_bytes(_SALT_SIZE)
            content = salt + self._cipher(self._key, salt).encrypt(_NONCE, content, None)
        write_private(self._path, content)

    def _opened(self, content: bytes) -> bytes:
        if self._key is None:
            return content
        salt, sealed = content[:_SALT_SIZE], content[_SALT_SIZE:]
        return self._cipher(self._key, salt).decrypt(_NONCE, sealed, None)

    @staticmethod
    def _cipher(key: VaultKey, salt: bytes) -> AESGCM:
        return AESGCM(expand(key.contacts_subkey(), _LABEL + salt))
