"""One run of the consumer: connect, find the images, restore or list them, report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Union

from common.errors import NotFoundError, TesseraError
from common.home import ClientIdentity
from common.link.link import Link, reached, run_with_link
from common.process.program import warn
from common.process.progress import ByteProgress, Waiting
from common.protocol.messages import EncodingAt
from common.repository.hashes import is_full
from common.repository.images import Held, Holdings, find, unreadable
from common.text import printable
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from consumer.destination import Destination
from consumer.session import Restored, Session, restore_all

_LISTING = "listing what the vault holds"
_EMPTY = "the vault holds no image"


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
            warn(f"consumer: {unreadable(holdings)}")
        elif not holdings.images:
            warn(_EMPTY)
        return 0

    def restore(self, wanted: Sequence[str], everything: bool, destination: Destination) -> int:
        """Restore images and report each as soon as it is done; returns the exit code, that of the first failure.

        `wanted`: hashes, as `check_hash` returns them, each once.
        """
        report = _Report(destination, as_json=self._as_json)
        with ByteProgress("restoring", None) as progress:
            run_with_link(self._restore(wanted, everything, report, progress))
        report.end()
        return report.exit_code

    async def _holdings(self) -> Holdings:
        async with reached(Link(self._identity, self._key.owner_token())) as link:
            with Waiting(_LISTING):
                return await self._session(link, ByteProgress("", None)).holdings()

    async def _restore(self, hashes: Sequence[str], everything: bool, report: _Report, progress: ByteProgress) -> None:
        async with reached(Link(self._identity, self._key.owner_token())) as link:
            session = self._session(link, progress)
            if everything:
                with Waiting(_LISTING):
                    holdings = await session.holdings()
                images = {image.sha256: image.encodings for image in holdings.images}
                await restore_all(session, images, report.destination.open, lambda _, outcome: report(outcome))
                if holdings.unreadable:
                    report(unreadable(holdings))
            else:
                images = await _find_all(session, hashes, report)
                await restore_all(session, images, report.destination.open, lambda _, outcome: report(outcome))

    def _session(self, link: Link, progress: ByteProgress) -> Session:
        return Session(link, self._vault, self._key, warn=warn, progress=progress)


async def _find_all(session: Session, hashes: Sequence[str], report: _Report) -> dict[str, list[EncodingAt]]:
    """SHA-256 → encodings of the images with these hashes, or beginnings of them; of the others it is reported."""
    whole = [bytes.fromhex(text) for text in hashes if is_full(text)]
    located = await session.locate_all(whole) if whole else {}
    holdings = Holdings([], 0)
    if len(whole) < len(hashes):
        with Waiting(_LISTING):
            holdings = await session.holdings()
    images: dict[str, list[EncodingAt]] = {}
    for text in hashes:
        try:
            if is_full(text):
                found = located[bytes.fromhex(text)]
                if isinstance(found, NotFoundError):
                    raise found
                images[text] = found
            else:
                image = find(text, holdings)
                images[image.sha256] = image.encodings
        except TesseraError as error:
            report(error)
    return images


class _Report:
    """Prints what came of each image, and keeps the exit code: that of the first failure."""

    def __init__(self, destination: Destination, *, as_json: bool) -> None:
        self.destination = destination
        self.exit_code = 0
        self._as_json = as_json
        self._told = 0  # images
        self._refused = 0  # images, since nothing can be written to the folder

    def __call__(self, outcome: Union[Restored, TesseraError]) -> None:
        self._told += 1
        if isinstance(outcome, Restored):
            self._restored(outcome)
            return
        self.exit_code = self.exit_code or outcome.exit_code
        if outcome is self.destination.refusal:
            self._refused += 1
            if self._refused > 1:
                return
        warn(f"consumer: {outcome}")
        if outcome.advice:
            warn(f"  {outcome.advice}")

    def end(self) -> None:
        """To be called when there is nothing more to come."""
        if not self._told:
            warn(_EMPTY)
        if self._refused > 1:
            warn(f"consumer: so {self._refused} images were not restored")

    def _restored(self, restored: Restored) -> None:
        if self._as_json:
            fields = {
                "sha256": restored.sha256,
                "path": None if restored.path is None else str(restored.path),
                "name": restored.name,
                "bytes": restored.size,
                "seconds": round(restored.seconds, 4),
                "troubles": restored.troubles,
            }
            if restored.path is None:
                warn(json.dumps(fields))  # the image itself is on stdout
            else:
                print(json.dumps(fields), flush=True)
        elif restored.path is not None:
            print(f"{restored.sha256}  {restored.path}", flush=True)


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
