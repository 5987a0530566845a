"""The worker's command line."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path
from typing import NoReturn, Optional

import typer

from common.discovery.addresses import BrokerAddress
from common.errors import NotFoundError, RefusedError, UnreachableError, UsageError, cannot_write
from common.files import locked, make_folder
from common.home import home
from common.link.joining import join, read_invite
from common.membership.identity import KeyPair, load_brokers, load_key_pair, save_brokers, save_key_pair
from common.membership.invite import require_same_cluster, same_cluster
from common.process.program import application, run
from common.process.progress import Printer, Waiting
from common.process.running_time import RunningTime
from common.process.stopping import stop_on_signals
from common.protocol.messages import DeviceKind
from common.protocol.operations import Role
from common.text import parse_duration, parse_part, parse_size
from worker.capacity import OwnerQuota
from worker.clock import Clock
from worker.server import Server
from worker.store import ShareStore

log = logging.getLogger(__name__)
_ANOTHER_STORE = "give this cluster another folder with --store"
commands = application("Keep shares on this device.")


@commands.command()
def serve(
    invite: Optional[str] = typer.Option(
        None,
        "--join",
        envvar="TESSERA_JOIN",
        help="The invite, or its short code, needed once: the first time this store is used.",
    ),
    new_cluster: bool = typer.Option(
        False,
        "--new-cluster",
        help="With --join: leave the cluster that this store is a device of. What it keeps stays.",
    ),
    name: Optional[str] = typer.Option(
        None, envvar="TESSERA_NAME", help="What to call this device; its host name if left out."
    ),
    store: Optional[Path] = typer.Option(
        None,
        envvar="TESSERA_STORE",
        help="Folder to keep shares in; `store` in Tessera's folder if left out.",
    ),
    capacity: Optional[str] = typer.Option(
        None,
        envvar="TESSERA_CAPACITY",
        help="Most that shares may take, such as 500G; all but a reserve if left out.",
    ),
    owner_quota: str = typer.Option(
        "90%",
        envvar="TESSERA_WORKER_OWNER_QUOTA",
        help="Most that one client's vaults may take here, such as 100G; or 90%, of which the rest is for all alike.",
    ),
    scrub_every: str = typer.Option(
        "7d",
        envvar="TESSERA_SCRUB_EVERY",
        help="How long reading and checking all shares once takes, such as 12h or 7d.",
    ),
    hold: str = typer.Option(
        "7d",
        envvar="TESSERA_HOLD",
        help="How long this device keeps what is deleted, whoever deleted it, such as 12h or 7d; 0 for not at all.",
    ),
    kind: DeviceKind = typer.Option(
        DeviceKind.SERVER.value,
        envvar="TESSERA_KIND",
        help="What this device is: a laptop may be away for days before brokers rebuild what it holds.",
    ),
) -> None:
    """Keep shares on this device until interrupted."""
    folder = (store or home() / "store").expanduser().absolute()
    limit = parse_size(capacity) if capacity is not None else None
    quota: OwnerQuota = parse_part(owner_quota) if "%" in owner_quota else parse_size(owner_quota)
    seconds = parse_duration(scrub_every)
    held = 0.0 if hold.strip() == "0" else parse_duration(hold)
    stopping = stop_on_signals()
    if invite is not None:
        try:
            make_folder(folder)
        except OSError as error:
            raise cannot_write(folder, error) from None
    elif not new_cluster and not folder.exists():
        raise _no_device(folder)
    _join_once(folder, invite, name or socket.gethostname(), new_cluster=new_cluster)
    _keep(folder, limit, quota, seconds, held, kind, stopping)


def _keep(
    folder: Path,
    limit: Optional[int],
    quota: OwnerQuota,
    scrub_every: float,
    hold: float,
    kind: DeviceKind,
    stopping: threading.Event,
) -> None:
    """Open the store, and serve from it until the event is set."""
    pair = load_key_pair(folder / "device.key")
    running_time = RunningTime()
    clock = Clock(monotonic=running_time)
    with Waiting(f"looking through {folder}"):
        shares = ShareStore(folder, limit, None, clock, scrub_every, quota, hold)
    server = Server(shares, pair, folder / "brokers.json", running_time, kind)
    log.info("worker keeps %d shares in %s", shares.count(), folder)
    if not shares.free_bytes():
        log.warning("no further share is taken now: --capacity, the disk or its inodes are used up, or it is read-only")
    try:
        server.serve(stopping)
    finally:
        server.close()
        shares.close()
    log.info("worker stopped")


def _join_once(folder: Path, invite_text: Optional[str], name: str, *, new_cluster: bool) -> None:
    """Make this store a device of the cluster, if it is not one yet.

    The permanent key is kept before the invite is used, so that it can be used again after an interruption. A store
    that is a device already tries an invite too: it may have been revoked. Where it was not, the invite stays unused.
    `new_cluster`: leave another cluster for the invite's; until that lets it in the store is the other's.
    """
    with locked(folder / "join.lock"):
        file = folder / "brokers.json"
        known = load_brokers(file) if file.exists() else []
        if invite_text is None:
            _require_joined(folder, known, new_cluster=new_cluster)
            return
        printer = Printer("joining")
        stays = bool(known) and not new_cluster
        try:
            invite = read_invite(invite_text, Role.WORKER, emit=printer)
            stays = stays or same_cluster(known, invite.brokers)
            if not new_cluster:
                require_same_cluster(known, invite.brokers, f"{folder} is a device of another cluster", _ANOTHER_STORE)
            admitted = join(invite, Role.WORKER, name, _device_key(folder), emit=printer)
        except (RefusedError, UnreachableError) as error:
            if not stays:
                raise
            log.info("%s is a device of its cluster already; the invite was not used: %s", folder, error)
            return
        save_brokers(file, admitted.brokers)
        log.info("joined the cluster as %s", admitted.name)


def _require_joined(folder: Path, known: list[BrokerAddress], *, new_cluster: bool) -> None:
    """Without an invite only a store that is a device of a cluster, and stays one, can go on."""
    if new_cluster:
        raise UsageError("--new-cluster needs an invite of that cluster", advice="add --join INVITE")
    if not known:
        raise _no_device(folder)


def _no_device(folder: Path) -> NotFoundError:
    """What is said of a folder that is no device's: never joined, or a mount point before its disk is there.

    The latter is over when the disk comes, so a service must start the worker again after this exit.
    """
    return NotFoundError(
        f"{folder} is not a device of a cluster yet, or its disk is not mounted",
        advice="run `python broker/broker.py invite worker` at the broker, then start this with --join INVITE",
    )


def _device_key(folder: Path) -> KeyPair:
    """This store's permanent key, made when it is first needed."""
    key_file = folder / "device.key"
    if not key_file.exists():
        save_key_pair(key_file, KeyPair.generate())
    return load_key_pair(key_file)


def main() -> NoReturn:
    run(commands, "worker", serves=True)
