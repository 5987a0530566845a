"""What a newer worker wrote is neither believed nor called damage by an older one: it is left alone, and comes back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import worker.amendments
import worker.share_file
import worker.tombstones
from common.coding.recipe import digest
from common.errors import IntegrityError, UsageError
from common.protocol.device_messages import SignedCommitment
from common.protocol.messages import Code
from tests.support.clocks import SetClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import OWNER, Sample, damage, declined, held_by, large, lying, sample
from worker.share_file import ShareTrailer
from worker.store import ShareStore

FORMATS = (worker.share_file, worker.amendments, worker.tombstones)
SHARES = [*(sample(f"{number}") for number in range(46)), large("46"), large("47")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextlib.contextmanager
def newer_store(folder: Path, *formats: ModuleType) -> Iterator[ShareStore]:
    """The store while a worker has it that knows a later version of these formats, or of all."""
    with pytest.MonkeyPatch.context() as patch:
        for module in formats or FORMATS:
            patch.setattr(module, "VERSION", 99)
        with open_store(folder) as store:
            yield store


@contextlib.contextmanager
def open_store(folder: Path) -> Iterator[ShareStore]:
    store = ShareStore(folder, clock=SetClock(time.time()))
    try:
        yield store
    finally:
        store.close()


def put_all(store: ShareStore) -> None:
    for encoding in SHARES:
        encoding.put(store, 0)


def scrub(store: ShareStore) -> None:
    """Until all that was asked for is read."""
    store.scrub.turn(0.0, idle=True)
    while store.scrub.due_in(-1.0) == 0.0:
        store.scrub.turn(-1.0, idle=True)


def amendment(encoding: Sample) -> tuple[bytes, SignedCommitment]:
    return encoding.encoding_id, encoding.signed(mapping=b"another mapping", revision=2)


def content_of(folder: Path) -> dict[str, str]:
    """All that lies in a store but the room that is kept and the index, as digests."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(("reserve", "index"))]
    return {str(path.relative_to(folder)): digest(path.read_bytes()).hex() for path in files}


def check_left_alone(folder: Path, encoding: Sample, refused: Code = Code.FAULT) -> None:
    """An older worker changes nothing in the store, and holds nothing of the encoding nor takes it anew."""
    before = content_of(folder)
    for _ in range(2):
        with open_store(folder) as store:
            assert not held_by(store)
            assert not store.changes()
            for _ in range(3):
                store.scrub.turn(0.0, idle=True)
                store.compaction.turn(1e6)
                store.expire(1e6)
            with declined(Code.NOT_FOUND):
                store.block(encoding.key(0), OWNER, 0)
            with declined(Code.NOT_FOUND):
                store.check(encoding.key(0))
            with declined(Code.FAULT):
                store.open(encoding.opening(0), OWNER, 0.0)
            with declined(refused):
                store.delete(encoding.deletion(3), OWNER)
    assert content_of(folder) == before


def test_48_shares_of_a_newer_worker_are_there_again_once_it_is_back(folder: Path) -> None:
    with newer_store(folder) as store:
        put_all(store)
        held, used = held_by(store), store.used_bytes
    check_left_alone(folder, SHARES[0])
    with open_store(folder) as store:
        assert store.used_bytes == used, "they take their room"
    with newer_store(folder) as store:
        assert held_by(store) == held
        for encoding in SHARES:
            encoding.assert_readable(store, 0)


def test_a_pack_of_a_newer_worker_is_left_alone_and_the_others_are_served(folder: Path) -> None:
    with open_store(folder) as store:
        sample("known").put(store, 0)
    with open_store(folder) as store:
        sample("newer").put(store, 0)
    last = max((folder / "packs").iterdir())
    last.rename(last.with_suffix(".pack2"))
    before = content_of(folder)
    with open_store(folder) as store:
        assert list(held_by(store)) == [sample("known").key(0)]
        sample("known").assert_readable(store, 0)
        with declined(Code.READ_ONLY):
            sample("another").put(store, 0)
        with declined(Code.READ_ONLY):
            store.delete(sample("known").deletion(), OWNER)
    assert content_of(folder) == before
    last.with_suffix(".pack2").rename(last)
    with open_store(folder) as store:
        for label in ("known", "newer"):
            sample(label).assert_readable(store, 0)


def test_a_trailer_of_another_shape_is_of_another_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(ShareTrailer):
        more: bytes = b"signature"

    with monkeypatch.context() as patch:
        patch.setattr(worker.share_file, "ShareTrailer", Longer)
        patch.setattr(worker.store, "ShareTrailer", Longer)
        with open_store(folder) as store:
            sample().put(store, 0)
    for path in folder.glob("index*"):  # another version's
        path.unlink()
    check_left_alone(folder, sample())


def test_a_share_with_an_amendment_of_a_newer_worker_is_not_believed_without_it(folder: Path) -> None:
    with open_store(folder) as store:
        sample().put(store, 0)
    with newer_store(folder, worker.amendments) as store:
        store.amend(*amendment(sample()), OWNER)
    check_left_alone(folder, sample())


def test_a_deletion_of_a_newer_worker_is_neither_replaced_nor_forgotten(folder: Path) -> None:
    with open_store(folder) as store:
        sample().put(store, 0)
    with newer_store(folder, worker.tombstones) as store:
        store.delete(sample().deletion(), OWNER)
    check_left_alone(folder, sample())
    with open_store(folder) as store, declined(Code.FAULT):
        store.undelete(sample().undeletion(), OWNER)
    with newer_store(folder, worker.tombstones) as store:
        assert not held_by(store)
        store.undelete(sample().undeletion(), OWNER)
        sample().assert_readable(store, 0)


def test_what_a_newer_worker_has_in_the_trash_is_taken_back_once_it_is_back(folder: Path) -> None:
    with newer_store(folder, worker.share_file) as store:
        sample().put(store, 0)
        store.delete(sample().deletion(), OWNER)
    with open_store(folder) as store, declined(Code.FAULT):
        store.undelete(sample().undeletion(), OWNER)
    with newer_store(folder, worker.share_file) as store:
        sample().assert_readable(store, 0)


def test_a_share_that_a_newer_worker_was_storing_waits_for_it(folder: Path) -> None:
    with newer_store(folder) as store:
        large().stage(store, 0)
    before = content_of(folder)
    with open_store(folder) as store:
        with declined(Code.FAULT):
            store.open(large().opening(0), OWNER, 0.0)
        with declined(Code.NOT_OPEN):
            store.progress(large().key(0), OWNER, 0.0)
    assert content_of(folder) == before
    with newer_store(folder) as store:
        assert large().commit(store, 0).granted


# --- what was called damaged, and is good


def call_damaged(store: ShareStore, encoding: Sample) -> None:
    """As a worker does that cannot read it."""
    kept = store._index.held(encoding.key(0))
    assert kept is not None
    store._found_bad(kept, IntegrityError("a mistake"))


def test_48_shares_that_an_older_worker_called_damaged_come_back(folder: Path) -> None:
    with open_store(folder) as store:
        put_all(store)
        held = held_by(store)
        for encoding in SHARES:
            call_damaged(store, encoding)
    with open_store(folder) as store:
        assert not any(share.sound for share in held_by(store).values()), "before they were read"
        scrub(store)
        assert {share.encoding_id for share in store.changes().announced} == {each.encoding_id for each in SHARES}
        assert held_by(store) == held
    with open_store(folder) as store:
        assert held_by(store) == held
        for encoding in SHARES:
            encoding.assert_readable(store, 0)


def test_one_that_reads_again_comes_back_when_a_broker_asks(folder: Path, encoding: Sample) -> None:
    with open_store(folder) as store:
        encoding.put(store, 0)
        path, start, length = lying(store, encoding, 0)
        content = path.read_bytes()[start : start + length]
        damage(store, encoding, 0, -1, b"?")
        with declined(Code.DAMAGED):
            store.share(encoding.key(0), OWNER)
        damage(store, encoding, 0, 0, content)  # a badly connected disk, connected anew
        store.check(encoding.key(0))
        scrub(store)
        assert held_by(store)[encoding.key(0)].sound
        encoding.assert_readable(store, 0)


def test_one_that_has_a_bad_block_stays(folder: Path, encoding: Sample) -> None:
    with open_store(folder) as store:
        encoding.put(store, 0)
        path, start, length = lying(store, encoding, 0)
        at = path.read_bytes()[start : start + length].index(encoding.blocks[1][0])
        damage(store, encoding, 0, at, bytes([encoding.blocks[1][0][0] ^ 1]))
        call_damaged(store, encoding)
    with open_store(folder) as store:
        scrub(store)
        assert not held_by(store)[encoding.key(0)].sound


@pytest.mark.parametrize("failing", range(8))
def test_wherever_the_way_back_is_cut_the_share_is_there(tmp_path: Path, encoding: Sample, failing: int) -> None:
    disk, folder = FaultyDisk(), tmp_path / "store"
    store = ShareStore(folder, disk=disk)
    encoding.put(store, 0)
    call_damaged(store, encoding)
    store.check(encoding.key(0))
    disk.arm({failing: 5})
    for _ in range(5):
        store.scrub.turn(0.0, idle=True)
    disk.arm()
    store.close()
    disk.lose_power(folder)
    disk.start_anew()
    store = ShareStore(folder, disk=disk)
    scrub(store)
    assert held_by(store)[encoding.key(0)].sound
    encoding.assert_readable(store, 0)
    assert not disk.resynced
    store.close()


@pytest.mark.parametrize("name", ["quarantine", "trash", "tombstones", "amendments"])
def test_a_store_of_files_is_refused_and_not_taken_for_an_empty_one(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True)
    with pytest.raises(UsageError, match=f"earlier version of the worker: it has a folder {name}"):
        ShareStore(folder)
    assert [path.name for path in folder.iterdir()] == [name]
