"""A share on its way: each block once, in any order; a fault of the disk leaves nothing half-written behind."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.coding.recipe import digest
from common.errors import IntegrityError
from tests.support.faulty_disk import FaultyDisk
from tests.support.sample_shares import OVERHEAD, OWNER, Sample, sample, staged_files
from worker import staging
from worker.disk import Disk
from worker.pack_format import MAX_PACKED
from worker.share_file import FOOTER_SIZE, ShareTrailer, decode_footer, share_header
from worker.staging import Body, FileBody, MemoryBody, Payer, StagedShare
from worker.store import ShareStore


def stage(body: Body, encoding: Sample, share: int) -> StagedShare:
    recipe = encoding.recipe
    header = share_header(recipe.encoding_id, share, recipe.k, recipe.n, recipe.block_size)
    staged = StagedShare(body, header, OWNER, Payer(OWNER), recipe.share_bytes, 0.0, 0.0)
    staged.begin()
    return staged


def in_file(disk: Disk, path: Path) -> FileBody:
    return FileBody(disk, path, disk.create(path))


def content_of(staged: StagedShare) -> bytes:
    return staged.body.read_at(0, 1 << 20)


def append(staged: StagedShare, encoding: Sample, segment: int) -> None:
    block = encoding.blocks[segment][staged.header.share]
    staged.append(segment, digest(block), block)


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "share"


@pytest.fixture
def staged(disk: FaultyDisk, path: Path) -> Iterator[StagedShare]:
    """In a file."""
    share = stage(in_file(disk, path), sample(), 0)
    yield share
    disk.arm()
    share.drop()


@pytest.fixture(params=["memory", "file"])
def body(request: pytest.FixtureRequest, path: Path) -> Body:
    return MemoryBody(0) if request.param == "memory" else in_file(Disk(), path)


@given(st.permutations(range(5)), st.booleans())
def test_blocks_come_in_any_order_and_are_read_before_the_commit(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], memory: bool
) -> None:
    encoding = sample(segments=5)
    body = MemoryBody(0) if memory else in_file(Disk(), tmp_path_factory.mktemp("staging") / "share")
    staged = stage(body, encoding, 1)
    for segment in order:
        append(staged, encoding, segment)
    offsets = staged.offsets(encoding.recipe)
    content = content_of(staged)
    for segment, row in enumerate(encoding.blocks):
        assert staged.read(segment) == row[1]
        assert content[offsets[segment] :].startswith(row[1])
    staged.drop()


def test_the_size_is_what_was_written(body: Body) -> None:
    encoding = sample()
    staged = stage(body, encoding, 0)
    for segment in range(3):
        append(staged, encoding, segment)
        assert staged.size == len(content_of(staged))
    offsets = staged.offsets(encoding.recipe)
    records = staged.size
    staged.finish(ShareTrailer(encoding.signed(), offsets))
    content = content_of(staged)
    assert staged.size == len(content)
    assert decode_footer(content[-FOOTER_SIZE:]) == records
    staged.drop()


def test_a_share_in_memory_and_one_in_a_file_are_the_same_bytes(path: Path) -> None:
    contents = []
    for body in (MemoryBody(0), in_file(Disk(), path)):
        staged = stage(body, sample(), 0)
        for segment in (2, 0, 1):
            append(staged, sample(), segment)
        staged.finish(ShareTrailer(sample().signed(), staged.offsets(sample().recipe)))
        contents.append(content_of(staged))
        staged.drop()
    assert contents[0] == contents[1]


def test_a_block_that_did_not_come_cannot_be_read(staged: StagedShare) -> None:
    with pytest.raises(KeyError):
        staged.read(0)


def test_a_block_that_was_damaged_on_the_disk_is_not_given_out(staged: StagedShare, path: Path) -> None:
    append(staged, sample(), 0)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(IntegrityError):
        staged.read(0)


@pytest.mark.parametrize("came", [[], [0, 1], [1, 2]])
def test_a_recipe_needs_all_its_blocks(staged: StagedShare, came: list[int]) -> None:
    encoding = sample()
    for segment in came:
        append(staged, encoding, segment)
    with pytest.raises(IntegrityError):
        staged.offsets(encoding.recipe)


@pytest.mark.parametrize(
    "other",
    [sample("other"), sample(k=1), sample(n=4), sample(block_size=65), sample(last=41), sample(segments=4)],
    ids=["encoding id", "k", "n", "block size", "last block size", "segments"],
)
def test_a_recipe_of_anything_else_is_refused(staged: StagedShare, other: Sample) -> None:
    encoding = sample()
    for segment in range(3):
        append(staged, encoding, segment)
    with pytest.raises(IntegrityError):
        staged.offsets(other.recipe)


# The file has its header, so call 0 is the record's prefix and call 1 the block.
@pytest.mark.parametrize("number", [0, 1])
def test_a_block_that_was_written_in_part_leaves_nothing_and_can_come_again(
    disk: FaultyDisk, staged: StagedShare, path: Path, number: int
) -> None:
    encoding = sample()
    append(staged, encoding, 2)
    before = path.read_bytes()
    disk.arm({number: errno.ENOSPC})
    with pytest.raises(OSError, match="space"):
        append(staged, encoding, 0)
    assert path.read_bytes() == before
    assert not staged.dropped
    for segment in (0, 1):
        append(staged, encoding, segment)
    staged.offsets(encoding.recipe)
    assert [staged.read(segment) for segment in range(3)] == [row[0] for row in encoding.blocks]


def test_what_cannot_be_cut_off_again_is_dropped(disk: FaultyDisk, staged: StagedShare, path: Path) -> None:
    disk.arm({1: errno.ENOSPC}, {"truncate": errno.EIO})
    with pytest.raises(OSError, match="space"):
        append(staged, sample(), 0)
    assert staged.dropped
    assert not path.exists()


def test_a_share_whose_header_cannot_be_written_leaves_no_file(disk: FaultyDisk, path: Path) -> None:
    disk.arm({1: errno.ENOSPC})
    with pytest.raises(OSError, match="space"):
        stage(in_file(disk, path), sample(), 0)
    assert disk.calls == ["create", "append", "close", "remove"]
    assert not path.exists()


@pytest.mark.parametrize("failing", ["close", "remove"])
def test_dropping_raises_nothing_and_a_left_over_file_is_in_nobodys_way(
    disk: FaultyDisk, tmp_path: Path, failing: str
) -> None:
    store = ShareStore(tmp_path / "store", disk=disk)
    opening = sample().opening(0, share_bytes=200 << 10)  # in a file
    store.open(opening, OWNER, 0.0)
    disk.arm(always={failing: errno.EIO})
    store.abandon(sample().key(0), OWNER)
    assert bool(staged_files(tmp_path / "store")) == (failing == "remove")
    disk.arm()
    store.open(opening, OWNER, 0.0)
    sample().append(store, 0, 0)
    assert store.block(sample().key(0), OWNER, 0) == sample().blocks[0][0]
    store.close()


def test_a_descriptor_is_closed_once_and_a_file_removed_once(disk: FaultyDisk, staged: StagedShare) -> None:
    disk.arm(always={"close": errno.EIO})
    with pytest.raises(OSError, match="rror"):
        staged.body.close()
    staged.drop()
    staged.drop()
    assert disk.calls == ["close", "remove"]


@given(st.sets(st.integers(0, 40)))
def test_the_ranges_are_the_blocks_that_came(came: set[int]) -> None:
    encoding = sample(segments=41)
    staged = stage(MemoryBody(0), encoding, 1)
    for segment in came:
        append(staged, encoding, segment)
    ranges = staged.ranges()
    assert [s for each in ranges for s in range(each.first, each.first + each.count)] == sorted(came)
    assert all(one.first + one.count < other.first for one, other in zip(ranges, ranges[1:])), "as few as can be"
    staged.drop()


def test_shares_are_in_memory_while_there_is_room_and_in_files_beyond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ShareStore(tmp_path / "store")
    samples = [sample(f"number {number}") for number in range(8)]

    def begin(number: int) -> bool:
        """Whether it is in a file."""
        assert store.open(samples[number].opening(0), OWNER, 0.0)
        staged = store._staged.get(samples[number].key(0), OWNER)
        assert staged is not None
        return staged.on_disk

    monkeypatch.setattr(staging, "_MOST_IN_MEMORY", 2 * (samples[0].recipe.share_bytes + OVERHEAD))
    assert [begin(number) for number in range(3)] == [False, False, True]
    store.abandon(samples[2].key(0), OWNER)  # what is in a file takes no memory, and gives none back
    assert begin(3)
    store.abandon(samples[0].key(0), OWNER)
    for segment in range(3):
        samples[1].append(store, 0, segment)
    assert samples[1].commit(store, 0).granted
    assert [begin(number) for number in range(4, 7)] == [False, False, True]
    store._staged.make_room(store._staged._shares[samples[4].key(0), OWNER], MAX_PACKED)  # it goes on in a file
    assert not begin(7)
    store.close()
