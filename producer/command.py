"""The producer's command line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Optional

import typer

from common.coding.redundancy import require_possible
from common.errors import TesseraError, UnstorableError, UsageError
from common.home import home
from common.membership.identity import client_identity
from common.process.program import application, run, warn
from common.process.progress import Printer, Waiting
from common.process.streams import for_stdout
from common.text import format_size, printable
from common.vault.passphrase import read_passphrase
from common.vault.snapshot import check_label
from producer.broker_coding import CodeAt
from producer.events import (
    AGAIN,
    FailedImage,
    Interrupted,
    LeftOut,
    RecordedSnapshot,
    SkippedFile,
    StoredImage,
    nothing_stored,
)
from producer.excluding import Excluded, as_pattern, read_patterns
from producer.sources import STDIN, Choice, FolderListed, Found, Source, find_all, find_sources, read_paths

if TYPE_CHECKING:
    from producer.owner import Owner

_PRUNED = "; where a run with a snapshot stored it first, admin.py prune deletes it once no snapshot names it"
_NO_SNAPSHOT = "what is stored for another is in no snapshot: folders, paths and dates are not kept"
commands = application("Store images over the devices of the cluster.")


@commands.command()
def store(
    images: Optional[list[str]] = typer.Argument(None, help="Images to store; folders are walked, - is stdin."),
    files_from: Optional[str] = typer.Option(
        None,
        metavar="FILE",
        envvar="TESSERA_FILES_FROM",
        help="Store what is named in this file too, a path a line, or separated by NUL; - is stdin.",
    ),
    as_json: bool = typer.Option(
        False, "--json", envvar="TESSERA_JSON", help="Print a JSON object for each file, whatever became of it."
    ),
    name: str = typer.Option("stdin", envvar="TESSERA_STDIN_NAME", help="Name for the image that comes from stdin."),
    k: Optional[int] = typer.Option(None, "-k", "--k", envvar="TESSERA_K", help="Shares that restore an image."),
    n: Optional[int] = typer.Option(None, "-n", "--n", envvar="TESSERA_N", help="Shares made, one a device."),
    images_only: bool = typer.Option(
        False,
        "--images-only",
        envvar="TESSERA_IMAGES_ONLY",
        help="Skip files that are neither images nor beside one for it (.xmp, .aae, .json, a Live Photo's .mov).",
    ),
    reread: bool = typer.Option(
        False, "--reread", envvar="TESSERA_REREAD", help="Read all files, those too that seem not to have changed."
    ),
    allow_empty: bool = typer.Option(
        False, "--allow-empty", envvar="TESSERA_ALLOW_EMPTY", help="Store an empty image where stdin gives nothing."
    ),
    accept_degraded: bool = typer.Option(
        False,
        "--accept-degraded",
        envvar="TESSERA_ACCEPT_DEGRADED",
        help="Store also while devices are away: their shares are made when they are back.",
    ),
    label: Optional[str] = typer.Option(
        None,
        envvar="TESSERA_LABEL",
        help="Name of what is stored, whose revisions snapshots are.",
    ),
    follow: bool = typer.Option(
        False, "--follow", envvar="TESSERA_FOLLOW", help="Store what links in folders lead to, and not the links."
    ),
    one_file_system: bool = typer.Option(
        False, "--one-file-system", envvar="TESSERA_ONE_FILE_SYSTEM", help="Skip what is mounted in a folder."
    ),
    exclude: Optional[list[str]] = typer.Option(
        None,
        metavar="GLOB",
        envvar="TESSERA_EXCLUDE",
        help="Skip what this matches below each path, in git's syntax, as '*.tmp' or 'build/'; may be given several "
        "times.",
    ),
    exclude_from: Optional[list[Path]] = typer.Option(
        None, metavar="FILE", envvar="TESSERA_EXCLUDE_FROM", help="Skip what the lines of this file match, likewise."
    ),
    no_snapshot: bool = typer.Option(
        False,
        "--no-snapshot",
        envvar="TESSERA_NO_SNAPSHOT",
        help="Store files only, without folders and dates.",
    ),
    to: Optional[list[str]] = typer.Option(
        None, envvar="TESSERA_TO", help="Device that may get a share, by name; may be given several times."
    ),
    for_: Optional[str] = typer.Option(
        None, "--for", envvar="TESSERA_FOR", help="Store for a contact, who alone can restore it then."
    ),
    code: CodeAt = typer.Option(
        CodeAt.BROKER.value,
        "--code",
        envvar="TESSERA_CODE",
        help="Where parity is made: at the broker, so that it need not come from this machine, or at the client.",
    ),
    passphrase_file: Optional[Path] = typer.Option(
        None, envvar="TESSERA_PASSPHRASE_FILE", help="File that holds the vault's passphrase."
    ),
) -> int:
    """Store images and print the SHA-256 of each, in the format of sha256sum."""
    given = images or []
    if [*given, files_from].count(STDIN) > 1:
        raise UsageError("stdin can be read only once")
    require_possible(k, n)
    if label is not None:
        check_label(label)
    snapshot = not no_snapshot and for_ is None  # of another's vault only its owner can make one
    find = find_all if snapshot else find_sources
    paths = given if files_from is None else [*given, *read_paths(files_from)]
    if not paths:
        raise _nothing_named(files_from)
    patterns = [line for file in exclude_from or () for line in read_patterns(file)] + [*map(as_pattern, exclude or ())]
    excluded = Excluded(patterns) if patterns else None
    found: Iterator[Found] = find(paths, name, Choice(follow, one_file_system, excluded))
    with Waiting("looking for what is to be stored"):
        first = _first(found)
    identity = client_identity()
    printer = _Printer(as_json)
    if not first or _is_settled(first[-1]):  # no passphrase is needed
        return _conclude_early(paths, first, printer)
    # --help needs none of these. What stores pulls in numpy and more, while the vault is unlocked beside it.
    if for_ is not None:
        contact = for_

        def find_owner() -> Owner:
            card = open_contacts(home(), lambda: read_passphrase(passphrase_file)).card(contact)
            return OtherVault(card, identity)

    else:
        from common.vault.folder import VaultFolder
        from common.vault.unlocking import Unlocking

        vault = VaultFolder(home())
        vault.require()
        unlocking = Unlocking(vault, read_passphrase(passphrase_file))
        import numpy  # noqa: F401 - imported less deep in the stack than where it is used: see docs/performance.md

        def find_owner() -> Owner:
            return OwnVault(vault, unlocking.key())

    from common.vault.contacts import open_contacts
    from producer.owner import OtherVault, OwnVault
    from producer.run import run_store
    from producer.target import StoreOptions

    if for_ is not None and not no_snapshot:
        warn(_NO_SNAPSHOT)
    options = StoreOptions(k, n, images_only, reread, allow_empty, accept_degraded, snapshot, label, to or (), code)
    with printer:
        run_store(identity, find_owner, paths, chain(first, found), options, printer)
    return printer.conclude()


def _nothing_named(files_from: Optional[str]) -> TesseraError:
    if files_from is None:
        return UsageError("nothing is named that could be stored", advice="name files or folders, or --files-from FILE")
    advice = "a command before the | may have failed" if files_from == STDIN else None
    return UnstorableError(f"{files_from}: nothing is named in it", advice=advice)


def _first(found: Iterator[Found]) -> list[Found]:
    """What is found up to the first that is to be stored; all where none is."""
    first = []
    for each in found:
        first.append(each)
        if not _is_settled(each):
            break
    return first


def _is_settled(found: Found) -> bool:
    """Whether nothing is to be stored for this."""
    return isinstance(found, FolderListed) or (isinstance(found, Source) and found.outcome is not None)


def _conclude_early(arguments: Sequence[str], found: Sequence[Found], printer: _Printer) -> int:
    """Print what came of sources of which none is to be stored; the exit code."""
    failed = set()
    for source in found:
        if isinstance(source, Source) and source.outcome is not None:
            printer(source.outcome)
            if isinstance(source.outcome, FailedImage):
                failed.add(source.argument)
    for number, argument in enumerate(arguments):
        if number not in failed:
            printer(nothing_stored(argument))
    return printer.conclude()


class _Printer(Printer):
    """Prints each outcome, counts them, and keeps the exit code: that of the first failure."""

    def __init__(self, as_json: bool) -> None:
        super().__init__("storing")
        self._as_json = as_json
        self._left_out: Counter[LeftOut] = Counter()
        self._stored = 0
        self._failed = 0
        self._exit_code = 0

    def __call__(self, event: object) -> None:
        if self._as_json and isinstance(event, (StoredImage, FailedImage, SkippedFile, RecordedSnapshot)):
            print(json.dumps(event.as_json()), flush=True)
        if isinstance(event, StoredImage):
            self._stored += 1
            self._say_stored(event)
        elif isinstance(event, FailedImage):
            self._failed += 1
            self._say_failed(event.error)
        elif isinstance(event, SkippedFile):
            self._left_out[event.reason] += 1
            if event.reason is not LeftOut.EXCLUDED:  # which was asked for, and may be many
                warn(f"{event.shown}: {event.reason.value}; skipped")
        elif isinstance(event, RecordedSnapshot):
            self._say_recorded(event)
        elif isinstance(event, Interrupted):
            warn(f"{event.shown}: interrupted; {AGAIN}")
        else:
            super().__call__(event)

    def conclude(self) -> int:
        """Say how many files there were of each outcome, where they differ; the exit code."""
        skipped = sum(self._left_out.values())
        several = skipped + self._failed + self._stored > 1
        if LeftOut.EXCLUDED in self._left_out or ((skipped or self._failed) and several):
            kinds = ", ".join(f"{reason.value}: {count:,}" for reason, count in self._left_out.items())
            of_kinds = f" ({kinds})" if kinds else ""
            warn(f"{self._stored:,} stored, {skipped:,} skipped{of_kinds}, {self._failed:,} failed")
        if self._as_json and skipped:
            print(json.dumps(self._counts()), flush=True)
        return self._exit_code

    def _counts(self) -> dict[str, object]:
        reasons = {reason.value: count for reason, count in self._left_out.items()}
        return {"state": "counted", "stored": self._stored, "skipped": reasons, "failed": self._failed}

    def _say_stored(self, image: StoredImage) -> None:
        if not self._as_json:
            print(for_stdout(_sha256sum_line(image.sha256.hex(), image.shown)), flush=True)
        if image.already_stored:
            warn(f"{image.shown}: is stored already" + _weaker(image) + (_PRUNED if image.may_be_pruned else ""))
        elif image.is_image is False:
            warn(f"{image.shown}: no image that Tessera knows; stored all the same")
        if image.degraded:
            had = image.k + image.may_lose
            warn(
                f"{image.shown}: DEGRADED: {had} of {image.n} shares are stored; "
                f"{image.may_lose} devices may be lost, not {image.n - image.k}" + _missing(image)
            )

    def _say_recorded(self, recorded: RecordedSnapshot) -> None:
        snapshot = recorded.snapshot
        what = f"{snapshot.files:,} files, {snapshot.folders:,} folders, {format_size(snapshot.size)}"
        lacking = "" if snapshot.complete else f"; INCOMPLETE: {snapshot.failed:,} could not be stored"
        degraded = (
            "; DEGRADED: it has fewer shares than it should until all devices are back" if recorded.degraded else ""
        )
        warn(f"snapshot {recorded.sha256.hex()[:8]} of {printable(snapshot.label)}: {what}{lacking}{degraded}")

    def _say_failed(self, error: TesseraError) -> None:
        warn(f"producer: {error}")
        if error.advice:
            warn(f"  {error.advice}")
        self._exit_code = self._exit_code or error.exit_code


def _missing(image: StoredImage) -> str:
    if not image.missing:
        return ""
    return f"; missing: {', '.join(map(printable, image.missing))}; the rest is made when they are back"


def _weaker(image: StoredImage) -> str:
    if image.asked is None:
        return ""
    k, n = image.asked
    return (
        f", as {image.k} of {image.n} shares, so that {image.n - image.k} devices may be lost, not {n - k}; "
        f"to have it as {k} of {n}: python admin/admin.py strengthen --hash {image.sha256.hex()[:16]}"
    )


def _sha256sum_line(sha256: str, shown: str) -> str:
    """A line as sha256sum prints it: with a backslash before it where the name is escaped."""
    if any(character in shown for character in "\\\n\r"):
        escaped = shown.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        return f"\\{sha256}  {escaped}"
    return f"{sha256}  {shown}"


def main() -> NoReturn:
    run(commands, "producer")
