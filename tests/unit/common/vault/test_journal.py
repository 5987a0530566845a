"""The journal of a put: whatever becomes of it, it tells what was durable before, and nothing wrong to anybody."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Optional, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.vault import journal as journal_module
from common.vault.journal import Beginning, Ending, InterruptedPut, Journal, Journals, Moved, Segment, new_beginning
from common.vault.stamp import Stamp
from tests.support.sample_images import KEY, OTHER_KEY, chance

N = 4
FILE = Path("/home/photos/panorama.tif")
ORIGIN = Stamp(b"/home/photos/panorama.tif", 100 << 20, 1_700_000_000_123_456_789, 1_700_000_001_000_000_000, 4711)
NONCE, ENCODING_ID, DATA_KEY = chance("nonce", 16), chance("encoding", 16), chance("data key", 32)
DEVICES: list[Optional[bytes]] = [chance("one", 16), chance("two", 16), None, chance("four", 16)]
SPARE = chance("spare", 16)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def beginning(encoding_id: bytes = ENCODING_ID) -> Beginning:
    return new_beginning(ORIGIN, NONCE, encoding_id, DATA_KEY, 2, N, 1 << 20, DEVICES)


def segment(number: int) -> Segment:
    return Segment(number, chance(f"fingerprint {number}", 32), chance(f"digests {number}", 32 * N))


def opened(folder: Path, file: Path = FILE) -> Journal:
    journal = Journals(folder, KEY).open(file)
    assert journal is not None
    return journal


def write(folder: Path, *chunks: Union[Segment, Moved, Ending]) -> None:
    """One run that is interrupted after these chunks."""
    journal = opened(folder)
    journal.begin(beginning())
    for chunk in chunks:
        journal.write(chunk)
    journal.sync()
    journal.close()


def read(folder: Path) -> Optional[InterruptedPut]:
    """What the next run finds."""
    journal = opened(folder)
    try:
        return journal.begun
    finally:
        journal.close()


def journal_file(folder: Path) -> Path:
    (path,) = (folder / "journal").iterdir()
    return path


def test_the_next_run_finds_what_was_written(tmp_path: Path) -> None:
    ending = Ending(chance("sha256", 32), b"a sealed mapping")
    write(tmp_path, segment(0), segment(1), Moved(2, SPARE), segment(2), ending)
    begun = read(tmp_path)
    assert begun is not None
    assert begun.beginning == beginning()
    assert begun.beginning.origin == ORIGIN
    assert begun.segments == [segment(0), segment(1), segment(2)]
    assert begun.devices == [DEVICES[0], DEVICES[1], SPARE, DEVICES[3]]
    assert begun.ending == ending


def test_it_can_be_written_on_by_one_run_after_the_other(tmp_path: Path) -> None:
    write(tmp_path, segment(0))
    for number in (1, 2):
        journal = opened(tmp_path)
        journal.write(segment(number))
        journal.sync()
        journal.close()
    begun = read(tmp_path)
    assert begun is not None
    assert begun.segments == [segment(0), segment(1), segment(2)]


def test_without_an_interruption_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def test_beginning_anew_makes_void_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, segment(0), segment(1))
    journal = opened(tmp_path)
    journal.begin(beginning(chance("another", 16)))
    journal.write(segment(0))
    journal.close()
    begun = read(tmp_path)
    assert begun is not None
    assert begun.beginning.encoding_id == chance("another", 16)
    assert begun.segments == [segment(0)]


def test_after_its_removal_nothing_is_left(tmp_path: Path) -> None:
    write(tmp_path, segment(0))
    opened(tmp_path).remove()
    assert list((tmp_path / "journal").iterdir()) == []


@given(st.data())
@in_one_folder
def test_a_torn_end_is_ignored_and_written_over(tmp_path: Path, data: st.DataObject) -> None:
    write(tmp_path, segment(0))
    one = journal_file(tmp_path).stat().st_size
    write(tmp_path, segment(0), segment(1))
    content = journal_file(tmp_path).read_bytes()
    cut = data.draw(st.integers(one, len(content) - 1))
    journal_file(tmp_path).write_bytes(content[:cut] + bytes(data.draw(st.integers(0, 300))))
    journal = opened(tmp_path)
    assert journal.begun is not None
    assert journal.begun.segments == [segment(0)]
    journal.write(segment(1))
    journal.close()
    begun = read(tmp_path)
    assert begun is not None
    assert begun.segments == [segment(0), segment(1)]


@given(st.data())
@in_one_folder
def test_a_flipped_bit_costs_what_comes_from_there_on_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    write(tmp_path, segment(0), segment(1))
    content = bytearray(journal_file(tmp_path).read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    journal_file(tmp_path).write_bytes(content)
    begun = read(tmp_path)
    if begun is not None:
        assert begun.beginning == beginning()
        assert begun.segments in ([], [segment(0)])


@given(st.binary(max_size=2000))
@in_one_folder
def test_whatever_stands_in_its_place_is_no_journal(tmp_path: Path, content: bytes) -> None:
    write(tmp_path)
    journal_file(tmp_path).write_bytes(content)
    assert read(tmp_path) is None


def test_a_chunk_of_an_older_journal_does_not_pass(tmp_path: Path) -> None:
    """Put back behind another beginning, it could have a segment taken for sealed that was not."""
    write(tmp_path, segment(0))
    old = journal_file(tmp_path).read_bytes()
    journal = opened(tmp_path)
    journal.begin(beginning(chance("another", 16)))
    journal.close()
    new = journal_file(tmp_path).read_bytes()
    journal_file(tmp_path).write_bytes(new + old[len(new) :])
    begun = read(tmp_path)
    assert begun is not None
    assert begun.segments == []


def test_a_journal_under_another_files_name_does_not_pass(tmp_path: Path) -> None:
    write(tmp_path, segment(0))
    old = journal_file(tmp_path)
    other = opened(tmp_path, FILE.with_name("other.tif"))
    other.close()
    (new,) = (path for path in (tmp_path / "journal").iterdir() if path != old)
    old.replace(new)
    journal = opened(tmp_path, FILE.with_name("other.tif"))
    assert journal.begun is None
    journal.close()


@pytest.mark.parametrize("numbers", [[1], [0, 2], [0, 0], [0, 1, 0]])
def test_segments_count_only_in_their_order(numbers: list[int], tmp_path: Path) -> None:
    write(tmp_path, *(segment(number) for number in numbers))
    begun = read(tmp_path)
    assert begun is not None
    assert [each.segment for each in begun.segments] == list(range(len(numbers) - 1))


def test_a_segment_with_too_few_digests_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, Segment(0, bytes(32), bytes(32 * (N - 1))))
    begun = read(tmp_path)
    assert begun is not None
    assert begun.segments == []


def test_neither_its_name_nor_its_content_tells_anything(tmp_path: Path) -> None:
    write(tmp_path, segment(0), Moved(1, SPARE))
    seen = journal_file(tmp_path).name.encode() + journal_file(tmp_path).read_bytes()
    for secret in (b"panorama", b"photos", DATA_KEY, DATA_KEY.hex().encode(), ENCODING_ID, SPARE):
        assert secret not in seen
    stranger = Journals(tmp_path, OTHER_KEY).open(FILE)
    assert stranger is not None
    assert stranger.begun is None
    stranger.close()
    assert len(list((tmp_path / "journal").iterdir())) == 2, "another vault gives the same file another name"
    assert DATA_KEY.hex() not in repr(beginning())
    assert repr(DATA_KEY)[2:-1] not in repr(beginning())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    write(tmp_path)
    assert stat.S_IMODE(journal_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700


def test_a_second_producer_of_the_same_file_gets_none(tmp_path: Path) -> None:
    first = opened(tmp_path)
    assert Journals(tmp_path, KEY).open(FILE) is None
    other = opened(tmp_path, FILE.with_name("other.tif"))
    other.close()
    first.close()
    opened(tmp_path).close()


def test_a_path_that_is_too_long_gets_none(tmp_path: Path) -> None:
    assert Journals(tmp_path, KEY).open(Path("/" + 5000 * "x")) is None


def test_what_nobody_went_on_with_for_thirty_days_is_removed(tmp_path: Path) -> None:
    write(tmp_path, segment(0))
    now, path = time.time(), journal_file(tmp_path)
    os.utime(path, (now, now - 29 * 86400))
    Journals(tmp_path, KEY).remove_old(now)
    assert path.exists()
    os.utime(path, (now, now - 31 * 86400))
    Journals(tmp_path, KEY).remove_old(now)
    assert not path.exists()


def test_a_journal_in_use_is_never_too_old(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.begin(beginning())
    path = journal_file(tmp_path)
    os.utime(path, (0, 0))
    Journals(tmp_path, KEY).remove_old(time.time())
    assert path.exists()
    journal.close()


def test_without_a_folder_there_is_nothing_old(tmp_path: Path) -> None:
    Journals(tmp_path / "missing", KEY).remove_old(time.time())


# --- what is durable


class Disk:
    """In place of `sync_file`: counts, waits where it is told to, and fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.syncs = 0
        self.fail = False
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()
        monkeypatch.setattr(journal_module, "sync_file", self._sync)

    def _sync(self, descriptor: int) -> None:
        self.syncs += 1
        self.begun.set()
        assert self.may_end.wait(30)
        if self.fail:
            raise OSError(errno.EIO, "input/output error")


def test_sync_returns_only_once_what_was_written_before_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    journal = opened(tmp_path)
    journal.begin(beginning())
    disk.syncs = 0
    disk.may_end.clear()
    journal.write(segment(0))
    syncing = threading.Thread(target=journal.sync)
    syncing.start()
    assert disk.begun.wait(30)
    syncing.join(0.05)
    assert syncing.is_alive()
    disk.may_end.set()
    syncing.join(30)
    assert not syncing.is_alive()
    assert disk.syncs == 1
    journal.sync()
    assert disk.syncs == 1, "all was on the disk"
    journal.close()


def test_what_was_read_counts_as_durable_only_once_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that wrote it may have been killed before its own fsync."""
    write(tmp_path, segment(0))
    disk = Disk(monkeypatch)
    journal = opened(tmp_path)
    journal.sync()
    assert disk.syncs == 1
    journal.close()


def test_a_sync_that_failed_is_never_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(tmp_path)
    journal.begin(beginning())
    disk = Disk(monkeypatch)
    disk.fail = True
    journal.write(segment(0))
    for _ in range(3):
        with pytest.raises(OSError, match="input/output"):
            journal.sync()
    assert disk.syncs == 1
    journal.remove()
    assert list((tmp_path / "journal").iterdir()) == []
