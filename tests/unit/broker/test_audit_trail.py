"""What of that which members ask is in the audit log, and that the machine that asked is in it with it."""

from __future__ import annotations

from typing import Optional

import pytest

from broker.rights import Standing
from common.protocol.codec import pack
from common.protocol.device_messages import (
    Amend,
    BlockName,
    Commit,
    Commitment,
    Fetch,
    Grant,
    Store,
    WholeShare,
)
from common.protocol.envelope import Operation
from common.protocol.messages import AnnouncedShare, Code, Empty, Message, Retire
from common.vault.keys import VaultKey
from tests.support.approving import ANNA, BOB, approved, named_by, part_of
from tests.support.sample_broker import SampleBroker, SamplePeer, code
from tests.support.sample_shares import sign

KEY = VaultKey(b"t" * 32)
OWNER = KEY.owner_id()
ENCODING, OTHER = b"e" * 16, b"f" * 16
READER = b"r" * 16
GRANTS = [Grant(READER, b"p" * 32, b"sealed")]
COMMITMENT = sign(Commitment(b"o" * 32, OWNER, b"recipe", b"mapping", b"n" * 16, [], 2, GRANTS), KEY)


def announced(encoding_id: bytes, share: int) -> AnnouncedShare:
    return AnnouncedShare(encoding_id, share, b"o" * 32, OWNER, 2, 3, 1000)


@pytest.fixture
def broker() -> SampleBroker:
    return SampleBroker()


def devices(broker: SampleBroker) -> list[SamplePeer]:
    """Three that hold one encoding."""
    return [broker.worker(f"device {share}", [announced(ENCODING, share)]) for share in range(3)]


def by(broker: SampleBroker, peer: SamplePeer) -> dict[str, str]:
    return {"by": broker.queries.name_of(peer.public_key), "key": peer.public_key.hex()[:16]}


def test_retiring_rebalancing_and_a_replaced_key_are_recorded_with_who_asked(broker: SampleBroker) -> None:
    nas, admin = broker.worker("nas"), broker.client(KEY, Standing.ADMIN)
    broker.recorded.clear()
    for operation, header in (
        (Operation.RETIRE, Retire(nas.device)),
        (Operation.RETIRE, Retire(nas.device, True)),
        (Operation.REBALANCE, Empty()),
        (Operation.RETIRE_OWNER, Empty()),
    ):
        assert code(admin.ask(operation, header)) is Code.GRANTED
    assert broker.recorded == [
        {"event": "retiring", "device": "nas", **by(broker, admin)},
        {"event": "stays", "device": "nas", **by(broker, admin)},
        {"event": "rebalancing", **by(broker, admin)},
        {"event": "vault key replaced", "owner": OWNER.hex(), **by(broker, admin)},
    ]


def test_what_is_refused_is_not_recorded_as_done(broker: SampleBroker) -> None:
    nas, client, admin = broker.worker("nas"), broker.client(KEY), broker.client(None, Standing.ADMIN)
    broker.recorded.clear()
    assert code(client.ask(Operation.RETIRE, Retire(nas.device))) is Code.NOT_ALLOWED
    assert code(admin.ask(Operation.RETIRE, Retire(b"x" * 16))) is Code.NOT_FOUND
    assert code(admin.ask(Operation.RETIRE_OWNER, Empty())) is Code.NOT_ALLOWED
    assert broker.recorded == []


def test_a_device_that_is_retired_is_recorded_when_it_is_taken_off_the_list(broker: SampleBroker) -> None:
    nas, admin = broker.worker("nas"), broker.client(KEY, Standing.ADMIN)
    assert code(admin.ask(Operation.RETIRE, Retire(nas.device))) is Code.GRANTED
    for _ in range(400):
        if broker.recorded[-1]["event"] == "retired":
            break  # and is heard no more
        broker.now += 0.25
        nas.report()
        broker.tick()
    assert broker.recorded[-1] == {"event": "retired", "device": "nas", "key": nas.public_key.hex()[:16]}


@pytest.mark.parametrize(
    ("operation", "header", "payload", "facts"),
    [
        (
            Operation.AMEND,
            Amend(ENCODING),
            pack(COMMITMENT),
            {"event": "amend asked", "readers": READER.hex()},
        ),
        (Operation.DELETE, KEY.tombstone(b"o" * 32, ENCODING, 1, 100), None, {"event": "delete asked"}),
        (Operation.UNDELETE, KEY.tombstone(b"o" * 32, ENCODING, 2), None, {"event": "undelete asked"}),
    ],
)
def test_what_changes_an_image_is_recorded_once_before_any_device_hears_of_it(
    operation: Operation, header: Message, payload: Optional[bytes], facts: dict[str, str], broker: SampleBroker
) -> None:
    holders, client = devices(broker), broker.client(KEY)
    broker.recorded.clear()
    for device in holders:
        assert client.ask(operation, header, payload, device=device.device, credit=len(payload or b""))
        (line,) = broker.recorded
    assert line == {**facts, "owner": OWNER.hex(), "encoding": ENCODING.hex(), **by(broker, client)}
    broker.now += 60
    for device in holders:
        device.report()
    broker.tick()
    client.ask(operation, header, payload, device=holders[0].device, credit=len(payload or b""))
    assert len(broker.recorded) == 2


@pytest.mark.parametrize("event", ["approvers named", "emptying asked"])
def test_who_approves_is_recorded_once_and_of_no_vault_that_is_made_up(broker: SampleBroker, event: str) -> None:
    holders, client, made_up = devices(broker), broker.client(KEY), broker.client(VaultKey(b"m" * 32))
    named = named_by(KEY, ANNA, BOB)
    part = part_of(KEY.tombstone(b"o" * 32, ENCODING, 1))
    content = pack(part)
    broker.recorded.clear()
    for asking in (made_up, client):
        for device in holders:
            if event == "approvers named":
                asking.ask(Operation.NAME_APPROVERS, named, device=device.device)
            else:
                emptying = approved(named, part, [ANNA, BOB])
                asking.ask(Operation.EMPTY, emptying, content, device=device.device, credit=len(content))
    people = sorted([ANNA, BOB], key=VaultKey.owner_key) if event == "approvers named" else [ANNA, BOB]
    approvers = " ".join(each.owner_id().hex() for each in people)
    assert broker.recorded == [{"event": event, "owner": OWNER.hex(), "approvers": approvers, **by(broker, client)}]


def test_ids_that_a_client_makes_up_push_no_line_out_of_the_log(broker: SampleBroker) -> None:
    holders, client = devices(broker), broker.client(KEY)
    broker.recorded.clear()
    for number in range(100):
        word = KEY.tombstone(b"o" * 32, number.to_bytes(16, "big"), 2)
        client.ask(Operation.UNDELETE, word, device=holders[0].device)
    assert broker.recorded == []


def access(broker: SampleBroker) -> SamplePeer:
    """A client that stores, and reads, over several devices; it has done so when this returns."""
    holders, client = devices(broker), broker.client(KEY)
    broker.recorded.clear()
    for device in holders[:2]:
        blocks = [BlockName(encoding, 0, 0) for encoding in (ENCODING, OTHER)]
        client.ask(Operation.FETCH, Fetch(blocks), device=device.device, credit=1000)
    client.ask(Operation.COMMIT, Commit(ENCODING, 0), b"", device=holders[0].device)
    share = WholeShare(OTHER, 1, 2, 3, 100, 100)
    client.ask(Operation.STORE, Store([share]), bytes(200), device=holders[1].device, credit=200)
    broker.tick()
    assert broker.recorded == []
    broker.now += 10
    broker.tick()
    return client


def test_where_asked_for_puts_and_gets_are_recorded_a_line_for_image_and_client() -> None:
    broker = SampleBroker(record_accesses=True)
    asked_by = by(broker, access(broker))
    expected = [("get", ENCODING, 2), ("get", OTHER, 2), ("put", ENCODING, 1), ("put", OTHER, 1)]
    assert sorted(broker.recorded, key=lambda line: (line["event"], line["encoding"])) == [
        {"event": event, "owner": OWNER.hex(), "encoding": encoding.hex(), "devices": count, **asked_by}
        for event, encoding, count in expected
    ]


def test_puts_and_gets_are_not_recorded_unasked(broker: SampleBroker) -> None:
    access(broker)
    assert broker.recorded == []
