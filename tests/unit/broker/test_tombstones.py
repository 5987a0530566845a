"""What the broker keeps of deletions that devices tell."""

from __future__ import annotations

import msgspec
import pytest

from broker import tombstones as tombstones_module
from broker.budget import Budget
from broker.tombstones import Tombstones
from common.protocol.identifiers import owner_id
from common.protocol.messages import MAX_OWNERS_OF_AN_ENCODING, Tombstone

ENDS = 2_000_000_000
OWNER = owner_id(b"w" * 32)
LIAR, HONEST = b"liar" * 4, b"nas!" * 4


def tombstone(number: int) -> Tombstone:
    return Tombstone(number.to_bytes(16, "big"), b"o" * 32, b"w" * 32, 1, 100, b"s" * 64)


def tell(tombstones: Tombstones, device: bytes, stone: Tombstone, ends: int = ENDS) -> None:
    tombstones.tell(device, stone, ends - 1, ends)


@pytest.fixture
def tombstones(monkeypatch: pytest.MonkeyPatch) -> Tombstones:
    monkeypatch.setattr(tombstones_module, "MAX_TOMBSTONES_ON_A_DEVICE", 10)
    return Tombstones(Budget(1 << 30))


def test_a_device_that_tells_deletions_without_end_is_believed_within_a_bound(
    tombstones: Tombstones,
) -> None:
    for number in range(50):
        tell(tombstones, LIAR, tombstone(number))
    assert len(tombstones.encodings_of(OWNER)) == 10
    tell(tombstones, HONEST, tombstone(40))
    assert tombstones.deleted(tombstone(40).encoding_id, OWNER)
    tell(tombstones, LIAR, tombstone(3))  # what it told before it may tell again
    assert tombstones.told_by(tombstone(3)) == {LIAR}


def test_however_many_others_delete_under_an_id_its_owner_is_heard() -> None:
    tombstones = Tombstones(Budget(1 << 30))
    one = tombstone(1)
    for number in range(50):
        tell(tombstones, LIAR, msgspec.structs.replace(one, owner_key=bytes([number]) * 32))
    tell(tombstones, LIAR, one)
    assert tombstones.deleted(one.encoding_id, OWNER)


def test_of_very_many_owners_of_one_encoding_a_device_tells_32_and_hides_no_other() -> None:
    tombstones = Tombstones(Budget(1 << 30))
    one = tombstone(1)
    tell(tombstones, HONEST, one)
    for number in range(500):
        tell(tombstones, LIAR, msgspec.structs.replace(one, owner_key=number.to_bytes(32, "big")), ENDS + number)
    assert len(list(tombstones.of_encoding(one.encoding_id))) == MAX_OWNERS_OF_AN_ENCODING + 1
    assert tombstones.told_by(one) == {HONEST}


def test_of_two_of_one_generation_the_same_holds_in_whatever_order() -> None:
    pair = [tombstone(1), msgspec.structs.replace(tombstone(1), trash_seconds=50)]
    best = []
    for order in (pair, pair[::-1]):
        tombstones = Tombstones(Budget(1 << 30))
        for device, each in zip((HONEST, LIAR), order):
            tell(tombstones, device, each)
        (of_encoding,) = tombstones.of_encoding(pair[0].encoding_id)
        best.append(of_encoding)
        assert tombstones.behind(of_encoding) == [HONEST if best[0] != order[0] else LIAR]
        assert not tombstones.is_news(pair[0])
    assert best[0] == best[1]


def test_what_it_told_before_it_came_back_or_that_came_to_its_end_counts_no_more(tombstones: Tombstones) -> None:
    for number in range(10):
        tell(tombstones, HONEST, tombstone(number), ENDS if number < 5 else ENDS - 100)
    assert len(tombstones.expire(ENDS - 50)) == 5
    for number in range(20, 30):
        tell(tombstones, HONEST, tombstone(number))
    assert len(tombstones.encodings_of(OWNER)) == 10
    tombstones.forget_device(HONEST)
    for number in range(30, 50):
        tell(tombstones, HONEST, tombstone(number))
    assert tombstones.encodings_of(OWNER) == [tombstone(number).encoding_id for number in range(30, 40)]
