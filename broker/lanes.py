"""The lanes of a broker: who was granted one, whose token admits to it, and what came on it. No socket and no clock.

    granted ──token──▶ admitted ──first message──▶ open
       └───────── HALF_OPEN seconds ────────┴──▶ ended      and from each of them where its peer asks anew, is gone, is
                                                            no member any more, or a frame is not what comes next

A peer is known by its lane as by the CURVE connection over which it asked: by the same key, on the same side.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from broker.sessions import Side
from common.errors import ProtocolError
from common.link.lane import REFUSAL, Grant, Keys, Opener, Sealer, agree, new_secret
from common.protocol.identifiers import IDENTIFIER_SIZE

HALF_OPEN = 10.0  # seconds from the grant to the first message
MAX_HALF_OPEN = 1024  # all together
MAX_OF_KEY = 64  # lanes of one member


@dataclass(eq=False)
class Lane:
    """One lane, from its grant on."""

    lane_id: bytes
    side: Side
    public_key: bytes
    asked_on: bytes  # the routing id of the CURVE connection
    token: Optional[str]  # hexadecimal; None once it was used
    keys: Keys
    since: float  # seconds
    routing_id: bytes = b""  # once something came
    sealer: Optional[Sealer] = None
    opener: Optional[Opener] = None


class Lanes:
    """`now` is monotonic seconds."""

    def __init__(self, secret: Callable[[], bytes] = new_secret) -> None:
        self.port: Optional[int] = None  # where they are opened; while it is None, none is granted
        self._secret = secret
        self._lanes: dict[bytes, Lane] = {}
        self._half_open: OrderedDict[bytes, Lane] = OrderedDict()  # by age
        self._asked: dict[tuple[Side, bytes], Lane] = {}  # by the CURVE connection: one each

    def grant(
        self, side: Side, routing_id: bytes, public_key: bytes, asked: bytes, now: float
    ) -> tuple[bytes, Optional[Lane]]:
        """The answer to a peer that asked over CURVE, and the lane that it had before, which is over.

        `asked`: its part of what the keys are made from.
        """
        former = self._asked.get((side, routing_id))
        if former is not None:
            self.end(former)
        if self.port is None or self._of_key(public_key) >= MAX_OF_KEY:
            return REFUSAL, former
        while len(self._half_open) >= MAX_HALF_OPEN:
            self.end(next(iter(self._half_open.values())))
        granted = Grant(self._secret()[:IDENTIFIER_SIZE], self._secret(), self._secret(), self.port)
        lane = Lane(granted.lane_id, side, public_key, routing_id, granted.token.hex(), agree(asked, granted), now)
        self._lanes[lane.lane_id] = self._half_open[lane.lane_id] = self._asked[(side, routing_id)] = lane
        return granted.encode(), former

    def _of_key(self, public_key: bytes) -> int:
        return sum(lane.public_key == public_key for lane in self._lanes.values())

    def admits(self, lane_id: str, token: str) -> bool:
        """Whether this token, hexadecimal, was granted for this lane; no second time."""
        try:
            lane = self._lanes.get(bytes.fromhex(lane_id))
        except ValueError:
            return False
        if lane is None or lane.token is None or not hmac.compare_digest(lane.token.encode(), token.encode()):
            return False
        lane.token = None
        return True

    def find(self, lane_id: bytes) -> Optional[Lane]:
        """The lane, while it is not over."""
        return self._lanes.get(lane_id)

    def open(self, lane: Lane, routing_id: bytes, frames: Sequence[memoryview]) -> list[memoryview]:
        """A message that came on a lane, from this routing id; ProtocolError where it ends the lane."""
        try:
            if lane.opener is None:
                lane.sealer, lane.opener = Sealer(lane.keys.from_broker), Opener(lane.keys.to_broker)
                lane.routing_id = routing_id
            if routing_id != lane.routing_id:
                raise ProtocolError("two connections with one lane")
            opened = lane.opener.open(frames)
        except ProtocolError:
            self.end(lane)
            raise
        self._half_open.pop(lane.lane_id, None)
        return opened

    def end(self, lane: Lane) -> None:
        """Nothing that comes on it is heard any more."""
        self._lanes.pop(lane.lane_id, None)
        self._half_open.pop(lane.lane_id, None)
        if self._asked.get((lane.side, lane.asked_on)) is lane:
            del self._asked[(lane.side, lane.asked_on)]

    def expire(self, now: float, is_member: Callable[[bytes], bool]) -> None:
        """End those that were never opened, and those of who is no member any more."""
        for lane in list(self._half_open.values()):
            if now - lane.since < HALF_OPEN:
                break
            self.end(lane)
        for lane in [each for each in self._lanes.values() if not is_member(each.public_key)]:
            self.end(lane)

    def __len__(self) -> int:
        return len(self._lanes)
