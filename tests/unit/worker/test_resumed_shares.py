"""A share being stored in a file outlives its worker: what is whole of it is there, what is torn is cut off.

One that is small enough for memory is begun anew.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.coding.recipe import digest
from common.protocol.device_messages import SegmentRange
from common.protocol.messages import Code
from tests.support.clocks import START, SetClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import OWNER, STRANGER, Sample, declined, sample, staged_files
from worker.share_file import record_prefix
from worker.store import ShareStore

HOUR = 3600.0
IN_A_FILE = 200 << 10  # bytes that a share is said to have, so that it is stored in a file
LARGE = sample("large", segments=2, block_size=300 << 10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def begin(folder: Path, encoding: Sample, *segments: int, owner: bytes = OWNER) -> Path:
    """A share of which some blocks came before the worker ended."""
    store = ShareStore(folder)
    store.open(encoding.opening(0, share_bytes=IN_A_FILE), owner, 0.0)
    for segment in segments:
        encoding.append(store, 0, segment, owner)
    store.close()
    (path,) = [path for path in staged_files(folder) if path.name.startswith(encoding.encoding_id.hex())]
    return path


def go_on(store: ShareStore, encoding: Sample, there: set[int]) -> None:
    """Ask how far it came, send the rest, and commit."""
    ranges = store.progress(encoding.key(0), OWNER, 0.0)
    assert ranges is not None
    assert {s for each in ranges for s in range(each.first, each.first + each.count)} == there
    assert store.open(encoding.opening(0), OWNER, 0.0) is False
    for segment in set(range(encoding.recipe.segment_count)) - there:
        encoding.append(store, 0, segment)
    assert encoding.commit(store, 0).granted
    encoding.assert_readable(store, 0)


@pytest.mark.parametrize("came", [(), (0,), (2, 0), (0, 1, 2)])
def test_a_put_goes_on_where_it_was_when_the_worker_ended(folder: Path, came: tuple[int, ...]) -> None:
    path = begin(folder, sample(), *came)
    assert path.name == f"{sample().encoding_id.hex()}.00.{OWNER.hex()}"
    store = ShareStore(folder)
    go_on(store, sample(), set(came))
    assert not staged_files(folder)
    store.close()


def test_a_large_share_goes_on_too(folder: Path) -> None:
    begin(folder, LARGE, 1)
    store = ShareStore(folder)
    go_on(store, LARGE, {1})
    store.close()


def test_what_is_small_enough_for_memory_is_begun_anew(folder: Path) -> None:
    store = ShareStore(folder)
    sample().stage(store, 0)
    assert not staged_files(folder)
    store.close()
    store = ShareStore(folder)
    with declined(Code.NOT_OPEN):
        store.progress(sample().key(0), OWNER, 0.0)
    sample().put(store, 0)
    sample().assert_readable(store, 0)
    store.close()


def test_what_outgrows_memory_goes_on_where_it_was(folder: Path) -> None:
    store = ShareStore(folder)
    store.open(LARGE.opening(0, share_bytes=0), OWNER, 0.0)
    LARGE.append(store, 0, 1)
    assert not staged_files(folder)
    LARGE.append(store, 0, 0)
    assert store.block(LARGE.key(0), OWNER, 1) == LARGE.blocks[1][0]
    store.close()
    store = ShareStore(folder)
    go_on(store, LARGE, {0, 1})
    store.close()


def test_only_its_owner_goes_on_with_it(folder: Path) -> None:
    begin(folder, sample(), 0)
    store = ShareStore(folder)
    with declined(Code.NOT_OPEN):
        store.progress(sample().key(0), STRANGER, 0.0)
    with declined(Code.NOT_FOUND):
        store.block(sample().key(0), STRANGER, 0)
    assert store.block(sample().key(0), OWNER, 0) == sample().blocks[0][0]
    store.close()


@given(st.data())
def test_wherever_the_file_is_torn_the_whole_blocks_before_are_there(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("store")
    encoding = sample(segments=4)
    path = begin(folder, encoding, 0, 1, 2)
    content = path.read_bytes()
    blocks = [encoding.blocks[segment][0] for segment in range(3)]
    header_size = content.index(blocks[0]) - len(record_prefix(0, digest(blocks[0]), 64))
    cut = data.draw(st.integers(header_size, len(content)))
    zeros = data.draw(st.integers(0, 200))  # a file may have its length and not its content
    path.write_bytes(content[:cut] + bytes(zeros))
    there = {segment for segment in range(3) if content.index(blocks[segment]) + 64 <= cut}
    if cut + zeros >= len(content) and not any(content[cut:]):
        there = {0, 1, 2}  # what was torn off was zeros
    store = ShareStore(folder)
    go_on(store, encoding, there)
    store.close()


@pytest.mark.parametrize("segment", [0, 1, 2])
def test_a_flipped_bit_costs_its_block_and_those_behind_it_and_is_never_committed(folder: Path, segment: int) -> None:
    encoding = sample()
    path = begin(folder, encoding, 0, 1, 2)
    content = bytearray(path.read_bytes())
    content[content.index(encoding.blocks[segment][0]) + 3] ^= 4
    path.write_bytes(bytes(content))
    store = ShareStore(folder)
    go_on(store, encoding, set(range(segment)))
    store.close()


def test_a_share_that_was_being_committed_is_begun_anew(folder: Path) -> None:
    # Its fsync may have failed, and that is never tried again on the same file.
    encoding = LARGE
    disk = FaultyDisk()
    store = ShareStore(folder, disk=disk)
    encoding.stage(store, 0)
    disk.arm(always={"sync": errno.EIO, "remove": errno.EIO})
    assert encoding.commit(store, 0).code is Code.READ_ONLY
    assert staged_files(folder), "it could not even be removed"
    store.close()
    disk.arm()
    store = ShareStore(folder, disk=disk)
    with declined(Code.NOT_OPEN):
        store.progress(encoding.key(0), OWNER, 0.0)
    assert not staged_files(folder)
    encoding.put(store, 0)
    encoding.assert_readable(store, 0)
    assert not disk.resynced
    store.close()


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "ab" * 16 + ".00",
        "ab" * 16 + ".40." + "0a" * 16,
        "ab" * 16 + ".00." + "0a" * 16,
        sample().encoding_id.hex() + ".01." + OWNER.hex(),
    ],
)
def test_what_is_no_staged_share_goes(folder: Path, name: str) -> None:
    path = begin(folder, sample(), 0)
    path.rename(path.with_name(name))
    store = ShareStore(folder)
    assert not staged_files(folder)
    sample().put(store, 0)
    store.close()


def test_a_folder_in_staging_is_in_nobodys_way(folder: Path) -> None:
    begin(folder, sample(), 0)
    (folder / "staging" / "folder").mkdir()
    store = ShareStore(folder)
    go_on(store, sample(), {0})
    store.close()


def test_what_is_committed_meanwhile_or_deleted_is_not_taken_up(folder: Path) -> None:
    committed, deleted = sample("committed"), sample("deleted")
    left = [(encoding, begin(folder, encoding, 0).read_bytes()) for encoding in (committed, deleted)]
    store = ShareStore(folder)
    go_on(store, committed, {0})
    deleted.put(store, 1)
    store.delete(deleted.deletion(), OWNER)
    store.close()
    for encoding, content in left:
        (folder / "staging" / f"{encoding.encoding_id.hex()}.00.{OWNER.hex()}").write_bytes(content)
    store = ShareStore(folder)
    assert not staged_files(folder)
    committed.assert_readable(store, 0)
    store.close()


# --- time and room


def test_it_is_dropped_a_day_after_it_was_last_touched_restarts_included(folder: Path) -> None:
    path = begin(folder, sample(), 0)
    os.utime(path, (START, START))
    clock = SetClock(START)
    for _ in range(4):
        clock.pass_time(5 * HOUR)
        store = ShareStore(folder, clock=clock)
        store.expire(clock.now)
        store.close()
    store = ShareStore(folder, clock=clock)
    clock.pass_time(4 * HOUR)
    store.expire(clock.now)
    assert staged_files(folder)
    clock.pass_time(1.0)
    store.expire(clock.now)
    assert not staged_files(folder)
    store.close()


def test_one_whose_day_is_over_while_no_worker_ran_goes_at_the_start(folder: Path) -> None:
    path = begin(folder, sample(), 0)
    os.utime(path, (START, START))
    store = ShareStore(folder, clock=SetClock(START + 25 * HOUR))
    assert not staged_files(folder)
    store.close()


def test_a_file_from_the_future_was_touched_just_now(folder: Path) -> None:
    path = begin(folder, sample(), 0)
    os.utime(path, (START, START))
    clock = SetClock(START - 1000 * HOUR)
    store = ShareStore(folder, clock=clock)
    clock.pass_time(23 * HOUR)
    store.expire(clock.now)
    go_on(store, sample(), {0})
    store.close()


def test_what_was_promised_to_it_is_promised_again_when_it_goes_on(folder: Path) -> None:
    encoding = sample(segments=4, block_size=2**17, last=2**17)
    begin(folder, encoding, 0)
    store = ShareStore(folder, 2**20)
    store.open(encoding.opening(0), OWNER, 0.0)
    other = sample("other", segments=4, block_size=2**17, last=2**17)
    with declined(Code.NO_ROOM):
        store.open(other.opening(0), OWNER, 0.0)
    go_on(store, encoding, {0})
    store.close()


@pytest.mark.parametrize("method", ["reopen", "read_at", "truncate", "remove"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
def test_a_disk_that_fails_while_it_is_taken_up_stops_no_worker(folder: Path, method: str, code: int) -> None:
    path = begin(folder, sample(), 0, 1)
    path.write_bytes(path.read_bytes()[:-1])
    disk = FaultyDisk()
    disk.arm(always={method: code})
    store = ShareStore(folder, disk=disk)
    disk.arm()
    store.open(sample().opening(0, share_bytes=IN_A_FILE), OWNER, 0.0)
    sample().put(store, 0)
    sample().assert_readable(store, 0)
    assert not staged_files(folder)
    store.close()


# --- how far it came


def test_progress_says_which_blocks_are_there(folder: Path) -> None:
    store = ShareStore(folder)
    encoding = sample(segments=6)
    with declined(Code.NOT_OPEN):
        store.progress(encoding.key(0), OWNER, 0.0)
    store.open(encoding.opening(0), OWNER, 0.0)
    assert store.progress(encoding.key(0), OWNER, 0.0) == []
    for segment in (4, 0, 1, 5):
        encoding.append(store, 0, segment)
    assert store.progress(encoding.key(0), OWNER, 0.0) == [SegmentRange(0, 2), SegmentRange(4, 2)]
    for segment in (2, 3):
        encoding.append(store, 0, segment)
    encoding.commit(store, 0)
    assert store.progress(encoding.key(0), OWNER, 0.0) is None, "it was committed"
    with declined(Code.NOT_OPEN):
        store.progress(encoding.key(0), STRANGER, 0.0)
    store.close()


@pytest.mark.parametrize("share_bytes", [0, IN_A_FILE])
def test_who_asks_how_far_it_came_keeps_it_alive(folder: Path, share_bytes: int) -> None:
    store = ShareStore(folder)
    store.open(sample().opening(0, share_bytes=share_bytes), OWNER, 0.0)
    store.progress(sample().key(0), OWNER, 20 * HOUR)
    store.expire(30 * HOUR)
    assert store.progress(sample().key(0), OWNER, 30 * HOUR) == []
    store.expire(55 * HOUR)
    with declined(Code.NOT_OPEN):
        store.progress(sample().key(0), OWNER, 55 * HOUR)
    store.close()
