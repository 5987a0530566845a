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
from common.protocol.device_messages import SignedCommitment
from common.protocol.messages import Code
from tests.support.clocks import SetClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import OWNER, Sample, declined, sample, share_path, trashed
from worker.layout import file_name
from worker.share_file import ShareTrailer
from worker.store import ShareStore

FORMATS = (worker.share_file, worker.amendments, worker.tombstones)
SHARES = [sample(f"{number}") for number in range(48)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextlib.contextmanager
def newer_store(folder: Path, *formats: ModuleType) -> Iterator[ShareStore]:
    """The store while a worker has it that knows a later version of these formats, or of all."""
    with pytest.MonkeyPatch.context() as patch:
        for module in formats or FORMATS:
            patch.setattr(module, "_VERSION", 99)
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
    """All that lies in a store but the room that is kept, as digests."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "reserve"]
    return {str(path.relative_to(folder)): digest(path.read_bytes()).hex() for path in files}


def check_left_alone(folder: Path, encoding: Sample) -> None:
    """An older worker changes nothing in the store, and holds nothing of the encoding nor takes it anew."""
    before = content_of(folder)
    with open_store(folder) as store:
        assert not store.held()
        assert not store.changes()
        for _ in range(3):
            store.scrub.turn(0.0, idle=True)
            store.expire(1e6)
        with declined(Code.NOT_FOUND):
            store.block(encoding.key(0), OWNER, 0)
        with declined(Code.NOT_FOUND):
            store.check(encoding.key(0))
        with declined(Code.FAULT):
            store.open(encoding.opening(0), OWNER, 0.0)
        with declined(Code.FAULT):
            store.delete(encoding.deletion(3), OWNER)
        store.scrub.close()
    after = content_of(folder)
    after.pop("scrub.json", None)
    before.pop("scrub.json", None)
    assert after == before


def test_48_shares_of_a_newer_worker_are_there_again_once_it_is_back(folder: Path) -> None:
    with newer_store(folder) as store:
        put_all(store)
        held, used = dict(store.held()), store.used_bytes
    check_left_alone(folder, SHARES[0])
    assert not list((folder / "quarantine").iterdir())
    with open_store(folder) as store:
        assert store.used_bytes == used, "they take their room"
    with newer_store(folder) as store:
        assert dict(store.held()) == held
        for encoding in SHARES:
            encoding.assert_readable(store, 0)


def test_a_trailer_of_another_shape_is_of_another_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(ShareTrailer):
        more: bytes = b"signature"

    with monkeypatch.context() as patch:
        patch.setattr(worker.share_file, "ShareTrailer", Longer)
        patch.setattr(worker.store, "ShareTrailer", Longer)
        with open_store(folder) as store:
            sample().put(store, 0)
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


def test_what_a_newer_worker_has_in_the_trash_is_taken_back_once_it_is_back(folder: Path) -> None:
    with newer_store(folder, worker.share_file) as store:
        sample().put(store, 0)
        store.delete(sample().deletion(), OWNER)
    with open_store(folder) as store:
        with declined(Code.FAULT):
            store.undelete(sample().undeletion(), OWNER)
        assert trashed(store) == [f"{file_name(sample().key(0))}.{OWNER.hex()}.deleted"]
    with newer_store(folder, worker.share_file) as store:
        sample().assert_readable(store, 0)


def test_a_share_that_a_newer_worker_was_storing_waits_for_it(folder: Path) -> None:
    with newer_store(folder) as store:
        sample().stage(store, 0)
    before = content_of(folder)
    with open_store(folder) as store:
        with declined(Code.FAULT):
            store.open(sample().opening(0), OWNER, 0.0)
        with declined(Code.NOT_OPEN):
            store.progress(sample().key(0), OWNER, 0.0)
    assert content_of(folder) == before
    with newer_store(folder) as store:
        assert sample().commit(store, 0).granted


def test_how_far_a_newer_worker_scrubbed_is_not_written_over(folder: Path) -> None:
    with open_store(folder) as store:
        sample().put(store, 0)
        store.scrub.turn(1e9, idle=True)
    path = folder / "scrub.json"
    newer = path.read_bytes().replace(b'"version": 1', b'"version": 99, "direction": "backwards"')
    assert b"99" in newer
    path.write_bytes(newer)
    with open_store(folder) as store:
        sample("other").put(store, 0)
        store.scrub.turn(1e9, idle=True)
    assert path.read_bytes() == newer


# --- what is in quarantine, and good


def send_to_quarantine(folder: Path, encoding: Sample) -> None:
    """As a worker did that could not read it."""
    path = share_path(folder, encoding, 0)
    path.rename(folder / "quarantine" / path.name)


def test_48_shares_that_an_older_worker_sent_to_quarantine_come_back(folder: Path) -> None:
    with open_store(folder) as store:
        put_all(store)
        held = dict(store.held())
    for encoding in SHARES:
        send_to_quarantine(folder, encoding)
    with open_store(folder) as store:
        assert not any(share.sound for share in store.held().values()), "before they were read"
        scrub(store)
        assert {share.encoding_id for share in store.changes().announced} == {each.encoding_id for each in SHARES}
        assert dict(store.held()) == held
        assert not list((folder / "quarantine").iterdir())
    with open_store(folder) as store:
        assert dict(store.held()) == held
        for encoding in SHARES:
            encoding.assert_readable(store, 0)


def test_one_that_reads_again_comes_back_when_a_broker_asks(folder: Path) -> None:
    with open_store(folder) as store:
        sample().put(store, 0)
        path = share_path(folder, sample(), 0)
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with declined(Code.DAMAGED):
            store.share(sample().key(0), OWNER)
        (folder / "quarantine" / path.name).write_bytes(content)  # a badly connected disk, connected anew
        store.check(sample().key(0))
        scrub(store)
        assert store.held()[sample().key(0)].sound
        sample().assert_readable(store, 0)
        assert path.read_bytes() == content


def test_one_that_has_a_bad_block_stays(folder: Path) -> None:
    with open_store(folder) as store:
        sample().put(store, 0)
    path = share_path(folder, sample(), 0)
    content = bytearray(path.read_bytes())
    content[content.index(sample().blocks[2][0])] ^= 1
    path.write_bytes(content)
    send_to_quarantine(folder, sample())
    with open_store(folder) as store:
        scrub(store)
        assert not store.held()[sample().key(0)].sound
        assert (folder / "quarantine" / path.name).exists()


@pytest.mark.parametrize("failing", range(14))
def test_wherever_the_way_back_is_cut_the_share_is_there(tmp_path: Path, failing: int) -> None:
    disk, folder = FaultyDisk(), tmp_path / "store"
    store = ShareStore(folder, disk=disk)
    sample().put(store, 0)
    store._quarantine.take(sample().key(0), ValueError("a mistake"))
    store.check(sample().key(0))
    disk.arm({failing: 5})
    for _ in range(5):
        store.scrub.turn(0.0, idle=True)
    disk.arm()
    store.close()
    disk.lose_power(folder)
    disk.start_anew()
    store = ShareStore(folder, disk=disk)
    scrub(store)
    assert store.held()[sample().key(0)].sound
    sample().assert_readable(store, 0)
    assert not disk.resynced
    store.close()
