"""How a broker gets onto its cluster's list of members, at each start: by itself if it is the first, else by an invite.

It enters itself into its list of members, with the address that others reach it at, so that the list tells everybody
who gets it of all brokers. One that has an invite is entered by the broker that made it; what it knows of that one is
what the invite says, until their lists meet.
"""

from __future__ import annotations

import logging
import socket
import time

from broker.listening import Listening
from broker.members import Address, MemberList, MembersFile
from broker.rights import INVITED
from common.errors import RefusedError, UnreachableError, UsageError
from common.link.joining import join
from common.membership.identity import KeyPair
from common.membership.invite import Invite
from common.process.events import Emit, ignore
from common.protocol.messages import ReachedAt
from common.protocol.operations import Role

log = logging.getLogger(__name__)

_LOOK_EVERY = 5.0  # seconds


def own_name() -> str:
    """What a broker is called on the list of members, if the name is free; a worker here bears the host's name."""
    return f"broker-{socket.gethostname()}"[:64]


def enter_self(file: MembersFile, pair: KeyPair, address: Address, now: int) -> None:
    """Put this broker on its own list; RefusedError where it was revoked. `now` is Unix seconds."""
    file.change(lambda members: members.enter_broker(pair.public, own_name(), address, now))


class OwnEntry:
    """Keeps this broker's entry on its list up to date: addresses come late, and change."""

    def __init__(self, file: MembersFile, pair: KeyPair, listening: Listening) -> None:
        self._file = file
        self._pair = pair
        self._listening = listening
        self._next = 0.0

    def tick(self, now: float) -> None:
        """To be called several times a second; `now` is monotonic seconds. RefusedError where it was revoked."""
        if now < self._next:
            return
        self._next = now + _LOOK_EVERY
        known = self._file.members.brokers().get(self._pair.public)
        try:
            address = self._listening.entry(self._pair.public, known)
            if address == known:
                return
            enter_self(self._file, self._pair, address, int(time.time()))
        except OSError as error:
            log.error("cannot note where this broker is now: %s", error)
            return
        log.info("this broker is reached at %s now", address.host)


def join_cluster(
    file: MembersFile, pair: KeyPair, address: Address, invite: Invite, now: int, emit: Emit = ignore
) -> None:
    """Make this broker one of the cluster that the invite comes from. `now` is Unix seconds.

    A broker that is one already tries the invite too: it may have been revoked. Where it was not, the invite stays
    unused. UsageError where it has members of another cluster, else as `common.link.joining.join`.
    """
    known = file.members.brokers()
    joined = any(broker.public_key in known for broker in invite.brokers)
    if not joined and _has_others(file.members, pair):
        raise UsageError(
            "this broker has a cluster of its own, whose members would be let into the other",
            advice="give the joining broker another folder with TESSERA_HOME",
        )
    reached_at = ReachedAt(address.host, address.client_port, address.worker_port)
    try:
        admitted = join(invite, Role.BROKER, own_name(), pair, reached_at, emit=emit)
    except (RefusedError, UnreachableError) as error:
        if not joined:
            raise
        log.info("this broker is one of its cluster already; the invite was not used: %s", error)
        return

    def presume(members: MemberList) -> None:
        members.presume_broker(pair.public, admitted.name, address, now)
        for broker in admitted.brokers:
            where = Address(broker.host, broker.client_port, broker.worker_port)
            members.presume_broker(broker.public_key, f"broker-{broker.host}"[:64], where, now)

    file.change(presume)
    log.info("joined the cluster as %s", admitted.name)


def _has_others(members: MemberList, pair: KeyPair) -> bool:
    ours = pair.public.hex()
    return any(m.public_key != ours and m.standing not in INVITED for m in members.all())
