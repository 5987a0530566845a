"""Joins this machine to a cluster, as a client or as an admin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.files import locked
from common.link.joining import join as trade
from common.link.joining import read_invite
from common.membership.identity import KeyPair, load_brokers, load_key_pair, save_brokers, save_key_pair
from common.membership.invite import require_same_cluster
from common.process.events import Emit, ignore
from common.protocol.operations import Role


@dataclass(frozen=True)
class Admission:
    broker: str  # its host
    name: str  # what this machine is called there
    role: Role


def join_cluster(home: Path, invite: str, name: str, emit: Emit = ignore, *, new_cluster: bool = False) -> Admission:
    """Join by an invite, or its short code, and keep the admission in the machine's folder.

    `new_cluster`: leave the cluster that it is a client of, if that is another; its vault and its key stay.

    UsageError where the invite has a fault or the machine is in another cluster; otherwise as `read_invite` of
    `common.link.joining`.
    """
    folder = home / "client"
    with locked(folder / "join.lock"):
        decoded = read_invite(invite, Role.CLIENT, Role.ADD_ONLY, Role.ADMIN, emit=emit)
        brokers = folder / "brokers.json"
        # The same cluster again is tried: it may have revoked this machine.
        if brokers.exists() and not new_cluster:
            already = f"this machine is a client of another cluster already ({folder})"
            require_same_cluster(load_brokers(brokers), decoded.brokers, already, "set TESSERA_HOME to be in both")
        key_file = folder / "client.key"
        if not key_file.exists():
            save_key_pair(key_file, KeyPair.generate())
        admitted = trade(decoded, decoded.role, name, load_key_pair(key_file), emit=emit)
        save_brokers(brokers, admitted.brokers)
    return Admission(admitted.brokers[0].host, admitted.name, decoded.role)
