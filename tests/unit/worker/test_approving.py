"""The two-person rule at a device: nothing is emptied early but by those who were named long enough ago."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from common.protocol.codec import pack, pack_header
from common.protocol.envelope import Operation
from common.protocol.messages import NO_TRASH, ApproverList, Code, Emptied, Empty, KnownApprovers, Tombstone
from common.vault.keys import VaultKey
from tests.support.approving import ANNA, BOB, CARL, approved, named_by, part_of
from tests.support.clocks import SetClock
from tests.support.sample_shares import (
    HOLD,
    KEY,
    OWNER,
    STRANGER,
    STRANGERS_KEY,
    Sample,
    declined,
    held_by,
    reopened,
    sample,
    sign,
    through_restarts,
    trashed,
    with_index,
)
from tests.support.spoken_worker import Worker, only
from worker.store import ShareStore

NAMED = named_by(KEY, ANNA, BOB, CARL)
OTHERS = named_by(KEY, ANNA, CARL, generation=2)


@pytest.fixture
def store(holding_store: ShareStore) -> ShareStore:
    return holding_store


@pytest.fixture
def ruled(store: ShareStore, clock: SetClock, encoding: Sample) -> ShareStore:
    """Approvers are in effect, and the encoding is in the trash."""
    store.approving.name(NAMED, OWNER)
    clock.pass_time(HOLD)
    store.delete(encoding.deletion(trash_seconds=NO_TRASH), OWNER)
    assert trashed(store)
    return store


def empty(
    store: ShareStore,
    deletion: Tombstone,
    signers: Sequence[VaultKey] = (ANNA, BOB),
    named: ApproverList = NAMED,
    owner: bytes = OWNER,
) -> Emptied:
    part = part_of(deletion)
    return store.empty(approved(named, part, signers), part, owner)


def test_enough_approvers_empty_the_trash_at_once_and_for_good(
    ruled: ShareStore, clock: SetClock, encoding: Sample
) -> None:
    other = sample("other")
    other.put(ruled, 0)
    ruled.delete(other.deletion(), OWNER)
    assert empty(ruled, encoding.deletion()).emptied == 1
    assert {kept.key for kept in trashed(ruled)} == {other.key(0)}
    told = ruled.told(encoding.deletion(trash_seconds=NO_TRASH))
    assert told is not None and told.trash_left == 0
    with declined(Code.NOT_FOUND):
        ruled.undelete(encoding.undeletion(), OWNER)
    store = with_index(ruled, clock, {})
    assert {kept.key for kept in trashed(store)} == {other.key(0)}
    assert not held_by(store)
    store.close()


def test_what_was_emptied_says_so_and_may_be_asked_for_again(ruled: ShareStore, encoding: Sample) -> None:
    for _ in range(2):
        assert empty(ruled, encoding.deletion()).emptied == 1
    ruled.changes()
    kept = sample("kept")
    kept.put(ruled, 0)
    ruled.delete(kept.deletion(), OWNER)
    assert empty(ruled, kept.deletion()).emptied == 1
    (changed,) = ruled.changes().tombstones
    told = ruled.told(changed)
    assert told is not None and told.trash_left == 0, "brokers learn of it"


@pytest.mark.parametrize(
    "signers", [(), (ANNA,), (ANNA, ANNA), (ANNA, STRANGERS_KEY), (KEY, ANNA)],
    ids=["nobody", "one", "one twice", "a stranger", "the owner"],
)  # fmt: skip
def test_one_approver_alone_empties_nothing(ruled: ShareStore, encoding: Sample, signers: tuple[VaultKey, ...]) -> None:
    with declined(Code.NOT_ALLOWED):
        empty(ruled, encoding.deletion(), signers)
    ruled.undelete(encoding.undeletion(), OWNER)
    encoding.assert_readable(ruled, 0)


def test_what_was_approved_of_another_list_or_deletion_empties_nothing(ruled: ShareStore, encoding: Sample) -> None:
    for named in (OTHERS, named_by(KEY, ANNA, BOB, CARL, generation=2), named_by(STRANGERS_KEY, ANNA, BOB, CARL)):
        with declined(Code.NOT_ALLOWED):
            empty(ruled, encoding.deletion(), named=named)
    part = part_of(encoding.deletion())
    with declined(Code.NOT_ALLOWED):
        ruled.empty(approved(NAMED, part_of(sample("other").deletion()), [ANNA, BOB]), part, OWNER)
    assert trashed(ruled)


def test_another_vaults_session_empties_nothing(ruled: ShareStore, encoding: Sample) -> None:
    with declined(Code.NOT_ALLOWED):
        empty(ruled, encoding.deletion(), owner=STRANGER)
    assert trashed(ruled)


def test_what_was_taken_back_or_deleted_again_since_stays(ruled: ShareStore, encoding: Sample) -> None:
    ruled.undelete(encoding.undeletion(), OWNER)
    assert empty(ruled, encoding.deletion()).emptied == 0
    encoding.assert_readable(ruled, 0)
    assert empty(ruled, encoding.deletion(2)).emptied == 0, "nobody deleted that"
    ruled.delete(encoding.deletion(3), OWNER)
    assert empty(ruled, encoding.deletion()).emptied == 0
    assert trashed(ruled)


def test_without_approvers_nobody_empties_early(store: ShareStore, encoding: Sample) -> None:
    store.delete(encoding.deletion(), OWNER)
    for named in (NAMED, named_by(KEY, needed=0)):
        with declined(Code.NOT_ALLOWED):
            empty(store, encoding.deletion(), named=named)
    assert trashed(store)


def test_no_list_is_in_effect_before_the_hold_is_over(store: ShareStore, clock: SetClock, encoding: Sample) -> None:
    store.delete(encoding.deletion(trash_seconds=2 * HOLD), OWNER)
    store.approving.name(NAMED, OWNER)
    store = reopened(store, clock)
    clock.pass_time(HOLD - 1)
    known = store.approving.known(OWNER)
    assert (known.in_effect, known.under_way, known.left, known.age) == (None, NAMED, 1, HOLD - 1)
    with declined(Code.NOT_ALLOWED):
        empty(store, encoding.deletion())
    clock.pass_time(1)
    assert store.approving.known(OWNER).in_effect == NAMED
    assert empty(store, encoding.deletion()).emptied == 1
    store.close()


def test_a_changed_list_leaves_the_one_before_in_effect_for_the_hold(
    ruled: ShareStore, clock: SetClock, encoding: Sample
) -> None:
    thief = [VaultKey(bytes([number]) * 32) for number in (90, 91)]
    planted = named_by(KEY, *thief, generation=2)
    ruled.approving.name(planted, OWNER)
    with declined(Code.NOT_ALLOWED):
        empty(ruled, encoding.deletion(), thief, planted)
    known = ruled.approving.known(OWNER)
    assert (known.in_effect, known.under_way, known.left) == (NAMED, planted, HOLD)
    assert empty(ruled, encoding.deletion()).emptied == 1, "those in effect still can"
    clock.pass_time(HOLD)
    known = ruled.approving.known(OWNER)
    assert (known.in_effect, known.under_way) == (planted, None)


def test_the_owner_puts_the_list_in_effect_back_at_once(ruled: ShareStore, encoding: Sample) -> None:
    ruled.approving.name(OTHERS, OWNER)
    again = named_by(KEY, ANNA, BOB, CARL, generation=3)
    ruled.approving.name(again, OWNER)
    assert (ruled.approving.known(OWNER).in_effect, ruled.approving.known(OWNER).under_way) == (again, None)
    assert empty(ruled, encoding.deletion(), named=again).emptied == 1


def test_said_again_a_list_keeps_its_time_and_another_begins_anew(store: ShareStore, clock: SetClock) -> None:
    store.approving.name(NAMED, OWNER)
    clock.pass_time(1000)
    store.approving.name(NAMED, OWNER)
    store.approving.name(named_by(KEY, ANNA, BOB, CARL, generation=2), OWNER)
    assert store.approving.known(OWNER).left == HOLD - 1000
    store.approving.name(named_by(KEY, ANNA, BOB, generation=3), OWNER)
    assert store.approving.known(OWNER).left == HOLD


def test_removed_they_count_for_the_hold_and_then_nobody_does(
    ruled: ShareStore, clock: SetClock, encoding: Sample
) -> None:
    ruled.approving.name(named_by(KEY, generation=2, needed=0), OWNER)
    clock.pass_time(HOLD)
    with declined(Code.NOT_ALLOWED):
        empty(ruled, encoding.deletion())


def test_a_clock_that_leapt_puts_nothing_into_effect(store: ShareStore, clock: SetClock, encoding: Sample) -> None:
    store.delete(encoding.deletion(trash_seconds=2 * HOLD), OWNER)
    store.approving.name(NAMED, OWNER)
    clock.wall += HOLD
    with declined(Code.FAULT):
        empty(store, encoding.deletion())
    with declined(Code.FAULT):
        store.approving.name(OTHERS, OWNER)
    assert store.approving.known(OWNER).under_way == NAMED


def test_lists_only_go_ahead_and_not_far(store: ShareStore) -> None:
    second = named_by(KEY, ANNA, BOB, generation=2)
    store.approving.name(second, OWNER)
    for named in (NAMED, OTHERS):
        with declined(Code.CONFLICT):
            store.approving.name(named, OWNER)
    with declined(Code.NOT_ALLOWED):
        store.approving.name(named_by(KEY, ANNA, CARL, generation=2**32 - 1), OWNER)
    assert store.approving.known(OWNER).under_way == second


def test_only_the_owner_of_something_here_names_approvers(store: ShareStore) -> None:
    for named, owner in ((replace(NAMED, needed=3), OWNER), (NAMED, STRANGER), (named_by(KEY, ANNA), OWNER)):
        with declined(Code.NOT_ALLOWED):
            store.approving.name(named, owner)
    with declined(Code.NOT_FOUND):
        store.approving.name(named_by(STRANGERS_KEY, ANNA, BOB), STRANGER)
    assert store.approving.known(OWNER).under_way is None


def test_lists_of_who_has_nothing_here_make_way(
    store: ShareStore, clock: SetClock, encoding: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.approving._MOST_LISTS", 1)
    store.approving.name(NAMED, OWNER)
    of_stranger = named_by(STRANGERS_KEY, ANNA, BOB)
    theirs = sample("theirs")
    theirs.put(store, 0)
    give(store, theirs)
    with declined(Code.NO_ROOM):
        store.approving.name(of_stranger, STRANGER)
    store.delete(encoding.deletion(trash_seconds=NO_TRASH), OWNER)
    clock.pass_time(HOLD + 301)
    store.expire(clock.monotonic())
    store.approving.name(of_stranger, STRANGER)
    assert store.approving.known(OWNER).under_way is None


def test_what_was_given_to_a_vault_with_other_approvers_is_held_all_the_same(
    store: ShareStore, clock: SetClock, encoding: Sample
) -> None:
    """Whoever has stolen a key may have a vault of their own here, with approvers in effect long before."""
    bait, theirs = sample("bait"), named_by(STRANGERS_KEY, ANNA, BOB)
    bait.put(store, 0)
    give(store, bait)
    store.approving.name(theirs, STRANGER)
    clock.pass_time(HOLD)
    give(store, encoding)
    outcomes = {}
    for taken in (encoding, bait):
        deletion = taken.deletion(key=STRANGERS_KEY, trash_seconds=NO_TRASH)
        store.delete(deletion, STRANGER)
        emptied = empty(store, deletion, named=theirs, owner=STRANGER)
        outcomes[taken.key(0)] = emptied.emptied, emptied.kept
    assert outcomes == {encoding.key(0): (0, 1), bait.key(0): (1, 0)}, "the bait was theirs for the hold"
    assert {kept.key for kept in trashed(store)} == {encoding.key(0)}


def give(store: ShareStore, encoding: Sample) -> None:
    """Give an encoding of OWNER's to STRANGER."""
    transfers = [KEY.signing_key().transfer(encoding.encoding_id, STRANGER)]
    said = replace(encoding.commitment, owner=STRANGER, revision=2, transfers=transfers)
    store.amend(encoding.encoding_id, sign(said, STRANGERS_KEY), STRANGER)


def test_lists_outlive_restarts_and_the_index(ruled: ShareStore, clock: SetClock) -> None:
    ruled.approving.name(OTHERS, OWNER)
    known = ruled.approving.known(OWNER)
    assert (known.in_effect, known.under_way, known.left) == (NAMED, OTHERS, HOLD)
    for again in through_restarts(ruled, clock):
        assert again.approving.known(OWNER) == known
    again.close()


def test_lists_that_lay_behind_the_end_of_a_pack_that_was_cut_are_written_anew(
    store: ShareStore, clock: SetClock
) -> None:
    store.approving.name(NAMED, OWNER)
    placed = store._index.approvers(OWNER)
    assert placed is not None
    (pack,) = store.folder.glob(f"packs/{placed.place.pack:08d}.*")
    store.close()
    os.truncate(pack, placed.place.offset)
    store = reopened(store, clock)
    assert store.approving.known(OWNER).under_way == NAMED
    store = with_index(store, clock, {})
    assert store.approving.known(OWNER).under_way == NAMED
    store.close()


def test_a_damaged_record_counts_for_nothing_and_harms_no_other(
    store: ShareStore, clock: SetClock, encoding: Sample
) -> None:
    store.approving.name(NAMED, OWNER)
    store.approving.name(OTHERS, OWNER)
    placed = store._index.approvers(OWNER)
    assert placed is not None
    (pack,) = store.folder.glob(f"packs/{placed.place.pack:08d}.*")
    store.close()
    content = bytearray(pack.read_bytes())
    content[placed.place.offset + placed.place.length - 1] ^= 1
    pack.write_bytes(content)
    store = reopened(store, clock)
    assert store.approving.known(OWNER).under_way == OTHERS, "the index has it"
    store = with_index(store, clock, {})
    known = store.approving.known(OWNER)
    assert (known.in_effect, known.under_way) == (None, None), "nor does the list before it"
    encoding.assert_readable(store, 0)
    store.close()


def test_over_the_wire_it_is_named_asked_for_and_emptied(tmp_path: Path) -> None:
    encoding, worker = sample(), Worker(tmp_path / "store")  # which holds nothing
    encoding.put(worker.store, 0)
    deletion = encoding.deletion()
    assert worker.ask(Operation.NAME_APPROVERS, NAMED) is Code.GRANTED
    known = only(worker.send(Operation.APPROVERS, pack_header(Empty())), KnownApprovers)
    assert (known.in_effect, known.under_way) == (NAMED, None)
    worker.store.delete(deletion, OWNER)
    part = part_of(deletion)
    alone = approved(NAMED, part, [ANNA])
    assert worker.ask(Operation.EMPTY, alone, pack(part)) is Code.NOT_ALLOWED
    both = pack_header(approved(NAMED, part, [ANNA, BOB]))
    assert only(worker.send(Operation.EMPTY, both, pack(part)), Emptied).emptied == 1
    assert not trashed(worker.store)
    worker.store.close()
