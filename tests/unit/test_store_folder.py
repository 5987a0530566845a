"""What tests of clusters see of a store's folder is what its worker says of it, while it runs and afterwards."""

from __future__ import annotations

import os

import pytest

from tests.support.clocks import SetClock
from tests.support.sample_shares import OWNER, Sample, damage, held_by, reopened, sample, trashed
from tests.support.store_folder import held_in, shares_in
from worker.layout import ShareKey
from worker.pack_format import FRAME_SIZE
from worker.refusals import Refusal
from worker.share_states import State
from worker.store import ShareStore

BOTH = pytest.mark.parametrize("encoding", [sample(), sample("big", segments=2, block_size=300 << 10)], ids=["", "big"])


def seen(store: ShareStore) -> set[ShareKey]:
    records = held_in(store.folder)
    assert all(record.is_whole() for record in records)
    return {record.key for record in records}


def in_state(store: ShareStore, state: State) -> set[ShareKey]:
    return {record.key for record, its in shares_in(store.folder).items() if its is state}


@BOTH
def test_it_shows_what_is_held_deleted_taken_back_and_gone(
    store: ShareStore, clock: SetClock, encoding: Sample
) -> None:
    for share in (1, 2):
        encoding.put(store, share)
    assert seen(store) == set(held_by(store))
    store.discard(encoding.key(1), OWNER)
    assert seen(store) == set(held_by(store))
    assert in_state(store, State.SURPLUS) == {encoding.key(1)}
    store.delete(encoding.deletion(), OWNER)
    assert encoding.key(2) not in seen(store) == set(held_by(store))
    assert {kept.key for kept in trashed(store)} == in_state(store, State.DELETED) | in_state(store, State.SURPLUS)
    store.undelete(encoding.undeletion(), OWNER)
    store.amend(encoding.encoding_id, encoding.signed(revision=7), OWNER)
    assert encoding.key(2) in seen(store) == set(held_by(store))
    assert {record.opened().commitment.revision for record in held_in(store.folder) if record.share == 2} == {7}
    store.delete(encoding.deletion(3, trash_seconds=0), OWNER)
    assert seen(store) == set(held_by(store))
    assert not in_state(store, State.DELETED)
    again = reopened(store, clock)
    assert seen(again) == set(held_by(again))
    again.close()


@BOTH
def test_what_is_damaged_is_held_until_it_is_found_and_stored_anew(store: ShareStore, encoding: Sample) -> None:
    encoding.put(store, 1)
    (before,) = [record for record in held_in(store.folder) if record.key == encoding.key(1)]
    damage(store, encoding, 1, 100)
    assert before in held_in(store.folder) and not before.is_whole()
    with pytest.raises(Refusal):
        store.block(encoding.key(1), OWNER, 0)
    assert in_state(store, State.DAMAGED) == {encoding.key(1)}
    assert before not in held_in(store.folder)
    encoding.put(store, 1)
    (after,) = [record for record in held_in(store.folder) if record.key == encoding.key(1)]
    assert after != before and after.is_whole()


def test_of_a_share_stored_anew_just_before_a_kill_the_new_one_is_held(store: ShareStore) -> None:
    encoding = sample()
    damage(store, encoding, 0, 100)
    (before,) = held_in(store.folder)
    with pytest.raises(Refusal):
        store.block(encoding.key(0), OWNER, 0)
    encoding.put(store, 0)
    os.truncate(before.path, before.path.stat().st_size - FRAME_SIZE)  # what says that the damaged one is gone
    (after,) = held_in(store.folder)
    assert after != before and after.is_whole()
