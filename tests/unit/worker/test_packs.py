"""Packs whose bytes rot, go, or were never written: what that costs is what it touches, and never more.

With the index there, and with an index that is made anew from what is left.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from pathlib import Path
from typing import Callable, NamedTuple

import pytest

from common.coding.recipe import digest
from common.protocol.messages import NO_TRASH, Code
from tests.support.memory_disk import MemoryDisk
from tests.support.sample_shares import OWNER, Sample, chance, declined, held_by, lying, sample, trashed
from worker.disk import Disk
from worker.pack_format import FRAME_SIZE, MARK, Kind, encode_frame, make_frame
from worker.refusals import Refusal
from worker.store import ShareStore

pytestmark = pytest.mark.one_python

SHARE = 0
PAGE = 4096
PLAIN, OTHER, AMENDED, DELETED, GONE = (
    sample(label, segments=1) for label in ("plain", "other", "amended", "deleted", "gone")
)
ALL = PLAIN, OTHER, AMENDED, DELETED, GONE


class Touch(NamedTuple):
    """Where a record lies in its pack, frame and body, and whose it is."""

    start: int
    end: int
    encoding: Sample

    def by(self, start: int, end: int) -> bool:
        """Whether a range touches it."""
        return self.start < end and start < self.end


def fill(store: ShareStore) -> list[Touch]:
    """Put shares, and do with them what their names say; where all their records lie."""
    for encoding in ALL:
        encoding.put(store, SHARE)
    store.amend(AMENDED.encoding_id, AMENDED.signed(revision=2), OWNER)
    store.delete(DELETED.deletion(), OWNER)
    store.delete(GONE.deletion(trash_seconds=NO_TRASH), OWNER)
    encodings = {encoding.encoding_id: encoding for encoding in ALL}
    (number,) = store._packs.sizes
    touches = []
    for frame, place in store._packs.frames(number):
        start, end = place.offset - FRAME_SIZE, place.offset + place.length
        touches.append(Touch(start, end, encodings[frame.encoding_id]))
    assert touches[-1].end == store._packs.sizes[number]
    return touches


def check(store: ShareStore, touched: list[Sample]) -> None:
    """All that was not touched is as it was; of what was, nothing wrong is given out."""
    there = held_by(store)
    for encoding in ALL:
        if encoding in touched:
            with_luck(encoding, store)
        elif encoding is DELETED:
            assert encoding.key(SHARE) not in there, "a deletion is forgotten"
            assert encoding.key(SHARE) in {kept.key for kept in trashed(store)}
        elif encoding is GONE:
            assert not store._index.of_encoding(encoding.encoding_id), "what went is back"
        else:
            assert there[encoding.key(SHARE)].sound
            encoding.assert_readable(store, SHARE)
    if AMENDED not in touched:
        assert store.share(AMENDED.key(SHARE), OWNER).commitment.revision == 2


def with_luck(encoding: Sample, store: ShareStore) -> None:
    try:
        assert store.block(encoding.key(SHARE), OWNER, 0) == encoding.blocks[0][SHARE]
    except Refusal as refusal:
        assert refusal.answer.code in (
            Code.DAMAGED,
            Code.NOT_FOUND,
            Code.FAULT,
        )  # FAULT: it reads as of another version


FOLDER = Path("/store")


@pytest.fixture(scope="module")
def filled() -> tuple[MemoryDisk, list[Touch]]:
    """A disk whose index is made anew at each start."""
    disk = MemoryDisk()
    store = ShareStore(FOLDER, disk=disk)
    touches = fill(store)
    store.close()
    return disk, touches


def pack_on(disk: MemoryDisk) -> bytearray:
    (path,) = disk.paths(FOLDER / "packs")
    return disk.content(path)


def test_every_flipped_byte_costs_its_record_where_the_index_is_made_anew(
    filled: tuple[MemoryDisk, list[Touch]],
) -> None:
    disk, touches = filled
    for at in range(len(pack_on(disk))):
        copied = disk.copied()
        pack_on(copied)[at] ^= 0xFF
        store = ShareStore(FOLDER, disk=copied)
        check(store, [touch.encoding for touch in touches if touch.by(at, at + 1)])
        store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def the_pack(folder: Path) -> Path:
    (path,) = (folder / "packs").iterdir()
    return path


def lose_index(folder: Path) -> None:
    for path in folder.glob("index.sqlite*"):
        path.unlink()


def test_every_flipped_byte_costs_its_record_while_the_index_is_there(folder: Path) -> None:
    store = ShareStore(folder)
    touches = fill(store)
    path = the_pack(folder)
    content = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for at in range(len(content)):
            os.pwrite(file.fileno(), bytes([content[at] ^ 0xFF]), at)
            store._shares.close()  # what it has read it would still know
            touched = [touch.encoding for touch in touches if touch.by(at, at + 1)]
            check(store, touched)
            os.pwrite(file.fileno(), content[at : at + 1], at)
            store = good_again(store, touched[0])
    store.close()


def good_again(store: ShareStore, encoding: Sample) -> ShareStore:
    """The store once it has found out that a share is good after all."""
    kept = store._index.held(encoding.key(SHARE))
    if kept is not None and not kept.sound:
        store.check(encoding.key(SHARE))
        for _ in range(5):
            store.scrub.turn(0.0, idle=False)
    if kept is None and encoding in (PLAIN, OTHER, AMENDED):  # it was left alone, as of another version
        store.close()
        store = ShareStore(store.folder)
    return store


# --- pages


class Rotten(Disk):
    """Of whose packs a page cannot be read."""

    def __init__(self, page: int = -1) -> None:
        self.page = page
        self._packs: set[int] = set()

    def open(self, path: Path) -> int:
        descriptor = super().open(path)
        self._packs = self._packs | {descriptor} if path.suffix == ".pack1" else self._packs - {descriptor}
        return descriptor

    def read_at(self, descriptor: int, offset: int, length: int) -> bytes:
        touches = offset < (self.page + 1) * PAGE and self.page * PAGE < offset + length
        if self.page >= 0 and descriptor in self._packs and touches:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read_at(descriptor, offset, length)


MANY = [sample(f"many {number}", segments=2, block_size=300 + 97 * number) for number in range(40)]


def put_many(folder: Path) -> list[Touch]:
    store = ShareStore(folder)
    for encoding in MANY:
        encoding.put(store, SHARE)
    touches = []
    for encoding in MANY:
        _, offset, length = lying(store, encoding, SHARE)
        touches.append(Touch(offset - FRAME_SIZE, offset + length, encoding))
    store.close()
    return touches


def check_many(store: ShareStore, touched: list[Sample]) -> None:
    for encoding in MANY:
        if encoding in touched:
            with_luck(encoding, store)
        else:
            assert held_by(store)[encoding.key(SHARE)].sound
            encoding.assert_readable(store, SHARE)


@pytest.mark.parametrize("index_there", [True, False])
@pytest.mark.parametrize("zeros", [True, False], ids=["zeros", "cannot be read"])
def test_every_page_that_is_lost_costs_the_records_that_it_touches(
    folder: Path, tmp_path: Path, index_there: bool, zeros: bool
) -> None:
    touches = put_many(folder)
    pages = touches[-1].end // PAGE + 1
    assert pages > 20
    for page in range(pages):
        copy = tmp_path / f"copy {page}"
        shutil.copytree(folder, copy)
        if zeros:
            write(the_pack(copy), page * PAGE, bytes(min(PAGE, touches[-1].end - page * PAGE)))
        if not index_there:
            lose_index(copy)
        touched = [touch.encoding for touch in touches if touch.by(page * PAGE, (page + 1) * PAGE)]
        assert len(touched) < 10
        store = ShareStore(copy, disk=Rotten(-1 if zeros else page))
        check_many(store, touched)
        for encoding in touched:
            encoding_can_be_stored_anew(store, encoding)
        check_many(store, [])
        store.close()


def encoding_can_be_stored_anew(store: ShareStore, encoding: Sample) -> None:
    for segment in range(2):
        with_luck_read(store, encoding, segment)
    if not store.holds(encoding.key(SHARE), OWNER):
        encoding.put(store, SHARE)


def with_luck_read(store: ShareStore, encoding: Sample, segment: int) -> None:
    try:
        store.block(encoding.key(SHARE), OWNER, segment)
    except Refusal:
        return


def write(path: Path, offset: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def test_a_page_that_could_not_be_read_once_costs_nothing_once_it_can(folder: Path) -> None:
    put_many(folder)
    lose_index(folder)
    ShareStore(folder, disk=Rotten(3)).close()
    store = ShareStore(folder)
    check_many(store, [])
    store.close()


# --- torn tails


def test_a_tail_torn_at_any_length_leaves_the_records_before_it(filled: tuple[MemoryDisk, list[Touch]]) -> None:
    disk, touches = filled
    for length in range(len(pack_on(disk))):
        copied = disk.copied()
        del pack_on(copied)[length:]
        check_torn(copied, [touch.encoding for touch in touches if touch.end > length])


def test_a_tail_of_zeros_leaves_the_records_before_it(filled: tuple[MemoryDisk, list[Touch]]) -> None:
    """A file may have its length and not its content."""
    disk, touches = filled
    size = len(pack_on(disk))
    for length in range(0, size, 17):
        copied = disk.copied()
        pack_on(copied)[length:] = bytes(size - length)
        check_torn(copied, [touch.encoding for touch in touches if touch.end > length])


def check_torn(disk: MemoryDisk, torn: list[Sample]) -> None:
    """What is before is there, also after a next worker has stored more, and nothing is appended to what is torn."""
    if sum(len(disk.content(path)) for path in disk.paths(FOLDER / "packs")) % 10:
        store = ShareStore(FOLDER, disk=disk)
        check(store, torn)
        store.close()
        return
    before = {path: len(disk.content(path)) for path in disk.paths(FOLDER / "packs")}
    store = ShareStore(FOLDER, disk=disk)
    check(store, torn)
    new = sample("new", segments=1)
    new.put(store, SHARE)
    store.close()
    store = ShareStore(FOLDER, disk=disk)
    check(store, torn)
    new.assert_readable(store, SHARE)
    store.close()
    assert all(len(disk.content(path)) == size for path, size in before.items())


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_a_pack_that_was_cut_short_behind_the_indexs_back_costs_what_was_cut_off(folder: Path, off: int) -> None:
    store = ShareStore(folder)
    touches = fill(store)
    store.close()
    whole = the_pack(folder).read_bytes()
    for number, touch in enumerate(touches):
        copy = folder.parent / f"copy {number}"
        shutil.copytree(folder, copy)
        os.truncate(the_pack(copy), length := min(touch.end + off, len(whole)))
        shares = [each.encoding for each in touches[:5] if each.end > length]
        touched = [*shares, *([AMENDED] if touches[5].end > length else [])]
        store = ShareStore(copy)
        check(store, touched)
        lost = [encoding for encoding in (PLAIN, OTHER, AMENDED) if encoding in touched]
        assert [e for e in (PLAIN, OTHER, AMENDED) if not held_by(store)[e.key(SHARE)].sound] == lost
        store.close()
        lose_index(copy)
        store = ShareStore(copy)
        assert {each.encoding_id for each in store.tombstones()} == {DELETED.encoding_id, GONE.encoding_id}
        check(store, [*touched, GONE])
        store.close()


# --- packs as a whole


def two_packs(folder: Path) -> Path:
    """A store of two workers' packs: shares in the first, what became of them in the second; which is the first."""
    store = ShareStore(folder)
    for encoding in ALL[:-1]:
        encoding.put(store, SHARE)
    store.close()
    first = the_pack(folder)
    store = ShareStore(folder)
    store.amend(AMENDED.encoding_id, AMENDED.signed(revision=2), OWNER)
    store.delete(DELETED.deletion(), OWNER)
    GONE.put(store, SHARE)
    store.close()
    return first


def the_second(folder: Path) -> Path:
    return max((folder / "packs").iterdir())


def test_a_pack_that_is_gone_costs_its_shares_which_can_be_stored_anew(folder: Path) -> None:
    two_packs(folder).unlink()
    store = ShareStore(folder)
    assert {key for key, share in held_by(store).items() if not share.sound} == {e.key(SHARE) for e in ALL[:3]}
    GONE.assert_readable(store, SHARE)
    assert DELETED.key(SHARE) not in held_by(store)
    for encoding in (PLAIN, OTHER):
        encoding.put(store, SHARE)
    assert store._index.dead_bytes == 0, "a pack that is not there has no dead bytes"
    store.close()
    lose_index(folder)
    store = ShareStore(folder)
    for encoding in (PLAIN, OTHER, GONE):
        encoding.assert_readable(store, SHARE)
    store.close()


def test_a_pack_that_is_gone_takes_no_deletion_with_it_while_the_index_is_there(folder: Path) -> None:
    two_packs(folder)
    the_second(folder).unlink()
    store = ShareStore(folder)
    assert DELETED.key(SHARE) not in held_by(store)
    assert not held_by(store)[AMENDED.key(SHARE)].sound, "what was superseded is not believed again"
    with declined(Code.DAMAGED):
        store.share(AMENDED.key(SHARE), OWNER)
    PLAIN.assert_readable(store, SHARE)
    store.close()
    lose_index(folder)
    store = ShareStore(folder)
    assert DELETED.key(SHARE) not in held_by(store), "it was written anew"
    store.close()


class Forbidding(Disk):
    """A disk that does not open one file."""

    def __init__(self, path: Path, reason: int) -> None:
        self._path, self._reason = path, reason

    def open(self, path: Path) -> int:
        if path == self._path:
            raise OSError(self._reason, os.strerror(self._reason), str(path))
        return super().open(path)


def check_two(store: ShareStore) -> None:
    assert DELETED.key(SHARE) not in held_by(store)
    for encoding in (PLAIN, OTHER, AMENDED, GONE):
        assert held_by(store)[encoding.key(SHARE)].sound
        encoding.assert_readable(store, SHARE)
    assert store.share(AMENDED.key(SHARE), OWNER).commitment.revision == 2


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EMFILE])
def test_a_pack_that_cannot_be_opened_is_left_alone_and_all_there_once_it_can(folder: Path, reason: int) -> None:
    first = two_packs(folder)
    store = ShareStore(folder, disk=Forbidding(first, reason))
    assert list(held_by(store)) == [GONE.key(SHARE)], "they are neither lost nor damaged"
    GONE.assert_readable(store, SHARE)
    with declined(Code.FAULT):
        store.open(PLAIN.opening(SHARE), OWNER, 0.0)
    sample("new").put(store, SHARE)
    live(store)
    store.close()
    assert first.exists()
    store = ShareStore(folder)
    check_two(store)
    store.close()


@pytest.mark.parametrize("second", [False, True], ids=["shares", "what became of them"])
@pytest.mark.parametrize("reason", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_a_pack_that_cannot_be_opened_while_the_index_is_made_is_lost_by_nobody(
    folder: Path, reason: int, second: bool
) -> None:
    first = two_packs(folder)
    unreadable = the_second(folder) if second else first
    lose_index(folder)
    for _ in range(2):
        store = ShareStore(folder, disk=Forbidding(unreadable, reason))
        with declined(Code.READ_ONLY):
            store.open(sample("new").opening(SHARE), OWNER, 0.0)
        (PLAIN if second else GONE).assert_readable(store, SHARE)
        live(store)
        store.close()
    store = ShareStore(folder)
    check_two(store)
    sample("new").put(store, SHARE)
    store.close()


def live(store: ShareStore) -> None:
    """Long enough that whatever is purged or moved is."""
    for minute in range(20):
        store.expire(600.0 * minute)
        store.scrub.turn(600.0 * minute, idle=True)
        store.compaction.turn(600.0 * minute)


@pytest.mark.parametrize("index_there", [True, False])
def test_a_pack_of_another_version_is_left_alone_and_the_store_takes_nothing(folder: Path, index_there: bool) -> None:
    two_packs(folder)
    other = folder / "packs" / "00000009.0123456789abcdef.pack2"
    other.write_bytes(b"who knows")
    if not index_there:
        lose_index(folder)
    store = ShareStore(folder)
    check_two(store)
    with declined(Code.READ_ONLY):
        store.open(sample("new").opening(SHARE), OWNER, 0.0)
    with declined(Code.READ_ONLY):
        store.delete(PLAIN.deletion(), OWNER)
    live(store)
    store.close()
    assert other.read_bytes() == b"who knows"
    other.unlink()
    store = ShareStore(folder)
    check_two(store)
    sample("new").put(store, SHARE)
    store.close()


@pytest.mark.parametrize("name", ["notes.txt", "00000001.0123.pack1", "00000001.0123456789abcdef.pack1.part", "folder"])
def test_what_is_no_pack_is_in_nobodys_way(folder: Path, name: str) -> None:
    two_packs(folder)
    if name == "folder":
        (folder / "packs" / name).mkdir()
    else:
        (folder / "packs" / name).write_bytes(b"who knows")
    for _ in range(2):
        store = ShareStore(folder)
        check_two(store)
        live(store)
        store.close()
        lose_index(folder)
    assert (folder / "packs" / name).exists()


# --- what a client may put into its blocks


def forged(salt: bytes, label: str) -> bytes:
    """What reads, in a pack of this salt, as the records of a share and of one that went."""
    body = chance(label, 100)
    frames = [
        make_frame(Kind.SHARE, PLAIN.key(SHARE), 1 << 40, 0, body),
        make_frame(Kind.REMOVAL, PLAIN.key(SHARE), (1 << 40) + 1, 1, b""),
        make_frame(Kind.TOMBSTONE, (OTHER.encoding_id, 255), (1 << 40) + 2, 0, body),
    ]
    return b"".join(encode_frame(frame, salt) + body[: frame.length] for frame in frames)


def put_forged(folder: Path, salt_of: Callable[[Path], bytes]) -> tuple[Sample, int, int]:
    """A store with a share whose block is what `salt_of` makes of the pack's path; and where that share lies."""
    store = ShareStore(folder)
    for encoding in (PLAIN, OTHER):
        encoding.put(store, SHARE)
    encoding = made_of("forged", [[forged(salt_of(the_pack(folder)), str(i)) for i in range(3)]])
    encoding.put(store, SHARE)
    _, offset, length = lying(store, encoding, SHARE)
    store.close()
    return encoding, offset, length


@pytest.mark.parametrize("where", [0, -1], ids=["frame", "none"])
def test_a_block_that_reads_as_records_of_another_pack_is_taken_for_none(folder: Path, where: int) -> None:
    encoding, offset, _ = put_forged(folder, lambda _: bytes(8))
    assert the_pack(folder).read_bytes().count(MARK) > 3
    if where == 0:
        write(the_pack(folder), offset - FRAME_SIZE, b"\xff")  # so that what is behind is looked through
    lose_index(folder)
    store = ShareStore(folder)
    for each in (PLAIN, OTHER):
        each.assert_readable(store, SHARE)
    assert (encoding.key(SHARE) in held_by(store)) == (where != 0)
    assert len(held_by(store)) == 2 + (where != 0)
    assert not list(store.tombstones())
    store.close()


def test_the_records_of_a_pack_would_be_taken_so_the_salt_is_what_keeps_them_out(folder: Path) -> None:
    def salt(path: Path) -> bytes:
        return bytes.fromhex(path.name.split(".")[1])

    _, offset, _ = put_forged(folder, salt)
    lose_index(folder)
    store = ShareStore(folder)
    PLAIN.assert_readable(store, SHARE)
    store.close()
    write(the_pack(folder), offset - FRAME_SIZE, b"\xff")
    lose_index(folder)
    store = ShareStore(folder)
    assert not store._index.of_serial(1), "the forged removal was believed"
    store.close()


def test_packs_of_one_store_have_salts_of_their_own(folder: Path) -> None:
    for number in range(5):
        store = ShareStore(folder)
        sample(str(number)).put(store, SHARE)
        store.close()
    salts = {path.name.split(".")[1] for path in (folder / "packs").iterdir()}
    assert len(salts) == 5


def test_a_damaged_block_full_of_what_begins_a_frame_is_gone_through_quickly(folder: Path) -> None:
    encoding = made_of("marks", [[MARK * (50 << 10)] * 3])
    store = ShareStore(folder)
    PLAIN.put(store, SHARE)
    encoding.put(store, SHARE)
    OTHER.put(store, SHARE)
    _, offset, _ = lying(store, encoding, SHARE)
    store.close()
    write(the_pack(folder), offset - FRAME_SIZE, b"\xff")
    lose_index(folder)
    disk = Counting()
    store = ShareStore(folder, disk=disk)
    for each in (PLAIN, OTHER):
        each.assert_readable(store, SHARE)
    assert disk.bytes_read < 8 << 20
    store.close()


class Counting(Disk):
    """Counts what is read."""

    def __init__(self) -> None:
        self.bytes_read = 0

    def read_at(self, descriptor: int, offset: int, length: int) -> bytes:
        content = super().read_at(descriptor, offset, length)
        self.bytes_read += len(content)
        return content


def made_of(label: str, blocks: list[list[bytes]]) -> Sample:
    """An encoding of one segment with these blocks."""
    like = sample(label, segments=1, last=len(blocks[0][0]), block_size=len(blocks[0][0]))
    digests = b"".join(digest(block) for row in blocks for block in row)
    return Sample(dataclasses.replace(like.recipe, digests=digests), blocks, like.nonce)
