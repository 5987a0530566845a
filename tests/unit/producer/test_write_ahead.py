"""What a put keeps for another run, what it gives up, and what is on the disk before anything is sent."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from common.coding.slicing import Slicing
from common.errors import IntegrityError, NotEnoughError, UnreachableError
from common.files import sync_file
from common.protocol.codec import unpack_header
from common.protocol.device_messages import Append
from common.protocol.envelope import Operation
from common.protocol.messages import Code
from common.vault import journal as journal_module
from producer.events import FailedImage, Outcome, StoredImage
from tests.support.interrupted_puts import (
    BLOCK,
    CONTENT,
    SEGMENT,
    SEGMENTS,
    K,
    Machine,
    make_sizes_small,
)
from tests.support.memory_cluster import run
from tests.support.sample_images import chance


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    make_sizes_small(monkeypatch)


# --- what is kept, and what is given up


@pytest.mark.parametrize("size", [SEGMENT - 5, SEGMENT])
def test_a_small_file_keeps_no_journal(size: int, tmp_path: Path) -> None:
    machine = Machine(tmp_path, content=chance("small", size))
    machine.stored()
    assert not (machine.vault.folder / "journal").exists()


def test_where_devices_are_gone_the_rest_stays_for_another_run(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for device in machine.cluster.devices[:3]:
        device.die(Operation.APPEND, 5)
    failed = run(machine.put())
    assert isinstance(failed, FailedImage)
    assert isinstance(failed.error, NotEnoughError)
    assert "run the same command again to go on where it stopped" in (failed.error.advice or "")
    for device in machine.cluster.devices:
        device.alive = True
    (before,) = machine.encodings()
    assert not machine.stored().degraded
    assert machine.encodings() == {before}
    machine.check_restored()


def test_where_there_is_no_room_all_is_given_up(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for device in machine.cluster.devices[:3]:
        device.decline(Operation.APPEND, Code.NO_ROOM, 5)
    assert isinstance(run(machine.put()), FailedImage)
    assert machine.encodings() == set()
    assert machine.journals == []


def test_a_file_that_changes_while_it_is_read_is_given_up(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    def grow(header: bytes, payload: bytes) -> None:
        with machine.file.open("ab") as file:
            file.write(b"more")

    machine.cluster.devices[0].intercept(Operation.OPEN, grow)
    failed = run(machine.put())
    assert isinstance(failed, FailedImage)
    assert isinstance(failed.error, IntegrityError)
    assert (machine.encodings(), machine.journals) == (set(), [])


def test_a_file_that_turns_out_to_be_stored_leaves_no_journal(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.stored()
    machine.file = machine.file.rename(machine.file.with_name("renamed"))
    assert machine.stored().already_stored
    assert machine.journals == []
    assert len(machine.encodings()) == 1


def test_a_second_producer_of_the_file_does_without_a_journal(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async def both() -> list[Outcome]:
        return list(await asyncio.gather(machine.put(), machine.put()))

    assert all(isinstance(outcome, StoredImage) for outcome in run(both()))
    assert machine.journals == []


@pytest.mark.parametrize("what", ["write", "sync"])
def test_a_journal_that_cannot_be_kept_is_removed_and_the_put_goes_on(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path)
    original: Callable[..., None] = getattr(journal_module.Journal, what)
    calls = 0

    def fail(self: object, *arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise OSError(28, "No space left on device")
        original(self, *arguments)

    monkeypatch.setattr(journal_module.Journal, what, fail)
    assert not machine.stored().degraded
    told = capsys.readouterr().err
    assert told.count("no journal can be kept: No space left on device; interrupted, it would begin anew") == 1
    assert machine.journals == []
    machine.check_restored()


@pytest.mark.parametrize(("method", "calls"), [("sync_file", 0), ("sync_file", 3), ("sync_file", 6), ("write", 4)])
def test_where_a_journal_cannot_be_kept_or_removed_the_put_begins_anew_without_it(
    method: str, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Left behind, it would tell less than what had been sealed: so nothing more is, under its key.

    An fsync does for all rows that are written by then: it is refused by their number, since how many there are varies.
    """
    machine = Machine(tmp_path)
    write = journal_module.Journal.write
    rows = 0

    def write_some(journal: journal_module.Journal, chunk: Any) -> None:
        nonlocal rows
        rows += 1
        if method == "write" and rows > calls:
            raise OSError(30, "Read-only file system")
        write(journal, chunk)

    def sync_some(descriptor: int) -> None:
        if method == "sync_file" and rows > calls:
            raise OSError(30, "Read-only file system")
        sync_file(descriptor)

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(journal_module.Journal, "write", write_some)
    monkeypatch.setattr(journal_module, "sync_file", sync_some)
    monkeypatch.setattr(journal_module.Journal, "remove", refuse)
    assert not machine.stored().degraded
    told = capsys.readouterr().err
    assert "cannot be removed: Read-only file system; it is stored from its beginning, without one" in told
    assert len(machine.encodings()) == 1, "what was sent before was not given up"
    machine.check_restored()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file's size")
@pytest.mark.parametrize("room", [0, 100, 700, 1500])
def test_a_journal_that_finds_no_room_costs_no_more_than_going_on_later(
    room: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the system's own refusal: what a file then has in its buffer fails once more when it is closed."""
    import resource

    machine = Machine(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        assert not machine.stored().degraded
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    told = capsys.readouterr().err
    assert told.count("no journal can be kept: File too large; interrupted, it would begin anew") == 1
    assert "Traceback" not in told
    assert machine.journals == []
    machine.check_restored()


def test_nothing_of_a_segment_leaves_before_its_journal_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path)
    durable = [-1]
    written = [-1]
    write, sync = journal_module.Journal.write, journal_module.Journal.sync

    def note_write(self: journal_module.Journal, chunk: object) -> None:
        write(self, chunk)  # type: ignore[arg-type]
        if isinstance(chunk, journal_module.Segment):
            written.append(chunk.segment)

    def note_sync(self: journal_module.Journal) -> None:
        reached = written[-1]
        sync(self)
        durable.append(max(reached, durable[-1]))

    monkeypatch.setattr(journal_module.Journal, "write", note_write)
    monkeypatch.setattr(journal_module.Journal, "sync", note_sync)

    def append(header: bytes, payload: bytes) -> None:
        assert unpack_header(header, Append).segment <= durable[-1]

    for device in machine.cluster.devices:
        device.intercept(Operation.APPEND, append)
    machine.stored()
    assert durable[-1] == SEGMENTS - 1


def test_a_broker_that_is_gone_leaves_all_for_another_run(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for device in machine.cluster.devices:
        device.fail(Operation.APPEND, lambda: UnreachableError("no answer from a device"), 5)
    failed = run(machine.put())
    assert isinstance(failed, FailedImage)
    assert len(machine.journals) == 1
    assert not machine.stored().degraded


def test_slices_are_as_small_here_as_these_tests_think() -> None:
    assert Slicing(K, 32, BLOCK).segment_count(len(CONTENT)) == SEGMENTS
