"""What `vault reclaim` takes of the client where a whole vault was given away: python -m bench.reclaiming

Six pretended devices hold what was replaced of each encoding, and take whatever they are shown; there is neither a
broker nor a store. It is all in one process: the devices' part of the time is said by itself.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn, cast

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout's root, in place of this folder

import typer

from admin.reclaiming import reclaim
from bench.listing import K, N, make_mappings
from bench.metering import peak_memory
from common.coding.recipe import Recipe
from common.errors import TesseraError
from common.link.link import Link
from common.link.replies import Reply
from common.process.events import ignore
from common.process.program import application, run, warn
from common.protocol.codec import pack
from common.protocol.device_messages import Commitment, HeldFor, ListSuperseded, SupersededList
from common.protocol.envelope import Operation
from common.protocol.identifiers import encoding_id
from common.protocol.messages import GRANTED, Acknowledged, Device, Holdings, Message, Status, TrashList
from common.protocol.operations import H, R, Spec
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from common.vault.mapping import seal_own

commands = application("Measure what taking a whole vault back takes.")
_DEVICES = [bytes([number]) * 16 for number in range(N)]
_PAGE = 48  # shares in an answer, as a worker's
_THIEF = bytes(16)  # their owner id
_MIB = 1 << 20


class PretendedLink:
    """What answers as a broker and its devices."""

    def __init__(self, key: VaultKey, images: int, thumbnail: int) -> None:
        self._key = key
        self._images = images
        self._thumbnail = thumbnail
        self._page = functools.lru_cache(maxsize=4 * N)(self._make_page)  # each is asked for by every device
        self.making = 0.0  # processor seconds for what they hold
        self.taken = 0

    emit = staticmethod(ignore)

    def cause(self, error: TesseraError) -> TesseraError:
        return error

    async def request(self, operation: Spec[H, R], header: H, *, device: bytes = b"", payload: Any = None) -> Reply[R]:
        await asyncio.sleep(0)
        reply, content = self._answer(operation.number, header, device)
        return cast("Reply[R]", Reply(reply, memoryview(content)))

    def _answer(self, operation: Operation, header: Message, device: bytes) -> tuple[Any, bytes]:
        if operation is Operation.STATUS:
            return Status(GRANTED, True), pack([Device(name, f"device-{name[0]}", True) for name in _DEVICES])
        if operation is Operation.TRASH:
            return TrashList(GRANTED, True), pack([])
        if operation is Operation.LOCATE:
            return Holdings(GRANTED, True), pack([])
        if operation is Operation.AMEND:
            self.taken += 1
            return Acknowledged(GRANTED), b""
        assert operation is Operation.SUPERSEDED and isinstance(header, ListSuperseded)
        page, after = self._page(header.after), header.after + _PAGE
        parts = [HeldFor(name, device[0], len(packed), 60, _THIEF, 0, 2, False) for name, packed in page]
        left = after if after < self._images else None
        return SupersededList(GRANTED, parts, left), b"".join(packed for _, packed in page)

    def _make_page(self, first: int) -> list[tuple[bytes, bytes]]:
        """Encoding id and packed commitment of some images."""
        began, signing, names, commitments = time.process_time(), self._key.signing_key(), [], []
        for mapping, nonce in make_mappings(min(_PAGE, self._images - first), self._thumbnail, first):
            names.append(encoding_id(self._key.owner_key(), nonce))
            sealed, recipe = seal_own(self._key, mapping, names[-1]), Recipe(names[-1], K, N, 2560, 2560, bytes(32 * N))
            commitments.append(Commitment(sealed.object_id, signing.owner, recipe.encode(), sealed.mapping, nonce))
        page = list(zip(names, map(pack, signing.commit(commitments))))
        self.making += time.process_time() - began
        return page


@commands.command()
def measure(
    images: int = typer.Option(100_000, help="How many images, each one encoding."),
    thumbnail: int = typer.Option(5000, help="Bytes of each one's thumbnail."),
) -> None:
    """Print memory and processor time."""
    key = VaultKey(bytes(range(32)))
    with tempfile.TemporaryDirectory(prefix="tessera-reclaiming-") as folder:
        link = PretendedLink(key, images, thumbnail)
        repository = Repository(cast(Link, link), VaultFolder(Path(folder)), key)
        before, began = peak_memory(os.getpid()), time.process_time()
        exit_code = asyncio.run(reclaim(repository, 3600.0))
        seconds = time.process_time() - began
        if exit_code != 0 or link.taken != images * N:
            raise TesseraError(f"it ended with {exit_code}, and devices took {link.taken} changes")
        peak = peak_memory(os.getpid())
        warn(f"{images:,} images: at most {peak / _MIB:.0f} MiB, {before / _MIB:.0f} before")
        warn(f"{seconds:.1f} s of the processor, of which {link.making:.1f} for what devices hold")


def main() -> NoReturn:
    run(commands, "bench.reclaiming")


if __name__ == "__main__":
    main()
