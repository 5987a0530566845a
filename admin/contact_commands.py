"""The commands about people: contact cards, sharing an image with one of them, and taking that back."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Optional

import typer

from admin.vault_commands import PASSPHRASE_FILE
from common.home import client_identity, home
from common.passphrase import read_passphrase
from common.program import application, complain
from common.vault.contact_card import card_of, decode_card
from common.vault.contacts import Contacts, open_contacts
from common.vault.folder import VaultFolder

contacts = application("Contact cards: your own, and those of people whom you share with or store for.")

_HASHES = typer.Option(..., "--hash", help="SHA-256 of an image, or its first eight or more digits; may be repeated.")
_WITH = typer.Option(..., "--with", help="The contact, by the name that `contacts add` gave it.")


@contacts.command()
def card(
    name: Optional[str] = typer.Option(None, envvar="TESSERA_CARD_NAME", help="The name on it; this machine's."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> None:
    """Print this vault's contact card, to hand to others."""
    key = VaultFolder(home()).unlock(read_passphrase(passphrase_file))
    print(card_of(key, name or socket.gethostname()).encode())
    complain("whoever has this card can share images with this vault and store for it; it reads nothing")


@contacts.command()
def add(
    name: str = typer.Argument(..., help="What to call them here."),
    card: str = typer.Argument(..., envvar="TESSERA_CARD", help="The line that their `contacts card` printed."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> None:
    """Know somebody's contact card by a name."""
    _contacts(passphrase_file).add(name, decode_card(card))
    print(f"added {name}")


@contacts.command("list")
def list_(passphrase_file: Optional[Path] = PASSPHRASE_FILE) -> None:
    """Print the contacts that this machine knows, and the name on each one's card."""
    for name, known in _contacts(passphrase_file).all().items():
        print(f"{name}  {known.name}")


@contacts.command()
def remove(
    name: str = typer.Argument(..., help="The contact's name."), passphrase_file: Optional[Path] = PASSPHRASE_FILE
) -> None:
    """Forget a contact. What is shared with them stays shared."""
    _contacts(passphrase_file).remove(name)
    print(f"removed {name}")


def share(hashes: list[str] = _HASHES, with_: str = _WITH, passphrase_file: Optional[Path] = PASSPHRASE_FILE) -> int:
    """Let a contact restore images with their own vault."""
    from admin.sharing import Sharing

    return Sharing(client_identity(), home(), read_passphrase(passphrase_file)).share(hashes, with_)


def unshare(hashes: list[str] = _HASHES, with_: str = _WITH, passphrase_file: Optional[Path] = PASSPHRASE_FILE) -> int:
    """Take images back from a contact, for the future: what they copied they keep."""
    from admin.sharing import Sharing

    return Sharing(client_identity(), home(), read_passphrase(passphrase_file)).unshare(hashes, with_)


def _contacts(passphrase_file: Optional[Path]) -> Contacts:
    return open_contacts(home(), lambda: read_passphrase(passphrase_file))
