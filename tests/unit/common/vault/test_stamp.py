"""By what a file is taken for one seen before: whatever an edit leaves as it was, the stamp is another, or doubts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.protocol.codec import pack
from common.vault.stamp import Stamp
from tests.support.clocks import wait_for_another_tick

POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="its times come from another call there")
SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND


def status(modified: int, changed: int, inode: int = 4711) -> Any:
    """A file's status, as a file system may give it; times in ns."""
    return SimpleNamespace(st_size=100, st_mtime_ns=modified, st_ctime_ns=changed, st_ino=inode)


def stamp(modified: int, changed: int, inode: int = 4711) -> Stamp:
    return Stamp.of(Path("/photos/a.jpg"), status(modified, changed, inode))


def test_an_edit_that_keeps_size_and_time_of_modification_shows(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"AAAA")
    before = path.stat()
    stamp_before = Stamp.of(path, before)
    wait_for_another_tick(tmp_path)
    path.write_bytes(b"BBBB")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    stamp_after = Stamp.of(path, path.stat())
    assert stamp_after[:3] == stamp_before[:3]
    assert stamp_after != stamp_before


def test_another_file_of_the_same_name_size_and_time_shows(tmp_path: Path) -> None:
    path, other = tmp_path / "photo.jpg", tmp_path / "other.jpg"
    path.write_bytes(b"AAAA")
    other.write_bytes(b"BBBB")
    before = path.stat()
    stamp_before = Stamp.of(path, before)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)
    assert Stamp.of(path, path.stat()) != stamp_before


@POSIX_ONLY
@pytest.mark.parametrize("moment", [NOW, NOW + 2 * SECOND, NOW + 120_000_000])
def test_where_a_file_system_keeps_no_time_of_change_the_stamp_tells_of_none(moment: int) -> None:
    """As FAT (2 s), exFAT (0.01 s) and sshfs (1 s): they give the time of modification in its place."""
    assert stamp(moment, moment).changed is None


@POSIX_ONLY
@pytest.mark.parametrize("changed", [NOW + SECOND, NOW + 123_456_789])
def test_where_a_file_system_keeps_one_it_counts(changed: int) -> None:
    assert stamp(NOW, changed).changed == changed
    assert stamp(changed, changed).changed == (changed if changed % 10_000_000 else None)


@POSIX_ONLY
@pytest.mark.parametrize(("age", "proves"), [(-SECOND, False), (0, False), (SECOND, False), (3 * SECOND, True)])
def test_a_file_that_changed_a_moment_before_it_was_read_is_read_again(age: int, proves: bool) -> None:
    """A second change within the same tick of the file system's clock would leave all as it is."""
    changed = NOW - age - 1
    assert stamp(NOW - 100 * SECOND, changed).proving_from(NOW).changed == (changed if proves else None)


@given(
    st.integers(-(2**80), 2**80),
    st.integers(-(2**80), 2**80),
    st.integers(0, 2**128),
)
def test_no_time_and_no_inode_is_too_odd_to_be_written_down(modified: int, changed: int, inode: int) -> None:
    """Of the years 1066 and 2600, and of Windows' file systems."""
    odd = stamp(modified, changed, inode)
    assert pack(list(odd))
    assert pack(list(odd.proving_from(NOW)))


def test_times_far_away_are_told_apart() -> None:
    year_2600, year_1066 = 19_880_899_200 * SECOND, -28_500_000_000 * SECOND
    moments = [year_2600, year_2600 + 1, year_1066, year_1066 + 1, -1, 0, 1]
    assert len({stamp(moment, 5) for moment in moments}) == len(moments)
