"""Lanes between a broker and its peers, with real sockets: they carry all, and who meddles can only end them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import msgspec
import pytest
import zmq

from broker.rights import Standing
from common.discovery.addresses import BrokerAddress
from common.errors import RefusedError
from common.link import channel
from common.link.channel import Channel
from common.link.connection import Change
from common.link.lane import REFUSAL, ask, new_secret, read_grant
from common.link.link import Link, run_with_link
from common.link.sockets import ConnectionMonitor, make_dealer, make_lane_dealer
from common.membership.identity import ClientIdentity, KeyPair
from common.protocol.codec import pack, pack_header, unpack_header
from common.protocol.device_messages import Append
from common.protocol.envelope import Kind, Operation, decode_envelope
from common.protocol.messages import (
    GRANTED,
    PROTOCOL_VERSION,
    Acknowledged,
    Announce,
    Empty,
    Hello,
    Register,
    Registered,
    ReplyHeader,
    Status,
    Welcome,
)
from common.protocol.operations import STATUS, Role
from common.vault.keys import VaultKey
from tests.soak.gate import gate
from tests.soak.hostile_peers import Peer, request
from tests.soak.lying_broker import Granting, LyingBroker
from tests.support.lane_relay import LaneRelay, Meddling, Message, honestly, relayed
from tests.support.ports import own_base_port
from tests.support.programs import wait_until
from tests.support.running_broker import PATIENCE, RunningBroker, WithLanes

HOST = "127.0.0.1"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    running = WithLanes(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def client(broker: RunningBroker) -> ClientIdentity:
    return ClientIdentity(broker.admit(Standing.CLIENT), [broker.address])


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def relay(broker: RunningBroker) -> Iterator[LaneRelay]:
    """All lanes of the broker that are granted from now on lead through it."""
    port = broker.lanes.port
    assert port is not None
    with relayed(port) as between:
        broker.lanes.port = between.port
        yield between


def status_over(identity: ClientIdentity, times: int = 1) -> None:
    async def work() -> None:
        async with Link(identity, None) as link:
            for _ in range(times):
                await asyncio.wait_for(link.request(STATUS, Empty()), PATIENCE)

    run_with_link(work)


def seen_by(changes: Callable[[], list[Change]]) -> Change:
    """The first change that is told."""
    seen: list[Change] = []

    def told() -> bool:
        seen.extend(changes())
        return bool(seen)

    wait_until(told, "a change of the connection")
    return seen[0]


def channel_up(context: zmq.Context[Any], pair: KeyPair, address: BrokerAddress, role: Role = Role.CLIENT) -> Channel:
    made = Channel(context, pair, address, role, heartbeats=True)
    made.connect()
    assert seen_by(lambda: made.changes(time.monotonic())) is Change.UP
    return made


def test_what_is_asked_and_answered_travels_on_the_lane(client: ClientIdentity, relay: LaneRelay) -> None:
    passed: list[Message] = []

    def note(message: Message) -> list[Message]:
        passed.append(message)
        return [message]

    relay.to_broker = note
    status_over(client, 3)
    assert len(relay.tokens) == 1
    assert len(passed) >= 4, "a greeting, and three questions"
    assert all(b"TSR1" not in b"".join(message) for message in passed)


def test_a_broker_that_grants_none_is_spoken_with_over_curve(tmp_path: Path, context: zmq.Context[Any]) -> None:
    broker = RunningBroker(tmp_path)
    try:
        pair = broker.admit(Standing.CLIENT)
        over = channel_up(context, pair, broker.address)
        assert over.socket_in_use is over._curve
        over.close()
        status_over(ClientIdentity(pair, [broker.address]))
    finally:
        broker.stop()


def test_where_the_port_for_lanes_is_closed_all_goes_over_curve(
    broker: RunningBroker, client: ClientIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    with relayed(0) as gone:
        port = gone.port
    broker.lanes.port = port  # where nobody listens any more
    status_over(client)
    assert "goes on with CURVE" in caplog.text


def flipped(which: int) -> Meddling:
    """Flip one bit of the message with this number; tests/unit/common/link/test_lane.py flips each."""
    count = itertools.count()

    def meddle(message: Message) -> list[Message]:
        if next(count) != which:
            return [message]
        changed = bytearray(message[-1])
        changed[len(changed) // 2] ^= 1
        return [[*message[:-1], bytes(changed)]]

    return meddle


def repeated(which: int) -> Meddling:
    count = itertools.count()
    return lambda message: [message, message] if next(count) == which else [message]


def dropped(which: int) -> Meddling:
    count = itertools.count()
    return lambda message: [] if next(count) == which else [message]


def swapped(which: int) -> Meddling:
    """Hold one back until the next has passed."""
    count = itertools.count()
    held: list[Message] = []

    def meddle(message: Message) -> list[Message]:
        if next(count) == which:
            held.append(message)
            return []
        passed = [message, *held]
        held.clear()
        return passed

    return meddle


@pytest.mark.parametrize("way", ["to_broker", "to_peer"])
@pytest.mark.parametrize("meddling", [flipped, repeated, dropped, swapped])
def test_who_meddles_on_the_wire_ends_lanes_and_nothing_else(
    broker: RunningBroker,
    client: ClientIdentity,
    relay: LaneRelay,
    meddling: Callable[[int], Meddling],
    way: str,
) -> None:
    """Each answer that a client gets is the right one; its lane is given up, and the next one carries on."""
    setattr(relay, way, meddling(2))
    status_over(client, 12)
    wait_until(lambda: len(relay.tokens) >= 2, "another lane")
    setattr(relay, way, honestly)
    status_over(client, 3)


def test_a_stolen_token_takes_the_lane_from_its_owner_and_gives_nothing(
    broker: RunningBroker, client: ClientIdentity, context: zmq.Context[Any]
) -> None:
    """Who is faster than the owner is connected, and has no key; the owner goes on with CURVE."""
    assert broker.lanes.port is not None
    curve = make_dealer(context, client.key_pair, broker.pair.public)
    curve.rcvtimeo = 1000 * PATIENCE
    curve.connect(broker.address.endpoint(Role.CLIENT))
    curve.send(ask(new_secret()))
    grant = read_grant(memoryview(curve.recv()))
    assert grant is not None
    thief, owner = (make_lane_dealer(context, grant.lane_id, grant.token) for _ in range(2))
    monitors = [ConnectionMonitor(socket) for socket in (thief, owner)]
    seen = [Change.DOWN, Change.DOWN]
    for number, socket in enumerate((thief, owner)):
        socket.connect(f"tcp://{HOST}:{grant.port}")
        seen[number] = seen_by(monitors[number].changes)
    assert seen[0] is Change.UP
    assert seen[1] is Change.NOT_ADMITTED, "a token admits once"
    thief.send_multipart([b"x" * 100, b"y" * 100])
    wait_until(lambda: broker.lanes.find(grant.lane_id) is None, "the lane is over")
    for monitor in monitors:
        monitor.close()
    status_over(client)


def test_who_has_no_token_or_no_lane_comes_to_no_handshake(broker: RunningBroker, context: zmq.Context[Any]) -> None:
    for lane_id, token in ((bytes(16), bytes(32)), (b"\xff" * 16, b"x")):
        stranger = make_lane_dealer(context, lane_id, token)
        monitor = ConnectionMonitor(stranger)
        stranger.connect(f"tcp://{HOST}:{broker.lanes.port}")
        assert seen_by(monitor.changes) is not Change.UP
        monitor.close()


def test_who_speaks_null_or_curve_at_the_port_for_lanes_is_not_heard(
    broker: RunningBroker, context: zmq.Context[Any]
) -> None:
    member = broker.admit(Standing.CLIENT)
    with_curve = make_dealer(context, member, broker.pair.public)
    null = context.socket(zmq.DEALER)
    null.linger = 0
    for socket in (with_curve, null):
        monitor = ConnectionMonitor(socket)
        socket.connect(f"tcp://{HOST}:{broker.lanes.port}")
        assert seen_by(monitor.changes) is not Change.UP
        monitor.close()


def test_a_revoked_members_lane_is_over_within_a_second(broker: RunningBroker, context: zmq.Context[Any]) -> None:
    pair = broker.admit(Standing.CLIENT)
    identity = ClientIdentity(pair, [broker.address])

    async def work() -> None:
        async with Link(identity, None) as link:
            await link.request(STATUS, Empty())
            assert len(broker.lanes) == 1
            revoked = time.monotonic()
            broker.revoke(pair.public.hex()[:8])
            await asyncio.to_thread(wait_until, lambda: len(broker.lanes) == 0, "its lane is over")
            assert time.monotonic() - revoked < 1.0
            while True:
                await link.request(STATUS, Empty())

    with pytest.raises(RefusedError):
        run_with_link(work)


def test_a_lane_that_the_broker_ends_is_asked_for_anew(
    broker: RunningBroker, client: ClientIdentity, context: zmq.Context[Any]
) -> None:
    async def work() -> None:
        async with Link(client, None) as link:
            await link.request(STATUS, Empty())
            (lane,) = broker.lanes._lanes.values()
            broker.lanes.end(lane)
            await asyncio.wait_for(link.request(STATUS, Empty()), PATIENCE)
            assert len(broker.lanes) == 1
            assert broker.lanes.find(lane.lane_id) is None

    run_with_link(work)


def test_a_spent_lane_is_followed_by_another(
    broker: RunningBroker, client: ClientIdentity, relay: LaneRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.link.lane.MAX_MESSAGES", 20)
    status_over(client, 50)
    assert len(relay.tokens) >= 3


def test_a_connection_that_is_lost_ends_its_lane(
    broker: RunningBroker, client: ClientIdentity, context: zmq.Context[Any]
) -> None:
    with gate(own_base_port(), broker.address.client_port) as cut:
        through = msgspec.structs.replace(broker.address, client_port=cut.port)
        over = channel_up(context, client.key_pair, through)
        assert over.socket_in_use is not over._curve
        cut.shut()
        assert seen_by(lambda: over.changes(time.monotonic())) is Change.DOWN
        with pytest.raises(zmq.Again):
            over.send([b"e" * 60, b"header"])
        over.close()


def test_a_broker_that_is_too_busy_to_grant_is_spoken_with_over_curve(
    broker: RunningBroker, client: ClientIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_PATIENCE", {Role.CLIENT: 0.0})
    status_over(client, 3)


def test_who_calls_itself_by_a_lanes_id_gets_and_spoils_nothing_of_its_session(
    broker: RunningBroker, client: ClientIdentity, context: zmq.Context[Any]
) -> None:
    """The id goes in clear, and whoever connects with CURVE says by which routing id."""
    over = channel_up(context, client.key_pair, broker.address)
    assert answered(over, request(Operation.HELLO, Hello(PROTOCOL_VERSION)), Welcome)
    (lane,) = broker.lanes._lanes.values()
    other = make_dealer(context, broker.admit(Standing.CLIENT), broker.pair.public)
    other.setsockopt(zmq.ROUTING_ID, lane.lane_id)
    other.rcvtimeo = 1000 * PATIENCE
    other.connect(broker.address.endpoint(Role.CLIENT))
    other.send_multipart(request(Operation.HELLO, Hello(PROTOCOL_VERSION)))
    other.send(ask(new_secret()))
    assert read_grant(memoryview(other.recv())) is not None, "by now the broker has had the message before it"
    assert answered(over, request(Operation.STATUS, Empty()), Status), "nothing else was told it"
    over.close()


def answered(over: Channel, frames: list[bytes], shape: type[ReplyHeader]) -> bool:
    """Whether the next answer that comes is granted, and is to these frames."""
    over.send(frames)
    got = next_of(over, Kind.REPLY)
    ours = decode_envelope(got[0]).request_id == decode_envelope(frames[0]).request_id
    return ours and unpack_header(got[1], shape).answer.granted


def next_of(over: Channel, kind: Kind) -> list[memoryview]:
    """The next message of this kind."""
    got: list[memoryview] = []

    def come() -> bool:
        over.changes(time.monotonic())
        with contextlib.suppress(zmq.Again):
            got[:] = over.receive()
        return bool(got) and decode_envelope(got[0]).kind is kind

    wait_until(come, "a message")
    return got


def test_payloads_pass_between_who_has_a_lane_and_who_has_none(
    broker: RunningBroker, context: zmq.Context[Any]
) -> None:
    pair = broker.admit(Standing.WORKER)
    device = channel_up(context, pair, broker.address, Role.WORKER)
    assert answered(device, request(Operation.REGISTER, Register(PROTOCOL_VERSION, 0, 0, 0)), Registered)
    assert answered(device, [*request(Operation.ANNOUNCE, Announce(True)), pack([])], Acknowledged)
    client = Peer(context, broker.admit(Standing.CLIENT), broker.pair.public, broker.address.client_port)
    client.hello(VaultKey.generate())
    header = Append(b"e" * 16, 0, 0, b"d" * 32)
    client.send([*request(Operation.APPEND, header, pair.device_id, 1 << 20), b"to the device"])
    came = next_of(device, Kind.REQUEST)
    assert bytes(came[2]) == b"to the device"
    device.send([decode_envelope(came[0]).reply().encode(), pack_header(Acknowledged(GRANTED)), b"to the client"])
    assert client.socket.poll(1000 * PATIENCE)
    assert client.socket.recv_multipart()[2:] == [b"to the client"]
    device.close()


@pytest.fixture
def lying() -> Iterator[LyingBroker]:
    broker = LyingBroker(Granting.HONESTLY)
    yield broker
    broker.close()


def channel_to(lying: LyingBroker, context: zmq.Context[Any]) -> Channel:
    """A channel that is up, and over which something was said."""
    over = Channel(context, KeyPair.generate(), lying.address, Role.WORKER)
    over.connect()

    def is_up() -> bool:
        lying.serve(0.0)
        return Change.UP in over.changes(time.monotonic())

    wait_until(is_up, "the channel")
    over.send(request(Operation.REPORT, Empty()))
    wait_until(lambda: lying.serve(0.01) > 0, "what was said")
    return over


def test_what_a_broker_sends_over_curve_beside_a_lane_does_not_pile_up(
    lying: LyingBroker, context: zmq.Context[Any]
) -> None:
    over, left = channel_to(lying, context), 1500
    assert lying.heard_on_lanes == 1

    def all_sent() -> bool:
        nonlocal left
        while left and lying.say_over_curve([bytes(60), b"", bytes(1 << 16)]):
            left -= 1
        assert over.changes(time.monotonic()) == []
        return left == 0

    wait_until(all_sent, "all taken, and dropped")
    over.close()


def test_grants_that_nobody_waits_for_are_taken_one_at_a_time(lying: LyingBroker, context: zmq.Context[Any]) -> None:
    """However many a broker sends, whoever receives does something else between them."""
    lying.granting = Granting.NONE
    over = channel_to(lying, context)
    wait_until(over.has_messages, "the answer")
    over.receive()
    for frames in ([REFUSAL], [REFUSAL], [b"e" * 60, b"header"]):
        assert lying.say(frames)
    for _ in range(2):
        wait_until(over.has_messages, "a grant")
        with pytest.raises(zmq.Again):
            over.receive()
    wait_until(over.has_messages, "the message")
    assert [bytes(frame) for frame in over.receive()] == [b"e" * 60, b"header"]
    over.close()


def test_who_asks_for_lanes_without_end_is_not_heard_for_a_while(
    broker: RunningBroker, client: ClientIdentity, context: zmq.Context[Any]
) -> None:
    flooding = broker.admit(Standing.CLIENT)
    curve = make_dealer(context, flooding, broker.pair.public)
    curve.sndtimeo = 1000 * PATIENCE
    curve.connect(broker.address.endpoint(Role.CLIENT))

    def is_banned() -> bool:
        for _ in range(500):
            curve.send(ask(new_secret()))
        return broker.bans(flooding.public)

    wait_until(is_banned, "it is not heard")
    status_over(client)
