"""The broker's memory, divided among those whose word takes it: who makes things up brings nobody to the limit."""

from __future__ import annotations

import gc
import logging
import sqlite3
import time
import tracemalloc

import msgspec
import pytest

from broker import queries
from broker import tombstones as tombstones_module
from broker.catalog import BUDGET, Catalog, in_memory
from broker.catalog_rows import Storage
from broker.overruns import MEMORY, SIGNATURES, Overruns
from broker.rights import Standing
from broker.signature_checks import SignatureChecks
from common.protocol.codec import pack, unpack
from common.protocol.envelope import Operation
from common.protocol.identifiers import owner_id
from common.protocol.messages import (
    MAX_GRANTS,
    AnnouncedShare,
    Code,
    Empty,
    GrantedTo,
    Health,
    OverLimit,
    Places,
    ToldTombstone,
    Tombstone,
)
from tests.support.sample_broker import ROOM, SampleBroker, SamplePeer, answer, code, only, requests

OWNER_KEY = b"w" * 32
OWNER = owner_id(OWNER_KEY)
LIAR, ACCOMPLICE = b"liar" * 4, b"liaa" * 4
HONEST = [bytes([number]) * 16 for number in range(4)]
MIB = 1 << 20


def number_as(number: int, size: int) -> bytes:
    return number.to_bytes(size, "big")


def share(number: int, index: int = 0, grants: int = 0, owner: bytes = OWNER) -> AnnouncedShare:
    granted = [GrantedTo(number_as(16 * number + each, 16), number_as(each, 32)) for each in range(grants)]
    return AnnouncedShare(number_as(number, 16), index, number_as(number, 32), owner, 4, 6, 1000, grants=granted)


def tombstone(number: int, owner: int = 0, generation: int = 1) -> Tombstone:
    key = number_as(owner, 32)
    return Tombstone(number_as(number, 16), b"o" * 32, key, generation, 8, b"s" * 64)


def told(*tombstones: Tombstone) -> list[ToldTombstone]:
    return [ToldTombstone(each, 8, 9) for each in tombstones]


def tell(catalog: Catalog, device: bytes, *tombstones: Tombstone) -> None:
    catalog.add_tombstones(device, told(*tombstones), 0)


def announce_all(catalog: Catalog, count: int, first: int = 0) -> None:
    for index, device in enumerate(HONEST):
        catalog.announce(device, [share(number, index) for number in range(first, first + count)])


def size_of(rows: sqlite3.Connection) -> int:
    (pages,), (size,) = (rows.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
    return int(pages * size)


# --- the estimate


@pytest.mark.parametrize(
    ("count", "devices", "grants", "owners", "sound"),
    [
        pytest.param(1000, 1, 0, 1, True, id="said by one device"),
        pytest.param(1000, 1, 0, 1000, True, id="of as many owners"),
        pytest.param(60, 1, MAX_GRANTS, 1, True, id="with grants"),
        pytest.param(500, 6, 0, 1, True, id="said by six"),
        pytest.param(60, 6, MAX_GRANTS, 1, True, id="said by six, with grants"),
        pytest.param(1000, 1, 0, 1, False, id="damaged"),
    ],
)
def test_what_shares_are_estimated_to_take_is_within_a_factor_of_two(
    count: int, devices: int, grants: int, owners: int, sound: bool
) -> None:
    told = [
        pack(
            [
                msgspec.structs.replace(
                    share(number, index, grants, number_as(1 + number % owners, 16)),
                    sound=sound,
                    object_id=number_as(number, 32) if sound else None,
                )
                for number in range(count)
            ]
        )
        for index in range(devices)
    ]
    rows = in_memory()
    empty = size_of(rows)
    catalog = Catalog(storage=Storage(rows))
    for index, page in enumerate(told):
        catalog.announce(bytes([index]) * 16, unpack(page, list[AnnouncedShare]))
    catalog.commit()
    taken = size_of(rows) - empty
    assert taken / 2 < catalog.budget.total < 2 * taken


@pytest.mark.parametrize(("devices", "owners"), [(1, 1), (1, 1000), (6, 1)])
def test_what_tombstones_are_estimated_to_take_is_within_a_factor_of_two(devices: int, owners: int) -> None:
    page = pack(told(*(tombstone(number, number % owners) for number in range(1000))))
    catalog = Catalog()
    gc.collect()
    tracemalloc.start()
    for index in range(devices):
        catalog.add_tombstones(bytes([index]) * 16, unpack(page, list[ToldTombstone]), 0)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / 2 < catalog.tombstones.budget.total < 2 * taken


def test_what_is_taken_back_takes_nothing() -> None:
    catalog = Catalog()
    announce_all(catalog, 10)
    catalog.announce(LIAR, [share(number, 5, grants=3) for number in range(5, 15)])
    catalog.announce(LIAR, [msgspec.structs.replace(share(7, 5), sound=False)])
    catalog.distrust(share(8).encoding_id, next(iter(catalog.known(share(8).encoding_id).sound)))  # type: ignore[union-attr]
    tell(catalog, HONEST[0], tombstone(1), tombstone(1, 1), tombstone(2))
    tell(catalog, LIAR, tombstone(1), tombstone(3))
    catalog.withdraw(HONEST[1], [(share(3).encoding_id, 1)])
    for device in [LIAR, *HONEST]:
        assert catalog.budget.of(device) > 0
        catalog.forget_device(device)
        assert catalog.budget.of(device) == 0
    assert catalog.budget.total == 0
    assert not catalog.devices()


# --- who makes things up


@pytest.mark.one_python
def test_40000_made_up_shares_with_grants_take_no_more_than_the_budget() -> None:
    budget = BUDGET // 8  # as of a broker with less memory than one may have; a larger one takes as much longer
    catalog = Catalog(budget=budget)
    grants = share(0, grants=MAX_GRANTS).grants
    catalog.announce(LIAR, [msgspec.structs.replace(share(number), grants=grants) for number in range(40_000)])
    assert catalog.budget.total <= budget
    assert catalog.cut_off == {LIAR}
    announce_all(catalog, 2000, first=1_000_000)
    assert [catalog.shares_on(device) for device in HONEST] == [2000] * 4
    assert catalog.budget.total <= budget
    assert catalog.cut_off == {LIAR}


def test_a_device_that_filled_the_memory_first_makes_room_for_those_that_come_later() -> None:
    catalog = Catalog(budget=MIB)
    catalog.announce(LIAR, [share(number) for number in range(5000)])
    tell(catalog, LIAR, *(tombstone(number) for number in range(5000)))
    announce_all(catalog, 300, first=1_000_000)
    for index, device in enumerate(HONEST):
        tell(catalog, device, *(tombstone(number) for number in range(1_000_000, 1_000_010)))
        assert catalog.shares_on(device) == 300, index
    assert len(catalog.tombstones.told_by(tombstone(1_000_003))) == 4
    assert catalog.cut_off == {LIAR}
    assert catalog.budget.total <= MIB


def test_two_devices_that_say_the_same_made_up_shares_make_room_as_well() -> None:
    catalog = Catalog(budget=MIB)
    for device in (LIAR, ACCOMPLICE):
        catalog.announce(device, [share(number) for number in range(5000)])
    announce_all(catalog, 200, first=1_000_000)
    assert [catalog.shares_on(device) for device in HONEST] == [200] * 4
    assert catalog.cut_off <= {LIAR, ACCOMPLICE}


def test_where_nothing_can_be_dropped_a_share_too_many_costs_no_long_look(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(budget=MIB)
    for index, device in enumerate(HONEST[:3]):
        catalog.announce(device, [share(number, index) for number in range(5000)])
    looks: list[bytes] = []
    relieve = catalog._relieve

    def counting(device: bytes, other: int) -> bool:
        looks.append(device)
        return relieve(device, other)

    monkeypatch.setattr(catalog, "_relieve", counting)
    catalog.announce(HONEST[3], [share(number, 3) for number in range(100_000, 105_000)])
    assert catalog.budget.total <= MIB
    assert len(looks) < 200


def test_what_others_say_too_of_a_device_that_was_cut_off_is_still_known() -> None:
    catalog = Catalog(budget=MIB)
    announce_all(catalog, 100)
    catalog.announce(LIAR, [share(number, 4) for number in range(100)])
    catalog.announce(LIAR, [share(number) for number in range(1000, 9000)])
    announce_all(catalog, 200, first=100)
    assert len(catalog.holders(share(50).encoding_id)) == 5


# --- deletions


@pytest.mark.one_python
def test_60000_tombstones_of_one_encoding_make_no_list_slower() -> None:
    catalog = Catalog()
    announce_all(catalog, 1000)
    tell(catalog, LIAR, *(tombstone(7, owner) for owner in range(60_000)))
    began = time.perf_counter()
    found, rest = catalog.page(OWNER, b"", 1000, lambda _: True)
    assert time.perf_counter() - began < 1, "0.02 s on a quiet machine; it was 37 s"
    assert (len(found), rest) == (1000, True)


def test_of_60000_generations_of_one_deletion_the_newest_is_kept() -> None:
    catalog = Catalog()
    before = catalog.budget.total
    for generation in range(1, 60_000, 2):
        catalog.tombstones.tell(LIAR, tombstone(7, 0, generation), 8, 9)
    assert [each.generation for each in catalog.tombstones.of_encoding(number_as(7, 16))] == [59_999]
    assert catalog.budget.total - before < 2000


def test_tombstones_that_are_too_many_are_dropped_before_a_signature_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tombstones_module, "MAX_TOMBSTONES_ON_A_DEVICE", 4)
    broker = SampleBroker()
    worker = broker.worker("nas")
    tell(broker.queries.catalog, worker.device, *(tombstone(1, owner) for owner in range(4)))
    unsigned = pack(told(tombstone(1, 4)))
    assert code(worker.ask(Operation.REPORT_DELETED, Empty(), unsigned)) is Code.GRANTED
    assert len(list(broker.queries.catalog.tombstones.of_encoding(number_as(1, 16)))) == 4


# --- at the broker


def fill(broker: SampleBroker) -> SamplePeer:
    liar = broker.worker("liar")
    for first in range(0, 4000, 2000):
        assert liar.announce(share(number) for number in range(first, first + 2000)) is Code.GRANTED
    return liar


def test_a_device_that_takes_too_much_is_named_and_given_nothing_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = SampleBroker(budget=MIB // 2)
    liar, honest = fill(broker), broker.worker("honest")
    honest.announce([share(1_000_000)])
    broker.tick()
    assert "liar is over its limit of memory" in caplog.text
    (recorded,) = [each for each in broker.recorded if each["event"] == "over limit"]
    assert (recorded["name"], recorded["limit"]) == ("liar", MEMORY)
    client = broker.client()
    assert answer(client.ask(Operation.HEALTH, Empty()), Health).over_limits == [OverLimit("liar", MEMORY)]
    placed = unpack(only(client.ask(Operation.PLACES, Places(1, 10), pack([b"n" * 16]))).payload, list[list[bytes]])
    assert placed == [[honest.device]]
    for operation in (Operation.OPEN, Operation.STORE, Operation.COMMIT):
        assert code(client.ask(operation, Empty(), device=liar.device)) is Code.NO_ROOM
        assert requests(client.ask(operation, Empty(), device=honest.device))
    assert requests(client.fetch(liar)), "what it has may be read"
    assert broker.steward._rooms[liar.device].free_bytes == 0, "nothing is rebuilt there"


def test_who_has_signatures_checked_without_end_is_named_and_has_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = SampleBroker()
    liar, honest = broker.worker("liar"), broker.worker("honest")
    monkeypatch.setattr(broker.queries, "_checks", SignatureChecks(burst=3))
    checked: list[int] = []

    def check(stone: Tombstone) -> bool:
        checked.append(stone.generation)
        return True

    monkeypatch.setattr(queries, "is_tombstone_signed", check)

    def report(device: SamplePeer, *generations: int) -> Code:
        stones = [tombstone(1, 0, generation) for generation in generations]
        return code(device.ask(Operation.REPORT_DELETED, Empty(), pack(told(*stones))))

    assert report(liar, 1, 3) is Code.GRANTED
    assert report(liar, 1, 3) is Code.GRANTED, "what is known already costs no check"
    assert report(liar, 5, 7, 9) is Code.BUSY
    assert checked == [1, 3, 5]
    assert [each.generation for each in broker.queries.catalog.tombstones.of_encoding(number_as(1, 16))] == [5]
    client = broker.client()
    assert answer(client.ask(Operation.HEALTH, Empty()), Health).over_limits == [OverLimit("liar", SIGNATURES)]
    assert [each["limit"] for each in broker.recorded if each["event"] == "over limit"] == [SIGNATURES]
    assert report(honest, 7) is Code.GRANTED, "others' deletions are taken up meanwhile"
    broker.now += 1.0
    broker.tick()
    assert report(liar, 9) is Code.GRANTED


def test_what_a_revoked_device_said_is_forgotten() -> None:
    broker = SampleBroker(budget=MIB)
    liar = fill(broker)
    tell(broker.queries.catalog, liar.device, tombstone(5))
    broker.members.revoke(liar.public_key)
    broker.tick()
    assert broker.queries.catalog.budget.total == 0
    assert not broker.queries.catalog.devices()
    assert len(broker.queries.catalog) == 0
    assert broker.worker("honest", [share(1)]).report(0, ROOM, 1) is Code.GRANTED


def test_a_revoked_device_is_forgotten_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_FORGOTTEN", 3000)
    broker = SampleBroker()
    liar = fill(broker)
    broker.members.revoke(liar.public_key)
    broker.tick()
    assert broker.queries.catalog.shares_on(liar.device) == 1000
    broker.tick()
    assert not broker.queries.catalog.devices()


def test_who_goes_on_over_a_limit_is_said_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    names = {b"d" * 32: "device", b"c" * 32: "client", b"x" * 32: "\x1bodd"}
    recorded: list[dict[str, object]] = []
    overruns = Overruns(names.__getitem__, lambda event, **facts: recorded.append(facts))
    with caplog.at_level(logging.ERROR):
        for now in (0.0, 100.0, 200.0):
            overruns.note(b"x" * 32, MEMORY, now)
    assert len(recorded) == len(caplog.records) == 1, "once an hour"
    assert "\x1b" not in caplog.text
    assert overruns.current(700.0) == [(b"x" * 32, MEMORY)]
    assert overruns.current(900.0) == []
    overruns.note(b"x" * 32, MEMORY, 4000.0)
    assert len(recorded) == 2
    overruns.expire(9000.0)
    assert overruns.current(4001.0) == []


def test_only_an_admin_is_told_which_other_client_is_over_a_limit() -> None:
    broker = SampleBroker()
    client, other, admin = broker.client(), broker.client(), broker.client(standing=Standing.ADMIN)
    broker.queries.overruns.note(client.public_key, MEMORY, broker.now)
    told = [len(answer(each.ask(Operation.HEALTH, Empty()), Health).over_limits) for each in (client, other, admin)]
    assert told == [1, 0, 1]
