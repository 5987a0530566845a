"""Damage on the disk: a share that is not what was stored is never served as good, and harms no other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.protocol.identifiers import NO_OWNER
from common.protocol.messages import Code
from tests.support.sample_shares import (
    OWNER,
    declined,
    sample,
    share_path,
)
from worker.refusals import Refusal
from worker.store import ShareStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[ShareStore]:
    store = ShareStore(folder)
    yield store
    store.close()


def damage_nothing_may_survive(content: bytes, other: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "cut short by a byte": content[:-1],
        "cut in half": content[: len(content) // 2],
        "a byte longer": content + b"\x00",
        "header flipped": b"\x00" + content[1:],
        "trailer flipped": content[:-80] + bytes([content[-80] ^ 1]) + content[-79:],
        "another share's": other,
        "zeros": bytes(len(content)),
    }


def test_a_damaged_swapped_or_truncated_file_is_never_served_as_good(folder: Path) -> None:
    encoding, other = sample("one"), sample("other")
    store = ShareStore(folder)
    encoding.put(store, 0)
    other.put(store, 0)
    store.close()
    path = share_path(folder, encoding, 0)
    content = path.read_bytes()
    for what, damaged in damage_nothing_may_survive(content, share_path(folder, other, 0).read_bytes()).items():
        path.write_bytes(damaged)
        store = ShareStore(folder)
        held = store.held()[encoding.key(0)]
        assert not held.sound, what
        assert (held.object_id, held.share) == (None, 0)
        for segment in range(3):
            with declined(Code.DAMAGED):
                store.block(encoding.key(0), OWNER, segment)
        with declined(Code.DAMAGED):
            store.share(encoding.key(0), OWNER)
        for owner in (OWNER, NO_OWNER):
            with pytest.raises(Refusal):  # nobody's commit of it is acknowledged
                store.prepare_commit(encoding.key(0), owner, encoding.signed(owner))
        other.assert_readable(store, 0)
        store.close()


def test_a_file_that_is_damaged_while_the_worker_runs_is_never_served_as_good(folder: Path) -> None:
    encoding, other = sample("one"), sample("other")
    store = ShareStore(folder)
    other.put(store, 0)
    encoding.put(store, 0)
    content = share_path(folder, encoding, 0).read_bytes()
    for damaged in damage_nothing_may_survive(content, share_path(folder, other, 0).read_bytes()).values():
        path = share_path(folder, encoding, 0)
        path.write_bytes(damaged)
        with declined(Code.DAMAGED):
            store.block(encoding.key(0), OWNER, 0)
    store.close()


def test_a_file_replaced_while_it_is_open_serves_good_blocks_or_none(store: ShareStore, folder: Path) -> None:
    encoding = sample()
    encoding.put(store, 0)
    encoding.assert_readable(store, 0)  # it is open now
    path = share_path(folder, encoding, 0)
    path.write_bytes(path.read_bytes()[:200])
    served = 0
    for segment, row in enumerate(encoding.blocks):
        try:
            assert store.block(encoding.key(0), OWNER, segment) == row[0]
            served += 1
        except Refusal as refusal:
            assert refusal.answer.code is Code.DAMAGED
    assert served < 3


def test_a_file_of_an_older_encoding_is_not_served(store: ShareStore, folder: Path) -> None:
    older, newer = sample("a/older"), sample("a/newer")
    older.put(store, 0)
    newer.put(store, 0)
    share_path(folder, newer, 0).write_bytes(share_path(folder, older, 0).read_bytes())
    with declined(Code.DAMAGED):
        store.block(newer.key(0), OWNER, 0)


def test_a_file_of_another_share_of_the_same_encoding_is_not_served(store: ShareStore, folder: Path) -> None:
    encoding = sample()
    for share in (0, 1):
        encoding.put(store, share)
    share_path(folder, encoding, 0).write_bytes(share_path(folder, encoding, 1).read_bytes())
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 0)
    encoding.assert_readable(store, 1)


def test_a_file_that_is_gone_is_damage(store: ShareStore, folder: Path) -> None:
    encoding = sample()
    encoding.put(store, 0)
    share_path(folder, encoding, 0).unlink()
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 0)


def test_of_a_share_with_a_bad_block_in_the_middle_the_others_are_served(store: ShareStore, folder: Path) -> None:
    encoding = sample(segments=3)
    encoding.put(store, 0)
    path = share_path(folder, encoding, 0)
    content = bytearray(path.read_bytes())
    content[content.index(encoding.blocks[1][0]) + 5] ^= 0x20
    path.write_bytes(content)
    assert store.block(encoding.key(0), OWNER, 0) == encoding.blocks[0][0]
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 1)
    assert store.block(encoding.key(0), OWNER, 2) == encoding.blocks[2][0]


def test_files_that_are_no_shares_or_not_in_their_place_are_left_alone(folder: Path) -> None:
    encoding = sample()
    store = ShareStore(folder)
    encoding.put(store, 0)
    store.close()
    path = share_path(folder, encoding, 0)
    strays = [
        path.with_name("notes.txt"),
        path.with_name(path.name[:-2] + "40"),  # there is no share 64
        path.with_name(path.name.upper()),
        folder / "shares" / "00" / "00" / path.name,
    ]
    for stray in strays:
        stray.parent.mkdir(parents=True, exist_ok=True)
        if not stray.exists():
            shutil.copy(path, stray)
    store = ShareStore(folder)
    assert list(store.held()) == [encoding.key(0)]
    assert store.held()[encoding.key(0)].sound
    assert store.used_bytes == path.stat().st_size
    assert all(stray.exists() for stray in strays)
    store.close()


def test_a_folder_in_the_place_of_a_share_is_damage(folder: Path) -> None:
    encoding = sample()
    share_path(folder, encoding, 0).mkdir(parents=True)
    store = ShareStore(folder)
    assert not store.held()[encoding.key(0)].sound
    with declined(Code.DAMAGED):
        store.block(encoding.key(0), OWNER, 0)
    store.close()


def test_a_damaged_share_is_not_granted_again_before_it_was_stored_anew(folder: Path) -> None:
    encoding = sample()
    share_path(folder, encoding, 0).parent.mkdir(parents=True)
    share_path(folder, encoding, 0).write_bytes(b"damaged")
    store = ShareStore(folder)
    for owner in (OWNER, NO_OWNER):
        with declined(Code.NOT_OPEN):
            store.prepare_commit(encoding.key(0), owner, encoding.signed(owner))
    encoding.put(store, 0)
    encoding.assert_readable(store, 0)
    store.close()
