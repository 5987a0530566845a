"""The switchboard: who may say what, who sees what, and what a connection stands for."""

from __future__ import annotations

from typing import Optional

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.credit import CREDIT, REQUESTS, TOTAL_CREDIT
from broker.rights import FORWARDED, Standing
from broker.sessions import Side
from common.protocol.codec import MAX_PAYLOAD, pack, unpack
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.identifiers import BROKER
from common.protocol.messages import (
    GRANTED,
    PROTOCOL_VERSION,
    AnnouncedShare,
    Code,
    Empty,
    EncodingAt,
    Identifier,
    Join,
    Joined,
    ListObjects,
    Locate,
    Places,
)
from common.protocol.operations import Role
from common.vault.keys import VaultKey
from tests.support.sample_broker import (
    ROOM,
    TODAY,
    SampleBroker,
    answer,
    code,
    is_for,
    only,
    probes,
    requests,
)
from tests.unit.broker.test_rights import STANDINGS, TABLE

KEY, OTHER_KEY = VaultKey(b"t" * 32), VaultKey(b"u" * 32)
OBJECT = b"o" * 32
FOR_OWNERS = {Operation.PLACES, Operation.LOCATE, Operation.LIST, Operation.CHANGES}
ASKED_BY_CLIENTS = FORWARDED | FOR_OWNERS | {Operation.STATUS}


@pytest.fixture
def broker() -> SampleBroker:
    return SampleBroker()


def share(index: int, object_id: bytes = OBJECT, key: VaultKey = KEY) -> AnnouncedShare:
    return AnnouncedShare(object_id[:16], index, object_id, key.owner_id(), 2, 3, 1000)


# --- who may speak


@pytest.mark.parametrize("side", Side)
def test_a_message_of_a_key_that_is_no_members_is_dropped(broker: SampleBroker, side: Side) -> None:
    stranger = broker.stranger(side)
    for operation in Operation:
        assert stranger.ask(operation, Empty()) == []
    assert broker.tick() == []


@pytest.mark.parametrize("standing", Standing)
def test_a_member_is_not_heard_at_the_other_roles_port(broker: SampleBroker, standing: Standing) -> None:
    peer = broker.admit(standing, "peer")
    peer.side = Side.CLIENTS if peer.side is Side.WORKERS else Side.WORKERS
    for operation in Operation:
        assert peer.ask(operation, Empty()) == []


@pytest.mark.parametrize(
    ("standing", "operation"),
    [(standing, op) for place, standing in enumerate(STANDINGS) for op in Operation if not TABLE[op][place]],
)
def test_what_the_table_of_rights_does_not_allow_is_refused(
    broker: SampleBroker, standing: Standing, operation: Operation
) -> None:
    device = broker.worker("nas")
    peer = broker.client() if standing is Standing.CLIENT else broker.admit(standing, "peer")
    assert code(peer.ask(operation, Empty(), device=device.device)) is Code.NOT_ALLOWED


@pytest.mark.parametrize("operation", sorted(ASKED_BY_CLIENTS))
def test_a_client_has_to_say_hello_first(broker: SampleBroker, operation: Operation) -> None:
    device = broker.worker("nas")
    client = broker.admit(Standing.CLIENT, "laptop")
    assert code(client.ask(operation, Empty(), device=device.device)) is Code.NO_SESSION


def test_hello_is_for_one_connection(broker: SampleBroker) -> None:
    client = broker.client()
    assert client.status()[0].answer.granted
    assert code(client.reconnected().ask(Operation.STATUS, Empty())) is Code.NO_SESSION


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1])
def test_a_client_of_another_version_gets_no_session(broker: SampleBroker, version: int) -> None:
    client = broker.admit(Standing.CLIENT, "laptop")
    refused = client.hello(KEY, version).answer
    assert (refused.code, str(version) in refused.text) == (Code.MALFORMED, True)
    assert code(client.ask(Operation.STATUS, Empty())) is Code.NO_SESSION


def test_hello_says_how_much_may_be_under_way(broker: SampleBroker) -> None:
    welcome = broker.admit(Standing.CLIENT, "laptop").hello(KEY)
    assert (welcome.requests, welcome.credit) == (REQUESTS, CREDIT)


@pytest.mark.parametrize("operation", sorted(ASKED_BY_CLIENTS - {Operation.STATUS}))
def test_who_speaks_for_no_vault_only_looks_at_the_devices(broker: SampleBroker, operation: Operation) -> None:
    device = broker.worker("nas")
    client = broker.client(None)
    assert client.status()[0].answer.granted
    assert code(client.ask(operation, Empty(), device=device.device)) is Code.NOT_ALLOWED


# --- what has not the form of a message


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([], id="nothing"),
        pytest.param([Envelope(Kind.REQUEST, Operation.STATUS, b"r" * 16).encode()], id="no header"),
        pytest.param([Envelope(Kind.REQUEST, Operation.STATUS, b"r" * 16).encode(), b"\x90", b"", b""], id="too many"),
        pytest.param([b"TSR1", b"\x90"], id="envelope cut short"),
        pytest.param([b"TSR2" + bytes(56), b"\x90"], id="another version"),
    ],
)
def test_what_is_no_message_is_dropped_and_the_session_stands(broker: SampleBroker, frames: list[bytes]) -> None:
    client = broker.client()
    assert client.send(*frames) == []
    assert client.status()[0].answer.granted


@pytest.mark.parametrize("kind", [Kind.REPLY, Kind.PROBE])
def test_from_a_client_only_requests_are_heard(broker: SampleBroker, kind: Kind) -> None:
    client = broker.client()
    assert client.send(Envelope(kind, Operation.STATUS, b"r" * 16).encode(), b"\x90") == []


@pytest.mark.parametrize("header", [b"", b"\xc1", b"\x91\x01", b"\x90\x90", b"\x80"])
def test_a_request_whose_header_has_another_shape_is_refused_by_its_request_id(
    broker: SampleBroker, header: bytes
) -> None:
    envelope = Envelope(Kind.REQUEST, Operation.STATUS, b"r" * 16)
    refusal = only(broker.client().send(envelope.encode(), header))
    assert refusal.envelope == envelope.reply()
    assert code([refusal]) is Code.MALFORMED


@pytest.mark.parametrize("payload", [None, b"", b"\xc1", pack([b"o" * 31]), pack([b"o" * 32] * 1001)])
def test_a_request_whose_payload_has_another_shape_is_refused(broker: SampleBroker, payload: Optional[bytes]) -> None:
    assert code(broker.client().ask(Operation.LOCATE, Locate(), payload)) is Code.MALFORMED


@pytest.mark.one_python
@settings(max_examples=150)
@given(
    st.sampled_from(Standing),
    st.lists(
        st.tuples(
            st.sampled_from(Operation),
            st.sampled_from([b"\x90", pack(Places(3, 0)), pack(ListObjects()), pack(Join("x", b"k" * 32))])
            | st.binary(max_size=30)
            | st.recursive(st.integers(-9, 9) | st.binary(max_size=40), st.lists).map(msgpack.packb),
            st.none() | st.binary(max_size=40) | st.lists(st.binary(max_size=40)).map(msgpack.packb),
            st.integers(0, 2**32 - 1),
            st.booleans(),
        ),
        max_size=8,
    ),
)
@example(Standing.CLIENT, [(Operation.RETIRE_OWNER, b"\x90", None, 0, False)])
def test_whatever_a_member_says_the_broker_goes_on_and_tells_nobody_else(
    standing: Standing, said: list[tuple[Operation, bytes, Optional[bytes], int, bool]]
) -> None:
    broker = SampleBroker()
    device = broker.worker("nas")
    other = broker.client(OTHER_KEY)  # with another vault: a member may retire its own vault's key
    peer = broker.client() if standing is Standing.CLIENT else broker.admit(standing, "peer")
    for operation, header, payload, credit, to_device in said:
        envelope = Envelope(Kind.REQUEST, operation, b"r" * 16, device.device if to_device else BROKER, credit)
        sent = peer.send(envelope.encode(), header, *([] if payload is None else [payload]))
        for message in sent:
            forwarded = message.envelope.kind is Kind.REQUEST
            assert is_for(message, device if forwarded else peer)
            assert not forwarded or standing is Standing.CLIENT
    assert other.status()[0].answer.granted
    assert device.report() is Code.GRANTED


# --- joining


@pytest.mark.parametrize(("role", "admitted_as"), [(Role.WORKER, Standing.WORKER), (Role.CLIENT, Standing.CLIENT)])
def test_an_invite_is_traded_for_a_place(broker: SampleBroker, role: Role, admitted_as: Standing) -> None:
    side = Side.WORKERS if role is Role.WORKER else Side.CLIENTS
    joiner, permanent, other = (broker.stranger(side) for _ in range(3))
    broker.members.members.invite(joiner.public_key, role, TODAY)
    request = Join("nas", permanent.public_key)
    assert answer(joiner.ask(Operation.JOIN, request), Joined) == Joined(GRANTED, "nas")
    assert answer(joiner.ask(Operation.JOIN, request), Joined) == Joined(GRANTED, "nas")
    assert code(joiner.ask(Operation.JOIN, Join("nas", other.public_key))) is Code.NOT_ALLOWED
    said = Operation.REGISTER if role is Role.WORKER else Operation.STATUS
    assert code(permanent.ask(said, Empty())) in (Code.NO_SESSION, Code.MALFORMED)  # no longer a stranger
    assert other.ask(said, Empty()) == []


def test_an_invite_that_is_over_is_a_strangers_key(broker: SampleBroker) -> None:
    joiner = broker.admit(Standing.INVITED_CLIENT, "", expires=TODAY + 3600)
    assert code(joiner.ask(Operation.JOIN, Empty())) is Code.MALFORMED
    broker.today += 3600
    assert joiner.ask(Operation.JOIN, Join("laptop", b"k" * 32)) == []
    broker.tick()
    assert probes(broker.tick()) == []


# --- owners


def test_two_owners_do_not_see_each_others_objects(broker: SampleBroker) -> None:
    theirs = b"p" * 32
    broker.worker("nas", [share(0, OBJECT, KEY), share(0, theirs, OTHER_KEY)])
    owner, stranger = broker.client(KEY), broker.client(OTHER_KEY)

    def seen(encodings: list[EncodingAt]) -> list[bytes]:
        return [encoding.object_id for encoding in encodings]

    assert seen(owner.locate(OBJECT, theirs)[1]) == seen(owner.objects()) == [OBJECT]
    assert seen(stranger.locate(OBJECT, theirs)[1]) == seen(stranger.objects()) == [theirs]


def test_two_clients_of_one_vault_see_the_same(broker: SampleBroker) -> None:
    broker.worker("nas", [share(0)])
    assert broker.client(KEY).objects() == broker.client(KEY).objects() != []


# --- connections


def test_a_routing_id_that_another_key_has_now_stands_for_nothing_of_the_first(broker: SampleBroker) -> None:
    device, first = broker.worker("nas"), broker.client(KEY)
    forwarded = only(first.fetch(device))
    second = broker.admit(Standing.CLIENT, "another")
    second.routing_id = first.routing_id
    assert code(second.ask(Operation.STATUS, Empty())) is Code.NO_SESSION
    assert device.reply(forwarded) == []
    assert code(first.ask(Operation.STATUS, Empty())) is Code.NO_SESSION


def test_clients_are_probed_now_and_then_and_forgotten_when_they_are_gone(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    forwarded = only(client.fetch(device))
    probe = only([message for message in probes(broker.tick()) if is_for(message, client)])
    assert not [message for message in broker.tick() if is_for(message, client)]
    assert broker.switchboard.undelivered(probe, gone=True) == []
    assert device.reply(forwarded) == []
    broker.now += 60
    assert not [message for message in broker.tick() if is_for(message, client)]


def test_the_credit_of_a_client_that_is_gone_comes_back(broker: SampleBroker) -> None:
    device = broker.worker("nas")
    for _ in range(3 * TOTAL_CREDIT // CREDIT):
        client = broker.client()
        under_way = [only(client.fetch(device, MAX_PAYLOAD)) for _ in range(CREDIT // MAX_PAYLOAD)]
        assert len(requests(under_way)) == CREDIT // MAX_PAYLOAD
        welcome = only(client.ask(Operation.STATUS, Empty()))
        broker.switchboard.undelivered(welcome, gone=True)


def test_a_revoked_client_is_not_heard_and_at_the_next_tick_told_once_and_forgotten(broker: SampleBroker) -> None:
    device, client = broker.worker("nas"), broker.client()
    forwarded = only(client.fetch(device))
    broker.members.revoke(client.public_key)
    assert client.ask(Operation.STATUS, Empty()) == []
    farewell = only([message for message in broker.tick() if is_for(message, client)])
    assert (farewell.envelope.operation, code([farewell])) == (Operation.PROBE, Code.NOT_ALLOWED)
    assert not [message for message in broker.tick() if is_for(message, client)]
    assert device.reply(forwarded) == []


# --- places


def test_places_are_on_live_devices_with_room_each_of_them_once(broker: SampleBroker) -> None:
    roomy = [broker.worker(name) for name in ("a", "b", "c")]
    full, excluded = broker.worker("full"), broker.worker("excluded")
    full.report(used=ROOM, free=999)
    broker.admit(Standing.WORKER, "never came")
    silent = broker.admit(Standing.WORKER, "has not announced yet")
    silent.register()
    request = Places(6, 1000, [excluded.device])
    placed = only(broker.client().ask(Operation.PLACES, request, pack([b"1" * 16, b"2" * 16])))
    places = unpack(placed.payload, list[list[Identifier]])
    assert [sorted(one) for one in places] == [sorted(peer.device for peer in roomy)] * 2
