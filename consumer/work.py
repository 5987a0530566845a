"""One run of the consumer: connect, find the images, restore or list them, report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Union

from common.errors import TesseraError
from common.home import ClientIdentity
from common.link.link import Link, reached, run_with_link
from common.program import complain
from common.progress import ByteProgress, Waiting
from common.text import printable
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from consumer.destination import Destination
from consumer.hashes import is_full
from consumer.holdings import Held, Holdings, find, unreadable
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
            complain(f"consumer: {unreadable(holdings)}")
        elif not holdings.images:
            complain(_EMPTY)
        return 0

    def restore(self, wanted: Sequence[str], everything: bool, destination: Destination) -> int:
        """Restore images and report each; returns the exit code, that of the first failure.

        `wanted`: hashes, as `check_hash` returns them, each once.
        """
        with ByteProgress("restoring", None) as progress:
            outcomes = run_with_link(self._restore(wanted, everything, destination, progress))
        if not outcomes:
            complain(_EMPTY)
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
        async with reached(Link(self._identity, self._key.owner_token())) as link:
            with Waiting(_LISTING):
                return await self._session(link, ByteProgress("", None)).holdings()

    async def _restore(
        self,
        hashes: Sequence[str],
        everything: bool,
        destination: Destination,
        progress: ByteProgress,
    ) -> list[Union[Restored, TesseraError]]:
        async with reached(Link(self._identity, self._key.owner_token())) as link:
            session = self._session(link, progress)
            if not everything and all(is_full(text) for text in hashes):
                return [await _restore_one(session, text, destination) for text in hashes]
            with Waiting(_LISTING):
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


async def _restore_one(session: Session, sha256: str, destination: Destination) -> Union[Restored, TesseraError]:
    try:
        encodings = await session.locate(bytes.fromhex(sha256))
        return await session.restore(encodings, sha256, destination.open)
    except TesseraError as error:
        return error


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
