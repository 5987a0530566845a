"""The devices that are alive for one of several brokers, asked by the cluster's client as if it knew no other broker.

A client asks the next broker where one does not answer, so an answer may be any broker's. `admin.py status` prints the
same, but starting it takes half a second of processor time, and waiting for a device asks many times.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from common.errors import NotFoundError
from common.link.link import Link, run_with_link
from common.link.questions import list_devices
from common.membership.identity import ClientIdentity, load_brokers, load_key_pair


def alive_devices(home: Path, client_port: int) -> set[str]:
    """The names of the devices that are alive for the broker at this port, asked as the client of `home`.

    NotFoundError where the client knows no broker at this port; UnreachableError where it does not answer in time.
    """
    known = [each for each in load_brokers(home / "client" / "brokers.json") if each.client_port == client_port]
    if not known:
        raise NotFoundError(f"the client of {home} knows no broker at port {client_port}")
    identity = ClientIdentity(load_key_pair(home / "client" / "client.key"), known)
    with ThreadPoolExecutor(1) as thread:  # so that the main thread's signal handlers are not changed
        return thread.submit(run_with_link, partial(_alive, identity)).result()


async def _alive(identity: ClientIdentity) -> set[str]:
    async with Link(identity, None) as link:
        return {device.name for device in await list_devices(link) if device.alive}
