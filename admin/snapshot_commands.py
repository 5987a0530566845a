"""The commands about snapshots: forget, prune."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from admin.image_commands import DRY_RUN, TRASH_DAYS, YES, described, opened
from admin.vault_commands import PASSPHRASE_FILE
from common.errors import NotAgreedError, UsageError
from common.process.program import warn
from common.text import format_size, parse_duration, printable

if TYPE_CHECKING:
    from common.repository.images import Held
    from common.repository.repository import Repository
    from consumer.snapshots import KeptSnapshot

_NS = 1_000_000_000

_PRUNE_TRASH_DAYS = typer.Option(  # none would leave nothing to take back
    7, "--trash-days", envvar="TESSERA_TRASH_DAYS", min=1, max=365, help="Days in which `undelete` takes it back."
)


# What is kept is given on the command line only, never by a variable that was set for something else.
def forget(
    keep_last: int = typer.Option(0, "--keep-last", min=0, help="Keep so many of the newest."),
    keep_hourly: int = typer.Option(0, "--keep-hourly", min=0, help="Keep the newest of each of so many hours."),
    keep_daily: int = typer.Option(0, "--keep-daily", min=0, help="Keep the newest of each of so many days."),
    keep_weekly: int = typer.Option(0, "--keep-weekly", min=0, help="Keep the newest of each of so many weeks."),
    keep_monthly: int = typer.Option(0, "--keep-monthly", min=0, help="Keep the newest of each of so many months."),
    keep_yearly: int = typer.Option(0, "--keep-yearly", min=0, help="Keep the newest of each of so many years."),
    keep_within: Optional[str] = typer.Option(
        None, "--keep-within", help="Keep all that were taken so long before the newest, as 30d."
    ),
    label: Optional[str] = typer.Option(None, "--label", help="Only snapshots of this label."),
    dry_run: bool = DRY_RUN,
    trash_days: int = TRASH_DAYS,
    as_json: bool = typer.Option(False, "--json", envvar="TESSERA_JSON", help="Print a JSON object per snapshot."),
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Forget snapshots that a policy does not keep, each label by itself. What they named stays until `prune`."""
    from admin.deleting import delete_images
    from admin.retention import Policy, reasons_to_keep

    within = None if keep_within is None else parse_duration(keep_within)
    policy = Policy(keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, within)
    if not policy:
        raise UsageError("give at least one --keep-…: nothing is forgotten without a policy")

    with opened("forgetting", passphrase_file, changes=not dry_run) as work:
        found, images = work.run(lambda repository: _snapshots(repository, label))
        reasons = reasons_to_keep(found, policy, _local)
        for each in found:
            _say(each, reasons[each.sha256], as_json=as_json)
        dropped = {each.id for each in found if not reasons[each.sha256]}
        warn(f"{len(found) - len(dropped):,} kept, {len(dropped):,} {'would be ' if dry_run else ''}forgotten")
        if dry_run or not dropped:
            return 0
        unneeded = [image for image in images if image.sha256 in dropped]
        return work.run(lambda repository: delete_images(repository, unneeded, trash_days))


async def _snapshots(repository: Repository, label: Optional[str]) -> tuple[list[KeptSnapshot], list[Held]]:
    """Those of a label, of all where None, and all as they are stored.

    NotEnoughError where one cannot be read, which may be of it.
    """
    from consumer.snapshots import SnapshotReader, require_readable

    encodings = [each for each in await repository.list_encodings() if repository.key.is_snapshot(each.object_id)]
    found, failed = await SnapshotReader(repository).snapshots(encodings)
    require_readable(failed, "nothing was forgotten")
    held = (await repository.holdings(encodings=encodings)).images
    return [each for each in found if label in (None, each.snapshot.label)], held


def _say(kept: KeptSnapshot, reasons: list[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**kept.as_json(), "kept_for": reasons}))
        return
    what = f"keep ({', '.join(reasons)})" if reasons else "forget"
    when = _local(kept.snapshot.taken_at).strftime("%Y-%m-%d %H:%M")
    print(f"{kept.id[:8]}  {when}  {printable(kept.snapshot.label)}  {what}")


def _local(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds // _NS).astimezone()


def prune(
    dry_run: bool = DRY_RUN,
    trash_days: int = _PRUNE_TRASH_DAYS,
    yes: bool = YES,
    passphrase_file: Optional[Path] = PASSPHRASE_FILE,
) -> int:
    """Delete images that no snapshot names. Those of the last day, those left by others and shared ones stay."""
    from admin.pruning import Unneeded, find_unneeded, finish_interrupted
    from admin.pruning import prune as prune_unneeded

    async def find(repository: Repository) -> Unneeded:
        if not dry_run:
            await finish_interrupted(repository, trash_days)
        return await find_unneeded(repository, time.time())

    if not (yes or dry_run) and not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; say --yes to prune without asking")
    with opened("pruning", passphrase_file, changes=not dry_run) as work:
        unneeded = work.run(find)
        for image in unneeded.images:
            print(f"{image.sha256}  {described(image.mapping)}")
        warn(f"no snapshot names {unneeded.words}, {format_size(unneeded.size)}")
        if dry_run or not unneeded.images:
            return 0
        if not yes and not typer.confirm(f"Delete them? They can be taken back for {trash_days} days.", err=True):
            raise NotAgreedError("nothing was deleted")
        return work.run(lambda repository: prune_unneeded(repository, unneeded, trash_days))
