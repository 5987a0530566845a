"""The consumer's command line."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Optional

import typer

from common.errors import TesseraError, UsageError
from common.home import home
from common.membership.identity import client_identity
from common.process.program import application, run, warn
from common.process.progress import Printer
from common.process.streams import for_stdout
from common.text import check_hash, printable
from common.vault.passphrase import read_passphrase
from consumer.events import Missing, NotRestored, Restored
from consumer.selecting import Selection, parse_period

if TYPE_CHECKING:
    from common.repository.images import Held, Holdings
    from consumer.destination import Destination

_EMPTY = "the vault holds no image"

commands = application("Restore images from the devices of the cluster, or list what the vault holds.")


@commands.command()
def restore(
    hashes: Optional[list[str]] = typer.Option(
        None,
        "--hash",
        envvar="TESSERA_HASH",
        help="SHA-256 of the image, or its first eight or more digits; may be given several times.",
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
    as_json: bool = typer.Option(False, "--json", envvar="TESSERA_JSON", help="Print a JSON object per image."),
    passphrase_file: Optional[Path] = typer.Option(
        None, envvar="TESSERA_PASSPHRASE_FILE", help="File that holds the vault's passphrase."
    ),
) -> int:
    """Restore images, byte for byte, or list what there is."""
    wanted = list(dict.fromkeys(check_hash(text) for text in hashes or []))
    if sum((bool(wanted), everything, list_)) != 1:
        raise UsageError("give one of --hash, --all and --list")
    if everything and output is None:
        raise UsageError("--all needs --output FOLDER")
    if wanted and (name is not None or taken is not None):
        raise UsageError("--name and --taken select in --list and --all, not beside --hash")
    selection = Selection(name, None if taken is None else parse_period(taken))
    identity = client_identity()
    # --help needs none of these. What restores pulls in numpy and more, while the vault is unlocked beside it.
    from common.vault.folder import VaultFolder
    from common.vault.unlocking import Unlocking
    from consumer.destination import Destination

    vault = VaultFolder(home())
    vault.require()
    destination = None if list_ else Destination(output, several=everything or len(wanted) > 1, force=force)
    unlocking = Unlocking(vault, read_passphrase(passphrase_file))
    printer = _Printer(destination, as_json)
    import numpy  # noqa: F401 - imported less deep in the stack than where it is used: see docs/performance.md

    from common.repository.repository import Repository, run_with_repository
    from consumer.restorer import restore_held

    run_work = partial(run_with_repository, identity, vault, unlocking.key(), printer)
    with printer:
        if destination is None:
            return _print_list(run_work(Repository.holdings), selection, as_json)
        run_work(lambda repository: restore_held(repository, wanted, everything, destination, selection))
    return printer.conclude()


def _print_list(holdings: Holdings, selection: Selection, as_json: bool) -> int:
    """Print what the vault holds of what is selected, by date; the exit code."""
    from common.repository.images import unreadable

    images = [image for image in holdings.images if selection.takes(image.mapping)]
    for image in sorted(images, key=lambda held: (held.mapping.stored_at, held.sha256)):
        print(json.dumps(_described(image)) if as_json else _line(image))
    if holdings.unreadable:
        warn(f"consumer: {unreadable(holdings)}")
    elif not holdings.images:
        warn(_EMPTY)
    if selection and holdings.images:
        undated = selection.undated(image.mapping for image in holdings.images)
        more = f"; do not tell when they were taken: {undated:,}" if undated else ""
        warn(f"{len(images):,} of {len(holdings.images):,} images are so{more}")
    return 0


class _Printer(Printer):
    """Prints what came of each image, and keeps the exit code: that of the first failure."""

    def __init__(self, destination: Optional[Destination], as_json: bool) -> None:
        super().__init__("restoring")
        self._destination = destination
        self._as_json = as_json
        self._exit_code = 0
        self._told = 0  # images
        self._refused = 0  # images, since nothing can be written to the folder

    def __call__(self, event: object) -> None:
        if isinstance(event, Restored):
            self._told += 1
            self._say_restored(event)
        elif isinstance(event, NotRestored):
            self._told += 1
            self._say_not_restored(event.error)
        elif isinstance(event, Missing):
            warn(f"{event.sha256[:16]}: {event.device}: {event.why}")
        else:
            super().__call__(event)

    def conclude(self) -> int:
        """To be called after the last event; the exit code."""
        if not self._told:
            warn(_EMPTY)
        if self._refused > 1:
            warn(f"consumer: so {self._refused} images were not restored")
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


def _described(image: Held) -> dict[str, object]:
    from common.facts import Facts

    mapping = image.mapping
    facts = mapping.facts or Facts()
    latitude, longitude = facts.position or (None, None)
    return {
        "sha256": image.sha256,
        "name": mapping.name,
        "bytes": mapping.image_size,
        "media_type": mapping.media_type,
        "width": mapping.width,
        "height": mapping.height,
        "taken_at": facts.taken_at,
        "camera": facts.camera,
        "orientation": facts.orientation,
        "latitude": latitude,
        "longitude": longitude,
        "stored_at": datetime.fromtimestamp(mapping.stored_at, timezone.utc).isoformat(),
        "restorable": image.restorable,
    }


def _line(image: Held) -> str:
    mapping = image.mapping
    pixels = f"{mapping.width}×{mapping.height}" if mapping.width is not None else "-"
    date = datetime.fromtimestamp(mapping.stored_at).astimezone().strftime("%Y-%m-%d %H:%M")
    taken = (mapping.taken_at or "-")[:16].replace("T", " ")
    state = "" if image.restorable else "  (too few devices connected)"
    name = printable(mapping.name)
    return f"{image.sha256}  {mapping.image_size:>12}  {pixels:>11}  {date}  {taken:>16}  {name}{state}"


def main() -> NoReturn:
    run(commands, "consumer")
