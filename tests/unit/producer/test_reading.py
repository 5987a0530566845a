"""A file is read with its SHA-256, and a file that did not hold still meanwhile is noticed and named."""

from __future__ import annotations

import hashlib
import io
import os
import select
import sys
import threading
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import IntegrityError, NotFoundError
from common.vault.stamp import Stamp
from producer.reading import Reader, hash_file, read_whole
from producer.sources import Source, find_sources
from tests.support.clocks import wait_for_another_tick
from tests.support.sample_images import chance

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
    stamp = Stamp.of(tmp_path / "image", (tmp_path / "image").stat())._replace(changed=None)  # since it is so young
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


def test_a_pipe_that_has_nothing_for_a_moment_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that another program made non-blocking: half of an image must not be taken for all of it."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    class Stdin:
        buffer = io.FileIO(reading)

    def write_late() -> None:
        while not waiting.wait(10):
            raise AssertionError("nobody reads")
        os.write(writing, CONTENT[5000:])
        os.close(writing)

    waiting = threading.Event()
    wait_for_more = select.select

    def select_and_tell(*arguments: Any) -> Any:
        waiting.set()
        return wait_for_more(*arguments)

    stdin: Any = Stdin()
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(select, "select", select_and_tell)
    os.write(writing, CONTENT[:5000])
    writer = threading.Thread(target=write_late)
    writer.start()
    buffer = memoryview(bytearray(20_000))
    with Reader(Source(None, "-", "stdin")) as reader:
        assert reader.read_into(buffer) == len(CONTENT)
    writer.join()
    assert bytes(buffer[: len(CONTENT)]) == CONTENT


def test_a_stdin_that_is_closed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(NotFoundError, match="-: cannot be read: stdin is closed"):
        Reader(Source(None, "-", "stdin"))


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


def rewrite_in_secret(path: Path) -> None:
    """The same length, and the time of modification set back."""
    before = path.stat()
    wait_for_another_tick(path.parent)
    path.write_bytes(bytes(len(CONTENT)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = [grow, shrink, empty, rewrite]


@pytest.mark.parametrize(
    ("read_before", "change"),
    [(count, change) for count in (0, 5000, 20_000) for change in CHANGES]
    + [(5000, rewrite_in_secret), (20_000, rewrite_in_secret)],
)
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
@pytest.mark.parametrize("change", [*CHANGES, rewrite_in_secret])
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


@pytest.mark.skipif(sys.platform == "win32", reason="an open file keeps its name there")
@pytest.mark.parametrize("change", [lambda path: path.rename(path.with_name("new")), lambda path: path.chmod(0o600)])
def test_a_new_name_or_other_rights_meanwhile_are_no_change_of_the_file(
    path: Path, change: Callable[[Path], None]
) -> None:
    with Reader(source_of(path)) as reader:
        wait_for_another_tick(path.parent)
        change(path)
        reader.read_into(memoryview(bytearray(20_000)))
        assert reader.finish() == hashlib.sha256(CONTENT).digest()


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no pipes with names")
def test_a_file_that_became_a_pipe_is_named_and_never_waited_for(path: Path) -> None:
    source = source_of(path)
    path.unlink()
    os.mkfifo(path)  # type: ignore[attr-defined,unused-ignore]  # not on Windows
    with pytest.raises(NotFoundError, match=f"{path.name}: cannot be read: not a regular file"):
        Reader(source)


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
        with pytest.raises(IntegrityError, match=f"{path.name}: cannot be read: Input/output error"):
            reader.read_into(memoryview(bytearray(10)))
