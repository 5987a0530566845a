"""Trading an invite for a permanent place: what a new worker, client or broker does once.

The joiner connects with the invite's one-time key, which the broker admits for nothing else, and names the permanent
key that it made for itself. The same invite and key again get the same answer, so that a lost reply does no harm.
"""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple, Optional

import zmq

from common.errors import ProtocolError, RefusedError, UnreachableError, UsageError
from common.identity import KeyPair
from common.invite import BrokerAddress, Invite, Role
from common.link.connection import Change, ConnectionMonitor
from common.link.sockets import make_dealer
from common.protocol import messages
from common.protocol.codec import pack_header, unpack_header
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import IDENTIFIER_SIZE
from common.protocol.messages import Join, ReachedAt

PATIENCE = 8.0  # seconds for all brokers together


class _NotAdmittedError(Exception):
    """The broker does not know the invite's key."""


class Joined(NamedTuple):
    """Under which name a joiner was admitted, and the cluster's brokers as far as it knows them now."""

    name: str
    brokers: list[BrokerAddress]


def join(invite: Invite, role: Role, name: str, permanent: KeyPair, reached_at: Optional[ReachedAt] = None) -> Joined:
    """Have the permanent key admitted, by whichever of the invite's brokers answers.

    `reached_at`: where others reach a broker that joins. UsageError where the invite is for another role, RefusedError
    where no broker accepts it (any longer), UnreachableError where none answers.
    """
    require_role(invite.role, role)
    request = Join(name, permanent.public, reached_at)
    known = True
    for broker in invite.brokers:
        try:
            joined = _ask(broker, invite, request, PATIENCE / len(invite.brokers))
        except _NotAdmittedError:
            known = False  # by this one: another may have made it a moment ago
            continue
        except UnreachableError:
            continue
        if not joined.answer.granted:
            raise _refusal(joined.answer.text)  # no other is asked: it might not know yet that the invite was used
        return Joined(joined.name, [b for b in invite.brokers if b == broker or b.public_key != broker.public_key])
    if not known:
        raise _refusal("it is over or was withdrawn")
    endpoints = ", ".join(broker.endpoint(role) for broker in invite.brokers)
    raise UnreachableError(f"no answer from the broker at {endpoints}")


def require_role(invited: Role, role: Role) -> None:
    """UsageError where an invite is for another role than the joiner's."""
    if invited is not role:
        raise UsageError(f"this invite is for a {invited.value}, not for a {role.value}")


def _ask(broker: BrokerAddress, invite: Invite, request: Join, patience: float) -> messages.Joined:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = make_dealer(context, invite.one_time, broker.public_key)
    monitor = ConnectionMonitor(socket)
    try:
        socket.connect(broker.endpoint(invite.role))
        return _exchange(socket, monitor, request, patience)
    except zmq.ZMQError as error:
        raise UnreachableError(f"{broker.host} is no address: {error.strerror}") from None
    finally:
        monitor.close()
        context.destroy(linger=0)


def _exchange(socket: zmq.Socket[bytes], monitor: ConnectionMonitor, request: Join, patience: float) -> messages.Joined:
    request_id = secrets.token_bytes(IDENTIFIER_SIZE)
    frames = [Envelope(Kind.REQUEST, Operation.JOIN, request_id).encode(), pack_header(request)]
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(monitor.socket, zmq.POLLIN)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        poller.poll(100)
        for change in monitor.changes():
            if change is Change.NOT_ADMITTED:
                raise _NotAdmittedError
            if change is Change.UP:
                socket.send_multipart(frames)
        while socket.poll(0):
            reply = socket.recv_multipart()
            envelope = decode_envelope(reply[0])
            if envelope.kind is Kind.REPLY and envelope.request_id == request_id:
                if len(reply) != 2:
                    raise ProtocolError(f"a reply of {len(reply)} frames to JOIN")
                return unpack_header(reply[1], messages.Joined)
    raise UnreachableError("no answer")


def _refusal(why: str) -> RefusedError:
    return RefusedError(
        f"the broker does not accept this invite: {why}",
        advice="invites work once, within an hour: get a new one with `python broker/broker.py invite`",
    )
