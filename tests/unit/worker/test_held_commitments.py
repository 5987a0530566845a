"""The hold of what an owner replaced: it stays, can be taken back, and nobody can push it out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from common.coding.recipe import digest
from common.protocol.device_messages import Commitment, SignedCommitment
from common.protocol.messages import NO_TRASH, Code
from common.vault.keys import VaultKey
from tests.support.clocks import SetClock
from tests.support.sample_shares import (
    HOLD,
    KEY,
    OWNER,
    Sample,
    chance,
    copy_of_index,
    declined,
    held_by,
    pass_time,
    sample,
    sign,
    trashed,
    with_index,
)
from worker.index import Index
from worker.store import ShareStore

THIEFS_KEY, NEXT_KEY = VaultKey(b"\x0e" * 32), VaultKey(b"\x0f" * 32)
THIEF = THIEFS_KEY.owner_id()


@pytest.fixture
def store(holding_store: ShareStore) -> ShareStore:
    return holding_store


def open_store(folder: Path, clock: SetClock, hold: int = HOLD) -> ShareStore:
    return ShareStore(folder, clock=clock, hold=hold)


def changed(encoding: Sample, revision: int, **changes: Any) -> Commitment:
    changes.setdefault("mapping", chance(f"mapping {revision}", 99))
    return replace(encoding.commitment, revision=revision, **changes)


def given_away(encoding: Sample, to: VaultKey = THIEFS_KEY, revision: int = 2, generation: int = 0) -> Commitment:
    transfers = [KEY.signing_key().transfer(encoding.encoding_id, to.owner_id())]
    return changed(encoding, revision, owner=to.owner_id(), transfers=transfers, generation=generation)


def taken_back(encoding: Sample, revision: int = 3, generation: int = 1) -> Commitment:
    return replace(encoding.commitment, revision=revision, generation=generation)


def amend(store: ShareStore, encoding: Sample, said: Commitment, key: VaultKey = KEY) -> None:
    store.amend(encoding.encoding_id, sign(said, key), said.owner)


def held_for(store: ShareStore, owner: bytes = OWNER) -> list[SignedCommitment]:
    return [each.signed for share in store.superseded(owner, 0) for each in share]


def said_now(store: ShareStore, encoding: Sample, owner: bytes = OWNER) -> Commitment:
    return store.share((encoding.encoding_id, 0), owner).commitment


def other_blocks(encoding: Sample) -> Sample:
    """Another image that its owner's key makes of the same encoding id."""
    blocks = [[block[::-1] for block in row] for row in encoding.blocks]
    digests = b"".join(digest(block) for row in blocks for block in row)
    return Sample(dataclasses.replace(encoding.recipe, digests=digests), blocks, encoding.nonce)


def index_lost(store: ShareStore, clock: SetClock) -> ShareStore:
    store.close()
    for path in store.folder.glob("index.sqlite*"):
        path.unlink()
    return open_store(store.folder, clock)


def test_what_was_replaced_is_shown_to_who_signed_it_alone(store: ShareStore, encoding: Sample) -> None:
    amend(store, encoding, changed(encoding, 2))
    amend(store, encoding, given_away(encoding, revision=3), THIEFS_KEY)
    assert [each.commitment for each in held_for(store)] == [encoding.commitment, changed(encoding, 2)]
    assert held_for(store, THIEF) == []


def test_behind_the_hold_what_was_replaced_is_gone(store: ShareStore, clock: SetClock, encoding: Sample) -> None:
    amend(store, encoding, given_away(encoding), THIEFS_KEY)
    pass_time(store, clock, HOLD - 1)
    assert held_for(store)
    pass_time(store, clock, 301)
    assert not held_for(store)
    with declined(Code.NOT_ALLOWED):
        amend(store, encoding, taken_back(encoding))
    assert said_now(store, encoding, THIEF).owner == THIEF


def test_without_a_hold_nothing_is_taken_back(tmp_path: Path, clock: SetClock, encoding: Sample) -> None:
    store = open_store(tmp_path / "store", clock, hold=0)
    encoding.put(store, 0)
    amend(store, encoding, given_away(encoding), THIEFS_KEY)
    assert not held_for(store)
    with declined(Code.NOT_ALLOWED):
        amend(store, encoding, taken_back(encoding))
    store.close()


def test_what_was_given_away_can_be_taken_back(store: ShareStore, clock: SetClock, encoding: Sample) -> None:
    amend(store, encoding, given_away(encoding), THIEFS_KEY)
    store.changes()
    pass_time(store, clock, HOLD - 1)
    amend(store, encoding, taken_back(encoding))
    encoding.assert_readable(store, 0)
    assert said_now(store, encoding).mapping == encoding.commitment.mapping
    (announced,) = store.changes().announced
    assert (announced.owner, announced.revision) == (OWNER, 3)


def test_what_a_thief_says_later_does_not_count(store: ShareStore, encoding: Sample) -> None:
    amend(store, encoding, given_away(encoding), THIEFS_KEY)
    amend(store, encoding, taken_back(encoding))
    with declined(Code.NOT_FOUND):
        amend(store, encoding, given_away(encoding, revision=200), THIEFS_KEY)
    assert said_now(store, encoding).owner == OWNER


def test_it_is_taken_back_out_of_the_next_owners_trash(store: ShareStore, clock: SetClock, encoding: Sample) -> None:
    amend(store, encoding, given_away(encoding), THIEFS_KEY)
    store.delete(encoding.deletion(key=THIEFS_KEY, trash_seconds=NO_TRASH), THIEF)
    assert not held_by(store)
    ((held,),) = store.superseded(OWNER, 0)
    assert not held.kept.here
    amend(store, encoding, taken_back(encoding))
    encoding.assert_readable(store, 0)
    pass_time(store, clock, HOLD + 301)
    encoding.assert_readable(store, 0)


def test_what_its_owner_deleted_is_not_taken_back_by_a_commitment(store: ShareStore, encoding: Sample) -> None:
    store.delete(encoding.deletion(), OWNER)
    with declined(Code.NOT_FOUND):
        amend(store, encoding, changed(encoding, 2, generation=1))
    assert not held_by(store)


@pytest.mark.parametrize("lost", [False, True])
def test_the_hold_outlives_a_restart_and_the_index(
    store: ShareStore, clock: SetClock, encoding: Sample, lost: bool
) -> None:
    amend(store, encoding, changed(encoding, 2))
    amend(store, encoding, given_away(encoding, revision=3), THIEFS_KEY)
    store.delete(encoding.deletion(key=THIEFS_KEY, trash_seconds=NO_TRASH), THIEF)
    before = held_for(store)
    if lost:
        store = index_lost(store, clock)
    else:
        store.close()
        store = open_store(store.folder, clock)
    assert held_for(store) == before
    amend(store, encoding, taken_back(encoding, 4))
    store = index_lost(store, clock)
    encoding.assert_readable(store, 0)
    assert said_now(store, encoding).generation == 1
    store.close()


def test_junk_of_the_same_owner_is_replaced_by_what_was_there(store: ShareStore, encoding: Sample) -> None:
    amend(store, encoding, changed(encoding, 2, object_id=bytes(32), mapping=b"junk"))
    assert held_for(store)[0].commitment == encoding.commitment
    amend(store, encoding, taken_back(encoding, 3))
    assert said_now(store, encoding).mapping == encoding.commitment.mapping
    for revision in range(4, 100, 2):  # what is said again and again is held once
        amend(store, encoding, changed(encoding, revision, object_id=bytes(32), mapping=b"junk", generation=1))
        amend(store, encoding, taken_back(encoding, revision + 1))
    assert [each.commitment.mapping for each in held_for(store)] == [encoding.commitment.mapping, b"junk"]


def test_no_flood_of_changes_pushes_out_what_was_first(store: ShareStore, encoding: Sample) -> None:
    with declined(Code.NO_ROOM):
        for revision in range(2, 100):
            amend(store, encoding, changed(encoding, revision))
    assert held_for(store)[0].commitment == encoding.commitment
    there = said_now(store, encoding)
    amend(store, encoding, taken_back(encoding, there.revision + 1))
    assert said_now(store, encoding).mapping == encoding.commitment.mapping


@pytest.mark.parametrize("field", ["revision", "generation"])
def test_no_commitment_is_the_last_there_can_be(store: ShareStore, encoding: Sample, field: str) -> None:
    with declined(Code.NOT_ALLOWED):
        amend(store, encoding, replace(changed(encoding, 2), **{field: 300}))
    amend(store, encoding, replace(changed(encoding, 2), **{field: 250}))


def test_a_thief_stores_no_other_blocks_in_the_place_of_the_trash(store: ShareStore, encoding: Sample) -> None:
    amend(store, encoding, given_away(encoding), THIEFS_KEY)
    store.delete(encoding.deletion(key=THIEFS_KEY, trash_seconds=NO_TRASH), THIEF)
    forged = other_blocks(encoding)
    for share in (0, 1):
        forged.stage(store, share)
        with declined(Code.CONFLICT):
            forged.commit(store, share)
    amend(store, encoding, taken_back(encoding))
    encoding.assert_readable(store, 0)


@pytest.mark.parametrize("lost", [False, True])
def test_what_is_held_of_a_surplus_share_is_taken_back_too(
    store: ShareStore, clock: SetClock, encoding: Sample, lost: bool
) -> None:
    amend(store, encoding, given_away(encoding), THIEFS_KEY)
    indexes = copy_of_index(store)
    store.discard((encoding.encoding_id, 0), THIEF)
    pass_time(store, clock, HOLD - 1)
    assert not held_by(store) and held_for(store)
    if not lost:
        indexes = copy_of_index(store)
    amend(store, encoding, taken_back(encoding))
    encoding.assert_readable(store, 0)
    store = with_index(store, clock, indexes)
    encoding.assert_readable(store, 0)
    pass_time(store, clock, HOLD + 301)
    encoding.assert_readable(store, 0)
    store.close()


def test_behind_the_hold_a_surplus_share_goes(store: ShareStore, clock: SetClock, encoding: Sample) -> None:
    amend(store, encoding, given_away(encoding), THIEFS_KEY)
    store.discard((encoding.encoding_id, 0), THIEF)
    pass_time(store, clock, HOLD + 301)
    assert not held_by(store) and not trashed(store)


def test_a_surplus_share_of_which_something_is_held_yields_to_no_other(
    tmp_path: Path, clock: SetClock, encoding: Sample
) -> None:
    store = ShareStore(tmp_path / "store", 400_000, clock=clock, hold=HOLD)
    encoding = sample("much", segments=1, block_size=250_000, last=250_000)
    encoding.put(store, 0)
    amend(store, encoding, given_away(encoding), THIEFS_KEY)
    store.discard((encoding.encoding_id, 0), THIEF)
    with declined(Code.NO_ROOM):
        sample("more", segments=1, block_size=200_000, last=200_000).put(store, 0)
    amend(store, encoding, taken_back(encoding))
    encoding.assert_readable(store, 0)
    store.close()


def test_what_is_held_moves_with_its_pack(store: ShareStore, clock: SetClock, encoding: Sample) -> None:
    for revision in (2, 3):
        amend(store, encoding, changed(encoding, revision))
    amend(store, encoding, given_away(encoding, revision=4), THIEFS_KEY)
    before = held_for(store)
    store.close()
    store = open_store(store.folder, clock)
    index: Index = store._index
    for number in list(index.packs):
        store.compaction._number = number if number != store._packs.growing else None
        while store.compaction._number is not None:
            store.compaction.turn(clock.monotonic())
    assert held_for(store) == before
    store = index_lost(store, clock)
    assert held_for(store) == before
    store.close()


def test_what_is_given_to_an_owner_who_had_deleted_it_is_theirs(
    store: ShareStore, clock: SetClock, encoding: Sample
) -> None:
    """Also as an index says that is made anew: what they signed was before it was given to them."""
    encoding.put(store, 1, THIEF)
    store.delete(encoding.deletion(key=THIEFS_KEY), THIEF)
    amend(store, encoding, given_away(encoding), THIEFS_KEY)
    store = index_lost(store, clock)
    assert said_now(store, encoding, THIEF).owner == THIEF
    assert [key for key, _ in held_by(store).items()] == [encoding.key(0)]
    store.close()
