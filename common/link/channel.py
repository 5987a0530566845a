"""What a client or a worker speaks with one broker through: a CURVE connection, and the lane that it was granted there.

    down ──CURVE stands──▶ asking ──granted──▶ opening ──the lane stands──▶ on the lane
      ▲                       └──refused, or nothing in time───┴──▶ on CURVE        │
      └── CURVE is lost ── from each of them; and a lane that is lost is asked for anew ──▶ asking

Whoever uses it sees one connection, which is up once messages can go, and down when what they went on is lost; the two
never carry messages side by side, so nothing overtakes. Where no lane can be had, as where its port is closed, all goes
with CURVE, which protects as much and costs more.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Sequence
from typing import Any, Callable, Optional

import zmq

from common.discovery.addresses import BrokerAddress, endpoint
from common.errors import ProtocolError
from common.link.connection import Change
from common.link.lane import Grant, Opener, Sealer, agree, ask, is_answer, new_secret, read_grant
from common.link.sockets import ConnectionMonitor, make_dealer, make_lane_dealer
from common.membership.identity import KeyPair
from common.protocol.operations import Role

log = logging.getLogger(__name__)

# Seconds for a grant, and again for the lane to stand. A person waits for a client.
_PATIENCE = {Role.CLIENT: 1.0, Role.WORKER: 3.0}
_DROPPED = 64  # messages at a time
_PAUSE = 0.25  # seconds until another lane is asked for; whoever cuts each at once is given no more to do than that

Socket = zmq.Socket[bytes]


class _State(enum.Enum):
    DOWN = "down"
    ASKING = "asking"
    OPENING = "opening"
    ON_LANE = "on the lane"
    ON_CURVE = "on CURVE"


_UP = frozenset({_State.ON_LANE, _State.ON_CURVE})


def _nothing(_: Socket) -> None:
    """Where nobody has to know which sockets there are."""


def _events(socket: Socket) -> int:
    return int(socket.getsockopt(zmq.EVENTS))


class _Lane:
    """One lane from the grant on: its socket, and what seals and opens."""

    def __init__(
        self, context: zmq.Context[Socket], grant: Grant, asked: bytes, host: str, *, heartbeats: bool
    ) -> None:
        keys = agree(asked, grant)
        self.sealer, self.opener = Sealer(keys.to_broker), Opener(keys.from_broker)
        self.socket = make_lane_dealer(context, grant.lane_id, grant.token, heartbeats=heartbeats)
        self.monitor = ConnectionMonitor(self.socket)
        self.spoilt = False  # something came on it that was not sealed as what comes next
        self.socket.connect(endpoint(host, grant.port))


class Channel:
    """`now`: seconds that never go back."""

    def __init__(
        self,
        context: zmq.Context[Socket],
        pair: KeyPair,
        broker: BrokerAddress,
        role: Role,
        *,
        heartbeats: bool = False,
        opened: Callable[[Socket], None] = _nothing,
        closing: Callable[[Socket], None] = _nothing,
    ) -> None:
        """`opened` is told of each socket to wait for, `closing` of one that is closed now."""
        self._context = context
        self._host = broker.host
        self._heartbeats = heartbeats
        self._opened, self._closing = opened, closing
        self._state = _State.DOWN
        self._patience = _PATIENCE[role]
        self._patience_ends: Optional[float] = None
        self._secret = b""
        self._has_asked = False
        self._ask_at = 0.0
        self._lane: Optional[_Lane] = None
        self._curve = make_dealer(context, pair, broker.public_key, heartbeats=heartbeats)
        self._monitor = ConnectionMonitor(self._curve)
        for socket in (self._curve, self._monitor.socket):
            opened(socket)
        self._endpoint = broker.endpoint(role)

    def connect(self) -> None:
        """zmq.ZMQError where the broker's address is none: then nothing ever comes."""
        self._curve.connect(self._endpoint)

    @property
    def sockets(self) -> list[Socket]:
        """What to wait for: messages, answers and changes; `socket_in_use` among them."""
        lane = [] if self._lane is None else [self._lane.socket, self._lane.monitor.socket]
        return [self._curve, self._monitor.socket, *lane]

    @property
    def socket_in_use(self) -> Socket:
        """What messages go on, once it is up."""
        return self._curve if self._lane is None else self._lane.socket

    @property
    def is_spoilt(self) -> bool:
        """Whether a lane has to be given up: `changes` does that."""
        return self._lane is not None and self._lane.spoilt

    def has_room(self) -> bool:
        """Whether a message could be sent now."""
        return self._has(zmq.POLLOUT)

    def has_messages(self) -> bool:
        """Whether something has come."""
        return self._has(zmq.POLLIN)

    def _has(self, event: int) -> bool:
        return self._state in _UP and not self.is_spoilt and bool(_events(self.socket_in_use) & event)

    def send(self, frames: Sequence[Any]) -> None:
        """Send envelope, header and perhaps payload; zmq.Again where there is no room, or no connection."""
        if not self.has_room():
            raise zmq.Again
        if self._lane is None:
            self._curve.send_multipart(frames, zmq.NOBLOCK, copy=False)
            return
        try:
            sealed = self._lane.sealer.seal(frames)
        except ProtocolError as error:
            self._give_up_lane(error)
            raise zmq.Again from None
        self._lane.socket.send_multipart(sealed, zmq.NOBLOCK, copy=False)
        self._lane.sealer.sent()

    def receive(self) -> list[memoryview]:
        """The frames of a message that has come; zmq.Again where none has."""
        if self._state not in _UP or self.is_spoilt:
            raise zmq.Again
        frames = [frame.buffer for frame in self.socket_in_use.recv_multipart(zmq.NOBLOCK, copy=False)]
        if self._lane is None:
            if is_answer(frames):  # a grant that comes too late; each is a turn, however many a broker sends
                raise zmq.Again
            return frames
        try:
            return self._lane.opener.open(frames)
        except ProtocolError as error:
            self._give_up_lane(error)
            raise zmq.Again from None

    def _give_up_lane(self, error: ProtocolError) -> None:
        log.warning("gives a lane to the broker at %s up: %s", self._host, error)
        if self._lane is not None:
            self._lane.spoilt = True

    # --- what happens

    def changes(self, now: float) -> list[Change]:
        """What happened to the connection since the last call; never waits. To be called several times a second."""
        seen: list[Change] = []
        unread = _events(self._curve) & zmq.POLLIN  # whatever waits for messages finds its descriptor quiet again
        for change in self._monitor.changes():
            seen += self._curve_changed(change, now)
        if unread and (self._lane is not None or (self._state is _State.ASKING and not self._has_asked)):
            self._drop_unasked()
        if self._state is _State.ASKING:
            seen += self._take_answer(now)
        if self._lane is not None:
            seen += self._follow_lane(self._lane, now)
        if self._patience_ends is not None and now >= self._patience_ends:
            if self._lane is not None:
                log.warning(
                    "the broker's port for lanes is not reached at %s; goes on with CURVE, which is slower", self._host
                )
            seen += self._go_on_with_curve()
        return seen

    def _drop_unasked(self) -> None:
        """No broker says anything on CURVE now; what one says all the same is not to pile up, or to wake anybody."""
        for _ in range(_DROPPED):
            try:
                self._curve.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return

    def _curve_changed(self, change: Change, now: float) -> list[Change]:
        if change is Change.UP:
            self._ask(at=now)
            return []
        if change is Change.DOWN:
            self._close_lane()
            self._state, self._patience_ends = _State.DOWN, None
        return [change]

    def _ask(self, *, at: float) -> None:
        self._state, self._patience_ends = _State.ASKING, at + self._patience
        self._secret, self._has_asked, self._ask_at = new_secret(), False, at

    def _take_answer(self, now: float) -> list[Change]:
        """Ask, if that could not be sent yet; else see what the broker answered."""
        if not self._has_asked:
            if now < self._ask_at or not _events(self._curve) & zmq.POLLOUT:
                return []
            self._curve.send(ask(self._secret), zmq.NOBLOCK)
            self._has_asked = True
        try:
            frames = [frame.buffer for frame in self._curve.recv_multipart(zmq.NOBLOCK, copy=False)]
        except zmq.Again:
            return []
        grant = read_grant(frames[0]) if is_answer(frames) else None
        if grant is None:
            return self._go_on_with_curve()
        self._lane = _Lane(self._context, grant, self._secret, self._host, heartbeats=self._heartbeats)
        self._state, self._patience_ends = _State.OPENING, now + self._patience
        for socket in (self._lane.socket, self._lane.monitor.socket):
            self._opened(socket)
        return []

    def _follow_lane(self, lane: _Lane, now: float) -> list[Change]:
        _events(lane.socket)
        for change in lane.monitor.changes():
            if self._state is _State.OPENING and change is not Change.UP:
                log.warning("the broker at %s does not open the lane that it granted: %s", self._host, change.value)
                return self._go_on_with_curve()
            if self._state is _State.OPENING:
                self._state, self._patience_ends = _State.ON_LANE, None
                return [Change.UP]
            lane.spoilt = True
        if not lane.spoilt:
            return []
        self._close_lane()
        self._ask(at=now + _PAUSE)
        return [Change.DOWN]

    def _go_on_with_curve(self) -> list[Change]:
        self._close_lane()
        self._state, self._patience_ends = _State.ON_CURVE, None
        return [Change.UP]

    def _close_lane(self) -> None:
        if self._lane is None:
            return
        for socket in (self._lane.socket, self._lane.monitor.socket):
            self._closing(socket)
        self._lane.monitor.close()
        self._lane.socket.close()
        self._lane = None

    def close(self) -> None:
        """What was sent goes out yet."""
        self._close_lane()
        for socket in (self._curve, self._monitor.socket):
            self._closing(socket)
        self._monitor.close()
        self._curve.close()
