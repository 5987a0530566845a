"""Damage on the disk: a share that is not what was stored is never served as good, and harms no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from common.protocol.identifiers import NO_OWNER
from common.protocol.messages import Code
from tests.support.sample_shares import OWNER, Sample, damage, declined, held_by, large, lying, sample
from worker.refusals import Refusal
from worker.store import ShareStore

Make = Callable[[str], Sample]


@pytest.fixture(params=[sample, partial(sample, segments=1), large], ids=["small", "of one segment", "large"])
def make(request: pytest.FixtureRequest) -> Make:
    chosen: Make = request.param
    return chosen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[ShareStore]:
    store = ShareStore(folder)
    yield store
    store.close()


def record(store: ShareStore, encoding: Sample, share: int = 0) -> bytes:
    """A share's record, as it lies on the disk."""
    path, start, length = lying(store, encoding, share)
    return path.read_bytes()[start : start + length]


def damaged_records(content: bytes, other: bytes) -> dict[str, bytes]:
    """What no share survives, as long as the record was."""
    return {
        "header flipped": b"\x00" + content[1:],
        "trailer flipped": content[:-80] + bytes([content[-80] ^ 1]) + content[-79:],
        "footer flipped": content[:-1] + bytes([content[-1] ^ 1]),
        "another share's": other,
        "zeros": bytes(len(content)),
        "half of it zeros": content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    }


@pytest.mark.parametrize("index", ["kept", "made anew"])
def test_a_damaged_or_swapped_record_is_never_served_as_good(folder: Path, make: Make, index: str) -> None:
    encoding, other = make("one"), make("other")
    store = ShareStore(folder)
    encoding.put(store, 0)
    other.put(store, 0)
    content = record(store, encoding)
    for what, damaged in damaged_records(content, record(store, other)).items():
        damage(store, encoding, 0, 0, damaged)
        store.close()
        for path in [*folder.glob("index*")] if index == "made anew" else []:
            path.unlink()
        store = ShareStore(folder)
        for segment in range(encoding.recipe.segment_count):
            with declined(Code.DAMAGED):
                store.block(encoding.key(0), OWNER, segment)
        with declined(Code.DAMAGED):
            store.share(encoding.key(0), OWNER)
        assert not held_by(store)[encoding.key(0)].sound, what
        for owner in (OWNER, NO_OWNER):
            with pytest.raises(Refusal):  # nobody's commit of it is acknowledged
                store.prepare_commit(encoding.key(0), owner, encoding.signed(owner))
        other.assert_readable(store, 0)
    store.close()


def test_a_record_that_is_damaged_while_the_worker_runs_is_never_served_as_good(folder: Path, make: Make) -> None:
    encoding, other = make("one"), make("other")
    store = ShareStore(folder)
    other.put(store, 0)
    encoding.put(store, 0)
    content = record(store, encoding)
    for damaged in damaged_records(content, record(store, other)).values():
        damage(store, encoding, 0, 0, damaged)
        with declined(Code.DAMAGED):
            store.block(encoding.key(0), OWNER, 0)
    store.close()


def test_a_record_that_changes_while_it_is_open_gives_good_blocks_or_none(store: ShareStore, make: Make) -> None:
    encoding = make("one")
    encoding.put(store, 0)
    encoding.assert_readable(store, 0)  # it is open now
    content = record(store, encoding)
    damage(store, encoding, 0, 0, content[:100] + bytes(len(content) - 100))
    served = 0
    for segment, row in enumerate(encoding.blocks):
        try:
            assert store.block(encoding.key(0), OWNER, segment) == row[0]
            served += 1
        except Refusal as refusal:
            assert refusal.answer.code is Code.DAMAGED
    assert served < len(encoding.blocks)


def test_the_record_of_an_older_encoding_is_not_served(store: ShareStore, make: Make) -> None:
    older, newer = make("a/older"), make("a/newer")
    older.put(store, 0)
    newer.put(store, 0)
    damage(store, newer, 0, 0, record(store, older))
    with declined(Code.DAMAGED):
        store.block(newer.key(0), OWNER, 0)


def test_the_record_of_another_share_of_the_same_encoding_is_not_served(store: ShareStore, make: Make) -> None:
    encoding = make("one")
    for share in (0, 1):
        encoding.put(store, share)
    damage(store, encoding, 0, 0, record(store, encoding, 1))
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 0)
    encoding.assert_readable(store, 1)


def test_of_a_share_with_a_bad_block_in_the_middle_the_others_are_served(store: ShareStore) -> None:
    for encoding in (sample(segments=3), sample("big", segments=3, block_size=100 << 10)):
        encoding.put(store, 0)
        at = record(store, encoding).index(encoding.blocks[1][0])
        damage(store, encoding, 0, at + 5, bytes([encoding.blocks[1][0][5] ^ 0x20]))
        assert store.block(encoding.key(0), OWNER, 0) == encoding.blocks[0][0]
        with declined(Code.DAMAGED):
            store.block(encoding.key(0), OWNER, 1)
        assert store.block(encoding.key(0), OWNER, 2) == encoding.blocks[2][0]


def test_a_damaged_share_is_not_granted_again_before_it_was_stored_anew(folder: Path, make: Make) -> None:
    encoding = make("one")
    store = ShareStore(folder)
    encoding.put(store, 0)
    damage(store, encoding, 0)
    with declined(Code.DAMAGED):
        store.share(encoding.key(0), OWNER)
    for owner in (OWNER, NO_OWNER):
        with pytest.raises(Refusal):
            store.prepare_commit(encoding.key(0), owner, encoding.signed(owner))
    encoding.put(store, 0)
    encoding.assert_readable(store, 0)
    store.close()


# --- files of large shares


def file_of(store: ShareStore, encoding: Sample) -> Path:
    return lying(store, encoding, 0)[0]


@pytest.mark.parametrize("index", ["kept", "made anew"])
@pytest.mark.parametrize("size", [0, -1, 1, "half"])
def test_a_file_of_another_length_is_damage_from_the_start_on(folder: Path, index: str, size: object) -> None:
    store = ShareStore(folder)
    large().put(store, 0)
    path = file_of(store, large())
    content = path.read_bytes()
    lengths = {0: 0, -1: len(content) - 1, 1: len(content) + 1, "half": len(content) // 2}
    path.write_bytes((content + b"\x00")[: lengths[size]])
    store.close()
    for each in [*folder.glob("index*")] if index == "made anew" else []:
        each.unlink()
    store = ShareStore(folder)
    assert not held_by(store)[large().key(0)].sound
    with declined(Code.DAMAGED):
        store.share(large().key(0), OWNER)
    store.close()


def test_a_file_that_is_gone_is_damage(store: ShareStore) -> None:
    large().put(store, 0)
    file_of(store, large()).unlink()
    with declined(Code.DAMAGED):
        store.block(large().key(0), OWNER, 0)


def test_files_that_are_no_shares_or_not_in_their_place_are_left_alone(folder: Path) -> None:
    store = ShareStore(folder)
    large().put(store, 0)
    path, used = file_of(store, large()), store.used_bytes
    store.close()
    key, _, serial = path.name.rpartition(".")
    strays = [
        path.with_name("notes.txt"),
        path.with_name(f"{key[:-2]}40.{serial}"),  # there is no share 64
        path.with_name(path.name.upper()),
        folder / "shares" / "zz" / path.name,
        folder / "shares" / path.name,
        folder / "packs" / "notes.txt",
    ]
    for stray in strays:
        stray.parent.mkdir(parents=True, exist_ok=True)
        if not stray.exists():
            shutil.copy(path, stray)
    for each in folder.glob("index*"):
        each.unlink()
    store = ShareStore(folder)
    assert list(held_by(store)) == [large().key(0)]
    assert held_by(store)[large().key(0)].sound
    assert store.used_bytes == used
    assert all(stray.exists() for stray in strays)
    store.close()


def test_a_folder_in_the_place_of_a_share_is_damage(folder: Path) -> None:
    store = ShareStore(folder)
    large().put(store, 0)
    path = file_of(store, large())
    store.close()
    path.unlink()
    path.mkdir()
    for index in ("kept", "made anew"):
        store = ShareStore(folder)
        with declined(Code.DAMAGED):
            store.block(large().key(0), OWNER, 0)
        assert not held_by(store)[large().key(0)].sound, index
        store.close()
        for each in folder.glob("index*"):
            each.unlink()
