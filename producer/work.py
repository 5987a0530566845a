"""One run of the producer: find out for whom, connect, choose k and n, store, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Optional, Protocol

from common.home import ClientIdentity
from common.link.link import run_with_link
from common.link.questions import settled_devices
from common.program import complain
from common.progress import ByteProgress
from common.redundancy import choose
from common.vault.contacts import open_contacts
from producer.outcome import Outcome
from producer.owner import OtherVault, Owner
from producer.run import store_all
from producer.session import Session
from producer.sources import Source
from producer.viewing import Viewer


class Report(Protocol):
    exit_code: int

    def __call__(self, outcome: Outcome) -> None: ...


def other_vault(home: Path, name: str, passphrase: Callable[[], str]) -> OtherVault:
    """The vault of a contact; NotFoundError where there is none of this name. See `open_contacts`."""
    return OtherVault(open_contacts(home, passphrase).card(name))


class Work:
    def __init__(self, identity: ClientIdentity, find_owner: Callable[[], Owner]) -> None:
        self._identity = identity
        self._viewer = Viewer()
        self._viewer.start()  # it is ready when the passphrase is a key
        self._owner = find_owner()

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
        async with self._owner.link(self._identity) as link:
            devices = await settled_devices(link)
            required = (k, n)
            k, n = choose(sum(device.alive for device in devices), k, n)
            if k == n:
                complain(f"warning: {k} of {n}: the loss of a single device loses what is stored now")
            session = Session(
                link,
                self._owner,
                k,
                n,
                devices,
                viewer=self._viewer,
                images_only=images_only,
                progress=progress,
                required=required,
            )
            if session.own is not None:
                session.own.journals.remove_old(time.time())
            try:
                async for outcome in store_all(session, sources):
                    report(outcome)
            finally:
                session.close()
