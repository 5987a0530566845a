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
from tests.support.sample_shares import OWNER, declined, sample
from worker.store import ShareStore


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[], Path]:
    """A new store's folder each time."""
    numbers = itertools.count()
    return lambda: tmp_path / f"store-{next(numbers)}"


@pytest.mark.parametrize("method", ["open", "size", "read_at"])
def test_a_share_that_cannot_be_read_is_damaged_for_as_long_as_that_lasts(
    folders: Callable[[], Path], method: str
) -> None:
    disk = FaultyDisk()
    store = ShareStore(folders(), disk=disk)
    encoding = sample()
    encoding.put(store, 0)
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
    sample().stage(store, 0)
    disk.arm(always={"read_at": errno.EIO})
    with declined(Code.DAMAGED):
        store.block(sample().key(0), OWNER, 0)
    store.close()


def test_a_file_that_fails_to_close_after_reading_harms_no_reader(folders: Callable[[], Path]) -> None:
    disk = FaultyDisk()
    store = ShareStore(folders(), disk=disk)
    encodings = [sample(str(number), segments=1) for number in range(66)]  # more than are kept open
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


@pytest.mark.parametrize("method", ["open", "size", "read_at", "close"])
def test_a_share_that_cannot_be_read_at_the_start_stops_no_worker(folders: Callable[[], Path], method: str) -> None:
    folder = folders()
    disk = FaultyDisk()
    store = ShareStore(folder, disk=disk)
    sample().put(store, 0)
    used = store.used_bytes
    store.close()
    disk.arm(always={method: errno.EIO})
    store = ShareStore(folder, disk=disk)
    assert store.held()[sample().key(0)].sound == (method == "close")
    assert store.used_bytes == used
    store.close()


def test_what_cannot_be_removed_from_staging_stops_no_worker(folders: Callable[[], Path]) -> None:
    folder = folders()
    (folder / "staging").mkdir(parents=True)
    name = f"{sample().encoding_id.hex()}.00.{OWNER.hex()}"
    (folder / "staging" / name).write_bytes(b"left over")
    disk = FaultyDisk()
    disk.arm(always={"remove": errno.EACCES})
    store = ShareStore(folder, disk=disk)
    with declined(Code.FAULT):
        store.open(sample().opening(0), OWNER, 0.0)
    disk.arm()
    sample().put(store, 0)
    sample().assert_readable(store, 0)
    store.close()
