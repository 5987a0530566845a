"""The consumer's command line."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Optional

import typer

from common.errors import NoRoomError, TesseraError, UsageError
from common.home import home
from common.membership.identity import client_identity
from common.process.program import application, run, warn
from common.process.progress import Printer
from common.process.streams import for_stdout
from common.text import check_hash, printable
from common.vault.passphrase import read_passphrase
from consumer.events import Changed, Missing, NotRestored, Restored
from consumer.output import STDOUT
from consumer.selecting import STDIN, Lines, Selection, parse_period, read_hashes

if TYPE_CHECKING:
    from consumer.destination import Destination


commands = application("Restore images from the devices of the cluster, or list what the vault holds.")


@commands.command()
def restore(
    hashes: Optional[list[str]] = typer.Option(
        None,
        "--hash",
        envvar="TESSERA_HASH",
        help="SHA-256 of the image, or its first eight or more digits; - reads many from stdin, one a line; may be "
        "given several times.",
    ),
    everything: bool = typer.Option(
        False, "--all", envvar="TESSERA_ALL", help="Restore all images of the vault; needs --output FOLDER."
    ),
    output: Optional[str] = typer.Option(
        None,
        envvar="TESSERA_OUTPUT",
        help="File to write, - for stdout, or a folder; the original name in this folder if left out.",
    ),
    force: bool = typer.Option(False, "--force", envvar="TESSERA_FORCE", help="Write over files that exist."),
    list_: bool = typer.Option(
        False, "--list", envvar="TESSERA_LIST", help="Show what the vault holds, and restore nothing."
    ),
    name: Optional[str] = typer.Option(
        None,
        metavar="GLOB",
        envvar="TESSERA_IMAGE_NAME",
        help="With --list and --all: only images whose name matches, as '*.CR3'.",
    ),
    taken: Optional[str] = typer.Option(
        None,
        metavar="FROM..TO",
        envvar="TESSERA_TAKEN",
        help="With --list and --all: only images taken then, as 2019-06..2019-08, 2019.. or 2019-07-14.",
    ),
    snapshots: bool = typer.Option(
        False, "--snapshots", envvar="TESSERA_SNAPSHOTS", help="Show which snapshots there are."
    ),
    snapshot: Optional[str] = typer.Option(
        None, envvar="TESSERA_SNAPSHOT", help="Restore this snapshot, by id or its beginning, or the latest."
    ),
    ls: Optional[str] = typer.Option(None, "--ls", envvar="TESSERA_LS", help="Show what is in a snapshot."),
    diff: Optional[tuple[str, str]] = typer.Option(None, "--diff", help="Show what differs between two snapshots."),
    label: Optional[str] = typer.Option(
        None,
        envvar="TESSERA_LABEL",
        help="Only snapshots of this label.",
    ),
    path: Optional[str] = typer.Option(
        None, envvar="TESSERA_PATH", help="Only this folder or file of the snapshot, with --snapshot and --ls."
    ),
    as_json: bool = typer.Option(False, "--json", envvar="TESSERA_JSON", help="Print a JSON object per image."),
    passphrase_file: Optional[Path] = typer.Option(
        None, envvar="TESSERA_PASSPHRASE_FILE", help="File that holds the vault's passphrase."
    ),
) -> int:
    """Restore images, byte for byte, or list what there is."""
    from_stdin = STDIN in (hashes or [])
    wanted = list(dict.fromkeys(check_hash(text) for text in hashes or [] if text != STDIN))
    if sum((bool(hashes), everything, list_, snapshots, snapshot is not None, ls is not None, diff is not None)) != 1:
        raise UsageError("give one of --hash, --all, --list, --snapshots, --snapshot, --ls and --diff")
    if everything or snapshot is not None:
        if output is None:
            raise UsageError(f"{'--all' if everything else '--snapshot'} needs --output FOLDER")
        if output == STDOUT:
            raise UsageError("several images cannot all go to stdout")
    if (name is not None or taken is not None) and not (everything or list_ or snapshot is not None):
        raise UsageError("--name and --taken select in --list, --all and --snapshot")
    listed = read_hashes() if from_stdin else Lines([], [])
    wanted = list(dict.fromkeys(wanted + listed.hashes))
    selection = Selection(name, None if taken is None else parse_period(taken))
    identity = client_identity()
    # --help needs none of these. What restores pulls in numpy and more, while the vault is unlocked beside it.
    from common.vault.folder import VaultFolder
    from common.vault.unlocking import Unlocking
    from consumer.destination import Destination

    vault = VaultFolder(home())
    vault.require()
    several = from_stdin or len(wanted) > 1
    destination = Destination(output, several=several, force=force) if hashes else None
    unlocking = Unlocking(vault, read_passphrase(passphrase_file))
    printer = _Printer(destination, as_json)
    import numpy  # noqa: F401 - imported less deep in the stack than where it is used: see docs/performance.md

    from common.repository.repository import run_with_repository
    from consumer.restorer import restore_held
    from consumer.snapshot_commands import (
        Part,
        compare,
        list_files,
        list_folder,
        list_snapshots,
        restore_all,
        restore_one,
    )

    run_work = partial(run_with_repository, identity, vault, unlocking.key(), printer)
    with printer:
        for error in listed.errors:
            printer(NotRestored("", error))
        if destination is not None:
            run_work(lambda repository: restore_held(repository, wanted, destination))
        elif list_:
            run_work(lambda repository: list_files(repository, selection, as_json=as_json))
        elif snapshots:
            run_work(lambda repository: list_snapshots(repository, label, as_json=as_json))
        elif ls is not None:
            run_work(lambda repository: list_folder(repository, ls, label, path, as_json=as_json))
        elif diff is not None:
            run_work(lambda repository: compare(repository, diff, label, as_json=as_json))
        elif snapshot is not None:
            part = Part(snapshot, label, path, selection)
            run_work(lambda repository: restore_one(repository, part, Path(output or ""), force=force))
        else:
            run_work(lambda repository: restore_all(repository, selection, Path(output or ""), force=force))
    return printer.conclude(restored=not (list_ or snapshots or ls or diff), counted=from_stdin)


class _Printer(Printer):
    """Prints what came of each image, and keeps the exit code: that of the first failure."""

    def __init__(self, destination: Optional[Destination], as_json: bool) -> None:
        super().__init__("restoring")
        self._destination = destination
        self._as_json = as_json
        self._exit_code = 0
        self._told = 0  # images
        self._failed = 0  # of these
        self._refused = 0  # images, since nothing can be written to the folder

    def __call__(self, event: object) -> None:
        if isinstance(event, Restored):
            self._told += 1
            self._say_restored(event)
        elif isinstance(event, NotRestored):
            self._told += 1
            self._failed += 1
            self._say_not_restored(event.error)
        elif isinstance(event, Changed):
            self._exit_code = self._exit_code or NoRoomError.exit_code
            warn(f"{printable(event.path)}: {event.why}" if event.path else f"consumer: {event.why}")
        elif isinstance(event, Missing):
            warn(f"{event.sha256[:16]}: {event.device}: {event.why}")
        else:
            super().__call__(event)

    def conclude(self, *, restored: bool, counted: bool = False) -> int:
        """To be called after the last event; the exit code.

        `restored`: something was to be; `counted`: how many were not is said.
        """
        if restored and not self._told:
            warn("the vault holds no image")
        if self._refused > 1:
            warn(f"consumer: so {self._refused} images were not restored")
        if counted and self._failed:
            warn(f"{self._told - self._failed:,} restored, {self._failed:,} not")
        return self._exit_code

    def _say_restored(self, restored: Restored) -> None:
        if self._as_json and restored.path is None:
            warn(json.dumps(restored.as_json()))  # the image itself is on stdout
        elif self._as_json:
            print(json.dumps(restored.as_json()), flush=True)
        elif restored.path is not None:
            print(for_stdout(f"{restored.sha256}  {restored.path}"), flush=True)

    def _say_not_restored(self, error: TesseraError) -> None:
        self._exit_code = self._exit_code or error.exit_code
        if self._destination is not None and error is self._destination.refusal:
            self._refused += 1
            if self._refused > 1:
                return
        warn(f"consumer: {error}")
        if error.advice:
            warn(f"  {error.advice}")


def main() -> NoReturn:
    run(commands, "consumer", keeps_memory=True)
