"""The store on a disk that fails: at every call of a put in turn, with every kind of fault.

Whatever fails, nothing is acknowledged that is not there: after a restart on a healthy disk, and after a power cut that
took all that was not fsynced. And whatever fails, what comes out of the store is an answer, never another exception.
"""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common.protocol.device_messages import Open
from common.protocol.messages import Answer, Code
from tests.support.faulty_disk import FaultyDisk, KilledError
from tests.support.sample_shares import OWNER, Sample, copy_of_index, declined, held_by, lying, sample, staged_files
from worker.disk import Disk
from worker.pack_format import MAX_PACKED
from worker.refusals import Refusal
from worker.share_states import State
from worker.store import ShareStore

pytestmark = pytest.mark.one_python

# DAMAGED: what is held is read before it is acknowledged once more, and that may fail as well.
REFUSALS = {Code.NO_ROOM, Code.FAULT, Code.READ_ONLY, Code.NOT_OPEN, Code.CONFLICT, Code.DAMAGED}
Faults = Callable[[FaultyDisk], None]

LARGE = {"segments": 2, "block_size": 300 << 10}


@dataclass(frozen=True)
class Pair:
    """Two shares that are put together, and how many bytes each is said to have; None for what it has."""

    one: Sample
    other: Sample
    share_bytes: Optional[int] = None

    def __iter__(self) -> Iterator[Sample]:
        return iter((self.one, self.other))

    def opening(self, encoding: Sample) -> Open:
        return encoding.opening(SHARE, share_bytes=self.share_bytes)

    @property
    def is_large(self) -> bool:
        return self.one.recipe.share_bytes > MAX_PACKED


SHARE = 1
PAIRS = {
    "small": Pair(sample("one", segments=2), sample("other", segments=2)),
    "small, from files": Pair(sample("one", segments=2), sample("other", segments=2), 200 << 10),
    "large, of one folder": Pair(sample("a/large", **LARGE), sample("a/other", **LARGE)),
    "large, of two folders": Pair(sample("large", **LARGE), sample("other large", **LARGE)),
    "large, said to be small": Pair(sample("large", **LARGE), sample("other large", **LARGE), 0),
}
SMALL, LARGE_ONES = PAIRS["small"], PAIRS["large, of two folders"]
DAY = 24 * 3600.0


class Put:
    """A put of two shares that goes on whatever it is answered, as a client may; every step is tried so often."""

    def __init__(self, store: ShareStore, pair: Pair, tries: int = 1) -> None:
        self.answers: list[Answer] = []
        self.acknowledged: list[Sample] = []
        self.refused: list[Sample] = []  # at the commit
        self._store, self._pair, self._tries = store, pair, tries

    def run(self) -> None:
        for encoding in self._pair:
            self._attempt(lambda e=encoding: self._store.open(self._pair.opening(e), OWNER, 0.0))  # type: ignore[misc]
            for segment in range(encoding.recipe.segment_count):
                self._attempt(lambda e=encoding, s=segment: e.append(self._store, SHARE, s))  # type: ignore[misc]
        for _ in range(self._tries):
            self._commit()

    def _attempt(self, step: Callable[[], object]) -> None:
        for _ in range(self._tries):
            try:
                step()
            except Refusal as refusal:
                self.answers.append(refusal.answer)
            else:
                return

    def _commit(self) -> None:
        pending = []
        for encoding in self._pair:
            try:
                commit = self._store.prepare_commit(encoding.key(SHARE), OWNER, encoding.signed())
            except Refusal as refusal:
                self.answers.append(refusal.answer)
                continue
            if commit is not None:
                pending.append((encoding, commit))
            elif encoding not in self.acknowledged:
                self.acknowledged.append(encoding)  # it had become durable, though that was refused
        answers = self._store.commit_round([commit for _, commit in pending])
        assert len(answers) == len(pending)
        for (encoding, _), answer in zip(pending, answers):
            if answer.granted:
                self.acknowledged.append(encoding)
            else:
                self.refused.append(encoding)
                self.answers.append(answer)


def check_put(folder: Path, pair: Pair, faults: Faults, tries: int = 1) -> tuple[Put, list[str]]:
    """A put on a disk with faults, all promises checked; the put, and the calls that it made."""
    disk = FaultyDisk()
    store = ShareStore(folder, disk=disk)
    faults(disk)
    put = Put(store, pair, tries)
    put.run()
    calls = list(disk.calls)
    disk.arm()

    assert {answer.code for answer in put.answers} <= REFUSALS
    assert not disk.resynced, "an fsync that failed was tried again on the same file"
    held = [encoding for encoding in pair if encoding.key(SHARE) in held_by(store)]
    acknowledged = [encoding for encoding in pair if encoding in put.acknowledged]
    # What cannot be read, or not even listed, while the index is made anew is left alone until the next start.
    left_alone = store._index.in_state(State.LEFT_ALONE)
    if left_alone or {"commit", "entries"} <= set(disk.failed):
        acknowledged = [encoding for encoding in acknowledged if encoding in held]
    elif "commit" in disk.failed:  # where the index is made anew for that, what is durable is found
        assert all(encoding in held for encoding in acknowledged)
    else:
        assert held == acknowledged, "held is what was acknowledged"
    if "remove" not in disk.failed:
        left = [path for encoding in put.refused for path in folder.rglob(f"{encoding.encoding_id.hex()}.*")]
        assert not left, "what was refused is still there"
    if "sync" in disk.failed or "sync_folder" in disk.failed:
        check_read_only(store, disk)
    for encoding in acknowledged:
        encoding.assert_readable(store, SHARE)
    places = [lying(store, encoding, SHARE) for encoding in held]
    assert all(path.stat().st_size >= offset + length for path, offset, length in places)
    assert store.used_bytes == sum(length for _, _, length in places) + sum(kept.size for kept in left_alone)
    store.close()

    shutil.copytree(folder, folder / "restarted")
    check_after(folder / "restarted", put, pair, FaultyDisk())
    disk.lose_power(folder)
    check_after(folder, put, pair, disk)
    return put, calls


def check_after(folder: Path, put: Put, pair: Pair, disk: FaultyDisk) -> None:
    """What was acknowledged is there after a restart on a healthy disk, and the rest can be stored, or gone on with."""
    disk.start_anew()
    store = ShareStore(folder, disk=disk)
    for encoding in put.acknowledged:
        encoding.assert_readable(store, SHARE)
    for encoding in pair:
        if not store.holds(encoding.key(SHARE), OWNER):
            encoding.put(store, SHARE)
        encoding.assert_readable(store, SHARE)
    assert not staged_files(folder)
    store.close()
    assert not disk.resynced


def check_read_only(store: ShareStore, disk: FaultyDisk) -> None:
    """After a failed fsync the store takes nothing, says why, and writes nothing."""
    disk.arm()
    new = sample("after the fault")
    with pytest.raises(Refusal) as caught:
        store.open(new.opening(0), OWNER, 0.0)
    assert caught.value.answer.code is Code.READ_ONLY
    assert "read-only" in caught.value.answer.text
    assert "fsync" in caught.value.answer.text
    assert store.free_bytes() == 0
    for _ in range(2):  # the answer to what was begun before is the same, and so it is when asked again
        with declined(Code.READ_ONLY):
            new.append(store, 0, 0)
    assert disk.calls == []


def clean_calls(folder: Path, pair: Pair) -> list[str]:
    put, calls = check_put(folder, pair, lambda disk: disk.arm())
    assert len(put.acknowledged) == 2
    assert not put.answers
    return calls


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[], Path]:
    """A new store's folder each time."""
    numbers = itertools.count()
    return lambda: tmp_path / f"store-{next(numbers)}"


@pytest.fixture(params=list(PAIRS))
def pair(request: pytest.FixtureRequest) -> Pair:
    return PAIRS[request.param]


def test_a_put_of_large_shares_makes_the_calls_whose_failures_are_tested(folders: Callable[[], Path]) -> None:
    calls = clean_calls(folders(), LARGE_ONES)
    made = {"free_bytes", "create", "append", "sync", "close", "make_folder", "rename_new", "sync_folder", "commit"}
    assert set(calls) >= made
    content_is_durable = max(number for number, call in enumerate(calls) if call == "sync")
    assert content_is_durable > max(number for number, call in enumerate(calls) if call == "append")
    assert content_is_durable < calls.index("rename_new")
    assert calls[-3:] == ["sync_folder"] * 2 + ["commit"]


def test_a_put_of_small_shares_makes_the_calls_whose_failures_are_tested(folders: Callable[[], Path]) -> None:
    calls = clean_calls(folders(), SMALL)
    assert calls == ["free_bytes", "free_bytes", "create", "append", "sync", "sync_folder", "commit"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("tries", [1, 2])
def test_each_call_of_a_put_failing_once(folders: Callable[[], Path], pair: Pair, code: int, tries: int) -> None:
    calls = clean_calls(folders(), pair)
    done = max(number for number, call in enumerate(calls) if call in ("sync", "sync_folder")) + 1  # but for the index
    for number, call in enumerate(calls):
        put, _ = check_put(folders(), pair, lambda disk, n=number: disk.arm({n: code}), tries)  # type: ignore[misc]
        if call == "commit" or number < done:
            assert put.answers, f"nobody heard of call {number} ({call}) failing"
            assert tries > 1 or len(put.acknowledged) < 2, f"call {number} ({call}) failed and all was acknowledged"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_dies_at_each_call_of_a_put(folders: Callable[[], Path], pair: Pair, code: int) -> None:
    calls = clean_calls(folders(), pair)
    done = calls.index("commit") + 1
    for number in range(len(calls)):
        put, _ = check_put(folders(), pair, lambda disk, n=number: disk.arm(rest=(n, code)), 2)  # type: ignore[misc]
        assert len(put.acknowledged) < 2 or number >= done


@pytest.mark.parametrize("power_cut", [False, True])
def test_a_worker_that_is_killed_at_each_call_of_a_put(
    folders: Callable[[], Path], pair: Pair, power_cut: bool
) -> None:
    for number in range(len(clean_calls(folders(), pair))):
        folder, disk = folders(), FaultyDisk()
        store = ShareStore(folder, disk=disk)
        disk.arm(kill=number)
        put = Put(store, pair)
        with pytest.raises(KilledError):
            put.run()
        end(store, disk)
        if power_cut:
            disk.lose_power(folder)
        check_after(folder, put, pair, disk)
        disk.lose_power(folder)  # what is acknowledged once more, since it is there, is durable
        store = ShareStore(folder)
        for encoding in pair:
            encoding.assert_readable(store, SHARE)
        store.close()


@pytest.mark.parametrize("older", [False, True])
def test_a_full_disk_keeps_no_store_from_starting(tmp_path: Path, pair: Pair, older: bool) -> None:
    folder = tmp_path / "store"
    store = ShareStore(folder)
    index = copy_of_index(store) if older else {}  # what lies behind an older one has to be copied
    for encoding in pair:
        encoding.put(store, SHARE)
    store.delete(pair.one.deletion(), OWNER)
    store.close()
    for path in folder.glob("index.sqlite*"):
        path.unlink()
    for name, content in index.items():
        (folder / name).write_bytes(content)
    full = FaultyDisk()
    full.arm(always=dict.fromkeys(("append", "create", "commit"), errno.ENOSPC))
    for disk in (full, Disk()):
        store = ShareStore(folder, disk=disk)
        pair.other.assert_readable(store, SHARE)
        assert [tombstone.encoding_id for tombstone in store.tombstones()] == [pair.one.encoding_id]
        store.close()
    assert full.failed


def end(store: ShareStore, disk: FaultyDisk) -> None:
    """Let go of what a killed worker held: the kernel closes its files."""
    disk.arm()
    store._packs.close()
    store._lock.close()
    for database in disk.databases:
        database.close()


@pytest.mark.parametrize("second", ["truncate", "close", "remove", "sync_folder"])
def test_a_call_of_a_put_failing_and_then_what_tidies_up(folders: Callable[[], Path], pair: Pair, second: str) -> None:
    for number in range(len(clean_calls(folders(), pair))):
        check_put(
            folders(),
            pair,
            lambda disk, n=number: disk.arm({n: errno.ENOSPC}, {second: errno.EIO}),  # type: ignore[misc]
            tries=2,
        )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.integers(0, 80), st.sampled_from([errno.ENOSPC, errno.EIO, errno.EACCES]), max_size=8),
    st.sampled_from(list(PAIRS)),
    st.integers(1, 3),
)
@example(at={3: 28, 47: 5, 49: 5, 56: 28}, which="large, said to be small", tries=3)
@example(at={6: 5, 17: 28}, which="small", tries=2)
def test_any_calls_failing(folders: Callable[[], Path], at: dict[int, int], which: str, tries: int) -> None:
    check_put(folders(), PAIRS[which], lambda disk: disk.arm(at), tries)


# --- what is answered


def answers_with(folder: Path, method: str, code: int, pair: Pair = LARGE_ONES) -> list[Answer]:
    put, _ = check_put(folder, pair, lambda disk: disk.arm(always={method: code}))
    assert not put.acknowledged
    return put.answers


METHODS_OF_LARGE = [(method, LARGE_ONES) for method in ("create", "append", "make_folder", "rename_new", "commit")]
METHODS_OF_SMALL = [(method, SMALL) for method in ("create", "append", "commit")]


@pytest.mark.parametrize(("method", "pair"), METHODS_OF_LARGE + METHODS_OF_SMALL)
def test_a_full_disk_is_said_to_be_full(folders: Callable[[], Path], method: str, pair: Pair) -> None:
    assert answers_with(folders(), method, errno.ENOSPC, pair)[0].code is Code.NO_ROOM


@pytest.mark.parametrize(("method", "pair"), METHODS_OF_LARGE[:-1] + METHODS_OF_SMALL[:-1] + [("close", LARGE_ONES)])
def test_a_disk_that_refuses_is_a_fault_with_its_reason(folders: Callable[[], Path], method: str, pair: Pair) -> None:
    answer = answers_with(folders(), method, errno.EACCES, pair)[0]
    assert answer.code is Code.FAULT
    assert "Permission denied" in answer.text


@pytest.mark.parametrize("method", ["sync", "sync_folder"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_after_a_failed_fsync_every_commit_of_the_round_and_later_ones_are_refused(
    folders: Callable[[], Path], pair: Pair, method: str, code: int
) -> None:
    assert {answer.code for answer in answers_with(folders(), method, code, pair)} == {Code.READ_ONLY}


def test_after_a_failed_fsync_what_was_committed_before_is_still_served(
    folders: Callable[[], Path], pair: Pair
) -> None:
    before, failing = pair
    disk = FaultyDisk()
    store = ShareStore(folders(), disk=disk)
    before.put(store, SHARE)
    failing.stage(store, SHARE)
    disk.arm(always={"sync": errno.EIO})
    assert failing.commit(store, SHARE).code is Code.READ_ONLY
    before.assert_readable(store, SHARE)
    with declined(Code.READ_ONLY):
        store.prepare_commit(failing.key(SHARE), OWNER, failing.signed())
    assert store.prepare_commit(before.key(SHARE), OWNER, before.signed()) is None
    store.close()


def test_a_store_that_was_read_only_writes_again_after_a_restart(folders: Callable[[], Path], pair: Pair) -> None:
    folder = folders()
    disk = FaultyDisk()
    store = ShareStore(folder, disk=disk)
    pair.one.stage(store, SHARE)
    disk.arm(always={"sync": errno.EIO})
    assert pair.one.commit(store, SHARE).code is Code.READ_ONLY
    store.close()
    store = ShareStore(folder)
    pair.one.put(store, SHARE)
    pair.one.assert_readable(store, SHARE)
    store.close()


def test_a_share_whose_rename_failed_can_be_stored_anew(folders: Callable[[], Path]) -> None:
    disk = FaultyDisk()
    store = ShareStore(folders(), disk=disk)
    encoding = LARGE_ONES.one
    encoding.stage(store, 0)
    disk.arm(always={"rename_new": errno.EIO})
    assert encoding.commit(store, 0).code is Code.FAULT
    disk.arm()
    encoding.put(store, 0)
    encoding.assert_readable(store, 0)
    store.close()


def test_a_folder_whose_making_was_never_made_durable_is_not_relied_on(folders: Callable[[], Path]) -> None:
    # A worker was killed between making a folder and fsyncing its parent; the next one finds the folder there.
    folder = folders()
    encoding = LARGE_ONES.one
    disk = FaultyDisk()
    disk.make_folder(folder / "shares" / encoding.encoding_id.hex()[:2])
    store = ShareStore(folder, disk=disk)
    encoding.put(store, 0)
    store.close()
    disk.lose_power(folder)
    store = ShareStore(folder)
    encoding.assert_readable(store, 0)
    store.close()


def test_a_share_whose_half_written_block_cannot_be_cut_off_is_begun_anew(folders: Callable[[], Path]) -> None:
    disk = FaultyDisk()
    store = ShareStore(folders(), disk=disk)
    encoding = LARGE_ONES.one
    store.open(encoding.opening(0), OWNER, 0.0)
    room = store.free_bytes()
    disk.arm(always={"append": errno.ENOSPC, "truncate": errno.EIO})
    with declined(Code.NO_ROOM):
        encoding.append(store, 0, 0)
    disk.arm()
    with declined(Code.NOT_OPEN):
        encoding.append(store, 0, 0)
    assert store.free_bytes() > room, "what was promised to it is free again"
    encoding.put(store, 0)
    encoding.assert_readable(store, 0)
    store.close()


def test_a_record_that_was_written_in_part_and_cannot_be_cut_off_harms_no_other(folders: Callable[[], Path]) -> None:
    folder, disk = folders(), FaultyDisk()
    store = ShareStore(folder, disk=disk)
    before, torn, behind = sample("before"), sample("torn"), sample("behind")
    before.put(store, SHARE)
    torn.stage(store, SHARE)
    disk.arm(always={"append": errno.ENOSPC, "truncate": errno.EIO})
    assert torn.commit(store, SHARE).code is Code.NO_ROOM
    disk.arm()
    for encoding in (torn, behind):
        encoding.put(store, SHARE)
    store.close()
    for path in folder.glob("index.sqlite*"):
        path.unlink()
    store = ShareStore(folder, disk=disk)
    for encoding in (before, torn, behind):
        encoding.assert_readable(store, SHARE)
    store.close()


def test_a_disk_that_cannot_tell_its_room_has_none(folders: Callable[[], Path]) -> None:
    disk = FaultyDisk()
    store = ShareStore(folders(), disk=disk)
    disk.arm(always={"free_bytes": errno.EIO})
    assert store.free_bytes() == 0
    assert store.capacity_bytes() == store.used_bytes
    with declined(Code.NO_ROOM):
        store.open(sample().opening(0), OWNER, 0.0)
    disk.arm()
    assert store.free_bytes() > 0
    store.close()


def test_giving_up_expiring_and_closing_raise_nothing(folders: Callable[[], Path]) -> None:
    disk = FaultyDisk()
    store = ShareStore(folders(), disk=disk)
    labels = "given up", "expired", "open at the end"
    given_up, expired, open_at_the_end = (sample(label, **LARGE) for label in labels)
    for encoding in (given_up, expired):
        encoding.stage(store, 0)
    store.open(open_at_the_end.opening(0), OWNER, DAY)
    disk.arm(always={"close": errno.EIO, "remove": errno.EACCES})
    store.abandon(given_up.key(0), OWNER)
    store.expire(DAY + 1.0)
    with declined(Code.NOT_OPEN):
        expired.append(store, 0, 0)
    store.close()
