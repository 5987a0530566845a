"""What the broker keeps of deletions that devices tell."""

from __future__ import annotations

import msgspec
import pytest

from broker import tombstones as tombstones_module
from broker.tombstones import MAX_OWNERS, Tombstones
from common.protocol.identifiers import owner_id
from common.protocol.messages import Tombstone

ENDS = 2_000_000_000
OWNER = owner_id(b"w" * 32)
LIAR, HONEST = b"liar" * 4, b"nas!" * 4


def tombstone(number: int, ends: int = ENDS) -> Tombstone:
    return Tombstone(number.to_bytes(16, "big"), b"o" * 32, b"w" * 32, 1, ends - 1, ends, b"s" * 64)


@pytest.fixture
def tombstones(monkeypatch: pytest.MonkeyPatch) -> Tombstones:
    monkeypatch.setattr(tombstones_module, "MAX_TOMBSTONES_OF_A_DEVICE", 10)
    return Tombstones()


def test_a_device_that_tells_deletions_without_end_is_believed_within_a_bound(
    tombstones: Tombstones,
) -> None:
    for number in range(50):
        tombstones.tell(LIAR, tombstone(number))
    assert len(tombstones.encodings_of(OWNER)) == 10
    tombstones.tell(HONEST, tombstone(40))
    assert tombstones.deleted(tombstone(40).encoding_id, OWNER)
    tombstones.tell(LIAR, tombstone(3))  # what it told before it may tell again
    assert tombstones.told_by(tombstone(3)) == {LIAR: 1}


def test_a_device_names_few_owners_of_one_deletion_and_others_are_heard_all_the_same(
    tombstones: Tombstones,
) -> None:
    one = tombstone(1)
    for number in range(50):
        tombstones.tell(LIAR, msgspec.structs.replace(one, owner_key=bytes([number]) * 32))
    assert len(tombstones.of_encoding(one.encoding_id)) == MAX_OWNERS
    tombstones.tell(HONEST, one)
    assert tombstones.deleted(one.encoding_id, OWNER)


def test_what_it_told_before_it_came_back_or_that_came_to_its_end_counts_no_more(tombstones: Tombstones) -> None:
    for number in range(10):
        tombstones.tell(HONEST, tombstone(number, ENDS if number < 5 else ENDS - 100))
    assert len(tombstones.expire(ENDS - 50)) == 5
    for number in range(20, 30):
        tombstones.tell(HONEST, tombstone(number))
    assert len(tombstones.encodings_of(OWNER)) == 10
    tombstones.forget_device(HONEST)
    for number in range(30, 50):
        tombstones.tell(HONEST, tombstone(number))
    assert tombstones.encodings_of(OWNER) == [tombstone(number).encoding_id for number in range(30, 40)]
