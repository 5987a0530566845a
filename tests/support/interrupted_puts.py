"""Puts of a large file over a cluster in memory, interrupted at any message, with slices as small as may be."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, Optional

import pytest

from common.coding.slicing import TAG_SIZE
from common.link.replies import Reply
from common.protocol.envelope import Operation
from common.protocol.operations import H, R, Spec
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from consumer.output import Output
from consumer.restorer import Restorer
from producer import segments
from producer import stream as stream_module
from producer.events import Outcome, StoredImage
from producer.owner import OwnVault
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import KEY, chance

K, N = 2, 4
BLOCK = 1024
SEGMENT = K * BLOCK - TAG_SIZE
SEGMENTS = 8
CONTENT = chance("content", SEGMENTS * SEGMENT - 100)


def make_sizes_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of more than one small segment counts as large."""
    monkeypatch.setattr(stream_module, "HASH_FIRST", SEGMENT)
    monkeypatch.setattr(segments, "block_size_for", lambda n: BLOCK)


class Stop:
    """Stops a put at the n-th message of an operation, before or after the device got it."""

    def __init__(self, cluster: MemoryCluster, operation: Operation, at: int, *, delivered: bool) -> None:
        self._cluster, self._request = cluster, cluster.request
        self._operation, self._left, self._delivered = operation, at, delivered
        self.reached = asyncio.Event()
        cluster.request = self._watch  # type: ignore[method-assign]

    async def _watch(self, operation: Spec[H, R], header: H, **keywords: Any) -> Reply[R]:
        if operation.number is self._operation:
            self._left -= 1
        if self._left > 0 or operation.number is not self._operation:
            return await self._request(operation, header, **keywords)
        if self._delivered and self._left == 0:
            await self._request(operation, header, **keywords)
        self.reached.set()
        await asyncio.Event().wait()  # until it is cancelled
        raise AssertionError

    def over(self) -> None:
        self._cluster.request = self._request  # type: ignore[method-assign]


class Machine:
    """A machine with a vault and one large file beside a cluster in memory."""

    def __init__(self, folder: Path, devices: int = N, content: bytes = CONTENT) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.cluster = MemoryCluster(devices)
        self.vault = VaultFolder(folder / "home")
        self.file = folder / "large"
        self.file.write_bytes(content)
        self.folder = folder

    @property
    def journals(self) -> list[Path]:
        folder = self.vault.folder / "journal"
        return list(folder.iterdir()) if folder.exists() else []

    async def put(
        self, required: tuple[Optional[int], Optional[int]] = (None, None), coding: tuple[int, int] = (K, N)
    ) -> Outcome:
        owner, sources = OwnVault(self.vault, KEY), [str(self.file)]
        (outcome,) = await put(self.cluster, owner, *coding, sources, required=required)
        return outcome

    def stored(self, **keywords: tuple[int, int]) -> StoredImage:
        outcome = run(self.put(**keywords))
        assert isinstance(outcome, StoredImage), outcome
        return outcome

    def interrupt(self, operation: Operation, at: int, *, delivered: bool = True, kill: bool = False) -> bool:
        """One run that ends at this message; false where it was done before. `kill`: it cleans up nothing."""

        async def interrupted() -> bool:
            stop = Stop(self.cluster, operation, at, delivered=delivered)
            task = asyncio.ensure_future(self.put())
            reaching = asyncio.ensure_future(stop.reached.wait())
            await asyncio.wait([task, reaching], return_when=asyncio.FIRST_COMPLETED)
            stop.over()
            reached = stop.reached.is_set()
            self.cluster.cut = kill
            task.cancel()
            await asyncio.wait([task])
            self.cluster.cut = False
            reaching.cancel()
            return reached

        return run(interrupted())

    def encodings(self) -> set[bytes]:
        return {encoding for device in self.cluster.devices for encoding, _ in device.shares}

    def check_restored(self, content: bytes = CONTENT) -> None:
        out = self.folder / "out"
        out.unlink(missing_ok=True)

        async def get() -> None:
            restorer = Restorer(Repository(self.cluster.link, self.vault, KEY))
            (encoding,) = self.cluster.encodings()
            await restorer.restore([encoding], "image", lambda _: Output(out, replace=False))

        run(get())
        assert out.read_bytes() == content


def appended(cluster: MemoryCluster) -> Counter[bytes]:
    return Counter(device for device, operation in cluster.messages if operation is Operation.APPEND)
