"""The store: what was committed is there, whole, for its owner only, and after a restart too; nothing else is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UsageError
from common.protocol.identifiers import NO_OWNER
from common.protocol.messages import AnnouncedShare, Code
from tests.support.sample_shares import (
    OWNER,
    STRANGER,
    Sample,
    damage,
    declined,
    held_by,
    large,
    lying,
    sample,
    staged_files,
)
from worker.store import ShareStore

DAY = 24 * 3600.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[ShareStore]:
    store = ShareStore(folder)
    yield store
    store.close()


# --- storing and reading


@settings(max_examples=30)
@given(st.integers(1, 6).flatmap(lambda count: st.permutations(range(count))), st.data())
def test_blocks_in_any_order_and_any_of_them_twice_are_there_after_the_commit(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], data: st.DataObject
) -> None:
    encoding = sample(segments=len(order))
    folder = tmp_path_factory.mktemp("store")
    store = ShareStore(folder)
    store.open(encoding.opening(2, share_bytes=data.draw(st.sampled_from([0, None]))), OWNER, 0.0)
    for segment in order:
        for _ in range(data.draw(st.integers(1, 2))):
            encoding.append(store, 2, segment)
    assert encoding.commit(store, 2).granted
    encoding.assert_readable(store, 2)
    store.close()
    again = ShareStore(folder)
    encoding.assert_readable(again, 2)
    again.close()


def test_small_shares_lie_in_a_pack_large_ones_under_their_names_and_none_in_staging(
    store: ShareStore, folder: Path
) -> None:
    for number in range(3):
        sample(f"{number}").put(store, 1)
    large().put(store, 1)
    assert len(list((folder / "packs").iterdir())) == 1
    (file,) = folder.glob("shares/*/*")
    assert file == lying(store, large(), 1)[0]
    assert file.name.startswith(large().encoding_id.hex())
    assert staged_files(folder) == []


def test_what_is_held_says_what_was_committed(store: ShareStore) -> None:
    encoding = sample(k=2, n=3)
    encoding.put(store, 1)
    said = AnnouncedShare(
        encoding.encoding_id, 1, encoding.commitment.object_id, OWNER, 2, 3, encoding.recipe.share_bytes, True
    )
    assert dict(held_by(store)) == {encoding.key(1): said}


def test_nothing_is_held_or_described_before_the_commit_but_its_blocks_can_be_read(store: ShareStore) -> None:
    encoding = sample()
    encoding.stage(store, 0)
    assert not held_by(store)
    assert store.block(encoding.key(0), OWNER, 1) == encoding.blocks[1][0]
    with declined(Code.NOT_FOUND):
        store.share(encoding.key(0), OWNER)


def test_saying_anything_again_is_harmless(store: ShareStore, folder: Path, encoding: Sample) -> None:
    for _ in range(2):
        encoding.stage(store, 0)
    assert encoding.commit(store, 0).granted
    before, lies = store.used_bytes, lying(store, encoding, 0)
    assert store.prepare_commit(encoding.key(0), OWNER, encoding.signed()) is None
    store.abandon(encoding.key(0), OWNER)
    encoding.assert_readable(store, 0)
    assert (store.used_bytes, lying(store, encoding, 0)) == (before, lies)


def test_saying_otherwise_is_a_conflict(store: ShareStore) -> None:
    encoding = sample()
    store.open(encoding.opening(0), OWNER, 0.0)
    for contradiction in (sample(k=1), sample(n=4), sample(block_size=65)):
        with declined(Code.CONFLICT):
            store.open(contradiction.opening(0), OWNER, 0.0)
    encoding.append(store, 0, 0)
    with declined(Code.CONFLICT):
        encoding.append(store, 0, 0, block=b"another block")
    encoding.append(store, 0, 1)
    with declined(Code.CONFLICT):  # a block is missing
        encoding.commit(store, 0)
    encoding.append(store, 0, 2)
    with declined(Code.CONFLICT):
        store.prepare_commit(encoding.key(0), OWNER, encoding.signed(recipe=sample("other").commitment.recipe))
    with declined(Code.NOT_ALLOWED):
        store.prepare_commit(encoding.key(0), OWNER, sample("other").signed())
    assert encoding.commit(store, 0).granted
    with declined(Code.CONFLICT):
        store.open(encoding.opening(0), OWNER, 0.0)
    encoding.assert_readable(store, 0)


@pytest.mark.parametrize("part", ["object_id", "recipe", "mapping"])
def test_committing_a_committed_share_otherwise_is_a_conflict(store: ShareStore, part: str) -> None:
    encoding = sample()
    encoding.put(store, 0)
    other = encoding.signed(**{part: b"x" * len(getattr(encoding.commitment, part))})
    with declined(Code.CONFLICT):
        store.prepare_commit(encoding.key(0), OWNER, other)


def test_a_repeated_commit_is_not_acknowledged_when_the_share_was_damaged_meanwhile(
    store: ShareStore, encoding: Sample
) -> None:
    encoding.put(store, 0)
    damage(store, encoding, 0)
    with declined(Code.DAMAGED):
        store.prepare_commit(encoding.key(0), OWNER, encoding.signed())


def test_what_is_no_share_is_malformed(store: ShareStore) -> None:
    opening = sample().opening(0)
    opening.share = 3
    with declined(Code.MALFORMED):
        store.open(opening, OWNER, 0.0)
    opening.share, opening.k = 0, 4
    with declined(Code.MALFORMED):
        store.open(opening, OWNER, 0.0)


def test_a_block_longer_than_blocks_are_is_malformed(store: ShareStore) -> None:
    encoding = sample()
    store.open(encoding.opening(0), OWNER, 0.0)
    with declined(Code.MALFORMED):
        encoding.append(store, 0, 0, block=b"b" * 65)


def test_what_was_not_opened_cannot_go_on(store: ShareStore) -> None:
    encoding = sample()
    with declined(Code.NOT_OPEN):
        encoding.append(store, 0, 0)
    with declined(Code.NOT_OPEN):
        encoding.commit(store, 0)
    store.abandon(encoding.key(0), OWNER)


def test_an_abandoned_share_leaves_nothing_and_may_be_stored_anew(
    store: ShareStore, folder: Path, encoding: Sample
) -> None:
    encoding.stage(store, 0)
    store.abandon(encoding.key(0), OWNER)
    assert staged_files(folder) == []
    with declined(Code.NOT_OPEN):
        encoding.append(store, 0, 0)
    encoding.put(store, 0)
    encoding.assert_readable(store, 0)


def test_many_shares_are_committed_in_one_round(store: ShareStore, folder: Path) -> None:
    encodings = [sample(str(number)) if number % 3 else large(f"a/{number}") for number in range(12)]
    for encoding in encodings:
        encoding.stage(store, 1)
    abandoned = encodings.pop(5)
    pending = [store.prepare_commit(encoding.key(1), OWNER, encoding.signed()) for encoding in encodings]
    given_up = store.prepare_commit(abandoned.key(1), OWNER, abandoned.signed())
    store.abandon(abandoned.key(1), OWNER)
    answers = store.commit_round([commit for commit in [*pending, given_up] if commit is not None])
    assert [answer.code for answer in answers] == [Code.GRANTED] * 11 + [Code.NOT_OPEN]
    for encoding in encodings:
        encoding.assert_readable(store, 1)
    assert abandoned.key(1) not in held_by(store)
    assert store.used_bytes == sum(lying(store, encoding, 1)[2] for encoding in encodings)


def test_a_share_given_up_and_begun_anew_before_the_round_is_not_harmed_by_it(
    store: ShareStore, encoding: Sample
) -> None:
    encoding.stage(store, 0)
    given_up = store.prepare_commit(encoding.key(0), OWNER, encoding.signed())
    assert given_up is not None
    store.abandon(encoding.key(0), OWNER)
    encoding.stage(store, 0)
    assert store.commit_round([given_up])[0].code is Code.NOT_OPEN
    assert encoding.commit(store, 0).granted
    encoding.assert_readable(store, 0)


def test_a_commit_replaces_no_file_that_came_in_its_place_meanwhile(store: ShareStore, folder: Path) -> None:
    encoding = large()
    encoding.stage(store, 0)
    path = store._layout.share(encoding.key(0), store._index.last_serial + 1)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"somebody copied a file here")
    assert encoding.commit(store, 0).code is Code.FAULT
    assert path.read_bytes() == b"somebody copied a file here"
    assert store.used_bytes == 0


def test_of_two_owners_shares_of_one_name_in_one_round_one_is_stored(store: ShareStore, encoding: Sample) -> None:
    pending = []
    for owner in (OWNER, STRANGER):
        encoding.stage(store, 0, owner)
        pending.append(store.prepare_commit(encoding.key(0), owner, encoding.signed(owner)))
    answers = store.commit_round([commit for commit in pending if commit is not None])
    assert [answer.code for answer in answers] == [Code.GRANTED, Code.CONFLICT]
    encoding.assert_readable(store, 0)
    assert len(store._index.of_encoding(encoding.encoding_id)) == 1


def test_an_empty_round_is_no_round(store: ShareStore) -> None:
    assert store.commit_round([]) == []


def test_a_block_that_is_not_there_is_not_found(store: ShareStore) -> None:
    encoding = sample()
    with declined(Code.NOT_FOUND):
        store.block(encoding.key(0), OWNER, 0)
    encoding.stage(store, 0)
    with declined(Code.NOT_FOUND):
        store.block(encoding.key(0), OWNER, 3)
    encoding.commit(store, 0)
    with declined(Code.NOT_FOUND):
        store.block(encoding.key(0), OWNER, 3)


def test_more_shares_are_read_than_are_kept_open(store: ShareStore) -> None:
    encodings = [sample(str(number), segments=1) for number in range(70)]
    for encoding in encodings:
        encoding.stage(store, 0)
    pending = [store.prepare_commit(encoding.key(0), OWNER, encoding.signed()) for encoding in encodings]
    assert all(answer.granted for answer in store.commit_round([commit for commit in pending if commit is not None]))
    for _ in range(2):
        for encoding in encodings:
            encoding.assert_readable(store, 0)


# --- another owner


def test_a_stranger_can_do_nothing_with_a_share_being_stored(store: ShareStore) -> None:
    encoding = sample()
    encoding.stage(store, 0)
    with declined(Code.NOT_FOUND):
        store.block(encoding.key(0), STRANGER, 0)
    with declined(Code.NOT_OPEN):
        encoding.append(store, 0, 0, STRANGER)
    with declined(Code.NOT_OPEN):
        store.prepare_commit(encoding.key(0), STRANGER, encoding.signed(STRANGER))
    store.abandon(encoding.key(0), STRANGER)
    assert encoding.commit(store, 0).granted


def test_a_stranger_who_begins_the_same_share_learns_nothing_and_hinders_nobody(store: ShareStore) -> None:
    encoding = sample()
    assert store.open(encoding.opening(0), STRANGER, 0.0)
    encoding.stage(store, 0)
    encoding.append(store, 0, 0, STRANGER)
    assert encoding.commit(store, 0).granted
    encoding.append(store, 0, 1, STRANGER)
    with declined(Code.CONFLICT):
        store.prepare_commit(encoding.key(0), STRANGER, encoding.signed(STRANGER))
    encoding.assert_readable(store, 0)


def test_what_a_stranger_opens_is_answered_alike_whether_it_is_there_or_not(store: ShareStore) -> None:
    encoding, absent = sample(), sample("absent")
    encoding.put(store, 0)
    for asked in (encoding, absent):
        assert store.open(asked.opening(0), STRANGER, 0.0)
        assert store.progress(asked.key(0), STRANGER, 0.0) == []
        store.abandon(asked.key(0), STRANGER)
        with declined(Code.NOT_OPEN):
            store.progress(asked.key(0), STRANGER, 0.0)
    encoding.assert_readable(store, 0)


def test_a_stranger_can_do_nothing_with_a_committed_share(store: ShareStore) -> None:
    encoding = sample()
    encoding.put(store, 0)
    with declined(Code.NOT_FOUND):
        store.block(encoding.key(0), STRANGER, 0)
    with declined(Code.NOT_FOUND):
        store.share(encoding.key(0), STRANGER)
    with declined(Code.NOT_OPEN):
        encoding.append(store, 0, 0, STRANGER)
    with declined(Code.NOT_OPEN):
        store.prepare_commit(encoding.key(0), STRANGER, encoding.signed(STRANGER))
    store.abandon(encoding.key(0), STRANGER)
    encoding.assert_readable(store, 0)


def test_a_share_that_was_damaged_and_is_whole_again_is_still_its_owners_only(folder: Path, encoding: Sample) -> None:
    store = ShareStore(folder)
    encoding.put(store, 0)
    path, start, length = lying(store, encoding, 0)
    content = path.read_bytes()[start : start + length]
    damage(store, encoding, 0)
    for index in folder.glob("index*"):
        index.unlink()
    store.close()
    store = ShareStore(folder)
    assert not held_by(store)[encoding.key(0)].sound
    damage(store, encoding, 0, 0, content)
    encoding.assert_readable(store, 0)
    for stranger in (STRANGER, NO_OWNER):
        with declined(Code.NOT_FOUND):
            store.block(encoding.key(0), stranger, 0)
    store.close()


# --- time and restarts


def test_what_nobody_continues_is_dropped_after_a_day(store: ShareStore, folder: Path) -> None:
    continued, left = large("continued"), large("left")
    for encoding in (continued, left):
        store.open(encoding.opening(0), OWNER, 100.0)
    continued.append(store, 0, 0, now=500.0)
    store.expire(DAY + 100.0)
    assert len(staged_files(folder)) == 2
    store.expire(DAY + 100.1)
    assert len(staged_files(folder)) == 1
    with declined(Code.NOT_OPEN):
        left.append(store, 0, 0)
    for segment in (1,):
        continued.append(store, 0, segment)
    assert continued.commit(store, 0).granted


def test_a_restart_finds_every_committed_share(folder: Path) -> None:
    encodings = [*(sample(f"a/{number}", segments=number + 1) for number in range(5)), large("a/5")]
    store = ShareStore(folder)
    for encoding in encodings:
        for share in (0, 2):
            encoding.put(store, share, OWNER if share else STRANGER)
    held = dict(held_by(store))
    sample("unfinished").stage(store, 0)
    store.close()
    store = ShareStore(folder)
    assert dict(held_by(store)) == held
    for encoding in encodings:
        encoding.assert_readable(store, 2)
        encoding.assert_readable(store, 0, STRANGER)
    store.close()


def test_a_worker_killed_in_mid_put_leaves_nothing_that_counts_as_held(folder: Path, tmp_path: Path) -> None:
    encoding = large()
    store = ShareStore(folder)
    encoding.stage(store, 0)
    copy = tmp_path / "copy"
    shutil.copytree(folder / "staging", copy / "staging")
    store.close()
    killed = ShareStore(copy)
    assert not held_by(killed)
    assert encoding.commit(killed, 0).granted, "but it can be gone on with"
    encoding.assert_readable(killed, 0)
    killed.close()


def test_a_second_worker_on_the_same_store_is_refused(store: ShareStore, folder: Path) -> None:
    encoding = sample()
    encoding.stage(store, 0)
    with pytest.raises(UsageError, match="in use"):
        ShareStore(folder)
    assert encoding.commit(store, 0).granted


def test_a_closed_store_can_be_opened_again(folder: Path) -> None:
    for _ in range(2):
        ShareStore(folder).close()
