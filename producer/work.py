"""One run of the producer: find the vault, connect, choose k and n, store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Optional

from common.coding.redundancy import count_devices
from common.errors import NotFoundError
from common.link.link import reached, run_with_link
from common.link.questions import settled_devices
from common.membership.identity import ClientIdentity
from common.process.events import BytesExpected, Warned
from common.protocol.messages import Device
from common.vault.contacts import open_contacts
from producer.events import Emit
from producer.owner import OtherVault, Owner
from producer.run import store_all
from producer.sources import Source
from producer.target import StoreOptions, Target
from producer.threads import Threads
from viewer.process import Viewer


def other_vault(home: Path, name: str, passphrase: Callable[[], str]) -> OtherVault:
    """The vault of a contact; NotFoundError where there is none of this name. See `open_contacts`."""
    return OtherVault(open_contacts(home, passphrase).card(name))


class Work:
    def __init__(self, identity: ClientIdentity, find_owner: Callable[[], Owner], emit: Emit) -> None:
        self._identity = identity
        self._emit = emit
        self._viewer = Viewer(emit=emit)
        self._viewer.start()  # it starts while the key is derived
        self._owner = find_owner()

    def store(self, sources: Sequence[Source], options: StoreOptions) -> None:
        """Store the sources, as `store`."""
        try:
            run_with_link(store(self._identity, self._owner, self._viewer, sources, options, self._emit))
        finally:
            self._viewer.close()


def total_size(sources: Sequence[Source]) -> Optional[int]:
    """The bytes of all that can be stored; None where they are known only at the end."""
    sizes = [source.size for source in sources if source.outcome is None]
    return None if None in sizes else sum(size or 0 for size in sizes)


async def store(
    identity: ClientIdentity,
    owner: Owner,
    viewer: Viewer,
    sources: Sequence[Source],
    options: StoreOptions,
    emit: Emit,
) -> None:
    """Store the sources by a link of its own; `emit` gets each one's outcome as soon as it is known.

    Where it is cancelled, the same call resumes what it began.
    """
    size = total_size(sources)
    if size is not None:
        emit(BytesExpected(size))
    async with reached(owner.link(identity, emit)) as link:
        devices = await settled_devices(link)
        chosen = choose_devices(devices, options.to)
        k, n = count_devices(chosen).choose(options.k, options.n, accept_degraded=options.accept_degraded)
        if k == n:
            emit(Warned(f"warning: {k} of {n}: the loss of a single device loses what is stored now"))
        avoid = [device.device_id for device in devices if device not in chosen]
        target = Target(link, owner, k, n, devices, options, avoid=avoid, emit=emit)
        threads = Threads(viewer)
        owner.forget_old(time.time())
        try:
            async for outcome in store_all(target, threads, sources):
                emit(outcome)
        finally:
            threads.close()
            owner.save(emit)


def choose_devices(devices: Sequence[Device], names: Sequence[str]) -> list[Device]:
    """The devices of these names, all where no name is given; NotFoundError where there is no such device."""
    if not names:
        return list(devices)
    unknown = set(names) - {device.name for device in devices}
    if unknown:
        raise NotFoundError(
            f"no device of the cluster is called {', '.join(sorted(unknown))}",
            advice="see how they are called with: python admin/admin.py status",
        )
    return [device for device in devices if device.name in names]
