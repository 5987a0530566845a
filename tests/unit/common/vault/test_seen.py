"""The index of files already stored: whatever becomes of it, it forgets, and never tells anything wrong."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.vault.index import VaultIndex
from common.vault.seen import SeenFiles
from common.vault.stamp import Stamp
from tests.support.sample_images import KEY, OTHER_KEY, chance

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def stamp(number: int) -> Stamp:
    moment = 1_700_000_000_000_000_000 + number
    return Stamp(b"/home/photos/holiday/%d.jpg" % number, 1000 + number, moment, moment + 1000, 4711 + number)


def sha256(number: int) -> bytes:
    return chance(f"image {number}", 32)


def seen_in(folder: Path) -> SeenFiles:
    return SeenFiles(VaultIndex(folder, KEY))


def save(folder: Path, *numbers: int) -> None:
    """One run that stores these files."""
    seen = seen_in(folder)
    for number in numbers:
        seen.add(stamp(number), sha256(number))
    seen.save()


def rows(folder: Path) -> list[bytes]:
    """What the index has, sealed anew each time."""
    with contextlib.closing(sqlite3.connect(VaultIndex(folder, KEY).path)) as database:
        return [sealed for (sealed,) in database.execute("SELECT sealed FROM seen ORDER BY name")]


def known(folder: Path, count: int = 10) -> list[int]:
    """Which files are recognised; each recognised one with its own SHA-256."""
    seen = seen_in(folder)
    found = {number: seen.sha256s_of([stamp(number)])[0] for number in range(count)}
    assert all(found[number] in (b"", sha256(number)) for number in found), "a wrong SHA-256"
    return [number for number in found if found[number]]


def test_what_was_saved_is_known_to_the_next_run(tmp_path: Path) -> None:
    save(tmp_path, 0, 1)
    save(tmp_path, 2)
    assert known(tmp_path) == [0, 1, 2]


def test_without_an_index_nothing_is_known(tmp_path: Path) -> None:
    assert known(tmp_path / "missing") == []


def test_a_file_is_recognised_only_by_all_of_its_stamp_together(tmp_path: Path) -> None:
    save(tmp_path, 0)
    seen = seen_in(tmp_path)
    before = stamp(0)
    others: list[dict[str, Any]] = [
        {"path": before.path + b"x"},
        {"size": before.size + 1},
        {"modified": before.modified + 1},
        {"changed": before.modified + 1},
        {"inode": before.inode + 1},
    ]
    assert seen.sha256s_of([before._replace(**other) for other in others]) == [b""] * 5
    assert seen.sha256s_of([before])[0] == sha256(0)


def test_a_stamp_that_tells_of_no_change_is_never_believed(tmp_path: Path) -> None:
    """As on FAT, and of a file that was written a moment before it was read."""
    doubtful = stamp(0)._replace(changed=None)
    for _ in range(2):
        seen = seen_in(tmp_path)
        assert seen.sha256s_of([doubtful])[0] == b""
        assert seen.sha256s_of([stamp(0)])[0] == b""
        seen.add(doubtful, sha256(0))
        seen.save()


def test_a_file_of_the_same_path_and_size_is_known_to_resemble_one_that_was_seen(tmp_path: Path) -> None:
    save(tmp_path, 0)
    seen = seen_in(tmp_path)
    assert seen.resembles(stamp(0)._replace(modified=1, changed=None, inode=1))
    assert not seen.resembles(stamp(0)._replace(size=1))
    assert not seen.resembles(stamp(1))


def test_the_latest_sha256_of_a_file_counts(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        seen = seen_in(tmp_path)
        seen.add(stamp(0), hashlib.sha256(content).digest())
        seen.save()
    assert seen_in(tmp_path).sha256s_of([stamp(0)])[0] == hashlib.sha256(b"new").digest()


def test_saving_what_is_known_writes_nothing(tmp_path: Path) -> None:
    save(tmp_path, 0)
    before = rows(tmp_path)
    save(tmp_path, 0)
    save(tmp_path)
    assert rows(tmp_path) == before


_Word = st.integers(0, 2**64 - 1)


@given(
    st.dictionaries(
        st.builds(Stamp, st.binary(max_size=60), st.integers(0, 2**62), _Word, _Word, _Word),
        st.binary(min_size=32, max_size=32),
    ).filter(lambda entries: len({stamp.path for stamp in entries}) == len(entries))
)
@in_one_folder
def test_any_stamps_come_back(tmp_path: Path, entries: dict[Stamp, bytes]) -> None:
    seen = seen_in(tmp_path)
    for entry, image in entries.items():
        seen.add(entry, image)
    seen.save()
    again = seen_in(tmp_path)
    assert dict(zip(entries, again.sha256s_of([*entries]))) == entries


def test_a_path_that_is_not_unicode_comes_back(tmp_path: Path) -> None:
    odd = stamp(0)._replace(path=b"/photos/caf\xe9.jpg")
    seen = seen_in(tmp_path)
    seen.add(odd, sha256(0))
    seen.save()
    assert seen_in(tmp_path).sha256s_of([odd])[0] == sha256(0)


def test_the_index_of_another_vault_tells_nothing(tmp_path: Path) -> None:
    save(tmp_path, 0)
    assert SeenFiles(VaultIndex(tmp_path, OTHER_KEY)).sha256s_of([stamp(0)])[0] == b""


# --- two at once


def test_two_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    first, second = seen_in(tmp_path), seen_in(tmp_path)
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
    first, second = seen_in(tmp_path), seen_in(tmp_path)
    first.add(stamp(0), sha256(0))
    first.save()
    second.add(stamp(1), sha256(1))
    second.save()
    assert second.sha256s_of([stamp(0)])[0] == sha256(0)


def test_many_files_are_recognised_at_once_as_each_by_itself(tmp_path: Path) -> None:
    save(tmp_path, *range(0, 1200, 2))
    seen = seen_in(tmp_path)
    seen.add(stamp(1), sha256(1))
    asked = [stamp(number) for number in range(1200)]
    wanted = [sha256(number) if number % 2 == 0 or number == 1 else b"" for number in range(1200)]
    assert seen.sha256s_of(asked) == wanted
    assert seen.sha256s_of([]) == []
