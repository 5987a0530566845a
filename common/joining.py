"""Trading an invite for a permanent place: what a new worker or client does once.

The joiner connects with the invite's one-time key, which the broker admits for nothing else, and names the permanent
key that it made for itself. The same invite and key again get the same answer, so that a lost reply does no harm.
"""

from __future__ import annotations

import secrets
import time

import zmq

from common.errors import ProtocolError, RefusedError, UnreachableError, UsageError
from common.identity import KeyPair
from common.invite import Invite, Role
from common.link.connection import Change, ConnectionMonitor
from common.link.sockets import make_dealer
from common.protocol.codec import pack_header, unpack_header
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import IDENTIFIER_SIZE
from common.protocol.messages import Join, Joined

PATIENCE = 8.0  # seconds


def join(invite: Invite, role: Role, name: str, permanent: KeyPair) -> str:
    """Have the permanent key admitted; returns the name under which it was.

    UsageError where the invite is for the other role, RefusedError where the broker does not (any longer) accept it,
    UnreachableError where the broker doesn't answer.
    """
    if invite.role is not role:
        raise UsageError(f"this invite is for a {invite.role.value}, not for a {role.value}")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = make_dealer(context, invite.one_time, invite.broker.public_key)
    monitor = ConnectionMonitor(socket)
    try:
        socket.connect(invite.broker.endpoint(role))
        joined = _exchange(socket, monitor, invite, Join(name, permanent.public))
    finally:
        monitor.close()
        context.destroy(linger=0)
    if not joined.answer.granted:
        raise _refusal(joined.answer.text)
    return joined.name


def _exchange(socket: zmq.Socket[bytes], monitor: ConnectionMonitor, invite: Invite, request: Join) -> Joined:
    request_id = secrets.token_bytes(IDENTIFIER_SIZE)
    frames = [Envelope(Kind.REQUEST, Operation.JOIN, request_id).encode(), pack_header(request)]
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(monitor.socket, zmq.POLLIN)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        poller.poll(100)
        for change in monitor.changes():
            if change is Change.NOT_ADMITTED:
                raise _refusal("it is over or was withdrawn")
            if change is Change.UP:
                socket.send_multipart(frames)
        while socket.poll(0):
            reply = socket.recv_multipart()
            envelope = decode_envelope(reply[0])
            if envelope.kind is Kind.REPLY and envelope.request_id == request_id:
                if len(reply) != 2:
                    raise ProtocolError(f"a reply of {len(reply)} frames to JOIN")
                return unpack_header(reply[1], Joined)
    raise UnreachableError(f"no answer from the broker at {invite.broker.endpoint(invite.role)}")


def _refusal(why: str) -> RefusedError:
    return RefusedError(
        f"the broker does not accept this invite: {why}",
        advice="invites work once, within an hour: get a new one with `python broker/broker.py invite`",
    )
