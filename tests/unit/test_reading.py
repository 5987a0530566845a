"""A file is read with its SHA-256, and a file that did not hold still meanwhile is noticed and named."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import IntegrityError, NotFoundError
from common.vault.seen import Stamp
from producer.reading import Reader, hash_file, read_whole
from producer.sources import Source, find_sources
from tests.unit.sample_images import chance

CONTENT = chance("content", 10_000)


def source_of(path: Path) -> Source:
    (source,) = find_sources([os.fspath(path)], "stdin")
    return source


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "写真.png"
    path.write_bytes(CONTENT)
    return path


# --- a file at rest


@given(st.integers(0, 3_000_000), st.integers(100_000, 2_500_000))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_is_read_as_it_is_in_steps_of_any_size(tmp_path: Path, size: int, step: int) -> None:
    content = chance("large", size)
    (tmp_path / "image").write_bytes(content)
    read, buffer = b"", memoryview(bytearray(step))
    with Reader(source_of(tmp_path / "image")) as reader:
        assert reader.size == size
        while count := reader.read_into(buffer):
            read += buffer[:count]
            assert count == step or len(read) == size, "the buffer was not filled though there was more"
        assert reader.finish() == hashlib.sha256(content).digest()
    assert read == content


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_reading_whole_and_hashing_agree(tmp_path: Path, size: int) -> None:
    content = chance("content", size)
    (tmp_path / "image").write_bytes(content)
    source = source_of(tmp_path / "image")
    status = (tmp_path / "image").stat()
    stamp = Stamp(os.path.abspath(tmp_path / "image"), size, status.st_mtime_ns)
    sha256 = hashlib.sha256(content).digest()
    whole, *rest = read_whole(source)
    assert (bytes(whole), whole.readonly, *rest) == (content, True, sha256, stamp)
    assert hash_file(source) == (sha256, stamp)


def test_stdin_is_read_to_its_end_and_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(CONTENT)

    stdin: Any = Stdin()
    monkeypatch.setattr(sys, "stdin", stdin)
    (source,) = find_sources(["-"], "scan.png")
    buffer = memoryview(bytearray(20_000))
    with Reader(source) as reader:
        assert (reader.size, reader.stamp) == (None, None)
        assert reader.read_into(buffer) == len(CONTENT)
        assert reader.finish() == hashlib.sha256(CONTENT).digest()
    assert bytes(buffer[: len(CONTENT)]) == CONTENT
    assert not Stdin.buffer.closed


def test_a_pipe_that_gives_a_little_at_a_time_still_fills_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trickle(io.RawIOBase):
        left = CONTENT

        def readinto(self, buffer: Any) -> int:
            count = min(7, len(buffer), len(self.left))
            buffer[:count], self.left = self.left[:count], self.left[count:]
            return count

    class Stdin:
        buffer = Trickle()

    stdin: Any = Stdin()
    monkeypatch.setattr(sys, "stdin", stdin)
    buffer = memoryview(bytearray(6000))
    with Reader(Source(None, "-", "stdin")) as reader:
        assert reader.read_into(buffer) == 6000
        assert reader.read_into(buffer) == 4000
        assert reader.finish() == hashlib.sha256(CONTENT).digest()


# --- a file that does not hold still


def grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, 100)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def rewrite(path: Path) -> None:
    """The same length, and a later time: how late is up to the file system's clock, so it is set."""
    path.write_bytes(bytes(len(CONTENT)))
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


CHANGES = [grow, shrink, empty, rewrite]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("read_before", [0, 5000, 20_000])
def test_a_file_that_changes_between_open_and_finish_is_named(
    path: Path, change: Callable[[Path], None], read_before: int
) -> None:
    source = source_of(path)
    with Reader(source) as reader:
        reader.read_into(memoryview(bytearray(read_before)))
        change(path)
        reader.read_into(memoryview(bytearray(20_000)))
        with pytest.raises(IntegrityError, match=f"{path.name} changed while it was read") as raised:
            reader.finish()
    assert raised.value.advice


@pytest.mark.parametrize("read", [read_whole, hash_file])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_read_in_one_go_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Source], Any], change: Callable[[Path], None]
) -> None:
    source = source_of(path)
    fill = Reader.read_into

    def changing(self: Reader, buffer: memoryview) -> int:
        count = fill(self, buffer)
        change(path)
        return count

    monkeypatch.setattr(Reader, "read_into", changing)
    with pytest.raises(IntegrityError, match=path.name):
        read(source)


def test_a_small_file_that_grew_since_it_was_found_is_named_before_it_is_read(path: Path) -> None:
    """As one that is still being copied: it may have become too large for what small files are sent in."""
    source = source_of(path)
    with path.open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(IntegrityError, match=path.name):
        read_whole(source)


@pytest.mark.parametrize("read", [read_whole, hash_file])
def test_a_file_that_has_more_than_it_says_is_never_taken_for_the_beginning_of_it(
    read: Callable[[Source], Any],
) -> None:
    path = Path("/proc/version")  # one of the kernel's files, which say that they are empty
    if not path.exists() or path.stat().st_size:
        pytest.skip("this system has no such file")
    with pytest.raises(IntegrityError, match="/proc/version"):
        read(source_of(path))


@pytest.mark.parametrize("read", [read_whole, hash_file])
def test_a_file_that_vanished_is_named(path: Path, read: Callable[[Source], Any]) -> None:
    source = source_of(path)
    path.unlink()
    with pytest.raises(NotFoundError, match=path.name):
        read(source)


def test_a_file_that_became_a_folder_is_named(path: Path) -> None:
    source = source_of(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(NotFoundError, match=path.name):
        Reader(source)


def test_a_disk_that_fails_while_it_is_read_is_an_error_for_this_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(io.RawIOBase):
        def readinto(self, buffer: Any) -> int:
            raise OSError(5, "Input/output error")

    with Reader(source_of(path)) as reader:
        reader._file.close()
        failing: Any = Failing()
        monkeypatch.setattr(reader, "_file", failing)
        with pytest.raises(NotFoundError, match=f"{path.name}: cannot be read: Input/output error"):
            reader.read_into(memoryview(bytearray(10)))
