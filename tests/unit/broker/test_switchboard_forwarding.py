"""The switchboard between client and device: what is passed on, whose reply is, and how much may be under way."""

from __future__ import annotations

import pytest

from broker.credit import CREDIT, FORGET_AFTER, REPEAT_AFTER, REQUESTS, TOTAL_CREDIT
from common.protocol.codec import MAX_PAYLOAD, pack_header
from common.protocol.device_messages import Fetched, Part
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.identifiers import BROKER
from common.protocol.messages import GRANTED, Acknowledged, Answer, Code, Empty
from common.vault.keys import VaultKey
from tests.support.sample_broker import SampleBroker, code, is_for, only, replies, requests

KEY, OTHER_KEY = VaultKey(b"t" * 32), VaultKey(b"u" * 32)


@pytest.fixture
def broker() -> SampleBroker:
    return SampleBroker()


def test_a_request_reaches_the_device_with_header_payload_and_the_brokers_owner(
    broker: SampleBroker,
) -> None:
    device, client = broker.worker("nas"), broker.client(KEY)
    claimed = Envelope(Kind.REQUEST, Operation.FETCH, b"r" * 16, device.device, 100, owner=OTHER_KEY.owner_id())
    payload = b"the block"
    forwarded = only(client.send(claimed.encode(), b"header, unread", payload))
    assert is_for(forwarded, device)
    assert (forwarded.header, forwarded.payload) == (b"header, unread", payload)
    assert forwarded.payload is payload
    assert forwarded.envelope._replace(peer=BROKER) == claimed._replace(peer=BROKER, owner=KEY.owner_id())
    assert client.routing_id not in forwarded.envelope.encode()


def test_the_reply_reaches_the_client_that_asked_from_the_device_that_it_asked(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    broker.client()
    forwarded = only(client.fetch(device, credit=100, request_id=b"r" * 16))
    header, payload = Fetched(GRANTED, [Part(GRANTED, 9)]), b"the block"
    passed = only(device.reply(forwarded, header, payload))
    assert is_for(passed, client)
    assert passed.envelope == Envelope(Kind.REPLY, Operation.FETCH, b"r" * 16, device.device)
    assert (passed.header, passed.payload) == (pack_header(header), payload)
    assert passed.payload is payload


def test_a_reply_is_passed_once(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    forwarded = only(client.fetch(device))
    assert len(device.reply(forwarded)) == 1
    assert device.reply(forwarded) == []


def test_a_reply_that_nobody_waits_for_is_dropped(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    forwarded = only(client.fetch(device))
    unknown = forwarded.envelope._replace(request_id=b"?" * 16)
    nobody = forwarded.envelope._replace(peer=b"?" * 16)
    for envelope in (unknown, nobody):
        assert device.send(envelope.reply().encode(), pack_header(Acknowledged(GRANTED))) == []


def test_a_reply_to_a_client_that_is_gone_is_dropped(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    forwarded = only(client.fetch(device))
    broker.switchboard.undelivered(only(client.ask(Operation.STATUS, Empty())), gone=True)
    assert device.reply(forwarded) == []


def test_a_reply_of_a_device_not_asked_is_dropped_and_the_right_one_is_passed(broker: SampleBroker) -> None:
    asked, forger, client = broker.worker("nas"), broker.worker("forger"), broker.client()
    forwarded = only(client.fetch(asked, credit=10))
    assert forger.reply(forwarded, Acknowledged(Answer(Code.NOT_FOUND))) == []
    assert forger.reply(forwarded, payload=b"x" * 11) == []
    assert code(asked.reply(forwarded)) is Code.GRANTED


def test_a_client_cannot_reply_in_a_devices_name(broker: SampleBroker) -> None:
    device, client, forger = broker.worker("nas"), broker.client(), broker.client()
    forwarded = only(client.fetch(device))
    assert forger.reply(forwarded) == []
    assert len(device.reply(forwarded)) == 1


# --- credit


def test_a_payload_larger_than_its_credit_is_refused(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    too_much = client.ask(Operation.APPEND, Empty(), b"x" * 101, device=device.device, credit=100)
    assert code(too_much) is Code.MALFORMED
    assert requests(client.ask(Operation.APPEND, Empty(), b"x" * 100, device=device.device, credit=100))


def test_a_credit_larger_than_any_message_is_refused_at_once(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    assert code(client.fetch(device, credit=MAX_PAYLOAD + 1)) is Code.MALFORMED
    assert requests(client.fetch(device, credit=MAX_PAYLOAD))


def test_a_reply_larger_than_its_credit_is_not_passed_and_the_client_is_told(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    too_much = only(device.reply(only(client.fetch(device, credit=100)), payload=b"x" * 101))
    assert code([too_much]) is Code.FAULT
    assert too_much.payload is None
    fitting = only(device.reply(only(client.fetch(device, credit=100)), payload=b"x" * 100))
    assert fitting.payload == b"x" * 100


@pytest.mark.parametrize(("credit", "fitting"), [(0, REQUESTS), (MAX_PAYLOAD, CREDIT // MAX_PAYLOAD)])
def test_a_client_that_has_used_up_its_credit_is_told_busy_until_a_reply_has_passed(
    broker: SampleBroker, credit: int, fitting: int
) -> None:
    device, client, other = broker.worker("nas"), broker.client(), broker.client()
    under_way = [only(client.fetch(device, credit)) for _ in range(fitting)]
    assert len(requests(under_way)) == fitting
    assert code(client.fetch(device, credit)) is Code.BUSY
    assert requests(other.fetch(device, credit))
    device.reply(under_way[0])
    assert requests(client.fetch(device, credit))
    assert code(client.fetch(device, credit)) is Code.BUSY


def test_all_clients_together_have_no_more_under_way_than_the_broker_can_hold(broker: SampleBroker) -> None:
    device = broker.worker("nas")
    clients = [broker.client() for _ in range(TOTAL_CREDIT // CREDIT + 1)]
    sent = [message for c in clients for _ in range(CREDIT // MAX_PAYLOAD) for message in c.fetch(device, MAX_PAYLOAD)]
    assert len(requests(sent)) == TOTAL_CREDIT // MAX_PAYLOAD
    assert {code([refusal]) for refusal in replies(sent)} == {Code.BUSY}


def test_a_request_under_way_is_not_forwarded_again_and_so_not_without_credit(broker: SampleBroker) -> None:
    device, other_device, client = broker.worker("nas"), broker.worker("pi"), broker.client()
    forwarded = only(client.fetch(device, credit=0, request_id=b"r" * 16))
    assert client.fetch(device, credit=0, request_id=b"r" * 16) == []
    assert client.fetch(other_device, credit=MAX_PAYLOAD, request_id=b"r" * 16) == []
    assert is_for(only(device.reply(forwarded)), client)
    assert requests(client.fetch(device, request_id=b"r" * 16))


def test_a_request_that_comes_again_later_is_passed_on_again_once_a_second_at_most(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    assert requests(client.fetch(device, credit=10, request_id=b"r" * 16))
    broker.now += REPEAT_AFTER
    device.report()
    forwarded = only(client.fetch(device, credit=10, request_id=b"r" * 16))
    assert client.fetch(device, credit=10, request_id=b"r" * 16) == []
    assert client.fetch(device, credit=11, request_id=b"r" * 16) == []
    assert is_for(only(device.reply(forwarded)), client)
    assert device.reply(forwarded) == []  # the answer to the first, or to the second: whoever asked has one


def test_a_request_that_came_again_has_its_credit_once(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    for number in range(REQUESTS):
        client.fetch(device, request_id=bytes([number]) * 16)
    broker.now += REPEAT_AFTER
    device.report()
    assert requests(client.fetch(device, request_id=bytes(16)))
    assert code(client.fetch(device)) is Code.BUSY


def test_a_request_that_was_never_answered_gives_its_credit_back_in_the_end(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    under_way = [only(client.fetch(device)) for _ in range(REQUESTS)]
    broker.now += FORGET_AFTER
    device.report()
    broker.tick()
    assert requests(client.fetch(device))
    assert device.reply(under_way[0]) == []
