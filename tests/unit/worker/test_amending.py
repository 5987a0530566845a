"""Another commitment beside a share: by right only, whole or not at all, and for good."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from common.errors import IntegrityError
from common.protocol.device_messages import (
    MAX_GRANTED_MAPPING,
    Commitment,
    CommitmentSignature,
    Grant,
    SignedCommitment,
    Transfer,
)
from common.protocol.messages import MAX_GRANTS, Code, GrantedTo, Tombstone
from common.vault.keys import VaultKey
from tests.support.clocks import SetClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import (
    KEY,
    OWNER,
    STRANGER,
    STRANGERS_KEY,
    TRASH,
    Sample,
    chance,
    declined,
    held_by,
    reopened,
    sample,
    sign,
    through_restarts,
)
from worker.amendments import Replaced, decode_amendment, encode_amendment
from worker.layout import Place
from worker.refusals import Refusal
from worker.store import ShareStore

FRIENDS_KEY, NEW_KEY = VaultKey(b"\x0c" * 32), VaultKey(b"\x0d" * 32)
FRIEND, NEW_OWNER = FRIENDS_KEY.owner_id(), NEW_KEY.owner_id()
GRANT = Grant(FRIEND, chance("friend's object", 32), chance("friend's mapping", 90))


@pytest.fixture
def store(tmp_path: Path, clock: SetClock, encoding: Sample) -> Iterator[ShareStore]:
    """With one share, of which the brokers know."""
    store = ShareStore(tmp_path / "store", clock=clock)
    encoding.put(store, 0)
    store.changes()
    yield store
    store.close()


def commitment(encoding: Sample, revision: int = 2, grants: Optional[list[Grant]] = None, **changes: Any) -> Commitment:
    """The encoding's, of another revision."""
    return replace(encoding.commitment, revision=revision, grants=grants or [], **changes)


def rotated(encoding: Sample, revision: int = 2) -> Commitment:
    """Everything but the recipe is new."""
    transfers = [KEY.signing_key().transfer(encoding.encoding_id, NEW_OWNER)]
    changes: dict[str, Any] = {"object_id": chance("new object", 32), "mapping": chance("new mapping", 99)}
    return commitment(encoding, revision, owner=NEW_OWNER, transfers=transfers, **changes)


SIGNERS = {OWNER: KEY, NEW_OWNER: NEW_KEY, FRIEND: FRIENDS_KEY, STRANGER: STRANGERS_KEY}


def amend(store: ShareStore, encoding: Sample, said: Commitment, key: Optional[VaultKey] = None) -> None:
    """Show the store what the owner named in it signed, or who has this key, for that owner's session."""
    store.amend(encoding.encoding_id, sign(said, key or SIGNERS[said.owner]), said.owner)


def new_tombstone(encoding: Sample, generation: int) -> Tombstone:
    return NEW_KEY.tombstone(rotated(encoding).object_id, encoding.encoding_id, generation, TRASH)


def lies_there(store: ShareStore, encoding: Sample, owner: bytes = OWNER) -> Commitment:
    return store.share(encoding.key(0), owner).commitment


def amendment(store: ShareStore, encoding: Sample) -> Optional[Place]:
    """Where what amends its share 0 lies."""
    held = store._index.held(encoding.key(0))
    assert held is not None
    return held.amendment


def damage_amendment(store: ShareStore, encoding: Sample) -> None:
    place = amendment(store, encoding)
    assert place is not None
    (pack,) = store.folder.glob(f"packs/{place.pack:08d}.*")
    content = bytearray(pack.read_bytes())
    content[place.offset + place.length // 2] ^= 1
    pack.write_bytes(content)


# --- what an amendment does


def test_a_new_commitment_holds_and_is_announced_and_outlives_a_restart(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    said = commitment(encoding, grants=[GRANT])
    amend(store, encoding, said)
    (announced,) = store.changes().announced
    assert (announced.owner, announced.revision) == (OWNER, 2)
    assert announced.grants == [GrantedTo(FRIEND, GRANT.object_id)]
    for again in through_restarts(store, clock):
        assert lies_there(again, encoding) == said
        assert held_by(again)[encoding.key(0)] == announced
        encoding.assert_readable(again, 0)
    again.close()


def test_all_shares_of_the_encoding_are_amended_and_no_others(store: ShareStore, encoding: Sample) -> None:
    other = sample("other")
    encoding.put(store, 2)
    other.put(store, 0)
    store.changes()
    amend(store, encoding, rotated(encoding))
    assert {(share.share, share.owner) for share in store.changes().announced} == {(0, NEW_OWNER), (2, NEW_OWNER)}
    other.assert_readable(store, 0)


def test_a_rotated_share_is_the_new_owners_and_no_more_the_old_ones(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    amend(store, encoding, rotated(encoding))
    for again in through_restarts(store, clock):
        for key in (KEY, STRANGERS_KEY):
            owner = key.owner_id()
            with declined(Code.NOT_FOUND):
                again.share(encoding.key(0), owner)
            with declined(Code.NOT_FOUND):
                again.block(encoding.key(0), owner, 0)
            with declined(Code.NOT_FOUND):
                again.delete(encoding.deletion(key=key), owner)
        with declined(Code.NOT_FOUND):
            amend(again, encoding, commitment(encoding, 3))
        with declined(Code.NOT_ALLOWED):
            again.delete(encoding.deletion(), NEW_OWNER)
        assert again.block(encoding.key(0), NEW_OWNER, 0) == encoding.blocks[0][0]
    again.delete(new_tombstone(encoding, 1), NEW_OWNER)
    assert not held_by(again)
    again.close()


def test_a_grants_owner_reads_and_does_nothing_else(store: ShareStore, encoding: Sample, clock: SetClock) -> None:
    amend(store, encoding, commitment(encoding, grants=[GRANT]))
    for again in through_restarts(store, clock):
        assert again.block(encoding.key(0), FRIEND, 1) == encoding.blocks[1][0]
        with declined(Code.NOT_FOUND):
            again.delete(encoding.deletion(key=FRIENDS_KEY), FRIEND)
        with declined(Code.NOT_ALLOWED):
            amend(again, encoding, commitment(encoding, 3, owner=FRIEND))
        encoding.stage(again, 0, FRIEND)
        with declined(Code.CONFLICT):
            again.prepare_commit(encoding.key(0), FRIEND, encoding.signed(FRIEND))
        with declined(Code.NOT_FOUND):
            again.discard(encoding.key(0), FRIEND)
    again.close()


def test_a_grant_that_was_taken_back_opens_nothing(store: ShareStore, encoding: Sample, clock: SetClock) -> None:
    amend(store, encoding, commitment(encoding, grants=[GRANT]))
    assert store.block(encoding.key(0), FRIEND, 0)
    amend(store, encoding, commitment(encoding, 3))
    for again in through_restarts(store, clock):
        with declined(Code.NOT_FOUND):
            again.block(encoding.key(0), FRIEND, 0)
        assert lies_there(again, encoding).grants == []
    again.close()


def test_grants_may_come_with_the_first_commitment(store: ShareStore, encoding: Sample, clock: SetClock) -> None:
    encoding = sample("granted")
    encoding.stage(store, 1)
    said = encoding.signed(grants=[GRANT])
    pending = store.prepare_commit(encoding.key(1), OWNER, said)
    assert pending is not None
    assert store.commit_round([pending])[0].granted
    assert store.changes().announced[0].grants == [GrantedTo(FRIEND, GRANT.object_id)]
    for again in through_restarts(store, clock):
        assert again.block(encoding.key(1), FRIEND, 0) == encoding.blocks[0][1]
        assert again.prepare_commit(encoding.key(1), OWNER, said) is None, "it was committed just so"
    again.close()


# --- by right only, and forward only


def test_nobody_amends_without_the_owners_signature(store: ShareStore, encoding: Sample) -> None:
    said = commitment(encoding)
    right = sign(said)
    to_stranger = KEY.signing_key().transfer(encoding.encoding_id, STRANGER)
    others = [
        replace(right, signature=replace(right.signature, signature=bytes(64))),
        replace(right, signature=replace(right.signature, key=STRANGERS_KEY.owner_key())),
        replace(right, commitment=commitment(encoding, mapping=b"another")),
        replace(right, commitment=commitment(encoding, grants=[GRANT])),
        replace(right, commitment=replace(said, nonce=bytes(16))),
        sign(said, STRANGERS_KEY),
        sign(replace(said, transfers=[STRANGERS_KEY.signing_key().transfer(encoding.encoding_id, OWNER)])),
        sign(replace(said, transfers=[to_stranger])),
    ]
    for wrong in others:
        with declined(Code.NOT_ALLOWED):
            store.amend(encoding.encoding_id, wrong, OWNER)
    with declined(Code.NOT_ALLOWED):
        store.amend(sample("other").encoding_id, right, OWNER)
    given = replace(said, owner=STRANGER, transfers=[to_stranger])
    for wrong in (right, sign(given), sign(replace(said, owner=STRANGER), STRANGERS_KEY)):
        with declined(Code.NOT_ALLOWED):  # not even what the owner gave away, before who got it has signed
            store.amend(encoding.encoding_id, wrong, STRANGER)
    assert not store.changes()
    assert amendment(store, encoding) is None


def test_where_nothing_of_it_is_it_is_not_found(store: ShareStore, encoding: Sample) -> None:
    with declined(Code.NOT_FOUND):
        amend(store, sample("other"), sample("other").commitment)


def test_saying_it_again_is_harmless_even_when_the_owner_is_another_since(store: ShareStore, encoding: Sample) -> None:
    for _ in range(3):
        amend(store, encoding, rotated(encoding))
    assert len(store.changes().announced) == 1


def test_an_older_revision_changes_nothing(store: ShareStore, encoding: Sample) -> None:
    amend(store, encoding, commitment(encoding, 5, [GRANT]))
    store.changes()
    for revision in (1, 4, 5):
        with declined(Code.CONFLICT):
            amend(store, encoding, commitment(encoding, revision))
    assert lies_there(store, encoding) == commitment(encoding, 5, [GRANT])
    assert not store.changes()


def test_the_recipe_stays(store: ShareStore, encoding: Sample) -> None:
    said = commitment(encoding)
    said.recipe = sample("other").commitment.recipe
    with declined(Code.CONFLICT):
        amend(store, encoding, said)


def test_a_mapping_has_its_limit(store: ShareStore, encoding: Sample, clock: SetClock) -> None:
    with declined(Code.MALFORMED):
        amend(store, encoding, commitment(encoding, mapping=bytes(MAX_GRANTED_MAPPING + 1)))
    amend(store, encoding, commitment(encoding, mapping=bytes(MAX_GRANTED_MAPPING)))
    again = reopened(store, clock)
    assert len(lies_there(again, encoding).mapping) == MAX_GRANTED_MAPPING
    again.close()


def test_another_owners_share_under_the_same_id_stays_as_it_is(store: ShareStore, encoding: Sample) -> None:
    """As one that was given to two."""
    encoding.put(store, 1, STRANGER)
    amend(store, encoding, rotated(encoding))
    assert {key[1]: share.owner for key, share in held_by(store).items()} == {0: NEW_OWNER, 1: STRANGER}


def test_nobody_else_plants_a_share_of_the_owners_encoding(store: ShareStore, encoding: Sample) -> None:
    """Neither in the owner's name nor in one's own, nor as a deposit."""
    planted = commitment(encoding, 2**53 - 1)
    given = replace(planted, transfers=[STRANGERS_KEY.signing_key().transfer(encoding.encoding_id, OWNER)])
    for wrong in (planted, replace(planted, owner=STRANGER), given, replace(given, revision=1)):
        encoding.stage(store, 2, wrong.owner)
        with declined(Code.NOT_ALLOWED):
            store.prepare_commit(encoding.key(2), wrong.owner, sign(wrong, STRANGERS_KEY))


def test_of_two_of_one_revision_the_first_stays(store: ShareStore, encoding: Sample) -> None:
    """So that of two machines at most one has it on most devices."""
    both = [commitment(encoding, 2, [GRANT]), commitment(encoding, 2)]
    amend(store, encoding, both[0])
    with declined(Code.CONFLICT):
        amend(store, encoding, both[1])
    assert lies_there(store, encoding) == both[0]


def test_what_an_owner_before_says_later_does_not_count(store: ShareStore, encoding: Sample) -> None:
    amend(store, encoding, rotated(encoding))
    with declined(Code.NOT_FOUND):
        amend(store, encoding, commitment(encoding, 2**53 - 1))
    assert lies_there(store, encoding, NEW_OWNER) == rotated(encoding)


# --- with deletions, damage and restarts


def test_what_is_deleted_and_taken_back_is_amended_still(store: ShareStore, encoding: Sample, clock: SetClock) -> None:
    amend(store, encoding, rotated(encoding))
    store.delete(new_tombstone(encoding, 1), NEW_OWNER)
    with declined(Code.NOT_FOUND):
        amend(store, encoding, rotated(encoding, 3))
    store = reopened(store, clock)
    store.undelete(new_tombstone(encoding, 2), NEW_OWNER)
    assert lies_there(store, encoding, NEW_OWNER) == rotated(encoding)
    store.close()


def test_the_new_owner_deletes_what_the_old_one_deleted_and_took_back(store: ShareStore, encoding: Sample) -> None:
    store.delete(encoding.deletion(), OWNER)
    store.undelete(encoding.undeletion(), OWNER)
    amend(store, encoding, rotated(encoding))
    store.delete(new_tombstone(encoding, 1), NEW_OWNER)
    assert not held_by(store)


def test_an_amendment_goes_with_the_last_of_its_share(store: ShareStore, encoding: Sample, clock: SetClock) -> None:
    amend(store, encoding, commitment(encoding))
    store.discard(encoding.key(0), OWNER)
    assert store.used_bytes
    store = reopened(store, clock)
    clock.pass_time(25 * 3600)
    store.expire(clock.now)
    for again in through_restarts(store, clock):
        assert again.used_bytes == 0
    again.close()


def test_a_share_whose_amendment_is_damaged_is_damaged_and_never_what_it_was_before(
    store: ShareStore, encoding: Sample, clock: SetClock
) -> None:
    amend(store, encoding, rotated(encoding))
    damage_amendment(store, encoding)
    for again in through_restarts(store, clock):
        for owner in (OWNER, NEW_OWNER):
            with pytest.raises(Refusal):
                again.block(encoding.key(0), owner, 0)
        assert not held_by(again)[encoding.key(0)].sound
    encoding.stage(again, 0, NEW_OWNER)
    pending = again.prepare_commit(encoding.key(0), NEW_OWNER, sign(rotated(encoding), NEW_KEY))
    assert pending is not None
    assert again.commit_round([pending])[0].granted
    for once_more in through_restarts(again, clock):
        assert lies_there(once_more, encoding, NEW_OWNER) == rotated(encoding), "stored anew, as the steward does"
    once_more.close()


def test_the_scrub_finds_a_damaged_amendment(store: ShareStore, encoding: Sample) -> None:
    amend(store, encoding, commitment(encoding))
    damage_amendment(store, encoding)
    store.check(encoding.key(0))
    for _ in range(10):
        store.scrub.turn(0.0, idle=True)
    assert not held_by(store)[encoding.key(0)].sound


def test_room_is_counted(store: ShareStore, encoding: Sample, clock: SetClock) -> None:
    used = store.used_bytes
    amend(store, encoding, commitment(encoding))
    place = amendment(store, encoding)
    assert place is not None
    for again in through_restarts(store, clock):
        assert again.used_bytes == used + place.length
    again.close()


@pytest.mark.parametrize("power_cut", [False, True])
@pytest.mark.parametrize("failing", range(12))
def test_whatever_call_fails_the_old_or_the_new_one_lies_there_whole(
    tmp_path: Path, encoding: Sample, failing: int, power_cut: bool
) -> None:
    disk, folder = FaultyDisk(), tmp_path / "store"
    store = ShareStore(folder, disk=disk)
    encoding.put(store, 0)
    amend(store, encoding, commitment(encoding, 2))
    disk.arm({failing: errno.ENOSPC})
    acknowledged = True
    try:
        amend(store, encoding, rotated(encoding, 3))
    except Refusal:
        acknowledged = False
    disk.arm()
    store.close()
    if power_cut:
        disk.lose_power(folder)
    store = ShareStore(folder)
    held = held_by(store)[encoding.key(0)]
    assert held.sound
    said = lies_there(store, encoding, held.owner)
    old = [] if acknowledged else [(OWNER, commitment(encoding, 2))]
    assert (held.owner, said) in [(NEW_OWNER, rotated(encoding, 3)), *old]
    for segment, row in enumerate(encoding.blocks):
        assert store.block(encoding.key(0), held.owner, segment) == row[0]
    assert disk.resynced == []
    store.close()


# --- the format

_bytes = st.binary(min_size=32, max_size=32)
_REPLACED = [Replaced(1, bytes(16), bytes(32), 1, 2)]
_ids = st.binary(min_size=16, max_size=16)
_signatures = st.binary(min_size=64, max_size=64)
_grants = st.lists(st.builds(Grant, _ids, _bytes, st.binary(max_size=50)), max_size=MAX_GRANTS)
_transfers = st.lists(st.builds(Transfer, _bytes, _signatures), max_size=3)
_mappings, _recipes, _revisions = st.binary(max_size=99), st.just(b"recipe"), st.integers(1, 2**53 - 1)
_commitments = st.builds(Commitment, _bytes, _ids, _recipes, _mappings, _ids, _transfers, _revisions, _grants)
_amendments = st.builds(SignedCommitment, _commitments, st.builds(CommitmentSignature, _bytes, _signatures))


@given(_amendments, _bytes, _bytes)
def test_an_amendment_reads_as_it_was_written_for_its_share_only(
    said: SignedCommitment, base: bytes, other: bytes
) -> None:
    content = encode_amendment(said, base, _REPLACED)
    assert decode_amendment(content, base, b"recipe") == said
    if other != base:
        with pytest.raises(IntegrityError):
            decode_amendment(content, other, b"recipe")
    with pytest.raises(IntegrityError):
        decode_amendment(content, base, b"another recipe")


@given(_amendments, st.data())
def test_a_damaged_amendment_is_refused(said: SignedCommitment, data: st.DataObject) -> None:
    content = bytearray(encode_amendment(said, bytes(32), _REPLACED))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(content), bytes(content[: data.draw(st.integers(0, len(content) - 1))])):
        with pytest.raises(IntegrityError):
            decode_amendment(damaged, bytes(32), b"recipe")
