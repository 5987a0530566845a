"""A member on a lane of its own, over bare sockets: what it seals is sealed rightly, whatever it is told to send."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, Optional

import zmq

from cluster.ports import HOST
from common.link.lane import Grant, Opener, Sealer, agree, ask, new_secret, read_grant
from common.link.sockets import make_dealer, make_lane_dealer
from common.membership.identity import KeyPair
from common.protocol.codec import unpack_header
from common.protocol.envelope import Kind, Operation, decode_envelope
from common.protocol.messages import PROTOCOL_VERSION, Hello, Welcome
from tests.soak.hostile_peers import PATIENCE, request

_LONGEST_ENVELOPE = 255  # bytes: what a lane's message has room for
_SIZES = (0, 1, 7, 8, 9, 24, 60, 100, 5000, 1 << 16)


class AskingPeer:
    """A member's CURVE connection, by which it asks for lanes."""

    def __init__(self, context: zmq.Context[Any], pair: KeyPair, server: bytes, port: int) -> None:
        self.socket = make_dealer(context, pair, server)
        self.socket.sndtimeo = self.socket.rcvtimeo = int(1000 * PATIENCE)
        self.socket.connect(f"tcp://{HOST}:{port}")
        self.secret = b""

    def granted(self) -> Grant:
        """What is granted to one ask."""
        self.secret = new_secret()
        self.socket.send(ask(self.secret))
        grant = read_grant(memoryview(self.socket.recv()))
        assert grant is not None, "a member was refused a lane"
        return grant


class LanePeer:
    """One lane with one key."""

    def __init__(self, context: zmq.Context[Any], pair: KeyPair, server: bytes, port: int) -> None:
        self._asking = AskingPeer(context, pair, server, port)
        grant = self._asking.granted()
        keys = agree(self._asking.secret, grant)
        self._sealer, self._opener = Sealer(keys.to_broker), Opener(keys.from_broker)
        self.socket = make_lane_dealer(context, grant.lane_id, grant.token)
        self.socket.sndtimeo = int(1000 * PATIENCE)
        self.socket.connect(f"tcp://{HOST}:{grant.port}")

    def seal(self, frames: Sequence[bytes]) -> list[bytes]:
        """These, sealed as the next message; what is no message's shape is brought into one."""
        sealed = self._sealer.seal(as_message(frames))
        self._sealer.sent()
        return sealed

    def send(self, frames: Sequence[bytes]) -> None:
        self.send_unsealed(self.seal(frames))

    def send_unsealed(self, frames: Sequence[bytes]) -> None:
        self.socket.send_multipart(frames)

    def greeted(self) -> bool:
        """Whether the broker grants a session on this lane, and says so on it."""
        asked = request(Operation.HELLO, Hello(PROTOCOL_VERSION))
        self.send(asked)
        while (frames := self.opened()) is not None:
            reply = decode_envelope(frames[0])
            if reply.kind is Kind.REPLY and reply.request_id == decode_envelope(asked[0]).request_id:
                return unpack_header(frames[1], Welcome).answer.granted
        return False

    def opened(self, seconds: float = PATIENCE) -> Optional[list[memoryview]]:
        """The next message, opened; None where the lane is over. TimeoutError where nothing comes."""
        if not self.socket.poll(int(1000 * seconds)):
            raise TimeoutError("nothing came on the lane")
        frames = [frame.buffer for frame in self.socket.recv_multipart(copy=False)]
        return None if [frame.nbytes for frame in frames] == [0] else self._opener.open(frames)

    def wait_over(self) -> None:
        """Return once the broker has said that this lane is over."""
        end = time.monotonic() + PATIENCE
        while self.opened(max(0.0, end - time.monotonic())) is not None:
            pass

    def answers(self, seconds: float = 0.1) -> int:
        """How many messages come until none does for so long, or the lane is over; each opens, and is the next."""
        count = 0
        while self.socket.poll(int(1000 * seconds)) and self.opened() is not None:
            count += 1
        return count

    def close(self) -> None:
        self.socket.close(linger=2000)
        self._asking.socket.close(linger=0)


def as_message(frames: Sequence[bytes]) -> list[bytes]:
    """What a lane can carry of these frames: an envelope of no more than it has room for, a header, and one payload."""
    envelope, header, *rest = [*frames, b"", b""][: max(2, len(frames))]
    sealable = [envelope[:_LONGEST_ENVELOPE], envelope[_LONGEST_ENVELOPE:] + header]
    return [*sealable, b"".join(rest)] if rest else sealable


def garbage(drawn: random.Random, sealed: Sequence[bytes]) -> list[bytes]:
    """What opens nowhere: frames of any number and size, or `sealed` after some harm. Never one empty frame."""
    kind = drawn.randrange(4)
    if kind == 0:
        count = drawn.choice([2, 3, 5, 500])
        return [drawn.randbytes(drawn.choice(_SIZES[:-1])) for _ in range(count)]
    if kind == 1:
        return [drawn.randbytes(drawn.choice(_SIZES[1:]))]
    if kind == 2:
        changed = [bytearray(frame) for frame in sealed]
        frame = drawn.choice([each for each in changed if each])
        frame[drawn.randrange(len(frame))] ^= 1 << drawn.randrange(8)
        return [bytes(each) for each in changed]
    return drawn.choice([[*sealed, b""], [*sealed, *sealed], [b"", *sealed], [sealed[0][:-1], *sealed[1:]]])
