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
from common.protocol.device_messages import MAX_GRANTED_MAPPING, Commitment, Grant
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
    sample,
    share_path,
)
from worker.amendments import Amendment, decode_amendment, encode_amendment
from worker.refusals import Refusal
from worker.share_file import commitment_of
from worker.store import ShareStore

FRIENDS_KEY, NEW_KEY = VaultKey(b"\x0c" * 32), VaultKey(b"\x0d" * 32)
FRIEND, NEW_OWNER = FRIENDS_KEY.owner_id(), NEW_KEY.owner_id()
SAMPLE = sample()
GRANT = Grant(FRIEND, chance("friend's object", 32), chance("friend's mapping", 90))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ShareStore]:
    """With one share, of which the brokers know."""
    store = ShareStore(tmp_path / "store", clock=SetClock())
    sample().put(store, 0)
    store.changes()
    yield store
    store.close()


def reopened(store: ShareStore) -> ShareStore:
    store.close()
    return ShareStore(store.folder, clock=SetClock())


def commitment(revision: int = 2, grants: Optional[list[Grant]] = None, **changes: Any) -> Commitment:
    """The sample's, of another revision."""
    before = sample().commitment
    said = {"object_id": before.object_id, "mapping": before.mapping, **changes}
    return Commitment(said["object_id"], before.recipe, said["mapping"], revision, grants or [])


def rotated(revision: int = 2) -> Commitment:
    """Everything but the recipe is new."""
    return commitment(revision, object_id=chance("new object", 32), mapping=chance("new mapping", 99))


def amend(
    store: ShareStore,
    said: Commitment,
    owner: bytes = OWNER,
    key: VaultKey = KEY,
    encoding: Sample = SAMPLE,
) -> None:
    """Show the store what the owner of this key signed, and be `owner` from then on."""
    store.amend(key.amendment(encoding.encoding_id, owner, said), said, owner)


def new_tombstone(generation: int) -> Tombstone:
    return NEW_KEY.tombstone(rotated().object_id, SAMPLE.encoding_id, generation, TRASH)


def lies_there(store: ShareStore, owner: bytes = OWNER) -> Commitment:
    return commitment_of(store.share(sample().key(0), owner).information.trailer)


def amendments(store: ShareStore) -> list[Path]:
    return sorted((store.folder / "amendments").iterdir())


# --- what an amendment does


def test_a_new_commitment_holds_and_is_announced_and_outlives_a_restart(store: ShareStore) -> None:
    said = commitment(grants=[GRANT])
    amend(store, said)
    (announced,) = store.changes().announced
    assert (announced.owner, announced.revision) == (OWNER, 2)
    assert announced.grants == [GrantedTo(FRIEND, GRANT.object_id)]
    for again in (store, reopened(store)):
        assert lies_there(again) == said
        assert again.held()[sample().key(0)] == announced
        sample().assert_readable(again, 0)
    again.close()


def test_all_shares_of_the_encoding_are_amended_and_no_others(store: ShareStore) -> None:
    other = sample("other")
    sample().put(store, 2)
    other.put(store, 0)
    store.changes()
    amend(store, rotated(), NEW_OWNER)
    assert {(share.share, share.owner) for share in store.changes().announced} == {(0, NEW_OWNER), (2, NEW_OWNER)}
    other.assert_readable(store, 0)


def test_a_rotated_share_is_the_new_owners_and_no_more_the_old_ones(store: ShareStore) -> None:
    amend(store, rotated(), NEW_OWNER)
    for again in (store, reopened(store)):
        for key in (KEY, STRANGERS_KEY):
            owner = key.owner_id()
            with declined(Code.NOT_FOUND):
                again.share(sample().key(0), owner)
            with declined(Code.NOT_FOUND):
                again.block(sample().key(0), owner, 0)
            with declined(Code.NOT_FOUND):
                again.delete(sample().deletion(key=key), owner)
            with declined(Code.NOT_FOUND):
                amend(again, commitment(3), owner, key)
        with declined(Code.NOT_ALLOWED):
            again.delete(sample().deletion(), NEW_OWNER)
        assert again.block(sample().key(0), NEW_OWNER, 0) == sample().blocks[0][0]
    again.delete(new_tombstone(1), NEW_OWNER)
    assert not again.held()
    again.close()


def test_a_grants_owner_reads_and_does_nothing_else(store: ShareStore) -> None:
    amend(store, commitment(grants=[GRANT]))
    for again in (store, reopened(store)):
        assert again.block(sample().key(0), FRIEND, 1) == sample().blocks[1][0]
        with declined(Code.NOT_FOUND):
            again.delete(sample().deletion(key=FRIENDS_KEY), FRIEND)
        with declined(Code.NOT_ALLOWED):
            amend(again, commitment(3), FRIEND, FRIENDS_KEY)
        sample().stage(again, 0, FRIEND)
        with declined(Code.CONFLICT):
            again.prepare_commit(sample().key(0), FRIEND, lies_there(again))
        with declined(Code.NOT_FOUND):
            again.discard(sample().key(0), FRIEND)
    again.close()


def test_a_grant_that_was_taken_back_opens_nothing(store: ShareStore) -> None:
    amend(store, commitment(grants=[GRANT]))
    assert store.block(sample().key(0), FRIEND, 0)
    amend(store, commitment(3))
    for again in (store, reopened(store)):
        with declined(Code.NOT_FOUND):
            again.block(sample().key(0), FRIEND, 0)
    assert len(amendments(again)) == 1
    again.close()


def test_grants_may_come_with_the_first_commitment(store: ShareStore) -> None:
    encoding = sample("granted")
    encoding.stage(store, 1)
    said = encoding.commitment
    said.grants = [GRANT]
    pending = store.prepare_commit(encoding.key(1), OWNER, said)
    assert pending is not None
    assert store.commit_round([pending])[0].granted
    assert store.changes().announced[0].grants == [GrantedTo(FRIEND, GRANT.object_id)]
    for again in (store, reopened(store)):
        assert again.block(encoding.key(1), FRIEND, 0) == encoding.blocks[0][1]
        assert again.prepare_commit(encoding.key(1), OWNER, said) is None, "it was committed just so"
    again.close()


# --- by right only, and forward only


def test_nobody_amends_without_the_owners_signature(store: ShareStore) -> None:
    said = commitment()
    right = KEY.amendment(SAMPLE.encoding_id, OWNER, said)
    others = [
        replace(right, signature=bytes(64)),
        replace(right, owner_key=STRANGERS_KEY.owner_key()),
        replace(KEY.amendment(sample("other").encoding_id, OWNER, said), encoding_id=SAMPLE.encoding_id),
        KEY.amendment(SAMPLE.encoding_id, OWNER, commitment(mapping=b"another")),
        KEY.amendment(SAMPLE.encoding_id, OWNER, commitment(grants=[GRANT])),
        KEY.amendment(SAMPLE.encoding_id, NEW_OWNER, said),
        STRANGERS_KEY.amendment(SAMPLE.encoding_id, OWNER, said),
    ]
    for wrong in others:
        with declined(Code.NOT_ALLOWED):
            store.amend(wrong, said, OWNER)
    for wrong in (right, STRANGERS_KEY.amendment(SAMPLE.encoding_id, STRANGER, said)):
        with declined(Code.NOT_FOUND):
            store.amend(wrong, said, STRANGER)
    assert not store.changes()
    assert amendments(store) == []


def test_where_nothing_of_it_is_it_is_not_found(store: ShareStore) -> None:
    with declined(Code.NOT_FOUND):
        amend(store, commitment(), encoding=sample("other"))


def test_saying_it_again_is_harmless_even_when_the_owner_is_another_since(store: ShareStore) -> None:
    for _ in range(3):
        amend(store, rotated(), NEW_OWNER)
    assert len(store.changes().announced) == 1


def test_an_older_revision_changes_nothing(store: ShareStore) -> None:
    amend(store, commitment(5, [GRANT]))
    store.changes()
    for revision in (1, 4, 5):
        with declined(Code.CONFLICT):
            amend(store, commitment(revision))
    assert lies_there(store) == commitment(5, [GRANT])
    assert not store.changes()


def test_the_recipe_stays(store: ShareStore) -> None:
    said = commitment()
    said.recipe = sample("other").commitment.recipe
    with declined(Code.CONFLICT):
        amend(store, said)


def test_what_the_request_says_must_be_what_the_commitment_says(store: ShareStore) -> None:
    with declined(Code.MALFORMED):
        store.amend(replace(KEY.amendment(SAMPLE.encoding_id, OWNER, commitment(2)), revision=3), commitment(2), OWNER)
    with declined(Code.MALFORMED):
        amend(store, commitment(mapping=bytes(MAX_GRANTED_MAPPING + 1)))
    amend(store, commitment(mapping=bytes(MAX_GRANTED_MAPPING)))
    again = reopened(store)
    assert len(lies_there(again).mapping) == MAX_GRANTED_MAPPING
    again.close()


def test_another_owners_share_under_the_same_id_stays_as_it_is(store: ShareStore) -> None:
    sample().put(store, 1, STRANGER)
    amend(store, rotated(), NEW_OWNER)
    assert {key[1]: share.owner for key, share in store.held().items()} == {0: NEW_OWNER, 1: STRANGER}


def test_a_planted_share_of_the_same_owner_holds_up_no_change(store: ShareStore) -> None:
    """As whoever deposits may leave one, of a revision beyond all others."""
    SAMPLE.stage(store, 2)
    planted = commitment(2**53 - 1)
    pending = store.prepare_commit(SAMPLE.key(2), OWNER, planted)
    assert pending is not None
    assert store.commit_round([pending])[0].granted
    amend(store, commitment(2, [GRANT]))
    assert lies_there(store) == commitment(2, [GRANT])
    assert store.held()[SAMPLE.key(2)].revision == 2**53 - 1


# --- with deletions, damage and restarts


def test_what_is_deleted_and_taken_back_is_amended_still(store: ShareStore) -> None:
    amend(store, rotated(), NEW_OWNER)
    store.delete(new_tombstone(1), NEW_OWNER)
    with declined(Code.NOT_FOUND):
        amend(store, rotated(3), NEW_OWNER, NEW_KEY)
    store = reopened(store)
    store.undelete(new_tombstone(2), NEW_OWNER)
    assert lies_there(store, NEW_OWNER) == rotated()
    store.close()


def test_the_new_owner_deletes_what_the_old_one_deleted_and_took_back(store: ShareStore) -> None:
    store.delete(sample().deletion(), OWNER)
    store.undelete(sample().undeletion(), OWNER)
    amend(store, rotated(), NEW_OWNER)
    store.delete(new_tombstone(1), NEW_OWNER)
    assert not store.held()


def test_an_amendment_goes_with_the_last_of_its_share(tmp_path: Path) -> None:
    clock = SetClock()
    store = ShareStore(tmp_path / "store", clock=clock)
    sample().put(store, 0)
    amend(store, commitment())
    store.discard(sample().key(0), OWNER)
    store.close()
    store = ShareStore(tmp_path / "store", clock=clock)
    store.expire(clock.now)
    assert amendments(store) == []
    store.close()


def test_a_share_whose_amendment_is_damaged_is_damaged_and_never_what_it_was_before(store: ShareStore) -> None:
    amend(store, rotated(), NEW_OWNER)
    (path,) = amendments(store)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    store = reopened(store)
    assert not store.held()[sample().key(0)].sound
    for owner in (OWNER, NEW_OWNER):
        with pytest.raises(Refusal):
            store.block(sample().key(0), owner, 0)
    sample().stage(store, 0, NEW_OWNER)
    pending = store.prepare_commit(sample().key(0), NEW_OWNER, rotated())
    assert pending is not None
    assert store.commit_round([pending])[0].granted
    for again in (store, reopened(store)):
        assert lies_there(again, NEW_OWNER) == rotated(), "stored anew, as the steward does"
    again.close()


def test_the_scrub_finds_a_damaged_amendment(store: ShareStore) -> None:
    amend(store, commitment())
    (path,) = amendments(store)
    path.write_bytes(path.read_bytes()[:-1])
    store.check(sample().key(0))
    for _ in range(10):
        store.scrub.turn(0.0, idle=True)
    assert not store.held()[sample().key(0)].sound


def test_room_is_counted(store: ShareStore) -> None:
    used = store.used_bytes
    amend(store, commitment())
    (path,) = amendments(store)
    assert store.used_bytes == used + path.stat().st_size
    again = reopened(store)
    assert again.used_bytes == used + path.stat().st_size
    again.close()


@pytest.mark.parametrize("power_cut", [False, True])
@pytest.mark.parametrize("failing", range(12))
def test_whatever_call_fails_the_old_or_the_new_one_lies_there_whole(
    tmp_path: Path, failing: int, power_cut: bool
) -> None:
    disk, folder = FaultyDisk(), tmp_path / "store"
    store = ShareStore(folder, disk=disk)
    sample().put(store, 0)
    amend(store, commitment(2))
    disk.arm({failing: errno.ENOSPC})
    acknowledged = True
    try:
        amend(store, rotated(3), NEW_OWNER)
    except Refusal:
        acknowledged = False
    disk.arm()
    store.close()
    if power_cut:
        disk.lose_power(folder)
    store = ShareStore(folder)
    held = store.held()[sample().key(0)]
    assert held.sound
    said = lies_there(store, held.owner)
    assert (held.owner, said) in [(NEW_OWNER, rotated(3))] + ([] if acknowledged else [(OWNER, commitment(2))])
    assert share_path(folder, sample(), 0).exists()
    assert disk.resynced == []
    store.close()


# --- the format

_bytes = st.binary(min_size=32, max_size=32)
_ids = st.binary(min_size=16, max_size=16)
_grants = st.lists(st.builds(Grant, _ids, _bytes, st.binary(max_size=50)), max_size=MAX_GRANTS)
_amendments = st.builds(Amendment, _bytes, _ids, st.binary(max_size=99), st.integers(1, 2**53 - 1), _grants, _bytes)


@given(_amendments, _bytes, _bytes)
def test_an_amendment_reads_as_it_was_written_for_its_share_only(said: Amendment, base: bytes, other: bytes) -> None:
    content = encode_amendment(said, base)
    assert decode_amendment(content, base) == said
    if other != base:
        with pytest.raises(IntegrityError):
            decode_amendment(content, other)


@given(_amendments, st.data())
def test_a_damaged_amendment_is_refused(said: Amendment, data: st.DataObject) -> None:
    content = bytearray(encode_amendment(said, bytes(32)))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(content), bytes(content[: data.draw(st.integers(0, len(content) - 1))])):
        with pytest.raises(IntegrityError):
            decode_amendment(damaged, bytes(32))
