"""One run of the consumer: connect, find the images, restore or list them, report."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional, Union

from common.errors import TesseraError, UsageError
from common.home import ClientIdentity
from common.link.link import Link, run_with_link
from common.program import complain
from common.progress import ByteProgress
from common.text import printable
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from common.vault.mapping import Mapping
from consumer.holdings import Held, Holdings, check_hash, find, is_full, unreadable
from consumer.output import STDOUT, Output, StandardOutput, safe_name
from consumer.session import Restored, Session, restore_all


class Work:
    def __init__(self, identity: ClientIdentity, vault: VaultFolder, key: VaultKey, *, as_json: bool) -> None:
        self._identity = identity
        self._vault = vault
        self._key = key
        self._as_json = as_json

    def print_list(self) -> int:
        """Print what the vault holds, by date; returns the exit code."""
        holdings = run_with_link(self._holdings())
        for image in sorted(holdings.images, key=lambda held: (held.mapping.stored_at, held.sha256)):
            print(json.dumps(_described(image)) if self._as_json else _line(image))
        if holdings.unreadable:
            complain(f"consumer: {unreadable(holdings)}")
        return 0

    def restore(self, hashes: Sequence[str], everything: bool, output: Optional[str], force: bool) -> int:
        """Restore images and report each; returns the exit code, that of the first failure."""
        wanted = list(dict.fromkeys(check_hash(text) for text in hashes))
        several = everything or len(wanted) > 1
        destination = _Destination(output, several=several, force=force)
        with ByteProgress("restoring", None) as progress:
            outcomes = run_with_link(self._restore(wanted, everything, destination, progress))
        exit_code = 0
        for outcome in outcomes:
            if isinstance(outcome, Restored):
                self._report(outcome)
            else:
                complain(f"consumer: {outcome}")
                if outcome.advice:
                    complain(f"  {outcome.advice}")
                exit_code = exit_code or outcome.exit_code
        return exit_code

    async def _holdings(self) -> Holdings:
        async with Link(self._identity, self._key.owner_token()) as link:
            return await self._session(link, ByteProgress("", None)).holdings()

    async def _restore(
        self,
        hashes: Sequence[str],
        everything: bool,
        destination: _Destination,
        progress: ByteProgress,
    ) -> list[Union[Restored, TesseraError]]:
        async with Link(self._identity, self._key.owner_token()) as link:
            session = self._session(link, progress)
            if not everything and all(is_full(text) for text in hashes):
                return [await _restore_one(session, text, destination) for text in hashes]
            holdings = await session.holdings()
            images = holdings.images if everything else [find(text, holdings) for text in hashes]
            outcomes = await restore_all(session, images, destination.open)
            return [*outcomes, *([unreadable(holdings)] if everything and holdings.unreadable else [])]

    def _session(self, link: Link, progress: ByteProgress) -> Session:
        return Session(link, self._vault, self._key, complain=complain, progress=progress)

    def _report(self, restored: Restored) -> None:
        if self._as_json:
            fields = {
                "sha256": restored.sha256,
                "path": None if restored.path is None else str(restored.path),
                "name": restored.name,
                "bytes": restored.size,
                "seconds": round(restored.seconds, 4),
                "troubles": restored.troubles,
            }
            # With `--output -` the image itself is on stdout.
            (complain if restored.path is None else print)(json.dumps(fields))
        elif restored.path is not None:
            print(f"{restored.sha256}  {restored.path}")


async def _restore_one(session: Session, sha256: str, destination: _Destination) -> Union[Restored, TesseraError]:
    try:
        encodings = await session.locate(bytes.fromhex(sha256))
        return await session.restore(encodings, sha256, destination.open)
    except TesseraError as error:
        return error


class _Destination:
    """Where images go: to one file, to stdout, or into a folder under their own names."""

    def __init__(self, output: Optional[str], *, several: bool, force: bool) -> None:
        self._force = force
        self._stdout = output == STDOUT
        self._file: Optional[Path] = None
        self._folder = Path()
        self._given: dict[Path, bytes] = {}  # path → SHA-256 of the image it was given to
        if self._stdout:
            if several:
                raise UsageError("several images cannot all go to stdout")
        elif output is not None:
            path = Path(output)
            if several or os.path.isdir(path) or output.endswith(("/", os.sep)):
                self._folder = _made(path)
            else:
                self._file = path
                if os.path.exists(path) and not force:
                    Output(path, replace=False)  # refuses before anything is fetched

    def open(self, mapping: Mapping) -> Union[Output, StandardOutput]:
        """The output for one image; two images of one name get names that differ."""
        if self._stdout:
            return StandardOutput()
        if self._file is not None:
            return Output(self._file, replace=self._force)
        target = self._folder / safe_name(mapping.name)
        if self._given.setdefault(target, mapping.image_sha256) != mapping.image_sha256:
            target = target.with_name(f"{target.stem}-{mapping.image_sha256.hex()[:8]}{target.suffix}")
        return Output(target, replace=self._force)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to a folder {folder}: {error.strerror}") from None
    return folder


def _described(image: Held) -> dict[str, object]:
    mapping = image.mapping
    return {
        "sha256": image.sha256,
        "name": mapping.name,
        "bytes": mapping.image_size,
        "media_type": mapping.media_type,
        "width": mapping.width,
        "height": mapping.height,
        "stored_at": datetime.fromtimestamp(mapping.stored_at, timezone.utc).isoformat(),
        "restorable": image.restorable,
    }


def _line(image: Held) -> str:
    mapping = image.mapping
    pixels = f"{mapping.width}×{mapping.height}" if mapping.width is not None else "-"
    date = datetime.fromtimestamp(mapping.stored_at).astimezone().strftime("%Y-%m-%d %H:%M")
    state = "" if image.restorable else "  (too few devices connected)"
    name = printable(mapping.name)
    return f"{image.sha256}  {mapping.image_size:>12}  {pixels:>11}  {date}  {name}{state}"
