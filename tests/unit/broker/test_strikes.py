"""Strikes: three breaches of the protocol within a minute ban for one, and nothing honest is a breach."""

from __future__ import annotations

import pytest

from broker.credit import REPEAT_AFTER, REQUESTS
from broker.sessions import Outgoing
from broker.strikes import _ALLOWANCE, _MAX_KEYS, ASKS, BANNED_FOR, FLOOD, STRIKES, WITHIN, Strikes
from common.protocol.codec import MAX_PAYLOAD, pack_header
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import GRANTED, Acknowledged, Code, Empty
from tests.support.sample_broker import SampleBroker, SamplePeer, code, only, requests

KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture
def broker() -> SampleBroker:
    return SampleBroker()


def is_heard(client: SamplePeer) -> bool:
    return client.ask(Operation.STATUS, Empty()) != []


# --- the count


def test_the_third_strike_within_a_minute_bans_for_a_minute() -> None:
    strikes = Strikes()
    assert [strikes.strike(KEY, float(at)) for at in range(STRIKES)] == [False, False, True]
    assert strikes.banned(KEY, 2.0 + BANNED_FOR - 0.1)
    assert not strikes.banned(OTHER, 2.0)
    assert not strikes.banned(KEY, 2.0 + BANNED_FOR)
    assert not strikes.strike(KEY, 3.0 + BANNED_FOR)  # and it begins anew


def test_strikes_that_lie_far_apart_close_nothing() -> None:
    strikes = Strikes()
    assert not any(strikes.strike(KEY, number * WITHIN / 2) for number in range(50))


def test_what_is_remembered_of_peers_is_bounded() -> None:
    strikes = Strikes()
    for number in range(_MAX_KEYS + 100):
        strikes.strike(number.to_bytes(32, "big"), 0.0)
    assert len(strikes._conducts) == _MAX_KEYS


# --- what is one


BREACHES = {
    "one frame": [b""],
    "four frames": [b"", b"", b"", b""],
    "no envelope": [b"x" * 60, pack_header(Empty())],
    "an unknown operation": [b"TSR1\x01\xff" + bytes(54), pack_header(Empty())],
    "a header of another shape": [Envelope(Kind.REQUEST, Operation.LIST, b"r" * 16).encode(), b"\x93\x01\x02\x03"],
    "a header that is no msgpack": [Envelope(Kind.REQUEST, Operation.LIST, b"r" * 16).encode(), b"\xc1"],
    "a payload over its credit": [Envelope(Kind.REQUEST, Operation.FETCH, b"r" * 16).encode(), b"\x90", b"x"],
    "a credit over the limit": [
        Envelope(Kind.REQUEST, Operation.FETCH, b"r" * 16, credit=MAX_PAYLOAD + 1).encode(),
        b"\x90",
    ],
}


@pytest.mark.parametrize("frames", BREACHES.values(), ids=BREACHES)
def test_whoever_breaks_the_protocol_three_times_is_not_heard_for_a_minute(
    broker: SampleBroker, frames: list[bytes]
) -> None:
    client, other = broker.client(), broker.client()
    for _ in range(STRIKES - 1):
        client.send(*frames)
    assert is_heard(client)
    client.send(*frames)
    assert not is_heard(client)
    assert not is_heard(client.reconnected())
    assert is_heard(other)
    broker.now += BANNED_FOR
    assert code(client.ask(Operation.STATUS, Empty())) is Code.NO_SESSION
    client.hello(None)
    assert code(client.ask(Operation.STATUS, Empty())) is Code.GRANTED


def test_one_request_id_for_two_requests_is_a_strike(broker: SampleBroker) -> None:
    a, b, client = broker.worker("a"), broker.worker("b"), broker.client()
    client.fetch(a, request_id=b"r" * 16)
    for _ in range(STRIKES):
        client.fetch(b, request_id=b"r" * 16)
    assert not is_heard(client)


def test_a_flood_over_the_credit_is_a_strike(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    for _ in range(REQUESTS + STRIKES * FLOOD):
        client.fetch(device)
    assert not is_heard(client)


def test_a_device_that_answers_unasked_is_put_out_and_who_waits_for_it_is_told(
    broker: SampleBroker,
) -> None:
    device, client = broker.worker("nas"), broker.client()
    client.fetch(device)
    told: list[Outgoing] = []
    invented = Envelope(Kind.REPLY, Operation.FETCH, b"?" * 16, b"?" * 16).encode()
    for _ in range(_ALLOWANCE + 1 + STRIKES):
        told += device.send(invented, pack_header(Acknowledged(GRANTED)))
    assert code(told) is Code.GONE
    assert device.ask(Operation.REGISTER, Empty()) == []


# --- what is none


def test_late_and_double_answers_are_no_strikes(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    for number in range(1000):
        request_id = number.to_bytes(16, "big")
        first = only(client.fetch(device, request_id=request_id))
        broker.now += REPEAT_AFTER
        device.report()
        again = only(client.fetch(device, request_id=request_id))
        device.reply(first)
        device.reply(again)  # nobody waits for it any more
    assert device.report() is Code.GRANTED


def test_answers_to_what_an_earlier_connection_was_asked_are_no_strikes(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    asked = [only(client.fetch(device)) for _ in range(REQUESTS)]
    broker.switchboard.undelivered(asked[0], gone=True)
    back = device.reconnected()
    back.register()
    back.announce()
    for request in asked:
        back.reply(request)
    assert back.report() is Code.GRANTED


def test_a_client_that_asks_again_while_it_is_over_its_credit_is_not_struck(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    for _ in range(REQUESTS):
        client.fetch(device)
    for _ in range(100):  # seconds; an honest client asks again after 20 ms, and then more and more seldom
        for _ in range(96):
            assert code(client.fetch(device)) is Code.BUSY
        broker.now += 1.0
        device.report()
    assert is_heard(client)


def test_an_answer_larger_than_its_clients_credit_is_no_strike_of_the_device(
    broker: SampleBroker,
) -> None:
    device, client = broker.worker("nas"), broker.client()
    for _ in range(10):
        assert code(device.reply(only(client.fetch(device, credit=1)), payload=b"xx")) is Code.FAULT
    assert len(requests(client.fetch(device))) == 1


@pytest.mark.parametrize("operation", [Operation.HELLO, Operation.REGISTER])
def test_what_another_version_says_first_is_no_strike(broker: SampleBroker, operation: Operation) -> None:
    peer = broker.worker("nas") if operation is Operation.REGISTER else broker.client()
    for _ in range(10):
        greeting = Envelope(Kind.REQUEST, operation, b"r" * 16).encode()
        assert code(peer.send(greeting, b"\x99" + b"\xc0" * 9)) is Code.MALFORMED
    assert peer.ask(operation, Empty()) != []


def test_asks_for_lanes_are_a_flood_at_so_many_within_a_second() -> None:
    strikes = Strikes()
    assert not any(strikes.asked_for_lane(KEY, 0.0) for _ in range(ASKS - 1))
    assert not any(strikes.asked_for_lane(KEY, 1.0) for _ in range(ASKS - 1)), "another second"
    assert strikes.asked_for_lane(KEY, 1.5)
    assert not strikes.asked_for_lane(KEY, 1.5), "counted anew"
