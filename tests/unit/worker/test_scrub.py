"""The scrub reads everything in its time, finds what is bad, and is in nobody's way."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.protocol.messages import NO_TRASH
from tests.support.clocks import START, SetClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import OWNER, Sample, damage, held_by, large, lying, sample
from worker.scrub import ScrubCursor, load_cursor
from worker.store import ShareStore

WEEK = 7 * 24 * 3600.0
TICK = 0.25


class Device:
    """A store whose scrub is given its turns as the loop does, with nothing else to do."""

    def __init__(self, folder: Path, every: float) -> None:
        self.folder = folder
        self.every = every
        self.clock = SetClock()
        self.disk = FaultyDisk()
        self.start()

    def start(self) -> None:
        self.store = ShareStore(self.folder, disk=self.disk, clock=self.clock, scrub_every=self.every)
        self.disk.arm()

    def restart(self) -> None:
        self.store.close()
        self.start()

    def run(self, seconds: float, *, idle: bool = True) -> int:
        """Let time pass; how many turns read anything."""
        turns, end = 0, self.clock.now + seconds
        while self.clock.now < end:
            before = self.disk.calls.count("read_at")
            self.store.scrub.turn(self.clock.now, idle=idle)
            turns += self.disk.calls.count("read_at") > before
            wait = min(TICK, self.store.scrub.due_in(self.clock.now)) if idle else TICK
            self.clock.pass_time(max(wait, 0.001))
        return turns

    def cursor(self) -> ScrubCursor:
        """As it was written down."""
        cursor = load_cursor(self.store._index)
        assert cursor is not None
        return cursor


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """Eight shares, small ones of three blocks and large ones of two, to be read once in 100 s."""
    device = Device(tmp_path / "store", 100.0)
    for encoding in samples():
        encoding.put(device.store, 0)
    device.restart()
    device.store.changes()
    yield device
    device.disk.arm()
    device.store.close()


def samples() -> list[Sample]:
    """In the order in which they are put."""
    return [sample(f"{number}") for number in range(8)]


def flip(device: Device, encoding: Sample, what: bytes) -> None:
    path, start, length = lying(device.store, encoding, 0)
    damage(device.store, encoding, 0, path.read_bytes()[start : start + length].index(what) + 7, bytes([what[7] ^ 1]))


def test_every_bad_share_is_found_and_told_within_a_round(device: Device) -> None:
    bad = samples()[1:4]
    flip(device, bad[0], bad[0].blocks[0][0])
    flip(device, bad[1], bad[1].commitment.mapping)
    flip(device, bad[2], bad[2].blocks[2][0])
    device.run(device.every * 1.1)
    assert {key for key, held in held_by(device.store).items() if not held.sound} == {e.key(0) for e in bad}
    announced = device.store.changes().announced
    assert [(share.encoding_id, share.sound) for share in announced] == [(e.encoding_id, False) for e in bad]


def test_large_shares_are_read_in_the_round_too(device: Device) -> None:
    encoding = large()
    encoding.put(device.store, 0)
    device.restart()
    flip(device, encoding, encoding.blocks[0][0])
    device.run(device.every * 1.1)
    assert [key for key, held in held_by(device.store).items() if not held.sound] == [encoding.key(0)]


def test_a_share_that_is_kept_open_for_reading_is_read_anew_from_the_disk(device: Device) -> None:
    encoding = samples()[0]
    encoding.assert_readable(device.store, 0)
    flip(device, encoding, encoding.commitment.mapping)
    assert device.store.share(encoding.key(0), OWNER), "what was read before is believed until then"
    device.run(device.every * 1.1)
    assert not held_by(device.store)[encoding.key(0)].sound


def test_a_round_takes_its_time_and_no_longer(device: Device) -> None:
    """All that is read in a round is spread over it; header and trailer of a share are one turn, each block another."""
    turns = [device.run(device.every / 4) for _ in range(4)]
    assert sum(turns) == pytest.approx(8 * 4, abs=6)
    assert max(turns) - min(turns) <= 3


def test_a_turn_reads_a_block_at_most(device: Device) -> None:
    for _ in range(40):
        device.clock.pass_time(device.every / 8)
        device.disk.arm()
        device.store.scrub.turn(device.clock.now, idle=True)
        reads = device.disk.calls.count("read_at")
        assert reads in (0, 1, 3), "header, trailer and footer are read one by one"


def test_while_there_is_other_work_it_waits_but_not_for_ever(device: Device) -> None:
    device.run(1.0)
    busy = device.run(device.every, idle=False)
    assert 20 <= busy < 40, "it kept up, a few seconds late"
    while device.store.scrub.due_in(device.clock.now) == 0.0:
        device.store.scrub.turn(device.clock.now, idle=True)
    device.clock.pass_time(device.store.scrub.due_in(device.clock.now) + 9.9)
    device.disk.arm()
    device.store.scrub.turn(device.clock.now, idle=False)
    assert "read_at" not in device.disk.calls
    device.clock.pass_time(0.2)
    device.store.scrub.turn(device.clock.now, idle=False)
    assert "read_at" in device.disk.calls


def test_after_a_long_pause_it_does_not_rush(device: Device) -> None:
    device.run(1.0)
    device.clock.pass_time(1000 * device.every)
    assert device.run(1.0) < 40


def test_a_restart_goes_on_where_it_was(device: Device) -> None:
    first = samples()[0]
    device.run(device.every / 2)
    device.restart()
    cursor = device.cursor()
    assert cursor.began == int(START)
    assert 2 <= cursor.shares <= 6
    done = cursor.shares
    assert cursor.after == device.store._index.copies(samples()[done - 1].key(0))[0].serial
    flip(device, first, first.blocks[0][0])
    last = samples()[-1]
    flip(device, last, last.blocks[0][0])
    device.run(device.every * (1 - done / 8) * 0.98)
    assert not held_by(device.store)[last.key(0)].sound
    assert held_by(device.store)[first.key(0)].sound, "that one comes in the next round"


def test_a_device_that_is_restarted_each_day_comes_round_in_a_week(tmp_path: Path) -> None:
    device = Device(tmp_path / "store", WEEK)
    for encoding in samples():
        encoding.put(device.store, 0)
        flip(device, encoding, encoding.blocks[2][0])
    for _ in range(8):
        device.restart()
        device.run(1.0)  # what is damaged is read again
        for _ in range(24 * 6):
            device.store.scrub.turn(device.clock.now, idle=True)
            device.clock.pass_time(600)
    assert not any(held.sound for held in held_by(device.store).values())
    device.store.close()


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x90", b"\x95\xff\x00\x00\x00\x00", "text", 5, None])
def test_a_cursor_that_does_not_read_begins_a_new_round(device: Device, content: object) -> None:
    with device.store._index.transaction():
        device.store._index.remember("scrub", content)
    device.store.close()
    device.start()
    flip(device, samples()[0], samples()[0].blocks[0][0])
    device.run(device.every / 4)
    assert not held_by(device.store)[samples()[0].key(0)].sound


def test_the_cursor_is_written_once_a_minute_at_most(device: Device) -> None:
    written: list[ScrubCursor] = []
    device.run(1.0)
    for _ in range(400):
        device.run(1.0)
        now = load_cursor(device.store._index)
        if now is not None and now not in written:
            written.append(now)
    assert 5 <= len(written) <= 7


def test_a_cursor_that_cannot_be_written_stops_no_scrub(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, value: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(device.store._index, "remember", full)
    bad = samples()[7]
    flip(device, bad, bad.blocks[0][0])
    found: list[object] = []
    monkeypatch.setattr(device.store.scrub, "_bad", lambda kept, error: found.append(kept.key))
    device.run(device.every * 1.1)
    assert bad.key(0) in found


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
def test_what_cannot_be_read_is_bad_only_if_the_disk_says_so(device: Device, code: int) -> None:
    device.disk.arm(always={"read_at": code})
    device.run(device.every * 1.1)
    assert device.disk.calls.count("read_at") <= 2 * 8 + 8, "what does not read is not tried over and over"
    assert {held.sound for held in held_by(device.store).values()} == {code == errno.EMFILE}


def test_shares_that_come_and_go_during_a_round_are_in_nobodys_way(device: Device) -> None:
    device.run(device.every / 3)
    for encoding in samples()[4:]:
        device.store.discard(encoding.key(0), OWNER)
    new = sample("new")
    new.put(device.store, 0)
    flip(device, new, new.blocks[0][0])
    device.run(2.5 * device.every)
    assert not held_by(device.store)[new.key(0)].sound
    assert all(held_by(device.store)[encoding.key(0)].sound for encoding in samples()[:4])


@pytest.mark.parametrize("encoding", [sample("0"), large()], ids=["small", "large"])
def test_a_share_that_is_given_up_while_it_is_read_is_closed_first(device: Device, encoding: Sample) -> None:
    if encoding.key(0) not in held_by(device.store):
        encoding.put(device.store, 0)
    device.store.check(encoding.key(0))
    device.store.scrub.turn(device.clock.now, idle=True)
    device.disk.arm()
    device.store.delete(encoding.deletion(trash_seconds=NO_TRASH), OWNER)
    if encoding == large():
        assert device.disk.calls.index("close") < device.disk.calls.index("remove")
    device.run(1.0)
    assert encoding.key(0) not in held_by(device.store)


def test_an_empty_store_has_nothing_to_scrub(tmp_path: Path) -> None:
    device = Device(tmp_path / "store", 1.0)
    assert device.run(10) == 0
    sample().put(device.store, 0)
    assert device.run(10) > 0
    device.store.close()


# --- what was asked for


def test_shares_that_were_asked_for_come_first_and_wait_for_no_pace(device: Device) -> None:
    device.run(5.0)
    asked = [samples()[6], samples()[3]]
    flip(device, asked[1], asked[1].blocks[0][0])
    for encoding in asked:
        for _ in range(2):
            device.store.check(encoding.key(0))
    assert device.store.scrub.due_in(device.clock.now) == 0.0
    for _ in range(4 + 2):
        device.store.scrub.turn(device.clock.now, idle=False)
    announced = device.store.changes().announced
    assert [(share.encoding_id, share.sound) for share in announced] == [
        (asked[0].encoding_id, True),
        (asked[1].encoding_id, False),
    ]
    assert device.store.scrub.due_in(device.clock.now) > 0


def test_a_share_that_was_asked_for_and_is_gone_is_told_to_be(device: Device) -> None:
    encoding = samples()[0]
    device.store.check(encoding.key(0))
    device.store.discard(encoding.key(0), OWNER)
    device.store.changes()
    device.store.scrub.turn(device.clock.now, idle=True)
    assert [name.encoding_id for name in device.store.changes().withdrawn] == [encoding.encoding_id]


def test_a_cursor_counts_what_was_read() -> None:
    cursor = ScrubCursor(5).read(10).passed(3, damaged=False).read(7).passed(4, damaged=True)
    assert cursor == ScrubCursor(5, 4, 2, 17, 1)
