"""The commands about images: verify, repair, strengthen, delete, undelete."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from admin.vault_commands import PASSPHRASE_FILE, vault_passphrase
from common.coding.redundancy import require_possible
from common.errors import NotAgreedError, UsageError
from common.files import lock
from common.home import home
from common.membership.identity import client_identity
from common.process.program import warn
from common.text import check_hash, count, parse_duration, printable

if TYPE_CHECKING:
    from admin.vault_work import VaultWork
    from admin.verifying import Verdict
    from common.repository.repository import Repository
    from common.vault.mapping import Mapping

_HASH_HELP = "SHA-256 of an image, or its first eight or more digits; may be repeated."
_HASHES = typer.Option(None, "--hash", envvar="TESSERA_HASH", help=_HASH_HELP)
# What to delete is given on the command line only, never by a variable that was set for something else.
_HASHES_ON_THE_LINE = typer.Option(None, "--hash", help=_HASH_HELP)
_ALL = typer.Option(False, "--all", envvar="TESSERA_ALL", help="All images of the vault.")
_JSON = typer.Option(False, "--json", envvar="TESSERA_JSON", help="Print a JSON object per image.")
_UNKNOWN = "(stored from another machine: give its whole SHA-256)"
DRY_RUN = typer.Option(False, "--dry-run", help="Say what would be done, and do nothing.")
YES = typer.Option(False, "--yes", help="Do not ask.")
TRASH_DAYS = typer.Option(
    7, "--trash-days", envvar="TESSERA_TRASH_DAYS", min=0, max=365, help="Days in which `undelete` takes it back."
)


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
    from admin.verifying import Found, keep_proof, missing_json, verify_images, with_missing
    from common.repository.images import counted

    chosen = _chosen(hashes, everything)

    async def verify_held(repository: Repository) -> Found:
        found = await verify_images(repository, await repository.holdings(chosen), deep=deep)
        return found if chosen is not None else await with_missing(repository, found)

    with opened("verifying", passphrase_file, changes=False) as work:
        found = work.run(verify_held)
    if chosen is None and found.proof is not None:
        keep_proof(home(), found.proof)
    if as_json:
        for line in [verdict.as_json() for verdict in found.verdicts] + [missing_json(each) for each in found.missing]:
            print(json.dumps(line))
    else:
        _show(found.verdicts, deep)
    if not found.verdicts and not found.unreadable and not found.missing:
        warn("the vault holds no image")
    for mapping in found.missing:
        warn(f"{mapping.image_sha256.hex()[:16]}: no device tells of it: {described(mapping)}")
    if found.missing:
        warn(f"admin: {counted(found.missing)} that were stored are on no device that the broker knows of now")
    if found.unreadable:
        warn(f"admin: {count(found.unreadable, 'more object')} cannot even be named: their devices are not connected")
    return found.exit_code


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
    """Have missing and damaged shares rebuilt now, waiting for no device; keep one encoding of what is stored twice."""
    from admin.repairing import repair_held

    chosen = _chosen(hashes, everything)
    with opened("repairing", passphrase_file, changes=False) as work:
        return work.run(lambda repository: repair_held(repository, chosen, to or []))


def strengthen(
    hashes: Optional[list[str]] = _HASHES,
    everything: bool = _ALL,
    k: Optional[int] = typer.Option(None, "-k", "--k", help="Shares that restore an image; as for a new one."),
    n: Optional[int] = typer.Option(None, "-n", "--n", help="Shares made, one a device; as for a new image."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Store anew what is stored weaker than the devices allow that are alive now, and delete the old shares."""
    from admin.strengthening import strengthen_held

    require_possible(k, n)
    chosen = _chosen(hashes, everything)
    with opened("strengthening", passphrase_file) as work, lock(work.vault.folder / "rotation.lock"):
        # Nor may the vault key change meanwhile.
        return work.run(lambda repository: strengthen_held(repository, chosen, k, n))


def delete(
    hashes: Optional[list[str]] = _HASHES_ON_THE_LINE,
    dry_run: bool = DRY_RUN,
    trash_days: int = TRASH_DAYS,
    yes: bool = YES,
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Delete images from all devices, also from those that are away; says which snapshots name them under what path."""
    from admin.deleting import delete_images, find_deletion
    from admin.pruning import let_go

    async def delete_found(repository: Repository) -> int:
        await let_go(repository, {image.mapping.image_sha256 for image in found.images}, trash_days)
        return await delete_images(repository, found.images, trash_days)

    wanted = hashes or []
    if not wanted:
        raise UsageError("give --hash")
    require_hashes(wanted)
    if not (yes or dry_run) and not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; say --yes to delete without asking")
    with opened("deleting", passphrase_file, changes=not dry_run) as work:
        found = work.run(lambda repository: find_deletion(repository, wanted))
        say = warn if yes else print
        for image in found.images:
            places = found.places_of(image)
            if places or not yes:
                say(f"{image.sha256}  {described(image.mapping)}")
            for place in places:
                say(f"    {place.line}")
        for warning in found.warnings:
            warn(warning)
        if dry_run:
            return 0
        # Between two event loops: in one, the first Ctrl-C would only cancel its task.
        if not yes and not typer.confirm(_question(len(found.images), trash_days), err=True):
            raise NotAgreedError("nothing was deleted")
        return work.run(delete_found)


def undelete(
    hashes: Optional[list[str]] = _HASHES_ON_THE_LINE,
    list_: bool = typer.Option(False, "--list", help="Show what can be taken back, and until when."),
    everything: bool = typer.Option(
        False,
        "--all",
        help="With --since: all that was deleted since then, whoever did it, as long as devices hold it.",
    ),
    since: Optional[str] = typer.Option(None, help="How long ago, such as 12h or 7d."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Take deleted images back, as long as they are in the trash."""
    from admin.deleting import EMPTY_TRASH, list_deleted
    from admin.undeleting import undelete_all, undelete_images

    if [bool(hashes), list_, everything].count(True) != 1:
        raise UsageError("give one of --hash, --list and --all")
    if everything != (since is not None):
        raise UsageError("--all needs --since, and --since goes with --all")
    seconds = parse_duration(since) if since is not None else 0.0
    wanted = hashes or []
    require_hashes(wanted)
    with opened("taking back", passphrase_file, changes=not list_) as work:
        if everything:
            return work.run(lambda repository: undelete_all(repository, seconds))
        if not list_:
            return work.run(lambda repository: undelete_images(repository, wanted))
        deleted = work.run(list_deleted)
    for image in deleted:
        print(f"{image.sha256 or _UNKNOWN}  until {image.until_words}  {printable(image.name)}")
    if not deleted:
        warn(EMPTY_TRASH)
    return 0


@contextmanager
def opened(doing: str, passphrase_file: Optional[Path], *, changes: bool = True) -> Iterator[VaultWork]:
    """The vault on this machine, unlocked, and told of at the terminal what is done with it; as of `VaultWork`."""
    from admin.printer import AdminPrinter
    from admin.vault_work import VaultWork

    with AdminPrinter(doing) as printer:
        yield VaultWork(client_identity(), home(), vault_passphrase(passphrase_file), printer, changes=changes)


def _chosen(hashes: Optional[list[str]], everything: bool) -> Optional[list[str]]:
    """The hashes, or None for all images."""
    if bool(hashes) == everything:
        raise UsageError("give one of --hash and --all")
    require_hashes(hashes or [])
    return hashes or None


def require_hashes(hashes: list[str]) -> None:
    """UsageError where one is no hash, before a passphrase is asked for."""
    for text in hashes:
        check_hash(text)


def described(mapping: Mapping) -> str:
    """Its name, and what it is where it is no image."""
    return printable(mapping.name) + ("" if mapping.kind is None else f" ({mapping.kind})")


def _question(count: int, trash_days: int) -> str:
    what = "this image" if count == 1 else f"these {count} images"
    back = f"`undelete` can take it back for {trash_days} days" if trash_days else "into no trash; devices may hold it"
    return f"Delete {what} from all devices? ({back})"


def _show(verdicts: Sequence[Verdict], deep: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from common.repository.images import counted

    how = "every share read" if deep else "asked what is there"
    table = Table(title=f"{counted(verdict.image.mapping for verdict in verdicts)}, {how}")
    table.add_column("image")
    table.add_column("state")
    for column in ("shares", "may lose"):
        table.add_column(column, justify="right")
    table.add_column("name")
    for verdict in verdicts:
        health = verdict.health
        shares = f"{health.good} of {health.n}" + (f", {health.damaged} damaged" if health.damaged else "")
        name = Text(described(verdict.image.mapping))
        table.add_row(verdict.image.sha256[:16], health.words, shares, str(health.spare), name)
    Console(file=sys.stdout).print(table)
    weak = sum(verdict.weak for verdict in verdicts)
    if weak:
        print(f"{weak} could be stronger with the devices that are alive: admin.py strengthen --all")
    twice = sum(verdict.needless > 0 for verdict in verdicts)
    if twice:
        print(f"{twice} are stored more than once; to delete what is not needed: admin.py repair --all")
    for verdict in verdicts:
        for line in verdict.troubles:
            warn(f"{verdict.image.sha256[:16]}: {line}")
