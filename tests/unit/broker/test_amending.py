"""The broker's part in amending: who finds what, who may what, which keys are over, and shares that were away."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from broker.catalog import Catalog
from broker.claims import Place
from broker.members import MembersFile, take_up
from broker.rights import DEPOSIT, FORWARDED, Standing, may
from broker.steward.steward import AMENDING
from common.protocol.codec import pack
from common.protocol.envelope import Operation
from common.protocol.messages import (
    MAX_RETIRED,
    PROTOCOL_VERSION,
    AnnouncedShare,
    Code,
    Empty,
    EncodingAt,
    GrantedTo,
    Hello,
    OwnerProof,
    Sync,
    Welcome,
)
from common.vault.keys import VaultKey
from tests.support.sample_broker import TODAY, SampleBroker, SamplePeer, answer, code, is_for, only, requests
from tests.support.tombstones import told

KEY, NEW_KEY, FRIENDS_KEY = VaultKey(b"t" * 32), VaultKey(b"n" * 32), VaultKey(b"f" * 32)
CAMERAS_KEY = VaultKey(b"c" * 32)
OWNER, NEW_OWNER, FRIEND = (key.owner_id() for key in (KEY, NEW_KEY, FRIENDS_KEY))
ENCODING = b"e" * 16
OBJECT, NEW_OBJECT, FRIENDS_OBJECT = b"o" * 32, b"p" * 32, b"q" * 32
GRANT = GrantedTo(FRIEND, FRIENDS_OBJECT)
DEVICES = [bytes([number]) * 16 for number in range(1, 7)]


def share(
    index: int, owner: bytes = OWNER, revision: int = 1, grants: Optional[list[GrantedTo]] = None, k: int = 2
) -> AnnouncedShare:
    object_id = OBJECT if owner == OWNER else NEW_OBJECT
    return AnnouncedShare(ENCODING, index, object_id, owner, k, 4, 1000, True, revision, grants or [])


def everybody(_: bytes) -> bool:
    return True


def found(catalog: Catalog, owner: bytes, object_id: bytes) -> list[list[int]]:
    """Of each encoding that an owner finds, the shares."""
    located = catalog.locate(owner, object_id, everybody)
    assert catalog.page(owner, b"", 10, everybody) == (located, True)
    return [[at.share for at in encoding.shares] for encoding in located]


# --- the catalog


def test_what_is_granted_is_found_by_both_each_by_his_own_object_id() -> None:
    catalog = Catalog()
    for index in range(4):
        catalog.announce(DEVICES[index], [share(index, grants=[GRANT, GRANT])])
    assert found(catalog, OWNER, OBJECT) == found(catalog, FRIEND, FRIENDS_OBJECT) == [[0, 1, 2, 3]]
    assert catalog.locate(FRIEND, OBJECT, everybody) == []
    assert catalog.shares_on(DEVICES[0]) == 1
    assert catalog.bytes_on(DEVICES[0]) == 1000


def test_what_is_granted_is_none_of_the_friends_own_encodings() -> None:
    catalog = Catalog()
    catalog.announce(DEVICES[0], [share(0, grants=[GRANT])])
    known = catalog.known(ENCODING)
    assert known is not None
    assert (known.claim.owner, known.contrary) == (OWNER, frozenset())
    assert catalog.encodings_of(FRIEND, FRIENDS_OBJECT) == []
    assert catalog.owners_of(ENCODING) == {OWNER, FRIEND}


def test_a_grant_that_was_taken_back_is_found_no_more() -> None:
    catalog = Catalog()
    catalog.announce(DEVICES[0], [share(0, revision=2, grants=[GRANT])])
    catalog.announce(DEVICES[0], [share(0, revision=3)])
    assert found(catalog, FRIEND, FRIENDS_OBJECT) == []
    assert found(catalog, OWNER, OBJECT) == [[0]]
    catalog.withdraw(DEVICES[0], [(ENCODING, 0)])
    assert ENCODING not in catalog
    assert found(catalog, OWNER, OBJECT) == []
    assert catalog.bytes_on(DEVICES[0]) == 0


def test_an_amended_encoding_is_found_under_the_new_owner_and_no_more_under_the_old() -> None:
    catalog = Catalog()
    for index in range(4):
        catalog.announce(DEVICES[index], [share(index)])
    for index in range(4):
        catalog.announce(DEVICES[index], [share(index, NEW_OWNER, 2)])
    assert found(catalog, OWNER, OBJECT) == []
    assert found(catalog, NEW_OWNER, NEW_OBJECT) == [[0, 1, 2, 3]]


def test_while_some_devices_are_amended_the_owner_still_finds_all_shares_together() -> None:
    catalog = Catalog()
    for index in range(4):
        catalog.announce(DEVICES[index], [share(index, revision=1 + index % 2)])
    assert found(catalog, OWNER, OBJECT) == [[0, 1, 2, 3]]


def test_a_share_below_the_revision_that_k_devices_have_is_stale() -> None:
    catalog = Catalog()
    catalog.announce(DEVICES[0], [share(0)])
    catalog.announce(DEVICES[1], [share(1)])
    catalog.announce(DEVICES[2], [share(2, NEW_OWNER, 2)])
    known = catalog.known(ENCODING)
    assert known is not None
    assert known.stale == (), "one device is fewer than k"
    catalog.announce(DEVICES[3], [share(3, NEW_OWNER, 2)])
    known = catalog.known(ENCODING)
    assert known is not None
    assert known.claim.owner == NEW_OWNER
    assert known.stale == (Place(0, DEVICES[0]), Place(1, DEVICES[1]))


@pytest.mark.parametrize("k", [1, 2])
def test_one_device_makes_no_revision_hold_however_many_shares_it_claims(k: int) -> None:
    catalog = Catalog()
    for index in range(3):
        catalog.announce(DEVICES[index], [share(index)])
    catalog.announce(DEVICES[5], [share(index, NEW_OWNER, 99, k=k) for index in range(3)])
    known = catalog.known(ENCODING)
    assert known is not None
    assert known.stale == ()
    assert len(found(catalog, OWNER, OBJECT)[0]) == 3


# --- sessions


@pytest.fixture
def broker() -> SampleBroker:
    return SampleBroker()


def depositor(broker: SampleBroker) -> SamplePeer:
    peer = broker.admit(Standing.CLIENT, "camera")
    hello = Hello(PROTOCOL_VERSION, CAMERAS_KEY.owner_proof(peer.public_key), KEY.owner_key())
    assert answer(peer.ask(Operation.HELLO, hello), Welcome).answer.granted
    return peer


@pytest.mark.parametrize("operation", [op for op in Operation if may(Standing.CLIENT, op) and op not in DEPOSIT])
def test_who_stores_for_a_vault_reads_and_changes_nothing(broker: SampleBroker, operation: Operation) -> None:
    device = broker.worker("nas", [share(0)])
    camera = depositor(broker)
    assert code(camera.ask(operation, Empty(), device=device.device)) is Code.NOT_ALLOWED


@pytest.mark.parametrize("operation", sorted(DEPOSIT & FORWARDED))
def test_what_is_deposited_is_the_vaults(broker: SampleBroker, operation: Operation) -> None:
    device = broker.worker("nas")
    forwarded = only(depositor(broker).ask(operation, Empty(), device=device.device))
    assert is_for(forwarded, device)
    assert forwarded.envelope.owner == OWNER


def test_who_stores_for_a_vault_says_who_that_is(broker: SampleBroker) -> None:
    peer = broker.admit(Standing.CLIENT, "laptop")
    hello = Hello(PROTOCOL_VERSION, deposit_for=KEY.owner_key())
    assert code(peer.ask(Operation.HELLO, hello)) is Code.MALFORMED


def test_a_proof_lets_nobody_speak_for_the_vault_but_the_client_that_it_names(broker: SampleBroker) -> None:
    device, owner = broker.worker("nas", [share(0)]), broker.client()
    proof = KEY.owner_proof(owner.public_key)
    for hello in (Hello(PROTOCOL_VERSION, proof), Hello(PROTOCOL_VERSION, OwnerProof(KEY.owner_key(), bytes(64)))):
        thief = broker.admit(Standing.CLIENT, "thief")
        assert code(thief.ask(Operation.HELLO, hello)) is Code.NOT_ALLOWED
        assert code(thief.fetch(device)) is Code.NO_SESSION


def test_an_amend_is_forwarded_for_the_sessions_owner(broker: SampleBroker) -> None:
    device = broker.worker("nas")
    forwarded = only(broker.client(NEW_KEY).ask(Operation.AMEND, Empty(), device=device.device))
    assert forwarded.envelope.owner == NEW_OWNER


# --- keys that are over


def test_an_owner_that_was_retired_is_let_in_no_more_and_live_sessions_are_over(broker: SampleBroker) -> None:
    device = broker.worker("nas", [share(0)])
    owner, another, camera, friend = broker.client(), broker.client(), depositor(broker), broker.client(FRIENDS_KEY)
    assert code(owner.ask(Operation.RETIRE_OWNER, Empty())) is Code.GRANTED
    assert code(owner.ask(Operation.RETIRE_OWNER, Empty())) is Code.GRANTED, "the answer may have been lost"
    for peer, operation in ((owner, Operation.LIST), (another, Operation.FETCH), (camera, Operation.OPEN)):
        assert code(peer.ask(operation, Empty(), device=device.device)) is Code.REPLACED
    for speaks in (True, False):
        peer = broker.admit(Standing.CLIENT, "laptop")
        hello = Hello(PROTOCOL_VERSION, KEY.owner_proof(peer.public_key))
        if not speaks:
            hello = Hello(PROTOCOL_VERSION, CAMERAS_KEY.owner_proof(peer.public_key), KEY.owner_key())
        welcome = answer(peer.ask(Operation.HELLO, hello), Welcome)
        assert welcome.answer.code is Code.REPLACED
        assert "was replaced" in welcome.answer.text
    assert friend.objects() == []


def test_retired_owners_are_on_disk_and_passed_on_and_only_grow(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here, there = MembersFile(tmp_path / "a"), MembersFile(tmp_path / "b")
    here.change(lambda members: members.retire_owners([OWNER]))
    assert MembersFile(tmp_path / "a").members.has_retired(OWNER)
    assert take_up(there, memoryview(pack([])), TODAY, here.members.retired_owners).granted
    assert take_up(there, memoryview(pack([])), TODAY, [FRIEND]).granted
    assert take_up(there, memoryview(pack([])), TODAY).granted
    assert MembersFile(tmp_path / "b").members.retired_owners == sorted([OWNER, FRIEND])
    assert len(pack(Sync([OWNER] * MAX_RETIRED))) <= 4096


def test_no_client_makes_the_list_of_retired_owners_grow_without_end(broker: SampleBroker) -> None:
    owner = broker.client()
    broker.members.members.retire_owners([number.to_bytes(16, "big") for number in range(10_000)])
    assert code(owner.ask(Operation.RETIRE_OWNER, Empty())) is Code.NO_ROOM
    assert owner.objects() == []


def test_a_broker_takes_up_retired_owners_of_another(broker: SampleBroker) -> None:
    other = broker.admit(Standing.BROKER, "broker-b")
    assert code(other.ask(Operation.SYNC, Sync([OWNER]), pack([]))) is Code.GRANTED
    assert broker.members.members.has_retired(OWNER)


# --- shares that were away


def amended_but_one(broker: SampleBroker, newer: int = 3) -> list[SamplePeer]:
    """Devices with the new commitment, and last one that was away."""
    peers = [broker.worker(f"device {index}", [share(index, NEW_OWNER, 2)]) for index in range(newer)]
    peers.append(broker.worker("away", [share(3)]))
    broker.tick()
    return peers


def asked(broker: SampleBroker, peers: list[SamplePeer], seconds: float) -> list[Operation]:
    """What devices, all of them here, are asked by the steward within so many seconds; nobody answers."""
    told = []
    for _ in range(int(seconds)):
        broker.now += 1
        for peer in peers:
            peer.report()
        told += [message.envelope.operation for message in requests(broker.tick())]
    return told


def test_a_stale_share_is_brought_up_to_date_once_its_owner_had_the_time_to_amend_it(broker: SampleBroker) -> None:
    peers = amended_but_one(broker)
    assert asked(broker, peers, AMENDING - 2) == []
    assert set(asked(broker, peers, 5)) == {Operation.INSPECT}, "what holds, and who says so"


def test_a_stale_share_that_was_amended_meanwhile_stays(broker: SampleBroker) -> None:
    peers = amended_but_one(broker)
    assert asked(broker, peers, AMENDING - 2) == []
    peers[-1].announce([share(3, NEW_OWNER, 2)])
    assert asked(broker, peers, 20) == []


def test_no_share_is_given_up_for_a_revision_that_devices_claim(broker: SampleBroker) -> None:
    peers = amended_but_one(broker)
    assert Operation.DISCARD not in asked(broker, peers, 3 * AMENDING)


# --- deletions of another right


def test_a_deletion_hides_nothing_of_another_owners_and_its_holders_never_hear_of_it(broker: SampleBroker) -> None:
    broker.worker("holder", [share(0, NEW_OWNER, 2)])
    liar = broker.worker("liar")
    stone = KEY.tombstone(OBJECT, ENCODING, 1, 100)
    assert code(liar.ask(Operation.REPORT_DELETED, Empty(), pack([told(stone)]))) is Code.GRANTED
    owner = broker.client(NEW_KEY)
    assert [m for m in requests(broker.tick()) if m.envelope.operation is Operation.DELETE] == []
    located: list[EncodingAt] = owner.locate(NEW_OBJECT)[1]
    assert [encoding.encoding_id for encoding in located] == [ENCODING]
