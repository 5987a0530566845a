"""What was found bad is announced as damaged, its good blocks are served, and it can be stored anew on the device."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.protocol.messages import AnnouncedShare, Code
from tests.support.clocks import SetClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import (
    OWNER,
    STRANGER,
    Sample,
    damage,
    declined,
    held_by,
    large,
    lying,
    reopened,
    sample,
    through_restarts,
    with_index,
)
from worker.store import ShareStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def store(folder: Path, disk: FaultyDisk, encoding: Sample) -> Iterator[ShareStore]:
    """With one share, of which the brokers know."""
    store = ShareStore(folder, disk=disk)
    encoding.put(store, 0)
    store.changes()
    yield store
    disk.arm()
    store.close()


def flip(store: ShareStore, encoding: Sample, at: bytes) -> None:
    """Damage a share where its record has these bytes."""
    path, start, length = lying(store, encoding, 0)
    record = path.read_bytes()[start : start + length]
    damage(store, encoding, 0, record.index(at), bytes([at[0] ^ 1]))


def flip_block(store: ShareStore, encoding: Sample) -> None:
    """Damage its block of segment 1."""
    flip(store, encoding, encoding.blocks[1][0])


def good_segments(encoding: Sample) -> list[int]:
    return [segment for segment in range(len(encoding.blocks)) if segment != 1]


def check_told(store: ShareStore, encoding: Sample) -> None:
    """It is held as damaged, and that is told."""
    held = held_by(store)[encoding.key(0)]
    assert not held.sound
    changes = store.changes()
    assert changes.announced == [held]
    assert not changes.withdrawn
    assert not store.changes(), "once"


def test_a_bad_block_makes_its_share_damaged_and_that_is_told(store: ShareStore, encoding: Sample) -> None:
    flip_block(store, encoding)
    used = store.used_bytes
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 1)
    check_told(store, encoding)
    assert store.used_bytes == used
    said = held_by(store)[encoding.key(0)]
    assert (said.object_id, said.owner) == (encoding.commitment.object_id, OWNER), "what is known of it is told"


def test_of_a_damaged_share_the_good_blocks_can_be_read_and_the_bad_ones_never(
    store: ShareStore, encoding: Sample
) -> None:
    flip_block(store, encoding)
    for again in through_restarts(store):
        for _ in range(2):
            for segment in good_segments(encoding):
                assert again.block(encoding.key(0), OWNER, segment) == encoding.blocks[segment][0]
            with declined(Code.DAMAGED):
                again.block(encoding.key(0), OWNER, 1)
        with declined(Code.NOT_FOUND):
            again.block(encoding.key(0), STRANGER, 0)
    again.close()


def test_a_share_whose_header_or_trailer_is_bad_is_damaged_too(store: ShareStore, encoding: Sample) -> None:
    flip(store, encoding, encoding.commitment.mapping)
    with declined(Code.DAMAGED):
        store.share(encoding.key(0), OWNER)
    check_told(store, encoding)


@pytest.mark.parametrize(
    ("encoding", "method"),
    [(sample(), "read_at"), (large(), "read_at"), (large(), "open")],
    ids=["small", "large", "large that does not open"],
)
def test_what_the_disk_cannot_read_is_bad(folder: Path, disk: FaultyDisk, encoding: Sample, method: str) -> None:
    store = ShareStore(folder, disk=disk)
    encoding.put(store, 0)
    store.close()
    store = ShareStore(folder, disk=disk)
    disk.arm(always={method: errno.EIO})
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 0)
    check_told(store, encoding)
    disk.arm()
    store.close()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES])
def test_what_the_process_cannot_do_just_now_proves_nothing_about_the_share(
    store: ShareStore, encoding: Sample, disk: FaultyDisk, code: int
) -> None:
    disk.arm(always={"open": code, "read_at": code})
    with declined(Code.FAULT):
        store.block(encoding.key(0), OWNER, 0)
    disk.arm()
    assert held_by(store)[encoding.key(0)].sound
    assert not store.changes()
    encoding.assert_readable(store, 0)


def test_a_damaged_share_that_reads_after_all_is_found_good_by_the_scrub(store: ShareStore, encoding: Sample) -> None:
    store._found_bad(store._index.copies(encoding.key(0))[0], OSError(errno.EIO, "once"))
    check_told(store, encoding)
    store.check(encoding.key(0))
    for _ in range(10):
        store.scrub.turn(0.0, idle=True)
    assert store.changes().announced == [held_by(store)[encoding.key(0)]]
    for again in through_restarts(store):
        assert held_by(again)[encoding.key(0)].sound
        encoding.assert_readable(again, 0)
    again.close()


def test_a_share_whose_file_is_gone_is_damaged_and_takes_no_room(store: ShareStore, encoding: Sample) -> None:
    lying(store, encoding, 0)[0].unlink()
    store = reopened(store, SetClock())
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 0)
    assert not held_by(store)[encoding.key(0)].sound
    assert store.used_bytes == 0
    encoding.put(store, 0)
    for again in through_restarts(store):
        encoding.assert_readable(again, 0)
    again.close()


def test_after_a_restart_it_is_announced_as_damaged_with_what_is_known_of_it(
    store: ShareStore, encoding: Sample
) -> None:
    flip_block(store, encoding)
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 1)
    held = held_by(store)
    used = store.used_bytes
    store = reopened(store, SetClock())
    assert held_by(store) == held
    assert store.used_bytes == used
    store = with_index(store, SetClock(), {})
    store.check(encoding.key(0))
    for _ in range(10):
        store.scrub.turn(0.0, idle=True)
    assert held_by(store) == held
    assert store.used_bytes == used
    flip(store, encoding, encoding.commitment.mapping)
    store = with_index(store, SetClock(), {})
    assert held_by(store)[encoding.key(0)] == AnnouncedShare(*encoding.key(0), None, bytes(16), 2, 2, 0, sound=False)
    assert store.used_bytes == used
    store.close()


def test_it_can_be_stored_anew_and_the_bad_one_takes_no_room_then(store: ShareStore, encoding: Sample) -> None:
    flip_block(store, encoding)
    used = store.used_bytes
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 1)
    encoding.stage(store, 0)
    for segment in good_segments(encoding):
        assert store.block(encoding.key(0), OWNER, segment) == encoding.blocks[segment][0], "until the new one is there"
    assert encoding.commit(store, 0).granted
    encoding.assert_readable(store, 0)
    assert store.used_bytes == used
    assert store.changes().announced == [held_by(store)[encoding.key(0)]]
    for again in through_restarts(store):
        assert held_by(again)[encoding.key(0)].sound
        encoding.assert_readable(again, 0)
        assert again.used_bytes == used
        assert len(list(again.folder.glob("shares/*/*"))) == (lying(again, encoding, 0)[0].parent.name != "packs")
    again.close()


def test_in_a_damaged_shares_place_nobody_else_stores_theirs(store: ShareStore, encoding: Sample) -> None:
    flip_block(store, encoding)
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 1)
    encoding.stage(store, 0, STRANGER)
    with declined(Code.CONFLICT):
        encoding.commit(store, 0, STRANGER)


def test_a_worker_that_ended_before_it_removed_a_bad_one_does_so_at_the_next_start(
    store: ShareStore, encoding: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = store.used_bytes
    flip_block(store, encoding)
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 1)
    monkeypatch.setattr(store._committing, "_enter", lambda commits: None)  # it is durable, and the worker ends
    monkeypatch.setattr(store._remover, "remove", lambda shares: None)
    encoding.put(store, 0)
    for again in through_restarts(store):
        if again is store:
            continue
        assert held_by(again)[encoding.key(0)].sound
        encoding.assert_readable(again, 0)
        assert again.used_bytes == used
    again.close()


def test_what_cannot_be_written_down_is_told_all_the_same_and_found_again(
    store: ShareStore, encoding: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_block(store, encoding)
    monkeypatch.setattr(store._index, "_row", full)
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 1)
    for segment in good_segments(encoding):
        assert store.block(encoding.key(0), OWNER, segment) == encoding.blocks[segment][0]
    monkeypatch.undo()
    store = reopened(store, SetClock())
    store.changes()
    store.check(encoding.key(0))
    while not store.changes():
        store.scrub.turn(0.0, idle=True)
    assert not held_by(store)[encoding.key(0)].sound
    store.close()


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "no room")


def test_a_read_only_store_writes_nothing(store: ShareStore, encoding: Sample, disk: FaultyDisk) -> None:
    sample("other").stage(store, 0)
    disk.arm(always={"sync": errno.EIO})
    assert sample("other").commit(store, 0).code is Code.READ_ONLY
    flip_block(store, encoding)
    disk.arm()
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 1)
    assert not {"append", "create", "rename_new", "remove", "sync", "sync_folder"} & set(disk.calls)
    assert not held_by(store)[encoding.key(0)].sound
    with declined(Code.READ_ONLY):
        store.open(encoding.opening(0), OWNER, 0.0)
        encoding.append(store, 0, 0)
