"""A tombstone says what was written, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import IntegrityError
from common.protocol.messages import TOMBSTONE_LIFETIME, Tombstone
from tests.support.clocks import SetClock
from tests.support.sample_shares import (
    OWNER,
    STRANGER,
    STRANGERS_KEY,
    copy_of_index,
    held_by,
    reopened,
    sample,
    through_restarts,
    with_index,
)
from worker.pack_format import FRAME_SIZE
from worker.store import ShareStore
from worker.tombstones import KeptTombstone, decode_tombstone, encode_tombstone

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


@given(TOMBSTONES)
def test_what_is_read_is_what_was_written(tombstone: KeptTombstone) -> None:
    content = encode_tombstone(tombstone)
    assert len(content) <= 512, "so that a device's tombstones have their bound"
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


# --- in a store


def records(store: ShareStore) -> list[tuple[Path, int, int]]:
    """Where the tombstones lie: the file, the offset in it, and how many bytes of it."""
    found = []
    for placed in store._index.tombstones_of(sample().encoding_id):
        (pack,) = store.folder.glob(f"packs/{placed.place.pack:08d}.*")
        found.append((pack, placed.place.offset, placed.place.length))
    return found


def damage_record(store: ShareStore) -> None:
    ((pack, offset, length),) = records(store)
    content = bytearray(pack.read_bytes())
    content[offset + length - 1] ^= 1
    pack.write_bytes(content)


def test_what_is_written_is_there_after_a_restart_the_last_generation_only(store: ShareStore, clock: SetClock) -> None:
    store.delete(sample().deletion(), OWNER)
    store.undelete(sample().undeletion(), OWNER)
    for again in through_restarts(store, clock):
        assert list(again.tombstones()) == [sample().undeletion()]
    again.close()


def test_one_whose_record_is_damaged_is_known_as_long_as_the_index_is(store: ShareStore, clock: SetClock) -> None:
    store.delete(sample().deletion(), OWNER)
    damage_record(store)
    store = reopened(store, clock)
    assert list(store.tombstones()) == [sample().deletion()]
    assert not held_by(store)
    store.close()


def test_one_that_is_damaged_is_not_believed_and_harms_no_other_record(store: ShareStore, clock: SetClock) -> None:
    other = sample("other")
    other.put(store, 0)
    store.delete(sample().deletion(), OWNER)
    sample("third").put(store, 0)
    damage_record(store)
    store = with_index(store, clock, {})
    assert list(store.tombstones()) == []
    assert set(held_by(store)) == {sample().key(0), other.key(0), sample("third").key(0)}
    store.close()


@pytest.mark.parametrize("left", range(0, 300, 7))
def test_one_whose_writing_was_interrupted_never_was(store: ShareStore, clock: SetClock, left: int) -> None:
    index = copy_of_index(store)
    store.delete(sample().deletion(), OWNER)
    ((pack, offset, length),) = records(store)
    store.close()
    os.truncate(pack, offset - FRAME_SIZE + min(left, FRAME_SIZE + length - 1))
    for known in (index, {}):
        store = with_index(store, clock, known)
        assert list(store.tombstones()) == []
        sample().assert_readable(store, 0)
    store.delete(sample().deletion(), OWNER)
    for again in through_restarts(store, clock):
        assert list(again.tombstones()) == [sample().deletion()]
    again.close()


def test_one_that_is_forgotten_is_gone_after_a_restart_too(store: ShareStore, clock: SetClock) -> None:
    store.delete(sample().deletion(), OWNER)
    clock.pass_time(TOMBSTONE_LIFETIME)
    store.expire(clock.now)
    assert list(store.tombstones()) == []
    store = reopened(store, clock)
    assert list(store.tombstones()) == []
    store = with_index(store, clock, {})
    store.expire(clock.now)
    assert list(store.tombstones()) == [], "it is over, whatever is found of it"
    store.close()


def test_each_owner_has_a_record_of_their_own(store: ShareStore, clock: SetClock) -> None:
    sample().put(store, 1, STRANGER)
    clock.pass_time(300)
    said = [sample().deletion(), sample().deletion(key=STRANGERS_KEY)]
    store.delete(said[0], OWNER)
    clock.pass_time(TOMBSTONE_LIFETIME - 1)
    store.delete(said[1], STRANGER)
    for again in through_restarts(store, clock):
        assert sorted(again.tombstones(), key=repr) == sorted(said, key=repr)
    clock.pass_time(1)
    again.expire(clock.now)
    assert list(again.tombstones()) == said[1:]
    again.close()
