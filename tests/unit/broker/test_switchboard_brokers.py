"""What the switchboard answers about the cluster's brokers, and to them."""

from __future__ import annotations

import pytest

from broker.members import Address, Member
from broker.rights import Standing
from common.protocol.codec import pack, unpack, unpack_header
from common.protocol.envelope import Operation
from common.protocol.messages import GRANTED, Acknowledged, Brokers, Code, Empty, KnownBroker
from tests.support.sample_broker import TODAY, SampleBroker


def test_whoever_has_a_session_is_told_of_all_brokers_with_an_address() -> None:
    broker = SampleBroker()
    here, elsewhere = Address("here.lan", 5570, 5571), Address("elsewhere.lan", 1, 2)
    broker.members.change(lambda members: members.enter_broker(b"h" * 32, "broker-here", here, TODAY))
    broker.members.change(lambda members: members.enter_broker(b"e" * 32, "broker-elsewhere", elsewhere, TODAY))
    for peer in (broker.client(), broker.client(None), broker.worker("nas")):
        (told,) = peer.ask(Operation.BROKERS, Empty())
        assert unpack_header(told.header, Brokers) == Brokers(GRANTED)
        assert unpack(told.payload, list[KnownBroker]) == [
            KnownBroker("here.lan", 5570, 5571, b"h" * 32),
            KnownBroker("elsewhere.lan", 1, 2, b"e" * 32),
        ]


@pytest.mark.parametrize("standing", [Standing.CLIENT, Standing.WORKER])
def test_whoever_has_no_session_is_told_of_none(standing: Standing) -> None:
    (told,) = SampleBroker().admit(standing, "peer").ask(Operation.BROKERS, Empty())
    assert unpack_header(told.header, Brokers).answer.code is Code.NO_SESSION
    assert told.payload is None


def test_a_broker_passes_its_members_on_without_a_greeting() -> None:
    broker = SampleBroker()
    other = broker.admit(Standing.BROKER, "broker-b")
    member = Member("1" * 64, Standing.WORKER, "nas", TODAY)
    (answered,) = other.ask(Operation.SYNC, Empty(), pack([member]))
    assert unpack_header(answered.header, Acknowledged).answer.granted
    assert broker.members.members.workers() == [member]
    (answered,) = other.ask(Operation.SYNC, Empty(), b"junk")
    assert unpack_header(answered.header, Acknowledged).answer.code is Code.MALFORMED
