"""Compaction gives back the room of what is needed no more, and loses nothing that is, wherever it is interrupted."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from common.protocol.device_messages import Grant
from common.protocol.messages import NO_TRASH, Code
from tests.support.approving import ANNA, BOB, named_by
from tests.support.clocks import SetClock
from tests.support.faulty_disk import FaultyDisk, KilledError
from tests.support.sample_shares import (
    KEY,
    OWNER,
    damage,
    declined,
    held_by,
    large,
    lying,
    sample,
    through_restarts,
    trashed,
)
from worker.disk import Disk
from worker.store import ShareStore

LIVING = [sample(f"living {number}") for number in range(5)]
AMENDED, DELETED, TAKEN_BACK, BAD = (sample(label) for label in ("amended", "deleted", "taken back", "bad"))
BIG = large()
DEAD = [sample(f"dead {number}", block_size=512) for number in range(5)]
GRANT = Grant(b"f" * 16, b"o" * 32, b"mapping")


class Said(NamedTuple):
    held: dict[Any, Any]
    trash: list[Any]
    tombstones: list[Any]
    used: int
    approvers: Any


def said_by(store: ShareStore) -> Said:
    trash = [(kept.key, kept.deleted_by) for kept in trashed(store)]
    tombstones = sorted(store.tombstones(), key=lambda each: each.encoding_id)
    return Said(held_by(store), sorted(trash), tombstones, store.used_bytes, store.approving.known(OWNER))


def find_damage(store: ShareStore) -> None:
    store.check(BAD.key(0))
    while store.scrub.due_in(-1e6) == 0.0:
        store.scrub.turn(-1e6, idle=True)


def worn_store(folder: Path, disk: Disk) -> ShareStore:
    """With one pack of which much is dead, and of all that has to be kept something."""
    store = ShareStore(folder, disk=disk, clock=SetClock())
    for encoding in [*LIVING, AMENDED, DELETED, TAKEN_BACK, BAD, BIG, *DEAD]:
        encoding.put(store, 0)
    for encoding in (AMENDED, BIG):
        store.amend(encoding.encoding_id, encoding.signed(revision=2, grants=[GRANT]), OWNER)
    store.approving.name(named_by(KEY, ANNA, BOB), OWNER)
    for encoding in (DELETED, TAKEN_BACK):
        store.delete(encoding.deletion(), OWNER)
    store.undelete(TAKEN_BACK.undeletion(), OWNER)
    path, start, length = lying(store, BAD, 0)
    damage(store, BAD, 0, path.read_bytes()[start : start + length].index(BAD.blocks[1][0]))
    find_damage(store)
    for encoding in DEAD:
        store.delete(encoding.deletion(trash_seconds=NO_TRASH), OWNER)
    sample("last").put(store, 0)  # so that the removals are durable
    store.close()
    return ShareStore(folder, disk=disk, clock=SetClock())


def compact(store: ShareStore, turns: int = 200) -> None:
    for minute in range(turns):
        store.compaction.turn(61.0 * minute)


def packs(store: ShareStore) -> list[Path]:
    return sorted(store.folder.glob("packs/*"))


def bytes_of_packs(store: ShareStore) -> int:
    return sum(path.stat().st_size for path in packs(store))


def check_all(store: ShareStore) -> None:
    """What was stored is served, with what was said of it since, and what went is gone."""
    for encoding in [*LIVING, TAKEN_BACK, sample("last")]:
        encoding.assert_readable(store, 0)
    for encoding in (AMENDED, BIG):
        assert store.block(encoding.key(0), GRANT.owner, 1) == encoding.blocks[1][0]
    for segment in (0, 2):
        assert store.block(BAD.key(0), OWNER, segment) == BAD.blocks[segment][0]
    with declined(Code.DAMAGED):
        store.block(BAD.key(0), OWNER, 1)
    for encoding in (DELETED, *DEAD):
        with declined(Code.NOT_FOUND):
            store.block(encoding.key(0), OWNER, 0)


def test_the_room_of_what_is_gone_is_given_back_and_all_else_is_as_it_was(tmp_path: Path) -> None:
    store = worn_store(tmp_path / "store", Disk())
    (pack,) = packs(store)
    said, before = said_by(store), bytes_of_packs(store)
    compact(store)
    assert not pack.exists()
    dead = sum(sum(len(row[0]) for row in encoding.blocks) for encoding in DEAD)
    assert bytes_of_packs(store) < before - dead
    assert store._index.dead_bytes * 5 < bytes_of_packs(store)
    for again in through_restarts(store):
        assert said_by(again) == said, "and the damaged one is known to be, unread"
        check_all(again)
    again.undelete(DELETED.undeletion(), OWNER)
    DELETED.assert_readable(again, 0)
    with declined(Code.CONFLICT):
        again.delete(TAKEN_BACK.deletion(), OWNER)
    again.close()


def test_a_pack_of_which_little_is_dead_is_left_as_it_is(tmp_path: Path) -> None:
    store = ShareStore(tmp_path / "store")
    for encoding in [*LIVING, *DEAD]:
        encoding.put(store, 0)
    store.delete(LIVING[0].deletion(trash_seconds=NO_TRASH), OWNER)
    store.close()
    disk = FaultyDisk()
    store = ShareStore(tmp_path / "store", disk=disk)
    disk.arm()
    compact(store)
    assert not disk.calls
    store.close()


def test_what_was_given_back_once_is_not_written_anew_over_and_over(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = worn_store(tmp_path / "store", disk)
    compact(store)
    for _ in range(3):
        store.close()
        store = ShareStore(store.folder, disk=disk, clock=SetClock())
        disk.arm()
        compact(store)
        assert "append" not in disk.calls
    store.close()


# --- interrupted


def calls_of_a_compaction(folder: Path) -> list[str]:
    disk = FaultyDisk()
    store = worn_store(folder, disk)
    disk.arm()
    compact(store)
    calls = list(disk.calls)
    store.close()
    return calls


def writing(calls: list[str]) -> list[int]:
    """The numbers of those that change anything; a kill in another is one before the next of these."""
    return [number for number, name in enumerate(calls) if name not in ("open", "read_at", "size")]


@pytest.mark.parametrize("power_cut", [False, True])
def test_a_kill_at_any_call_of_a_compaction_loses_nothing_and_brings_nothing_back(
    tmp_path: Path, power_cut: bool
) -> None:
    calls = calls_of_a_compaction(tmp_path / "counted")
    assert {"append", "sync", "create", "remove", "sync_folder", "commit"} <= set(calls)
    for number in writing(calls):
        disk, folder = FaultyDisk(), tmp_path / f"{number}"
        store = worn_store(folder, disk)
        said = said_by(store)
        disk.arm(kill=number)
        with contextlib.suppress(KilledError):
            compact(store)
        disk.arm()
        store.close()
        if power_cut:
            disk.lose_power(folder)
        disk.start_anew()
        store = ShareStore(folder, disk=disk, clock=SetClock())
        find_damage(store)
        assert said_by(store) == said, f"killed at call {number}, {calls[number]}"
        compact(store)
        for again in through_restarts(store):
            find_damage(again)
            assert said_by(again) == said, f"killed at call {number}, {calls[number]}"
            check_all(again)
        again.close()
        assert not disk.resynced


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_whatever_call_of_a_compaction_fails_nothing_is_lost(tmp_path: Path, code: int) -> None:
    calls = calls_of_a_compaction(tmp_path / "counted")
    reading = [number for number, name in enumerate(calls) if name == "read_at"]
    for number in [*writing(calls), reading[0], reading[-1]]:
        disk, folder = FaultyDisk(), tmp_path / f"{number}"
        store = worn_store(folder, disk)
        said = said_by(store)
        disk.arm({number: code})
        compact(store)
        disk.arm()
        for again in through_restarts(store):
            find_damage(again)
            assert said_by(again) == said, f"call {number}, {calls[number]}"
            check_all(again)
        again.close()
        assert not disk.resynced


def test_a_full_disk_stops_it_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = worn_store(tmp_path / "store", disk)
    (pack,) = packs(store)
    said, size = said_by(store), pack.stat().st_size
    disk.arm(always={"append": errno.ENOSPC})
    compact(store, 20)
    assert pack.exists()
    assert bytes_of_packs(store) == size, "what could be written in part takes no room"
    assert said_by(store) == said
    check_all(store)
    disk.arm()
    compact(store)
    assert not pack.exists()
    assert said_by(store) == said
    check_all(store)
    store.close()


# --- beside other work


def test_all_is_read_and_stored_while_a_pack_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.compaction._AT_ONCE", 2)
    store = worn_store(tmp_path / "store", Disk())
    (pack,) = packs(store)
    check_all(store)  # they are open now
    turns = 0
    while pack.exists():
        store.compaction.turn(0.0)
        check_all(store)
        sample(f"new {turns}").put(store, 0)
        turns += 1
    assert turns > 5, "a few records a turn"
    for again in through_restarts(store):
        check_all(again)
        for number in range(turns):
            sample(f"new {number}").assert_readable(again, 0)
    again.close()


def test_what_is_deleted_while_its_pack_moves_stays_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.compaction._AT_ONCE", 1)
    for after in range(8):
        store = worn_store(tmp_path / f"{after}", Disk())
        for _ in range(after):
            store.compaction.turn(0.0)
        for encoding in LIVING[:2]:
            store.delete(encoding.deletion(trash_seconds=NO_TRASH), OWNER)
        for again in through_restarts(store):
            compact(again, 50)
            for encoding in LIVING[:2]:
                with declined(Code.NOT_FOUND):
                    again.block(encoding.key(0), OWNER, 0)
            for encoding in LIVING[2:]:
                encoding.assert_readable(again, 0)
        again.close()


def test_what_went_does_not_come_back_when_where_that_is_written_moves(tmp_path: Path) -> None:
    clock = SetClock()
    store = ShareStore(tmp_path / "store", clock=clock)
    for encoding in [*LIVING, *DEAD]:
        encoding.put(store, 0)
    store.close()
    store = ShareStore(tmp_path / "store", clock=clock)
    gone = sample("gone", block_size=2048)
    gone.put(store, 0)
    for encoding in (LIVING[0], gone):
        store.discard(encoding.key(0), OWNER)
    clock.pass_time(90_000)
    store.expire(clock.now)
    store.close()
    store = ShareStore(tmp_path / "store", clock=clock)
    first, second = packs(store)
    compact(store)
    assert first.exists()
    assert not second.exists()
    for again in through_restarts(store, clock):
        assert set(held_by(again)) == {encoding.key(0) for encoding in [*LIVING[1:], *DEAD]}
    again.close()


def test_small_packs_of_many_restarts_become_few(tmp_path: Path) -> None:
    encodings = [sample(str(number)) for number in range(40)]
    for encoding in encodings:
        store = ShareStore(tmp_path / "store", clock=SetClock())
        encoding.put(store, 0)
        store.close()
    store = ShareStore(tmp_path / "store", clock=SetClock())
    assert len(packs(store)) == 40
    compact(store)
    assert len(packs(store)) <= 17
    for again in through_restarts(store):
        for encoding in encodings:
            encoding.assert_readable(again, 0)
    again.close()
