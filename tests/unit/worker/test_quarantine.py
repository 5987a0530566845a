"""What was found bad is out of the way, announced as damaged, and can be stored anew on the same device."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.protocol.messages import AnnouncedShare, Code
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import OWNER, STRANGER, Sample, declined, sample, share_path
from worker.layout import file_name
from worker.store import ShareStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def store(folder: Path, disk: FaultyDisk) -> Iterator[ShareStore]:
    """With one share, of which the brokers know."""
    store = ShareStore(folder, disk=disk)
    sample().put(store, 0)
    store.changes()
    yield store
    disk.arm()
    store.close()


def flip(path: Path, at: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(at)] ^= 1
    path.write_bytes(bytes(content))


def quarantined(folder: Path, encoding: Sample, share: int = 0) -> Path:
    return folder / "quarantine" / file_name(encoding.key(share))


def check_quarantined(store: ShareStore, encoding: Sample) -> None:
    """It moved, is held as damaged, and that is told."""
    folder = store.folder
    assert quarantined(folder, encoding).exists()
    assert not share_path(folder, encoding, 0).exists()
    held = store.held()[encoding.key(0)]
    assert not held.sound
    changes = store.changes()
    assert changes.announced == [held]
    assert not changes.withdrawn
    assert not store.changes(), "once"


def test_a_bad_block_sends_its_share_to_quarantine_and_that_is_told(store: ShareStore, folder: Path) -> None:
    encoding = sample()
    flip(share_path(folder, encoding, 0), encoding.blocks[1][0])
    used = store.used_bytes
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 1)
    check_quarantined(store, encoding)
    assert store.used_bytes == used
    said = store.held()[encoding.key(0)]
    assert (said.object_id, said.owner) == (encoding.commitment.object_id, OWNER), "what is known of it is told"


def test_of_a_share_in_quarantine_the_good_blocks_can_be_read_and_the_bad_ones_never(
    store: ShareStore, folder: Path
) -> None:
    encoding = sample()
    flip(share_path(folder, encoding, 0), encoding.blocks[1][0])
    for _ in range(2):
        for segment in (0, 2):
            assert store.block(encoding.key(0), OWNER, segment) == encoding.blocks[segment][0]
        with declined(Code.DAMAGED):
            store.block(encoding.key(0), OWNER, 1)
    with declined(Code.NOT_FOUND):
        store.block(encoding.key(0), STRANGER, 0)


def test_a_share_whose_header_or_trailer_is_bad_goes_there_too(store: ShareStore, folder: Path) -> None:
    flip(share_path(folder, sample(), 0), sample().commitment.mapping)
    with declined(Code.DAMAGED):
        store.share(sample().key(0), OWNER)
    check_quarantined(store, sample())


@pytest.mark.parametrize("method", ["open", "read_at"])
def test_what_the_disk_cannot_read_is_bad(store: ShareStore, disk: FaultyDisk, method: str) -> None:
    disk.arm(always={method: errno.EIO})
    with declined(Code.DAMAGED):
        store.block(sample().key(0), OWNER, 0)
    check_quarantined(store, sample())


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES])
def test_what_the_process_cannot_do_just_now_proves_nothing_about_the_share(
    store: ShareStore, disk: FaultyDisk, code: int
) -> None:
    disk.arm(always={"open": code})
    with declined(Code.FAULT):
        store.block(sample().key(0), OWNER, 0)
    disk.arm()
    assert store.held()[sample().key(0)].sound
    assert not store.changes()
    sample().assert_readable(store, 0)


def test_what_cannot_be_read_at_the_start_just_then_is_found_good_by_the_scrub(
    store: ShareStore, folder: Path, disk: FaultyDisk
) -> None:
    store.close()
    disk.arm(always={"open": errno.EMFILE})
    store = ShareStore(folder, disk=disk)
    disk.arm()
    assert not store.held()[sample().key(0)].sound
    assert share_path(folder, sample(), 0).exists()
    store.check(sample().key(0))
    for _ in range(10):
        store.scrub.turn(0.0, idle=True)
    assert store.changes().announced == [store.held()[sample().key(0)]]
    assert store.held()[sample().key(0)].sound
    store.close()


def test_a_share_whose_file_is_gone_is_damaged_and_takes_no_room(store: ShareStore, folder: Path) -> None:
    share_path(folder, sample(), 0).unlink()
    with declined(Code.DAMAGED):
        store.block(sample().key(0), OWNER, 0)
    assert not store.held()[sample().key(0)].sound
    assert store.used_bytes == 0
    sample().put(store, 0)
    sample().assert_readable(store, 0)


def test_after_a_restart_it_is_announced_as_damaged_with_what_is_known_of_it(store: ShareStore, folder: Path) -> None:
    encoding = sample()
    flip(share_path(folder, encoding, 0), encoding.blocks[1][0])
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 1)
    held = store.held()[encoding.key(0)]
    used = store.used_bytes
    store.close()
    store = ShareStore(folder)
    assert dict(store.held()) == {encoding.key(0): held}
    assert store.used_bytes == used
    store.close()
    flip(quarantined(folder, encoding), encoding.commitment.mapping)
    store = ShareStore(folder)
    assert store.held()[encoding.key(0)] == AnnouncedShare(*encoding.key(0), None, bytes(16), 2, 2, 0, sound=False)
    store.close()


def test_a_file_that_does_not_open_at_the_start_goes_there(store: ShareStore, folder: Path) -> None:
    store.close()
    share_path(folder, sample(), 0).write_bytes(b"no share")
    store = ShareStore(folder)
    assert not store.held()[sample().key(0)].sound
    assert quarantined(folder, sample()).read_bytes() == b"no share"
    assert not share_path(folder, sample(), 0).exists()
    assert store.used_bytes == len(b"no share")
    store.close()


def test_it_can_be_stored_anew_and_the_bad_file_is_gone_then(store: ShareStore, folder: Path) -> None:
    encoding = sample()
    flip(share_path(folder, encoding, 0), encoding.blocks[1][0])
    used = store.used_bytes
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 1)
    encoding.stage(store, 0)
    assert quarantined(folder, encoding).exists(), "until the new one is durable"
    assert encoding.commit(store, 0).granted
    assert not quarantined(folder, encoding).exists()
    encoding.assert_readable(store, 0)
    assert store.used_bytes == used
    assert store.changes().announced == [store.held()[encoding.key(0)]]
    assert store.held()[encoding.key(0)].sound
    store.close()
    store = ShareStore(folder)
    encoding.assert_readable(store, 0)
    assert store.used_bytes == used
    store.close()


def test_in_a_damaged_shares_place_nobody_else_stores_theirs(store: ShareStore, folder: Path) -> None:
    flip(share_path(folder, sample(), 0), sample().blocks[1][0])
    with declined(Code.DAMAGED):
        store.block(sample().key(0), OWNER, 1)
    sample().stage(store, 0, STRANGER)
    with declined(Code.CONFLICT):
        sample().commit(store, 0, STRANGER)


def test_a_worker_that_ended_before_it_removed_a_bad_file_does_so_at_the_next_start(
    store: ShareStore, folder: Path
) -> None:
    left = quarantined(folder, sample())
    left.write_bytes(b"bad")
    store.close()
    store = ShareStore(folder)
    assert store.held()[sample().key(0)].sound
    assert not left.exists()
    store.close()


@pytest.mark.parametrize("failing", ["rename_over", "sync_folder"])
def test_what_cannot_be_moved_is_marked_and_told_all_the_same(
    store: ShareStore, folder: Path, disk: FaultyDisk, failing: str
) -> None:
    flip(share_path(folder, sample(), 0), sample().blocks[1][0])
    disk.arm(always={failing: errno.EIO})
    with declined(Code.DAMAGED):
        store.block(sample().key(0), OWNER, 1)
    assert [share.sound for share in store.changes().announced] == [False]
    for segment in (0, 2):
        assert store.block(sample().key(0), OWNER, segment) == sample().blocks[segment][0]
    store.close()
    store = ShareStore(folder)
    store.check(sample().key(0))
    while not store.changes():
        store.scrub.turn(0.0, idle=True)
    check = store.held()[sample().key(0)]
    assert not check.sound
    assert quarantined(folder, sample()).exists()
    store.close()


def test_a_read_only_store_moves_nothing(store: ShareStore, folder: Path, disk: FaultyDisk) -> None:
    sample("other").stage(store, 0)
    disk.arm(always={"sync": errno.EIO})
    assert sample("other").commit(store, 0).code is Code.READ_ONLY
    flip(share_path(folder, sample(), 0), sample().blocks[1][0])
    disk.arm()
    with declined(Code.DAMAGED):
        store.block(sample().key(0), OWNER, 1)
    assert not {"rename_over", "sync_folder"} & set(disk.calls)
    assert not store.held()[sample().key(0)].sound
    with declined(Code.READ_ONLY):
        store.open(sample().opening(0), OWNER, 0.0)
