"""A tombstone says what was written, or nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import IntegrityError
from common.protocol.messages import TOMBSTONE_LIFETIME, Tombstone
from worker.disk import Disk
from worker.durability import Durability
from worker.layout import Layout
from worker.tombstones import MAX_TOMBSTONE_SIZE, KeptTombstone, Tombstones, decode_tombstone, encode_tombstone

SECONDS = st.integers(0, 2**53 - 1)
TOMBSTONES = st.builds(
    KeptTombstone,
    st.builds(
        Tombstone,
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=32, max_size=32),
        st.integers(1, 2**32 - 1),
        st.integers(0, TOMBSTONE_LIFETIME),
        st.binary(min_size=64, max_size=64),
    ),
    SECONDS,
    SECONDS,
)
WORD = Tombstone(b"e" * 16, b"o" * 32, b"w" * 32, 1, 7 * 24 * 3600, b"s" * 64)
ONE = KeptTombstone(WORD, 1_800_000_000, 1_900_000_000)
NAME = f"{WORD.encoding_id.hex()}.{WORD.owner.hex()}"


def opened(folder: Path) -> Tombstones:
    layout, disk = Layout(folder), Disk()
    layout.tombstones.mkdir(exist_ok=True)
    tombstones = Tombstones(disk, layout, Durability(disk, folder))
    tombstones.load()
    return tombstones


@given(TOMBSTONES)
def test_what_is_read_is_what_was_written(tombstone: KeptTombstone) -> None:
    content = encode_tombstone(tombstone)
    assert len(content) <= MAX_TOMBSTONE_SIZE
    assert decode_tombstone(content) == tombstone


@given(TOMBSTONES, st.data())
def test_every_flipped_byte_is_refused(tombstone: KeptTombstone, data: st.DataObject) -> None:
    content = bytearray(encode_tombstone(tombstone))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(IntegrityError):
        decode_tombstone(bytes(content))


@given(TOMBSTONES, st.data())
def test_whatever_is_cut_short_or_longer_is_refused(tombstone: KeptTombstone, data: st.DataObject) -> None:
    content = encode_tombstone(tombstone)
    cut = data.draw(st.integers(0, len(content) - 1))
    for other in (content[:cut], content + content[cut : cut + 1]):
        with pytest.raises(IntegrityError):
            decode_tombstone(other)


@given(st.binary(max_size=300))
def test_no_other_bytes_are_a_tombstone(content: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_tombstone(content)


def test_the_bytes_are_those_that_are_documented() -> None:
    content = encode_tombstone(ONE)
    assert content[:21] == b"\x95\xb1tessera-tombstone\x03\x96"
    assert content[21:23] == b"\xc4\x10"
    assert content[-34:-32] == b"\xc4\x20"


def test_what_is_written_is_there_after_a_restart_the_last_generation_only(tmp_path: Path) -> None:
    tombstones = opened(tmp_path)
    tombstones.write(ONE)
    back = ONE._replace(tombstone=msgspec.structs.replace(WORD, generation=2))
    tombstones.write(back)
    assert list(opened(tmp_path)) == [back]
    assert [path.name for path in (tmp_path / "tombstones").iterdir()] == [NAME]


def test_one_that_is_damaged_or_under_another_name_is_not_believed_and_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).write(ONE)
    (path,) = (tmp_path / "tombstones").iterdir()
    swapped = path.with_name(f"{WORD.encoding_id.hex()}.{'ab' * 16}")
    path.rename(swapped)
    assert list(opened(tmp_path)) == []
    swapped.rename(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert list(opened(tmp_path)) == []
    assert path.exists()


def test_one_whose_writing_was_interrupted_never_was(tmp_path: Path) -> None:
    opened(tmp_path)
    half = tmp_path / "tombstones" / f"{NAME}.new"
    half.write_bytes(encode_tombstone(ONE))
    assert list(opened(tmp_path)) == []
    assert not half.exists()


def test_one_that_is_forgotten_is_gone_after_a_restart_too(tmp_path: Path) -> None:
    tombstones = opened(tmp_path)
    tombstones.write(ONE)
    tombstones.forget(ONE)
    assert list(tombstones) == []
    assert list(opened(tmp_path)) == []


def test_each_owner_has_a_record_of_their_own(tmp_path: Path) -> None:
    tombstones = opened(tmp_path)
    other = ONE._replace(tombstone=msgspec.structs.replace(WORD, owner_key=b"x" * 32))
    for each in (ONE, other):
        tombstones.write(each)
    assert sorted(opened(tmp_path), key=repr) == sorted([ONE, other], key=repr)
    tombstones.forget(other)
    assert list(opened(tmp_path)) == [ONE]
