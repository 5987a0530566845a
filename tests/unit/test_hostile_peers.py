"""Peers that harm: what a broker with real sockets lets them have, which is nothing that is another's."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import msgpack
import pytest
import zmq

from broker.members import Member
from broker.rights import Standing
from common.errors import TesseraError
from common.link.connection import Change
from common.link.sockets import ConnectionMonitor, make_dealer
from common.membership.identity import KeyPair
from common.protocol.codec import MAX_PAYLOAD, pack, pack_header
from common.protocol.device_messages import BlockName, Fetch
from common.protocol.envelope import Envelope, Kind, Operation, decode_envelope
from common.protocol.identifiers import device_id
from common.protocol.messages import (
    GRANTED,
    PROTOCOL_VERSION,
    Acknowledged,
    Announce,
    Code,
    Empty,
    Hello,
    Message,
    Register,
)
from common.vault.keys import VaultKey
from tests import ROOT
from tests.support.running_broker import PATIENCE, RunningBroker

HOST = "127.0.0.1"
MIB = 1 << 20


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    running = RunningBroker(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


class Peer:
    """A socket as it is, with a key that the broker admits, or not."""

    def __init__(
        self, context: zmq.Context[Any], broker: RunningBroker, standing: Optional[Standing], routing_id: bytes = b""
    ) -> None:
        pair = KeyPair.generate()
        self.device = device_id(pair.public)
        if standing is not None:
            member = Member(pair.public.hex(), standing, pair.public.hex()[:8], int(time.time()))
            broker.members.change(lambda members: members.merge([member], int(time.time())))
        self._public = pair.public
        self.socket = make_dealer(context, pair, broker.pair.public)
        self.monitor = ConnectionMonitor(self.socket)
        if routing_id:
            self.socket.setsockopt(zmq.ROUTING_ID, routing_id)
        port = broker.address.worker_port if standing is Standing.WORKER else broker.address.client_port
        self.socket.sndtimeo = 1000 * PATIENCE
        self.socket.connect(f"tcp://{HOST}:{port}")

    def say(self, envelope: Envelope, header: Message, payload: Optional[bytes] = None) -> None:
        frames = [envelope.encode(), pack_header(header)]
        self.socket.send_multipart(frames if payload is None else [*frames, payload])

    def hear(self, *kinds: Kind, seconds: float = PATIENCE) -> tuple[Envelope, bytes]:
        """The next message of these kinds."""
        end = time.monotonic() + seconds
        while self.socket.poll(max(0, int(1000 * (end - time.monotonic())))):
            frames = self.socket.recv_multipart()
            envelope = decode_envelope(frames[0])
            if envelope.kind in (kinds or (Kind.REPLY,)):
                return envelope, frames[1]
        raise TimeoutError("nothing came")

    def ask(self, operation: Operation, header: Message, payload: Optional[bytes] = None) -> Code:
        """What the broker itself answers."""
        request_id = operation.to_bytes(16, "big")
        self.say(Envelope(Kind.REQUEST, operation, request_id), header, payload)
        envelope, answered = self.hear()
        assert envelope.request_id == request_id
        return code_of(answered)

    def hello(self, key: VaultKey) -> None:
        hello = Hello(PROTOCOL_VERSION, key.owner_proof(self._public))
        self.say(Envelope(Kind.REQUEST, Operation.HELLO, b"h" * 16), hello)
        assert self.hear()[0].request_id == b"h" * 16

    def register(self) -> None:
        assert self.ask(Operation.REGISTER, Register(PROTOCOL_VERSION, 1 << 40, 0, 1 << 40)) is Code.GRANTED
        assert self.ask(Operation.ANNOUNCE, Announce(True), pack([])) is Code.GRANTED

    def leave(self) -> None:
        self.monitor.close()
        self.socket.close(linger=0)


def code_of(header: bytes) -> Code:
    """The code of any answer, whatever follows it."""
    return Code(msgpack.unpackb(header)[0][0])


# --- ZAP, which lets everybody in where nobody answers


def changes_until(peer: Peer, condition: Any) -> list[Change]:
    """What happened to a peer's connection until the condition holds."""
    seen: list[Change] = []
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        peer.monitor.socket.poll(20)
        seen += peer.monitor.changes()
    return seen


def test_a_broker_whose_handler_fails_ends_and_lets_nobody_in(broker: RunningBroker, context: zmq.Context[Any]) -> None:
    def fails(_key: bytes, _domain: str) -> Optional[str]:
        raise TesseraError("the list of members cannot be had")

    broker._server._authentication._admits = fails
    stranger = Peer(context, broker, None)
    seen = changes_until(stranger, lambda: not broker.thread.is_alive())
    assert Change.UP not in seen + stranger.monitor.changes()
    assert str(broker.ended_by) == "the list of members cannot be had"


def test_a_broker_whose_handler_is_gone_serves_nobody_and_ends(
    broker: RunningBroker, context: zmq.Context[Any]
) -> None:
    broker.stop()
    server = broker.make_server()
    server._authentication.socket.close(linger=0)
    stranger = Peer(context, broker, None)
    try:
        with pytest.raises(TesseraError, match="nobody decides who may connect"):
            server.serve(threading.Event())
    finally:
        server.close()
    assert not stranger.socket.poll(0)


# --- a routing id that another had


def fetch(peer: Peer, device: bytes, request_id: bytes) -> None:
    header = Fetch([BlockName(b"e" * 16, 0, 0)])
    peer.say(Envelope(Kind.REQUEST, Operation.FETCH, request_id, device, 1000), header)


def test_a_routing_id_that_is_in_use_is_not_handed_over(broker: RunningBroker, context: zmq.Context[Any]) -> None:
    first = Peer(context, broker, Standing.CLIENT, b"mine")
    first.hello(VaultKey(b"t" * 32))
    thief = Peer(context, broker, Standing.CLIENT, b"mine")
    thief.say(Envelope(Kind.REQUEST, Operation.STATUS, b"s" * 16), Empty())
    assert first.ask(Operation.STATUS, Empty()) is Code.GRANTED
    assert not thief.socket.poll(200), "the thief is answered by its routing id"


def whoever_gets(routing_id: bytes, broker: RunningBroker, context: zmq.Context[Any]) -> tuple[Peer, Envelope, bytes]:
    """A client with this routing id, which another had, and what it is answered.

    As long as the broker has not seen that the other is gone, it leaves without an answer whoever comes with its id.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        newcomer = Peer(context, broker, Standing.CLIENT, routing_id)
        newcomer.say(Envelope(Kind.REQUEST, Operation.STATUS, b"s" * 16), Empty())
        try:
            envelope, header = newcomer.hear(seconds=5)
        except TimeoutError:
            newcomer.leave()
        else:
            return newcomer, envelope, header
    raise TimeoutError("the routing id is never free")


def test_what_a_former_peer_had_asked_for_does_not_reach_whoever_took_its_routing_id(
    broker: RunningBroker, context: zmq.Context[Any]
) -> None:
    worker = Peer(context, broker, Standing.WORKER)
    worker.register()
    first = Peer(context, broker, Standing.CLIENT, b"mine")
    first.hello(VaultKey(b"t" * 32))
    fetch(first, worker.device, b"a" * 16)
    asked, _ = worker.hear(Kind.REQUEST)
    first.leave()
    newcomer, envelope, header = whoever_gets(b"mine", broker, context)
    assert code_of(header) is Code.NO_SESSION, "it is greeted by another's hello"
    worker.say(Envelope(Kind.REPLY, Operation.FETCH, asked.request_id, asked.peer), Acknowledged(GRANTED), b"late")
    assert worker.ask(Operation.BROKERS, Empty()) is Code.GRANTED  # so the broker has dealt with the reply
    newcomer.hello(VaultKey(b"u" * 32))
    assert newcomer.ask(Operation.STATUS, Empty()) is Code.GRANTED  # in the order of sending: nothing came before
    assert asked.peer != envelope.peer
    assert b"mine" not in asked.encode() + header, "a routing id is told"


# --- messages that are too large


def test_a_payload_of_the_limit_passes_under_curve_and_a_larger_one_does_not(
    broker: RunningBroker, context: zmq.Context[Any]
) -> None:
    worker, client = Peer(context, broker, Standing.WORKER), Peer(context, broker, Standing.CLIENT)
    worker.register()
    client.hello(VaultKey(b"t" * 32))
    envelope = Envelope(Kind.REQUEST, Operation.APPEND, b"a" * 16, worker.device, MAX_PAYLOAD)
    client.say(envelope, Empty(), bytes(MAX_PAYLOAD))
    assert worker.hear(Kind.REQUEST)[0].request_id == b"a" * 16
    client.say(envelope._replace(request_id=b"b" * 16), Empty(), bytes(MAX_PAYLOAD + 1))
    answered, header = client.hear()
    assert answered.request_id == b"b" * 16
    assert code_of(header) is Code.MALFORMED
    client.monitor.changes()
    client.say(envelope._replace(request_id=b"c" * 16), Empty(), bytes(MAX_PAYLOAD + 64))
    seen: list[Change] = []
    end = time.monotonic() + PATIENCE
    while Change.DOWN not in seen:
        assert time.monotonic() < end, "the connection stands"
        client.monitor.socket.poll(20)
        seen += client.monitor.changes()


_UNPACKING = """
import inspect, tracemalloc, typing
import common.protocol.device_messages as device_messages, common.protocol.messages as messages
from common.errors import ProtocolError
from common.protocol.codec import MAX_HEADER, unpack, unpack_header
shapes = [s for m in (messages, device_messages) for _, s in inspect.getmembers(m)
          if inspect.isclass(s) and issubclass(s, messages.Message)]
def takes_nothing(shape):
    try: return unpack(b"\\x90", shape) is not None
    except ProtocolError: return False
shapes = [s for s in shapes if not takes_nothing(s)]
shapes += [typing.List[s] for s in shapes] + [typing.List[bytes], typing.List[messages.Identifier]]
tracemalloc.start()
worst = refused = 0
size = 1 << 20
bombs = [b"\\x91" * size, b"\\xdd\\x00\\x10\\x00\\x00" + b"\\x90" * size, b"\\xdc\\xff\\xff" + b"\\x90" * 65535,
         b"\\x92\\x90" * (size // 2), b"\\xdd\\xff\\xff\\xff\\xff" + b"\\x90" * size]
for shape in shapes:
    for bomb in bombs:
        for read, content in ((unpack, bomb), (unpack_header, bomb[:MAX_HEADER])):
            tracemalloc.reset_peak() if hasattr(tracemalloc, "reset_peak") else tracemalloc.clear_traces()
            before = tracemalloc.get_traced_memory()[0]
            try:
                read(content, shape)
            except ProtocolError:
                refused += 1
            worst = max(worst, tracemalloc.get_traced_memory()[1] - before)
print(len(shapes), refused, worst)
"""


def test_a_mebibyte_of_nested_empty_arrays_takes_next_to_no_memory() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _UNPACKING], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=True
    )
    shapes, refused, worst = (int(word) for word in ended.stdout.split())
    assert shapes > 50
    assert refused == shapes * 10, "something of it was taken for a message"
    assert worst < MIB, f"{worst} bytes"
