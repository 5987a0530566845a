"""The switchboard towards devices: when one is alive, when it is gone, who is told, and what a new broker knows."""

from __future__ import annotations

import pytest

from broker.devices import SETTLE, SILENCE
from broker.rights import Standing
from common.protocol.codec import pack
from common.protocol.envelope import Operation
from common.protocol.messages import (
    MAX_ANNOUNCED,
    PROTOCOL_VERSION,
    Announce,
    AnnouncedShare,
    Code,
    Register,
    Report,
    shares_at_hand,
)
from common.vault.keys import VaultKey
from tests.support.sample_broker import ROOM, SampleBroker, SamplePeer, code, is_for, only, probes, replies, requests

KEY = VaultKey(b"t" * 32)
OBJECT = b"o" * 32
REGISTRATION = Register(PROTOCOL_VERSION, ROOM, 0, ROOM)


@pytest.fixture
def broker() -> SampleBroker:
    broker = SampleBroker()
    broker.now += SETTLE  # an old one, unless a test says otherwise
    return broker


@pytest.fixture
def new_broker() -> SampleBroker:
    return SampleBroker()


def share(index: int, object_id: bytes = OBJECT) -> AnnouncedShare:
    return AnnouncedShare(object_id[:16], index, object_id, KEY.owner_id(), 2, 3, 1000)


def alive(client: SamplePeer) -> dict[str, bool]:
    return {device.name: device.alive for device in client.status()[1]}


def connection_lost(broker: SampleBroker, device: SamplePeer) -> list[Code]:
    """The broker finds out by a probe; returns what those who wait are told."""
    probe = only([message for message in probes(broker.tick()) if is_for(message, device)])
    return [code([told]) for told in broker.switchboard.undelivered(probe, gone=True)]


# --- coming


def test_a_device_is_alive_once_it_has_announced_all_that_it_holds(broker: SampleBroker) -> None:
    device, client = broker.admit(Standing.WORKER, "nas"), broker.client()
    assert alive(client) == {"nas": False}
    assert device.register() is Code.GRANTED
    assert device.announce([share(0)], complete=False) is Code.GRANTED
    assert alive(client) == {"nas": False}
    assert code(client.fetch(device)) is Code.GONE
    assert device.announce([share(1)], complete=True) is Code.GRANTED
    assert alive(client) == {"nas": True}
    assert requests(client.fetch(device))


def test_shares_that_are_more_than_the_broker_remembers_are_counted(
    broker: SampleBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.catalog.MAX_SHARES_ON_A_DEVICE", 2)
    device = broker.worker("nas", [share(0), share(1), share(2)])
    assert device.report(shares=3) is Code.GRANTED
    (nas,) = broker.client(None).status()[1]
    assert (nas.shares, nas.unlisted) == (2, 1)
    assert device.report(shares=2) is Code.GRANTED
    assert broker.client(None).status()[1][0].unlisted == 0


def test_status_names_every_device_with_what_it_said_of_itself(broker: SampleBroker) -> None:
    broker.admit(Standing.WORKER, "never came")
    device = broker.worker("a nas", [share(0), share(1)])
    assert device.report(used=123, free=456) is Code.GRANTED
    nas, missing = broker.client(None).status()[1]
    assert (nas.name, nas.device_id, nas.used_bytes, nas.free_bytes, nas.shares) == (
        "a nas",
        device.device,
        123,
        456,
        2,
    )
    assert (missing.name, missing.alive, missing.shares) == ("never came", False, 0)


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1])
def test_a_worker_of_another_version_is_refused(broker: SampleBroker, version: int) -> None:
    device, client = broker.admit(Standing.WORKER, "nas"), broker.client()
    assert device.register(version) is Code.MALFORMED
    assert device.announce() is Code.NO_SESSION
    assert alive(client) == {"nas": False}


def test_a_worker_has_to_register_first(broker: SampleBroker) -> None:
    device = broker.admit(Standing.WORKER, "nas")
    assert code(device.ask(Operation.ANNOUNCE, Announce(True), pack([share(0)]))) is Code.NO_SESSION
    assert code(device.ask(Operation.REPORT, Report(0, ROOM))) is Code.NO_SESSION
    assert broker.client(KEY).objects() == []


def test_more_shares_than_a_message_may_announce_are_refused_and_none_believed(broker: SampleBroker) -> None:
    device = broker.worker("nas")
    assert device.announce([share(0)] * (MAX_ANNOUNCED + 1)) is Code.MALFORMED
    assert broker.client(KEY).objects() == []
    assert device.announce([share(0)] * MAX_ANNOUNCED) is Code.GRANTED


def test_a_worker_that_registers_anew_holds_what_it_announces_then(broker: SampleBroker) -> None:
    device, client = broker.worker("nas", [share(0), share(1)]), broker.client(KEY)
    assert device.register() is Code.GRANTED
    assert alive(client) == {"nas": False}
    device.announce([share(1)])
    (encoding,) = client.objects()
    assert list(shares_at_hand(encoding)) == [1]


# --- two with one key


def test_a_second_worker_with_the_same_key_is_refused_while_the_first_lives(broker: SampleBroker) -> None:
    first, client = broker.worker("nas", [share(0)]), broker.client(KEY)
    second = first.reconnected()
    assert second.register() is Code.CONFLICT
    assert second.announce([share(1)]) is Code.NO_SESSION
    assert second.report() is Code.NO_SESSION
    assert first.report() is Code.GRANTED
    assert is_for(only(client.fetch(first)), first)
    (encoding,) = client.objects()
    assert list(shares_at_hand(encoding)) == [0]


def test_a_second_one_is_accepted_once_the_broker_knows_that_the_first_is_gone(
    broker: SampleBroker,
) -> None:
    first, client = broker.worker("nas", [share(0)]), broker.client()
    second = first.reconnected()
    waiting = only(client.fetch(first))
    probe = only(probes(second.ask(Operation.REGISTER, REGISTRATION)))
    assert is_for(probe, first)
    told = only(broker.switchboard.undelivered(probe, gone=True))
    assert (code([told]), told.envelope.request_id) == (Code.GONE, waiting.envelope.request_id)
    assert second.register() is Code.GRANTED
    second.announce([share(0)])
    assert is_for(only(client.fetch(first)), second)


def test_a_second_one_is_accepted_when_the_first_has_been_silent_for_too_long(broker: SampleBroker) -> None:
    first, client = broker.worker("nas"), broker.client()
    second = first.reconnected()
    broker.now += SILENCE
    assert second.register() is Code.GRANTED
    second.announce()
    assert first.report() is Code.NO_SESSION
    assert is_for(only(client.fetch(first)), second)
    assert first.register() is Code.CONFLICT


# --- going


def test_all_who_wait_for_a_device_are_told_when_its_connection_is_gone(broker: SampleBroker) -> None:
    device, other = broker.worker("nas"), broker.worker("pi")
    clients = [broker.client(), broker.client()]
    for client in clients:
        client.fetch(device)
        client.fetch(device)
    stays = only(clients[0].fetch(other))
    assert connection_lost(broker, device) == [Code.GONE] * 4
    assert len(other.reply(stays)) == 1
    assert code(clients[0].fetch(device)) is Code.GONE
    assert alive(clients[0]) == {"nas": False, "pi": True}


def test_who_waits_is_told_in_the_name_of_the_device_and_request(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    waiting = only(client.fetch(device, request_id=b"r" * 16))
    told = only(broker.switchboard.undelivered(waiting, gone=True))
    assert is_for(told, client)
    assert (told.envelope.peer, told.envelope.request_id) == (device.device, b"r" * 16)
    assert code([told]) is Code.GONE


def test_what_a_device_that_is_gone_held_is_known_and_not_at_hand(broker: SampleBroker) -> None:
    device, client = broker.worker("nas", [share(0)]), broker.client(KEY)
    broker.worker("pi", [share(1)])
    connection_lost(broker, device)
    (encoding,) = client.locate(OBJECT)[1]
    assert [(entry.share, entry.alive) for entry in encoding.shares] == [(0, False), (1, True)]


def test_a_device_that_comes_back_is_alive_again(broker: SampleBroker) -> None:
    device, client = broker.worker("nas", [share(0)]), broker.client()
    connection_lost(broker, device)
    again = device.reconnected()
    assert again.register() is Code.GRANTED
    again.announce([share(0)])
    assert alive(client) == {"nas": True}
    assert is_for(only(client.fetch(device)), again)


def test_all_who_wait_are_told_when_another_key_has_the_devices_routing_id(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    client.fetch(device)
    other = broker.admit(Standing.WORKER, "pi")
    other.routing_id = device.routing_id
    told, registered = replies(other.ask(Operation.REGISTER, REGISTRATION))
    assert (is_for(told, client), code([told])) == (True, Code.GONE)
    assert (is_for(registered, other), code([registered])) == (True, Code.GRANTED)
    assert alive(client)["nas"] is False


def test_a_device_that_falls_silent_is_taken_for_gone_and_all_who_wait_are_told(broker: SampleBroker) -> None:
    device, client = broker.worker("nas", [share(0)]), broker.client(KEY)
    client.fetch(device)
    broker.now += SILENCE - 0.5
    assert replies(broker.tick()) == []
    broker.now += 0.5
    assert [code([told]) for told in replies(broker.tick())] == [Code.GONE]
    assert code(client.fetch(device)) is Code.GONE
    assert shares_at_hand(client.objects()[0]) == {}
    assert device.report() is Code.GRANTED
    assert requests(client.fetch(device))
    assert list(shares_at_hand(client.objects()[0])) == [0]


def test_a_device_that_reports_in_time_stays_alive(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    for _ in range(10):
        broker.now += SILENCE - 0.5
        assert device.report() is Code.GRANTED
        assert replies(broker.tick()) == []
    assert alive(client) == {"nas": True}


def test_who_waits_for_a_device_that_reports_and_does_not_answer_is_told_so(broker: SampleBroker) -> None:
    device, client = broker.worker("nas", [share(0)]), broker.client(KEY)
    client.fetch(device)
    for second in range(1, 6):
        broker.now += 1.0
        device.report()
        answer = only(client.fetch(device))  # those that it answers end nothing of that
        device.reply(answer)
        told = replies(broker.tick())
        assert [code([each]) for each in told] == [Code.GONE] * (second == 5)
    assert alive(client) == {"nas": True}
    assert requests(client.fetch(device))


def test_a_slow_device_is_given_the_time_for_what_it_has_to_do_and_to_carry(broker: SampleBroker) -> None:
    device, other, client = broker.worker("nas"), broker.worker("slow"), broker.client()
    client.fetch(device)  # it writes to its disk, and reports when it is through
    client.fetch(other, 2**20)  # it sends a block on a slow network
    for second in range(1, 10):
        broker.now += 1.0
        other.report()
        if second % 4 == 0:
            device.report()
        told = replies(broker.tick())
        assert [each.envelope.peer for each in told] == [other.device] * (second == 9)


def test_a_revoked_device_is_forgotten_at_the_next_tick_and_all_who_wait_are_told(broker: SampleBroker) -> None:
    device, other, client = broker.worker("nas"), broker.worker("pi"), broker.client()
    waiting = only(client.fetch(device))
    broker.members.revoke(device.public_key)
    assert device.reply(waiting) == []
    messages = broker.tick()
    assert [code([told]) for told in replies(messages) if is_for(told, client)] == [Code.GONE]
    assert [code([told]) for told in messages if is_for(told, device)] == [Code.NOT_ALLOWED]
    assert [message for message in messages if is_for(message, other)]
    assert alive(client) == {"pi": True}
    assert device.ask(Operation.REGISTER, REGISTRATION) == []


# --- a device that has no room for more right now


def test_a_request_that_a_full_device_cannot_take_is_busy_and_its_credit_returns(
    broker: SampleBroker,
) -> None:
    device, client = broker.worker("nas"), broker.client()
    for _ in range(100):
        refused = broker.switchboard.undelivered(only(requests(client.fetch(device))), gone=False)
        assert is_for(only(refused), client)
        assert code(refused) is Code.BUSY
    assert alive(client) == {"nas": True}


def test_a_reply_or_a_probe_that_a_full_peer_cannot_take_changes_nothing(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    reply = only(device.reply(only(client.fetch(device))))
    assert broker.switchboard.undelivered(reply, gone=False) == []
    for probe in probes(broker.tick()):
        assert broker.switchboard.undelivered(probe, gone=False) == []
    assert requests(client.fetch(device))


# --- what a new broker knows


def test_a_new_broker_is_settled_once_every_device_has_come(new_broker: SampleBroker) -> None:
    here = new_broker.worker("nas", [share(0)])
    coming = new_broker.admit(Standing.WORKER, "pi")
    client = new_broker.client(KEY)
    assert client.locate(OBJECT)[0].settled is False
    assert client.status()[0].settled is False
    coming.register()
    assert client.locate(OBJECT)[0].settled is False
    coming.announce()
    assert client.locate(OBJECT)[0].settled is True
    assert client.status()[0].settled is True
    assert here.report() is Code.GRANTED


def test_a_new_broker_is_settled_when_those_that_are_missing_had_the_time_to_come(new_broker: SampleBroker) -> None:
    new_broker.admit(Standing.WORKER, "pi")
    client = new_broker.client(KEY)
    new_broker.now += SETTLE - 0.5
    assert client.locate(OBJECT)[0].settled is False
    new_broker.now += 0.5
    assert client.locate(OBJECT)[0].settled is True


def test_a_device_that_may_still_come_to_a_new_broker_is_busy_and_later_it_is_gone(new_broker: SampleBroker) -> None:
    coming, client = new_broker.admit(Standing.WORKER, "pi"), new_broker.client()
    assert code(client.fetch(coming)) is Code.BUSY
    new_broker.now += SETTLE
    assert code(client.fetch(coming)) is Code.GONE


def test_a_device_that_no_member_is_is_gone_from_the_first(new_broker: SampleBroker) -> None:
    client = new_broker.client()
    assert code(client.fetch(client)) is Code.GONE


def test_a_cluster_without_devices_is_settled(new_broker: SampleBroker) -> None:
    assert new_broker.client().status()[0].settled is True


def test_a_device_whose_last_announcement_was_lost_is_asked_to_begin_anew(broker: SampleBroker) -> None:
    device, client = broker.admit(Standing.WORKER, "nas"), broker.client()
    device.register()
    device.announce([share(0)], complete=False)
    assert device.report() is Code.GRANTED
    broker.now += SILENCE
    assert device.report() is Code.NO_SESSION
    device.register()
    device.announce([share(0)])
    assert device.report() is Code.GRANTED
    assert alive(client) == {"nas": True}
