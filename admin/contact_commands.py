"""The commands about people: contact cards, sharing an image with one of them, and taking that back."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from admin.image_commands import opened, require_hashes
from admin.vault_commands import PASSPHRASE_FILE, vault_folder, vault_passphrase
from common.home import home
from common.process.program import application, warn
from common.vault.contact_card import ContactCard, card_of, decode_card, require_name
from common.vault.contacts import Contacts, open_contacts

if TYPE_CHECKING:
    from admin.vault_work import VaultWork

contacts = application("Contact cards: your own, and those of people whom you share with or store for.")

_HASHES = typer.Option(..., "--hash", help="SHA-256 of an image, or its first eight or more digits; may be repeated.")
_WITH = typer.Option(..., "--with", help="The contact, by the name that `contacts add` gave it.")


@contacts.command()
def card(
    name: Optional[str] = typer.Option(None, envvar="TESSERA_CARD_NAME", help="The name on it; this machine's."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> None:
    """Print this vault's contact card, to hand to others."""
    name = name or socket.gethostname()
    require_name(name)
    key = vault_folder().unlock(vault_passphrase(passphrase_file))
    print(card_of(key, name).encode())
    warn("whoever has this card can share images with this vault and store for it; it reads nothing")


@contacts.command()
def add(
    name: str = typer.Argument(..., help="What to call them here."),
    card: str = typer.Argument(..., envvar="TESSERA_CARD", help="The line that their `contacts card` printed."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> None:
    """Know somebody's contact card by a name."""
    decoded = decode_card(card)
    require_name(name)
    _contacts(passphrase_file).add(name, decoded)
    print(f"added {name}")


@contacts.command("list")
def list_(passphrase_file: Optional[Path] = PASSPHRASE_FILE) -> None:
    """Print the contacts that this machine knows, and the name on each one's card."""
    found = _contacts(passphrase_file).all()
    for name, known in found.items():
        print(f"{name}  {known.name}")
    if not found:
        warn("there are no contacts on this machine")


@contacts.command()
def remove(
    name: str = typer.Argument(..., help="The contact's name."), passphrase_file: Optional[Path] = PASSPHRASE_FILE
) -> None:
    """Forget a contact. What is shared with them stays shared."""
    print(f"removed {_contacts(passphrase_file).remove(name)}")


def share(hashes: list[str] = _HASHES, with_: str = _WITH, passphrase_file: Optional[Path] = PASSPHRASE_FILE) -> int:
    """Let a contact restore images with their own vault."""
    from admin.sharing import adding, change_held

    require_hashes(hashes)
    with opened("sharing", passphrase_file) as work:
        name, card = _contact(work, with_)
        add = adding(name, card, work.key)
        return work.run(lambda repository: change_held(repository, hashes, add, name, f"shared with {name}"))


def unshare(hashes: list[str] = _HASHES, with_: str = _WITH, passphrase_file: Optional[Path] = PASSPHRASE_FILE) -> int:
    """Take images back from a contact, for the future: what they copied they keep."""
    from admin.sharing import change_held, removing

    require_hashes(hashes)
    with opened("sharing", passphrase_file) as work:
        name, card = _contact(work, with_)
        remove, done = removing(card.owner), f"taken back from {name}"
        exit_code = work.run(lambda repository: change_held(repository, hashes, remove, name, done))
    if exit_code == 0:
        warn(f"{name} cannot fetch it any more; what {name} has copied stays copied")
    return exit_code


def _contact(work: VaultWork, name: str) -> tuple[str, ContactCard]:
    """How a contact's name is spelled here, and their card."""
    known = Contacts(home(), work.key)
    return known.called(name), known.card(name)


def _contacts(passphrase_file: Optional[Path]) -> Contacts:
    return open_contacts(home(), lambda: vault_passphrase(passphrase_file))
