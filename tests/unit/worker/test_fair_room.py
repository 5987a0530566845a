"""Of a device's room and places nobody is kept out by what others reserve, or store for vaults that they made up."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from common.coding.recipe import Recipe, digest
from common.protocol.identifiers import encoding_id
from common.protocol.messages import Code
from common.vault.keys import VaultKey
from tests.support.clocks import SetClock
from tests.support.memory_disk import MemoryDisk
from tests.support.sample_shares import (
    KEY,
    OVERHEAD,
    OWNER,
    STRANGER,
    STRANGERS_KEY,
    Sample,
    chance,
    declined,
    sample,
    sign,
)
from worker.refusals import Refusal
from worker.staging import Payer
from worker.store import ShareStore

MIB = 1 << 20
ROOM = 100 * MIB
HONEST = b"honest".ljust(16)
NINETY = Fraction(9, 10)


def account(number: int) -> bytes:
    return b"account %08d" % number


@functools.lru_cache
def vault(number: int) -> VaultKey:
    return VaultKey(number.to_bytes(32, "big"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[ShareStore]:
    store = ShareStore(folder, ROOM)
    yield store
    store.close()


def reserve(store: ShareStore, name: str, payer: Payer, size: int, owner: bytes = OWNER, now: float = 0.0) -> Sample:
    """Open a share of `size` bytes, what lies beside it included."""
    encoding = sample(name, segments=1)
    store.open(encoding.opening(0, share_bytes=size - OVERHEAD), owner, now, payer=payer)
    return encoding


def is_open(store: ShareStore, encoding: Sample, owner: bytes = OWNER) -> bool:
    return store._staged.get(encoding.key(0), owner) is not None


def garbage(number: int, size: int, key: VaultKey) -> Sample:
    nonce = number.to_bytes(16, "big")
    block = chance(f"{number}", 64) + bytes(size - 64)
    recipe = Recipe(encoding_id(key.owner_key(), nonce), 2, 3, size, size, digest(block) * 3)
    return Sample(recipe, [[block] * 3], nonce)


def put(store: ShareStore, encoding: Sample, payer: Optional[Payer], key: VaultKey) -> None:
    owner = key.owner_id()
    store.open(encoding.opening(0), owner, 0.0, payer=payer)
    encoding.append(store, 0, 0, owner)
    pending = store.prepare_commit(encoding.key(0), owner, sign(replace(encoding.commitment, owner=owner), key))
    assert pending is not None
    assert store.commit_round([pending])[0].granted


def fill(store: ShareStore, payer: Payer, first: int, *, deleted: bool = False, size: int = MIB) -> int:
    """Store without end, each time for another vault of a few; the bytes that were taken."""
    before = store.used_bytes
    for number in range(first, first + 10_000):
        key = vault(1 + 100 * payer.account[-1] + number % 7)
        encoding = garbage(number, size, key)
        try:
            put(store, encoding, payer, key)
        except Refusal as refusal:
            assert refusal.answer.code is Code.NO_ROOM
            return store.used_bytes - before
        if deleted:
            store.delete(encoding.deletion(key=key), key.owner_id())
    raise AssertionError("it never ends")


# --- what is reserved


def test_of_eight_that_reserve_all_the_one_with_most_gives_way_to_who_comes_late(store: ShareStore) -> None:
    theirs = {
        number: [reserve(store, f"{number}-{each}", Payer(account(number), 9), size) for each in range(2)]
        for number, size in enumerate([4 * MIB] * 7 + [22 * MIB])
    }
    with declined(Code.NO_ROOM):
        reserve(store, "one more", Payer(account(3), 9), 40 * MIB)
    late = reserve(store, "late", Payer(HONEST, 9), 11 * MIB, STRANGER)
    assert is_open(store, late, STRANGER)
    assert [is_open(store, each) for each in theirs[7]] == [False, True], "the one whose last block is longest ago"
    assert all(is_open(store, each) for number in range(7) for each in theirs[number])
    assert set(store.over()) == {account(7), account(3)}


def test_nothing_gives_way_to_who_would_have_more_than_all_others(store: ShareStore) -> None:
    theirs = [reserve(store, f"{number}", Payer(account(number), 3), 40 * MIB) for number in range(2)]
    with declined(Code.NO_ROOM):
        reserve(store, "large", Payer(HONEST, 3), 41 * MIB)
    assert all(is_open(store, each) for each in theirs)
    assert store.over() == [], "who has nothing here hoards nothing"


def test_what_is_given_up_is_given_up_to_the_end_only_where_it_helps(store: ShareStore) -> None:
    theirs = [reserve(store, f"{each}", Payer(account(1), 2), 10 * MIB) for each in range(9)]
    for number in range(10):
        put(store, garbage(number, MIB - OVERHEAD, vault(1)), Payer(HONEST, 2), vault(1))
    assert all(is_open(store, each) for each in theirs), "what fits beside them touches none"


def test_where_all_is_reserved_brokers_are_told_of_an_even_part(store: ShareStore) -> None:
    assert store.free_bytes() == ROOM
    reserve(store, "1", Payer(account(1), 9), 100 * MIB)
    assert store.free_bytes() == ROOM // 2
    for number in range(2, 9):
        reserve(store, f"{number}", Payer(account(number), 9), 5 * MIB)
    assert store.free_bytes() == max(65 * MIB, ROOM // 9)


def test_made_up_vaults_reserve_as_one(store: ShareStore) -> None:
    for number in range(20):
        reserve(store, f"{number}", Payer(account(1), 2), 5 * MIB, vault(number + 1).owner_id())
    for number in range(10):
        reserve(store, f"late {number}", Payer(HONEST, 2), 5 * MIB, STRANGER)
    with declined(Code.NO_ROOM):
        reserve(store, "more than half", Payer(HONEST, 2), 5 * MIB, STRANGER)


def test_what_had_no_block_for_three_minutes_gives_way_however_often_asked_for(store: ShareStore) -> None:
    payer = Payer(account(1), 2)
    theirs = [reserve(store, f"{number}", payer, 50 * MIB) for number in range(2)]
    for now in range(0, 180, 20):
        store.open(theirs[0].opening(0, share_bytes=50 * MIB - OVERHEAD), OWNER, float(now), payer=payer)
        store.progress(theirs[0].key(0), OWNER, float(now), payer=payer)
    theirs[1].append(store, 0, 0, now=179.0)
    store.expire(181.0)
    reserve(store, "large", Payer(HONEST, 2), 50 * MIB, STRANGER, now=181.0)
    assert [is_open(store, each) for each in theirs] == [False, True]


def test_all_512_places_are_for_one_alone_and_an_even_part_for_who_comes_late(store: ShareStore) -> None:
    def open_all(payer: Payer, count: int) -> None:
        for number in range(count):
            reserve(store, f"{payer.account!r} {number}", payer, OVERHEAD)

    one, other = Payer(account(1), 3), Payer(account(2), 3)
    open_all(one, 512)
    with declined(Code.BUSY):
        reserve(store, "one more", one, OVERHEAD)
    open_all(other, 256)
    with declined(Code.BUSY):
        reserve(store, "and more", other, OVERHEAD)
    assert Counter(staged.payer.account for staged in store._staged) == {one.account: 256, other.account: 256}
    store.require_places(64, Payer(HONEST, 3))
    assert len(list(store._staged)) == 512 - 64


def test_a_deposit_that_is_stored_counts_for_who_leaves_it(store: ShareStore) -> None:
    reserve(store, "own", Payer(HONEST, 2), 40 * MIB)
    reserve(store, "left", Payer(account(1), 2), 60 * MIB)
    late = reserve(store, "late", Payer(account(2), 2), 30 * MIB)
    assert is_open(store, late)
    assert is_open(store, sample("own", segments=1))
    assert not is_open(store, sample("left", segments=1))


def test_what_is_about_to_be_committed_gives_way_to_nobody(folder: Path) -> None:
    store = ShareStore(folder, 5 * MIB)
    encoding = garbage(1, 3 * MIB, KEY)
    store.open(encoding.opening(0), OWNER, 0.0, payer=Payer(HONEST, 2))
    encoding.append(store, 0, 0)
    pending = store.prepare_commit(encoding.key(0), OWNER, sign(replace(encoding.commitment, owner=OWNER)))
    assert pending is not None
    with declined(Code.NO_ROOM):
        reserve(store, "late", Payer(account(1), 2), 2 * MIB, STRANGER)
    assert store.commit_round([pending])[0].granted
    store.close()


def test_an_amendment_finds_room_where_all_is_reserved(store: ShareStore) -> None:
    kept = sample("kept")
    kept.put(store, 0)
    for number in range(30):
        reserve(store, f"{number}", Payer(account(1), 2), (ROOM - store.used_bytes) // 30)
    store.amend(kept.encoding_id, kept.signed(revision=2), OWNER)


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(1, 60)), max_size=60),
    st.integers(1, 40),
)
def test_whatever_eight_reserve_a_late_one_gets_an_even_part(asked: list[tuple[int, int]], pieces: int) -> None:
    store = ShareStore(Path("/store"), ROOM, MemoryDisk())
    for number, (who, size) in enumerate(asked):
        try:
            reserve(store, f"{number}", Payer(account(who), 9), size * MIB)
        except Refusal as refusal:
            assert refusal.answer.code is Code.NO_ROOM
    members = {who for who, _ in asked} | {8}
    for piece in range(pieces):
        reserve(store, f"late {piece}", Payer(HONEST, 9), ROOM // len(members) // pieces, STRANGER)
    assert sum(staged.reserved for staged in store._staged) <= ROOM
    store.close()


# --- what is committed


@pytest.mark.parametrize("deleted", [False, True], ids=["kept", "deleted at once"])
def test_eight_who_fill_a_device_for_made_up_vaults_leave_a_part_to_who_comes_late(
    folder: Path, *, deleted: bool
) -> None:
    store = ShareStore(folder, ROOM, clock=SetClock(), hold=7 * 24 * 3600, owner_quota=NINETY)
    for number in range(8):
        fill(store, Payer(account(number), 9), 1000 * number, deleted=deleted)
    sure = ROOM // 10 // 9
    assert sure <= fill(store, Payer(HONEST, 9), 9000, size=sure // 8) + sure // 8 + OVERHEAD
    assert set(store.over()) > {account(0)}
    store.close()


def test_the_only_client_of_a_cluster_fills_its_devices(folder: Path) -> None:
    store = ShareStore(folder, ROOM, owner_quota=NINETY)
    assert fill(store, Payer(HONEST, 1), 0) > 0.97 * ROOM
    store.close()


def test_who_comes_first_of_two_fills_nineteen_twentieths(folder: Path) -> None:
    store = ShareStore(folder, ROOM, owner_quota=NINETY)
    assert 0.93 * ROOM < fill(store, Payer(HONEST, 2), 0) <= 0.95 * ROOM
    put(store, garbage(9000, 4 * MIB, vault(9)), Payer(account(1), 2), vault(9))
    store.close()


def test_another_part_and_the_whole_as_a_part(folder: Path) -> None:
    for quota, most in ((Fraction(1, 2), 0.75), (Fraction(1), 1.0)):
        store = ShareStore(folder / str(quota.denominator), ROOM, owner_quota=quota)
        assert (most - 0.03) * ROOM < fill(store, Payer(HONEST, 2), 0) <= most * ROOM
        store.close()


def test_what_a_client_stored_counts_for_it_after_a_restart(folder: Path) -> None:
    payer, quota = Payer(account(1), 2), 3 * MIB
    for number in range(2):
        store = ShareStore(folder, ROOM, owner_quota=quota)
        put(store, garbage(number, MIB, vault(number + 1)), payer, vault(number + 1))
        store.close()
    store = ShareStore(folder, ROOM, owner_quota=quota)
    with declined(Code.NO_ROOM):
        put(store, garbage(3, MIB, vault(3)), payer, vault(3))
    with declined(Code.NO_ROOM):  # as the steward, which names nobody
        put(store, garbage(4, MIB, vault(1)), None, vault(1))
    put(store, garbage(5, MIB, vault(4)), Payer(HONEST, 2), vault(4))
    store.close()


@pytest.mark.parametrize("named", [None, Payer(account(1), 2)], ids=["the steward", "who leaves it"])
def test_what_is_left_for_a_vault_counts_for_who_left_it(folder: Path, named: Optional[Payer]) -> None:
    store = ShareStore(folder, ROOM, owner_quota=2 * MIB)
    left = sample("left", segments=8, block_size=MIB // 8, last=MIB // 8)
    store.open(left.opening(0), STRANGER, 0.0, payer=named)
    for segment in range(8):
        left.append(store, 0, segment, STRANGER)
    assert left.commit(store, 0, STRANGER).granted  # as OWNER leaves it
    put(store, garbage(1, MIB + MIB // 2, STRANGERS_KEY), Payer(HONEST, 2), STRANGERS_KEY)
    with declined(Code.NO_ROOM):
        put(store, garbage(2, MIB, KEY), named, KEY)
    store.close()
