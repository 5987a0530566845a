"""The index of files already stored: whatever becomes of it, it forgets, and never tells anything wrong."""

from __future__ import annotations

import hashlib
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.vault.seen import SeenFiles
from common.vault.stamp import Stamp
from tests.support.sample_images import KEY, OTHER_KEY, chance

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def stamp(number: int) -> Stamp:
    moment = 1_700_000_000_000_000_000 + number
    return Stamp(b"/home/photos/holiday/%d.jpg" % number, 1000 + number, moment, moment + 1000, 4711 + number)


def sha256(number: int) -> bytes:
    return chance(f"image {number}", 32)


def save(folder: Path, *numbers: int) -> None:
    """One run that stores these files."""
    seen = SeenFiles(folder, KEY)
    for number in numbers:
        seen.add(stamp(number), sha256(number))
    seen.save()


def known(folder: Path, count: int = 10) -> list[int]:
    """Which files are recognised; each recognised one with its own SHA-256."""
    seen = SeenFiles(folder, KEY)
    found = {number: seen.sha256_of(stamp(number)) for number in range(count)}
    assert all(found[number] in (b"", sha256(number)) for number in found), "a wrong SHA-256"
    return [number for number in found if found[number]]


def chunks(folder: Path) -> list[bytes]:
    """The runs of the index, each with its length before it."""
    content = (folder / "seen").read_bytes()
    found = []
    while content:
        length = 4 + int.from_bytes(content[:4], "big")
        found.append(content[:length])
        content = content[length:]
    return found


def test_what_was_saved_is_known_to_the_next_run(tmp_path: Path) -> None:
    save(tmp_path, 0, 1)
    save(tmp_path, 2)
    assert known(tmp_path) == [0, 1, 2]


def test_without_an_index_nothing_is_known(tmp_path: Path) -> None:
    assert known(tmp_path / "missing") == []


def test_a_file_is_recognised_only_by_all_of_its_stamp_together(tmp_path: Path) -> None:
    save(tmp_path, 0)
    seen = SeenFiles(tmp_path, KEY)
    before = stamp(0)
    others: list[dict[str, Any]] = [
        {"path": before.path + b"x"},
        {"size": before.size + 1},
        {"modified": before.modified + 1},
        {"changed": before.modified + 1},
        {"inode": before.inode + 1},
    ]
    assert [seen.sha256_of(before._replace(**other)) for other in others] == [b""] * 5
    assert seen.sha256_of(before) == sha256(0)


def test_a_stamp_that_tells_of_no_change_is_never_believed(tmp_path: Path) -> None:
    """As on FAT, and of a file that was written a moment before it was read."""
    doubtful = stamp(0)._replace(changed=None)
    for _ in range(2):
        seen = SeenFiles(tmp_path, KEY)
        assert seen.sha256_of(doubtful) == b""
        assert seen.sha256_of(stamp(0)) == b""
        seen.add(doubtful, sha256(0))
        seen.save()


def test_a_file_of_the_same_path_and_size_is_known_to_resemble_one_that_was_seen(tmp_path: Path) -> None:
    save(tmp_path, 0)
    seen = SeenFiles(tmp_path, KEY)
    assert seen.resembles(stamp(0)._replace(modified=1, changed=None, inode=1))
    assert not seen.resembles(stamp(0)._replace(size=1))
    assert not seen.resembles(stamp(1))


def test_an_index_that_is_mostly_outdated_is_written_anew_and_knows_as_much(tmp_path: Path) -> None:
    """As of a file system whose inodes are others after each start: each run adds an entry for each file."""
    files = 400
    sizes = []
    for inode in range(20):
        seen = SeenFiles(tmp_path, KEY)
        for number in range(files):
            seen.add(stamp(number)._replace(inode=inode), sha256(number))
        seen.save()
        sizes.append((tmp_path / "seen").stat().st_size)
        again = SeenFiles(tmp_path, KEY)
        assert all(again.sha256_of(stamp(n)._replace(inode=inode)) == sha256(n) for n in range(files))
    assert max(sizes) < 6 * sizes[0]


def test_the_latest_sha256_of_a_file_counts(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        seen = SeenFiles(tmp_path, KEY)
        seen.add(stamp(0), hashlib.sha256(content).digest())
        seen.save()
    assert SeenFiles(tmp_path, KEY).sha256_of(stamp(0)) == hashlib.sha256(b"new").digest()


def test_saving_what_is_known_writes_nothing(tmp_path: Path) -> None:
    save(tmp_path, 0)
    before = (tmp_path / "seen").read_bytes()
    save(tmp_path, 0)
    save(tmp_path)
    assert (tmp_path / "seen").read_bytes() == before


_Word = st.integers(0, 2**64 - 1)


@given(
    st.dictionaries(
        st.builds(Stamp, st.binary(max_size=60), st.integers(0, 2**62), _Word, _Word, _Word),
        st.binary(min_size=32, max_size=32),
    ).filter(lambda entries: len({stamp.path for stamp in entries}) == len(entries))
)
@in_one_folder
def test_any_stamps_come_back(tmp_path: Path, entries: dict[Stamp, bytes]) -> None:
    (tmp_path / "seen").unlink(missing_ok=True)
    seen = SeenFiles(tmp_path, KEY)
    for entry, image in entries.items():
        seen.add(entry, image)
    seen.save()
    again = SeenFiles(tmp_path, KEY)
    assert {entry: again.sha256_of(entry) for entry in entries} == entries


def test_a_path_that_is_not_unicode_comes_back(tmp_path: Path) -> None:
    odd = stamp(0)._replace(path=b"/photos/caf\xe9.jpg")
    seen = SeenFiles(tmp_path, KEY)
    seen.add(odd, sha256(0))
    seen.save()
    assert SeenFiles(tmp_path, KEY).sha256_of(odd) == sha256(0)


@pytest.mark.parametrize("count", [1000, 1001, 2500])
def test_as_many_files_as_there_are_with_the_longest_paths_come_back(tmp_path: Path, count: int) -> None:
    large = 2**64 - 1
    stamps = [Stamp(b"/%04095d" % number, 2**62, large, large, large) for number in range(count)]
    seen = SeenFiles(tmp_path, KEY)
    for entry in stamps:
        seen.add(entry, sha256(1))
    seen.save()
    save(tmp_path, 0)
    again = SeenFiles(tmp_path, KEY)
    assert all(again.sha256_of(entry) == sha256(1) for entry in stamps)
    assert known(tmp_path) == [0]


def test_a_path_too_long_for_the_index_is_forgotten_and_no_other(tmp_path: Path) -> None:
    endless = stamp(0)._replace(path=b"/" + 5000 * b"x")
    seen = SeenFiles(tmp_path, KEY)
    seen.add(endless, sha256(9))
    seen.add(stamp(0), sha256(0))
    seen.save()
    assert SeenFiles(tmp_path, KEY).sha256_of(endless) == b""
    assert known(tmp_path) == [0]


# --- damage


def test_an_index_cut_anywhere_knows_the_runs_before_the_cut_and_can_be_added_to(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path, number)
    whole = chunks(tmp_path)
    ends = [sum(len(chunk) for chunk in whole[: count + 1]) for count in range(3)]
    content = b"".join(whole)
    for cut in range(len(content)):
        (tmp_path / "seen").write_bytes(content[:cut])
        before = [number for number in range(3) if ends[number] <= cut]
        assert known(tmp_path) == before
        save(tmp_path, 7)
        assert known(tmp_path) == [*before, 7]


def test_a_flipped_bit_loses_at_most_its_run_and_those_behind(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path, number)
    whole = chunks(tmp_path)
    content = b"".join(whole)
    owner = [number for number, chunk in enumerate(whole) for _ in chunk]
    for offset in range(len(content)):
        damaged = bytearray(content)
        damaged[offset] ^= 1 << offset % 8
        (tmp_path / "seen").write_bytes(damaged)
        assert known(tmp_path) == list(range(owner[offset]))
    save(tmp_path, 7)
    assert known(tmp_path) == [*range(owner[-1]), 7]


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 2, 1], [2, 0, 1], [0, 0, 1], [0, 2]])
def test_runs_that_were_swapped_repeated_or_left_out_are_not_believed(tmp_path: Path, order: list[int]) -> None:
    for number in range(3):
        save(tmp_path, number)
    whole = chunks(tmp_path)
    (tmp_path / "seen").write_bytes(b"".join(whole[number] for number in order))
    in_place = [number for place, number in enumerate(order) if order[: place + 1] == list(range(place + 1))]
    assert known(tmp_path) == in_place


@given(st.binary(max_size=200))
@in_one_folder
def test_random_bytes_are_an_empty_index_that_can_be_added_to(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "seen").write_bytes(content)
    assert known(tmp_path) == []
    save(tmp_path, 3)
    assert known(tmp_path) == [3]


def test_the_index_of_another_vault_tells_nothing(tmp_path: Path) -> None:
    save(tmp_path, 0)
    assert SeenFiles(tmp_path, OTHER_KEY).sha256_of(stamp(0)) == b""


# --- two at once


def test_two_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    first, second = SeenFiles(tmp_path, KEY), SeenFiles(tmp_path, KEY)
    first.add(stamp(0), sha256(0))
    second.add(stamp(1), sha256(1))
    first.save()
    second.save()
    first.add(stamp(2), sha256(2))
    first.save()
    assert known(tmp_path) == [0, 1, 2]


def test_runs_that_save_in_the_same_moment_wait_for_each_other(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def save_many(first: int) -> None:
        together.wait(30)
        for number in range(first, first + 25):
            save(tmp_path, number)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(save_many, range(0, 100, 25)))
    assert known(tmp_path, 100) == list(range(100))


def test_what_another_run_saved_is_known_after_saving(tmp_path: Path) -> None:
    first, second = SeenFiles(tmp_path, KEY), SeenFiles(tmp_path, KEY)
    first.add(stamp(0), sha256(0))
    first.save()
    second.add(stamp(1), sha256(1))
    second.save()
    assert second.sha256_of(stamp(0)) == sha256(0)


# --- nothing readable


def test_nothing_on_disk_tells_a_path_a_size_or_a_hash(tmp_path: Path) -> None:
    save(tmp_path, *range(10))
    content = (tmp_path / "seen").read_bytes()
    for number in range(10):
        path, _, modified, changed, _ = stamp(number)
        for part in (*path.split(b"/")[1:], path[:8], path[-4:]):
            assert part not in content
        assert sha256(number)[:6] not in content
        for moment in (modified, changed):
            assert moment is not None and moment.to_bytes(8, "big") not in content


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    save(tmp_path / "vault", 0)
    assert stat.S_IMODE((tmp_path / "vault" / "seen").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "vault").stat().st_mode) == 0o700
