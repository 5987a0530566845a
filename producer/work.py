"""One run of the producer: unlock the vault, connect, choose k and n, store, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Optional, Protocol

from common.home import ClientIdentity
from common.link.link import Link, run_with_link
from common.link.questions import settled_devices
from common.program import complain
from common.progress import ByteProgress
from common.redundancy import choose
from common.vault.folder import VaultFolder
from producer.outcome import Outcome
from producer.run import store_all
from producer.session import Session
from producer.sources import Source
from producer.viewing import Viewer


class Report(Protocol):
    exit_code: int

    def __call__(self, outcome: Outcome) -> None: ...


class Work:
    def __init__(self, identity: ClientIdentity, home: Path, passphrase: str) -> None:
        self._identity = identity
        self._vault = VaultFolder(home)
        self._viewer = Viewer()
        self._viewer.start()  # it is ready when the passphrase is a key
        self._key = self._vault.unlock(passphrase)

    def store(
        self,
        sources: Sequence[Source],
        k: Optional[int],
        n: Optional[int],
        images_only: bool,
        report: Report,
    ) -> int:
        """Store the sources; returns the exit code."""
        sizes = [source.size for source in sources if source.fault is None]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        try:
            with ByteProgress("storing", total) as progress:
                run_with_link(self._store(sources, k, n, images_only, report, progress.advance))
        finally:
            self._viewer.close()
        return report.exit_code

    async def _store(
        self,
        sources: Sequence[Source],
        k: Optional[int],
        n: Optional[int],
        images_only: bool,
        report: Report,
        progress: Callable[[int], None],
    ) -> None:
        async with Link(self._identity, self._key.owner_token()) as link:
            devices = await settled_devices(link)
            required = (k, n)
            k, n = choose(sum(device.alive for device in devices), k, n)
            if k == n:
                complain(f"warning: {k} of {n}: the loss of a single device loses what is stored now")
            session = Session(
                link,
                self._vault,
                self._key,
                k,
                n,
                devices,
                viewer=self._viewer,
                images_only=images_only,
                progress=progress,
                required=required,
            )
            session.journals.remove_old(time.time())
            try:
                async for outcome in store_all(session, sources):
                    report(outcome)
            finally:
                session.close()
