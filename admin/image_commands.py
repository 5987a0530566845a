"""The commands about images: proving that they can be restored, mending, deleting and taking that back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import typer

from admin.vault_commands import PASSPHRASE_FILE, vault_passphrase
from common.coding.redundancy import require_possible
from common.errors import UsageError
from common.home import client_identity, home
from common.repository.hashes import check_hash

_HASH_HELP = "SHA-256 of an image, or its first eight or more digits; may be repeated."
_HASHES = typer.Option(None, "--hash", envvar="TESSERA_HASH", help=_HASH_HELP)
# What is deleted is said on the command line, never by a variable that was set for something else.
_HASHES_ON_THE_LINE = typer.Option(None, "--hash", help=_HASH_HELP)
_ALL = typer.Option(False, "--all", envvar="TESSERA_ALL", help="All images of the vault.")
_JSON = typer.Option(False, "--json", envvar="TESSERA_JSON", help="Print a JSON object per image.")
_YES = typer.Option(False, "--yes", help="Do not ask.")


def verify(
    hashes: Optional[list[str]] = _HASHES,
    everything: bool = _ALL,
    deep: bool = typer.Option(
        False,
        "--deep",
        envvar="TESSERA_DEEP",
        help="Fetch every share and check it to the last byte, instead of asking what is there.",
    ),
    as_json: bool = _JSON,
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Check whether images can be restored, and how many devices may still be lost."""
    from admin.proving import Proving

    chosen = _chosen(hashes, everything)
    return Proving(client_identity(), home(), vault_passphrase(passphrase_file)).verify(chosen, deep, as_json)


def repair(
    hashes: Optional[list[str]] = _HASHES,
    everything: bool = _ALL,
    # Never by a variable that was set for the producer's --to: it changes who makes the shares.
    to: Optional[list[str]] = typer.Option(
        None,
        "--to",
        help="A device that may get them; may be repeated. This machine makes the shares then, in place of the broker, "
        "which puts them wherever there is room.",
    ),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Have missing and damaged shares rebuilt now, instead of waiting for devices to come back."""
    from admin.completing import Completing
    from admin.mending import Mending

    chosen = _chosen(hashes, everything)
    unlocked = client_identity(), home(), vault_passphrase(passphrase_file)
    return Completing(*unlocked).complete(chosen, to) if to else Mending(*unlocked).repair(chosen)


def strengthen(
    hashes: Optional[list[str]] = _HASHES,
    everything: bool = _ALL,
    k: Optional[int] = typer.Option(None, "-k", "--k", help="Shares that restore an image; as for a new one."),
    n: Optional[int] = typer.Option(None, "-n", "--n", help="Shares made, one a device; as for a new image."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Store anew what is stored weaker than the devices allow that are alive now, and delete the old shares."""
    from admin.strengthening import Strengthening

    require_possible(k, n)
    chosen = _chosen(hashes, everything)
    return Strengthening(client_identity(), home(), vault_passphrase(passphrase_file)).strengthen(chosen, k, n)


def delete(
    hashes: Optional[list[str]] = _HASHES_ON_THE_LINE,
    trash_days: int = typer.Option(
        7, "--trash-days", envvar="TESSERA_TRASH_DAYS", min=0, max=365, help="Days in which `undelete` takes it back."
    ),
    yes: bool = _YES,
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Delete images from all devices, also from those that are away and come back later."""
    from admin.deleting import Deleting

    if not hashes:
        raise UsageError("give --hash")
    _require_hashes(hashes)
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; say --yes to delete without asking")
    work = Deleting(client_identity(), home(), vault_passphrase(passphrase_file))
    return work.delete(hashes, trash_days, ask=None if yes else _ask)


def undelete(
    hashes: Optional[list[str]] = _HASHES_ON_THE_LINE,
    list_: bool = typer.Option(False, "--list", help="Show what can be taken back, and until when."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Take deleted images back, as long as they are in the trash."""
    from admin.deleting import Deleting

    if bool(hashes) == list_:
        raise UsageError("give one of --hash and --list")
    _require_hashes(hashes or [])
    work = Deleting(client_identity(), home(), vault_passphrase(passphrase_file))
    return work.print_trash() if list_ else work.undelete(hashes or [])


def _chosen(hashes: Optional[list[str]], everything: bool) -> Optional[list[str]]:
    """The hashes, or None for all images."""
    if bool(hashes) == everything:
        raise UsageError("give one of --hash and --all")
    _require_hashes(hashes or [])
    return hashes or None


def _require_hashes(hashes: list[str]) -> None:
    """UsageError where one is no hash, told before anybody is asked for a passphrase."""
    for text in hashes:
        check_hash(text)


def _ask(question: str) -> bool:
    return typer.confirm(question, err=True)
