"""A broker with the key that its peers have pinned: admits them, and says whatever a test wants it to say.

What it says of lanes is a `Granting`; what it says besides is handed to `say`.
"""

from __future__ import annotations

import contextlib
import enum
import random
import time
from collections.abc import Sequence
from typing import Any, Optional

import zmq

from broker.authentication import Authentication, lane_of
from cluster.ports import HOST
from common.discovery.addresses import BrokerAddress
from common.errors import ProtocolError
from common.link.lane import REFUSAL, Grant, Opener, Sealer, agree, new_secret, read_ask
from common.link.sockets import make_lane_router, make_router
from common.membership.identity import KeyPair
from common.protocol.codec import MAX_PAYLOAD, pack_header
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import GRANTED, Acknowledged
from tests.soak.lane_peer import as_message, garbage
from tests.support.ports import own_base_port

_MANY = 100
_FLOOD = 8  # messages of 4 MiB at each look


class Granting(enum.Enum):
    NONE = "refuses lanes"
    HONESTLY = "grants lanes, and keeps to them"
    NOTHING = "does not answer who asks for one"
    ELSEWHERE = "grants lanes at a port where nobody listens"
    MUTE = "grants lanes at a port that takes connections and says nothing"
    UNKNOWN = "grants lanes that it does not admit to"
    GARBAGE = "answers by what is no grant"
    MANY = "grants a hundred lanes to each ask, none of which is there"
    GARBLES = "admits to lanes, and sends there what nobody sealed"
    ENDS = "admits to lanes, and ends each at its first message"
    FLOODS = "admits to lanes, and sends large messages without end over CURVE beside them"


class _Lane:
    def __init__(self, asked: bytes, grant: Grant) -> None:
        keys = agree(asked, grant)
        self.sealer, self.opener = Sealer(keys.from_broker), Opener(keys.to_broker)
        self.routing_id = b""


class LyingBroker:
    """`heard`: messages that came whole. `asked`: how many times it was asked for a lane."""

    def __init__(self, granting: Granting = Granting.NONE, *, answers: bool = True) -> None:
        """`answers`: grants whatever it is asked, as a worker's greeting; else it says nothing to that."""
        self.granting, self.answers = granting, answers
        self.pair, self.port = KeyPair.generate(), own_base_port()
        self.heard = self.heard_on_lanes = self.asked = 0
        self._drawn = random.Random(1)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authentication = Authentication(
            self._context,
            lambda _key, _domain: None,
            admits_lane=lambda lane_id, _: bytes.fromhex(lane_id) in self._lanes,
        )
        self._curve = [make_router(self._context, self.pair, domain) for domain in ("clients", "workers")]
        for number, router in enumerate(self._curve):
            router.bind(f"tcp://{HOST}:{self.port + number}")
        self._lane_router = make_lane_router(self._context)
        self._lane_port = self._lane_router.bind_to_random_port(f"tcp://{HOST}")
        self._mute = self._context.socket(zmq.STREAM)
        self._mute_port = self._mute.bind_to_random_port(f"tcp://{HOST}")
        self._lanes: dict[bytes, _Lane] = {}
        self._peer: Optional[tuple[zmq.Socket[bytes], bytes]] = None  # who spoke last over CURVE
        self._lane: Optional[_Lane] = None  # on which something came last

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress(HOST, self.port, self.port + 1, self.pair.public)

    def serve(self, seconds: float) -> int:
        """Answer what peers say of themselves, for so long, and what is at hand; how much they have said so far."""
        end = time.monotonic() + seconds
        poller = zmq.Poller()
        for socket in (self._authentication.socket, self._lane_router, *self._curve):
            poller.register(socket, zmq.POLLIN)
        ready = dict(poller.poll(0))
        while ready or time.monotonic() < end:
            if self._authentication.socket in ready:
                self._authentication.answer()
            for router in self._curve:
                if router in ready:
                    self._hear(router)
            if self._lane_router in ready:
                self._hear_on_lane()
            if self.granting is Granting.FLOODS and self._lane is not None:
                self._flood()
            ready = dict(poller.poll(max(0, min(100, int(1000 * (end - time.monotonic()))))))
        return self.heard

    def _hear(self, router: zmq.Socket[bytes]) -> None:
        routing_id, *frames = router.recv_multipart()
        self._peer, self._lane = (router, routing_id), None
        asked = read_ask(memoryview(frames[0])) if len(frames) == 1 else None
        if asked is None:
            self._answer(frames)
            return
        self.asked += 1
        for answer in self._answers_to_ask(asked):
            self.say_over_curve([answer])

    def _answers_to_ask(self, asked: bytes) -> list[bytes]:
        kind = self.granting
        if kind is Granting.NOTHING:
            return []
        if kind is Granting.NONE:
            return [REFUSAL]
        if kind is Granting.GARBAGE:
            return [
                self._drawn.choice([b"", b"TSL1", b"TSL1\x02" + bytes(40), REFUSAL + b"x", self._drawn.randbytes(87)])
            ]
        ports = {Granting.ELSEWHERE: own_base_port(), Granting.MUTE: self._mute_port}
        grants = [
            Grant(new_secret()[:16], new_secret(), new_secret(), ports.get(kind, self._lane_port))
            for _ in range(_MANY if kind is Granting.MANY else 1)
        ]
        if kind not in (Granting.UNKNOWN, Granting.MANY):
            self._lanes = {grant.lane_id: _Lane(asked, grant) for grant in grants}
        return [grant.encode() for grant in grants]

    def _hear_on_lane(self) -> None:
        routing_id, *frames = self._lane_router.recv_multipart(copy=False)
        lane = self._lanes.get(lane_of(frames[-1]))
        if lane is None:
            return
        lane.routing_id, self._lane = routing_id.bytes, lane
        if self.granting is Granting.ENDS:
            self._send_on_lane(lane, [b""])
            return
        if self.granting is Granting.GARBLES:
            self._send_on_lane(lane, garbage(self._drawn, [frame.bytes for frame in frames]))
            return
        with contextlib.suppress(ProtocolError):
            self._answer([bytes(frame) for frame in lane.opener.open([frame.buffer for frame in frames])])
            self.heard_on_lanes += 1

    def _answer(self, frames: Sequence[bytes]) -> None:
        self.heard += 1
        if self.answers and frames[0][4] == Kind.REQUEST:
            reply = Envelope(Kind.REPLY, Operation(frames[0][5]), frames[0][28:44])
            self.say([reply.encode(), pack_header(Acknowledged(GRANTED))])

    def _flood(self) -> None:
        for _ in range(_FLOOD):
            if not self.say_over_curve([bytes(40), b"", bytes(MAX_PAYLOAD)]):
                return

    def say(self, frames: Sequence[bytes]) -> bool:
        """Say this to who spoke last, on its lane, if it has one; whether its connection took it."""
        lane = self._lane
        if lane is None:
            return self.say_over_curve(frames)
        sealed = lane.sealer.seal(as_message(frames))
        if not self._send_on_lane(lane, sealed):
            return False
        lane.sealer.sent()
        return True

    def _send_on_lane(self, lane: _Lane, frames: Sequence[Any]) -> bool:
        return _sent(self._lane_router, [lane.routing_id, *frames])

    def say_over_curve(self, frames: Sequence[bytes]) -> bool:
        """Say this over CURVE to who spoke last there; whether its connection took it."""
        if self._peer is None:
            return False
        router, routing_id = self._peer
        return _sent(router, [routing_id, *frames])

    def close(self) -> None:
        self._context.destroy(linger=0)


def _sent(router: zmq.Socket[bytes], frames: Sequence[Any]) -> bool:
    try:
        router.send_multipart(frames, zmq.NOBLOCK)
    except zmq.ZMQError:
        return False
    return True
