"""The two-person rule's commands: who has to approve that a trash is emptied early, and emptying it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from admin.image_commands import YES, opened
from admin.vault_commands import PASSPHRASE_FILE, vault_folder, vault_passphrase
from common.errors import NotAgreedError, NotFoundError, RefusedError, UsageError
from common.files import read_limited, require_new, write_new
from common.home import home
from common.process.program import application, warn
from common.protocol.approvals import LEAST_NEEDED
from common.protocol.messages import MAX_APPROVERS, ApproverList
from common.text import count, format_duration, printable
from common.vault.contacts import Contacts

if TYPE_CHECKING:
    from admin.approval_files import EmptyingRequest
    from admin.approving import Change, KnownLists
    from admin.vault_work import VaultWork
    from common.repository.repository import Repository
    from common.vault.keys import VaultKey

approvers = application("People who have to agree, two at least, before anything is emptied early from the trash.")

_NAMES = typer.Argument(..., help="Contacts, by the names that `contacts add` gave them.")
_REQUEST = typer.Argument(..., help="The file that `approvers request` wrote.")
Names = Mapping[bytes, str]  # owner key → what they are called here


@approvers.command()
def add(
    names: list[str] = _NAMES,
    need: Optional[int] = typer.Option(
        None,
        "--need",
        envvar="TESSERA_APPROVERS_NEED",
        min=LEAST_NEEDED,
        help="How many have to sign; 2, or as before.",
    ),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Name contacts as approvers, in effect once the devices' hold is over. Said again, devices that lack it get it."""
    with opened("naming approvers", passphrase_file) as work:
        cards = Contacts(home(), work.key)
        new = [cards.card(name).owner_key for name in names]
        if work.key.owner_key() in new:
            raise UsageError("this very vault is no approver of its own")
        known = _known_names(work.key)

        def added(before: Sequence[bytes], needed: int) -> tuple[Sequence[bytes], int]:
            strangers = [key for key in before if key not in known]
            if strangers:
                raise RefusedError(
                    f"{_called(strangers[0], known)} is named already, and is no contact of yours",
                    advice="see: python admin/admin.py approvers list, and remove whom you did not name",
                )
            return _checked({*before, *new}, need or needed or LEAST_NEEDED)

        return _name(work, added)


@approvers.command()
def remove(
    names: list[str] = typer.Argument(..., help="Contacts, or what `approvers list` calls who is none."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Have approvers count no more, once the devices' hold is over."""
    with opened("naming approvers", passphrase_file) as work:
        known = _known_names(work.key)

        def removed(before: Sequence[bytes], needed: int) -> tuple[Sequence[bytes], int]:
            called = {_called(key, known): key for key in before}
            for name in names:
                if name not in called:
                    raise NotFoundError(f"{name} is no approver", advice="see: python admin/admin.py approvers list")
            left = set(before) - {called[name] for name in names}
            return _checked(left, min(needed, max(len(left), LEAST_NEEDED))) if left else ([], 0)

        return _name(work, removed)


@approvers.command("list")
def list_(passphrase_file: Optional[Path] = PASSPHRASE_FILE) -> int:
    """Print who is in effect and who is under way, on which devices, and since when."""
    from admin.approving import ask_approvers

    with opened("asking for approvers", passphrase_file, changes=False) as work:
        names = _known_names(work.key)

        async def ask(repository: Repository) -> tuple[KnownLists, dict[bytes, str]]:
            lists = await ask_approvers(repository)
            return lists, {device: repository.name_of(device) for device in lists.by_device}

        lists, devices = work.run(ask)
    for line in _lines(lists, devices, names):
        print(line)
    return 0


@approvers.command()
def request(
    file: Path = typer.Argument(..., help="Where to write what the approvers are to sign."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> None:
    """Ask that all that is in the trash now is emptied before its time: a file for the approvers."""
    from admin.approval_files import encode_request
    from admin.approving import make_request

    require_new(file)
    with opened("asking for approval", passphrase_file) as work:
        made = work.run(make_request)
        write_new(file, encode_request(made))
        names = _known_names(work.key)
    print(f"wrote {file}: {_what(made)}")
    warn(f"{made.named.needed} of these have to sign it (approvers sign FILE): {_listed(made.named, names)}")


@approvers.command()
def sign(
    file: Path = _REQUEST,
    output: Path = typer.Option(..., "--output", help="Where to write the signature, for the owner."),
    yes: bool = YES,
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> None:
    """Approve what a vault's owner asks for, on your own machine. Ask them whether it is from them."""
    from admin.approval_files import encode_approval

    require_new(output)
    asked = _read_request(file)
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; say --yes to sign without asking")
    key = vault_folder().unlock(vault_passphrase(passphrase_file))
    names = _known_names(key)
    if key.owner_key() not in asked.named.approvers:
        raise RefusedError("this vault is none of the approvers that the request names")
    warn(f"the vault of {_called(asked.named.owner_key, names)} asks to empty its trash for good: {_what(asked)}")
    if not yes and not typer.confirm("Approve?", err=True):
        raise NotAgreedError("nothing was signed")
    write_new(output, encode_approval(key.approval(asked.named, asked.digests)))
    print(f"wrote {output}")


@approvers.command("empty")
def empty(
    file: Path = _REQUEST,
    signatures: list[Path] = typer.Argument(..., help="The files that approvers wrote with `approvers sign`."),
    yes: bool = YES,
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Have the devices empty what the approvers signed. Nothing brings it back."""
    from admin.approval_files import MAX_APPROVAL, decode_approval
    from admin.approving import empty_trash, require_approved

    asked = _read_request(file)
    approvals = [decode_approval(_read(path, MAX_APPROVAL)) for path in signatures]
    require_approved(asked, approvals)
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; say --yes to empty it without asking")
    with opened("emptying the trash", passphrase_file) as work:
        if work.key.owner_key() != asked.named.owner_key:
            raise RefusedError("this request is another vault's")
        if not yes and not typer.confirm(f"Empty the trash of {_what(asked)}, for good?", err=True):
            raise NotAgreedError("nothing was emptied")
        exit_code = work.run(lambda repository: empty_trash(repository, asked, approvals))
    if exit_code == 0:
        print(f"emptied the trash of {_what(asked)}")
    return exit_code


def _name(work: VaultWork, change: Change) -> int:
    from admin.approving import name_approvers

    named, devices = work.run(lambda repository: name_approvers(repository, change))
    names = _known_names(work.key)
    who = _who(named, names)
    print(f"may empty early once the devices' hold is over: {who}; on {', '.join(map(printable, devices))}")
    return 0


def _checked(named: set[bytes], need: int) -> tuple[Sequence[bytes], int]:
    """UsageError where devices would take no such list."""
    if len(named) > MAX_APPROVERS:
        raise UsageError(f"a vault has {MAX_APPROVERS} approvers at most")
    if len(named) < need:
        raise UsageError(f"{len(named)} approvers are fewer than the {need} who have to sign")
    return sorted(named), need


def _known_names(key: VaultKey) -> Names:
    """What the owners of cards are called on this machine."""
    cards = Contacts(home(), key).all()
    return {card.owner_key: name for name, card in cards.items()}


def _called(owner_key: bytes, names: Names) -> str:
    """A contact's name, or the beginning of the key of who is none."""
    return printable(names[owner_key]) if owner_key in names else owner_key.hex()[:16]


def _listed(named: ApproverList, names: Names) -> str:
    return ", ".join(sorted(_called(key, names) for key in named.approvers))


def _lines(lists: KnownLists, devices: Mapping[bytes, str], names: Names) -> list[str]:
    """A line for each list that is in effect, or under way, with the devices where it is."""
    in_effect: dict[str, list[str]] = {}
    under_way: dict[str, list[bytes]] = {}
    for device, known in lists.by_device.items():
        in_effect.setdefault(_who(known.in_effect, names), []).append(printable(devices[device]))
        if known.under_way is not None:
            under_way.setdefault(_who(known.under_way, names), []).append(device)
    lines = [f"in effect: {who}; on {', '.join(sorted(on))}" for who, on in in_effect.items()]
    for who, on in under_way.items():
        age = format_duration(max(lists.by_device[device].age for device in on))
        left = format_duration(max(lists.by_device[device].left for device in on))
        where = ", ".join(sorted(printable(devices[device]) for device in on))
        lines.append(f"UNDER WAY: {who}; named {age} ago, in effect in {left}; on {where}")
    return lines


def _who(named: Optional[ApproverList], names: Names) -> str:
    return "nobody" if named is None or not named.needed else f"{named.needed} of {_listed(named, names)}"


def _what(request: EmptyingRequest) -> str:
    """What is asked for, in the owner's words."""
    deleted = request.oldest + max(0, int(time.time()) - request.made)
    images = count(request.images, "object")
    return f"{count(len(request.deletions), 'deletion')} ({images}, the oldest {format_duration(deleted)} ago)"


def _read_request(file: Path) -> EmptyingRequest:
    from admin.approval_files import MAX_REQUEST, decode_request

    return decode_request(_read(file, MAX_REQUEST))


def _read(file: Path, limit: int) -> bytes:
    try:
        return read_limited(file, limit)
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {file}") from None
