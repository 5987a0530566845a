"""A disk that fails while shares are read, and while a store is opened: the worker answers, and goes on."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path
from typing import Callable

import pytest

from common.errors import NoRoomError
from common.protocol.messages import Code
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import OWNER, Sample, declined, held_by, sample
from worker.store import ShareStore

SMALL, LARGE = sample(), sample("large", segments=2, block_size=300 << 10)


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[], Path]:
    """A new store's folder each time."""
    numbers = itertools.count()
    return lambda: tmp_path / f"store-{next(numbers)}"


READING = [(SMALL, "open"), (SMALL, "read_at"), (LARGE, "open"), (LARGE, "size"), (LARGE, "read_at")]


@pytest.mark.parametrize(("encoding", "method"), READING)
def test_a_share_that_cannot_be_read_is_damaged_for_as_long_as_that_lasts(
    folders: Callable[[], Path], encoding: Sample, method: str
) -> None:
    folder, disk = folders(), FaultyDisk()
    store = ShareStore(folder)
    encoding.put(store, 0)
    store.close()
    store = ShareStore(folder, disk=disk)
    store._packs.close()  # which the start has open
    disk.arm(always={method: errno.EIO})
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 0)
    with declined(Code.DAMAGED):
        store.share(encoding.key(0), OWNER)
    disk.arm()
    encoding.assert_readable(store, 0)
    disk.arm(always={"read_at": errno.EIO})  # of a file that is open already
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 0)
    store.close()


def test_a_block_being_stored_that_cannot_be_read_is_damaged(folders: Callable[[], Path]) -> None:
    disk = FaultyDisk()
    store = ShareStore(folders(), disk=disk)
    LARGE.stage(store, 0)
    disk.arm(always={"read_at": errno.EIO})
    with declined(Code.DAMAGED):
        store.block(LARGE.key(0), OWNER, 0)
    store.close()


def test_a_file_that_fails_to_close_after_reading_harms_no_reader(folders: Callable[[], Path]) -> None:
    disk = FaultyDisk()
    store = ShareStore(folders(), disk=disk)
    size = 257 << 10  # of a file each
    encodings = [sample(str(number), segments=1, n=2, block_size=size, last=size) for number in range(66)]
    for encoding in encodings:
        encoding.put(store, 0)
    disk.arm(always={"close": errno.EIO})
    for encoding in encodings:
        encoding.assert_readable(store, 0)
    store.close()


# --- the start


@pytest.mark.parametrize("method", ["make_folder", "sync_folder"])
def test_a_store_that_cannot_be_prepared_is_an_error_for_the_user_and_frees_the_lock(
    folders: Callable[[], Path], method: str
) -> None:
    folder = folders()
    disk = FaultyDisk()
    disk.arm(always={method: errno.EROFS})
    with pytest.raises(NoRoomError, match="Read-only"):
        ShareStore(folder, disk=disk)
    ShareStore(folder).close()


@pytest.mark.parametrize("encoding", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("index_there", [True, False])
@pytest.mark.parametrize("method", ["open", "size", "read_at", "close"])
def test_what_cannot_be_read_at_the_start_stops_no_worker_and_is_there_once_it_can(
    folders: Callable[[], Path], method: str, index_there: bool, encoding: Sample
) -> None:
    folder, disk = folders(), FaultyDisk()
    store = ShareStore(folder, disk=disk)
    encoding.put(store, 0)
    used = store.used_bytes
    store.close()
    for path in folder.glob("index.sqlite*") if not index_there else ():
        path.unlink()
    disk.arm(always={method: errno.EIO})
    store = ShareStore(folder, disk=disk)
    if index_there or encoding is LARGE:
        assert store.used_bytes == used
    if not index_there and method in ("open", "read_at"):
        assert not any(share.sound for share in held_by(store).values())
    disk.arm()
    store.close()
    store = ShareStore(folder, disk=disk)
    for _ in range(5):
        store.scrub.turn(0.0, idle=False)
    assert held_by(store)[encoding.key(0)].sound
    assert store.used_bytes == used
    encoding.assert_readable(store, 0)
    store.close()


def test_what_cannot_be_removed_from_staging_stops_no_worker(folders: Callable[[], Path]) -> None:
    folder = folders()
    ShareStore(folder).close()
    name = f"{LARGE.encoding_id.hex()}.00.{OWNER.hex()}"
    (folder / "staging" / name).write_bytes(b"left over")
    disk = FaultyDisk()
    disk.arm(always={"remove": errno.EACCES})
    store = ShareStore(folder, disk=disk)
    with declined(Code.FAULT):
        store.open(LARGE.opening(0), OWNER, 0.0)
    disk.arm()
    LARGE.put(store, 0)
    LARGE.assert_readable(store, 0)
    store.close()
