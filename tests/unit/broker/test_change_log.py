"""What changed in the catalog since a number: each object once, however it changed, and never too few.

Also over a broker's restart, at whatever moment it was killed: a number holds where the catalog is as it was then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from broker.catalog import Catalog, in_memory
from broker.catalog_rows import CatalogDamaged, CatalogRows, Storage
from broker.change_log import LIMIT, ChangeLog
from broker.claims import Place
from broker.members import Member
from broker.rights import Standing
from broker.sessions import Side
from common.protocol.device_messages import ShareName
from common.protocol.messages import AnnouncedShare, EncodingAt, GrantedTo, ListChanges, ToldTombstone
from common.vault.keys import VaultKey
from tests.support.sample_broker import SampleBroker, SamplePeer

KEY, OTHER_KEY = VaultKey(b"t" * 32), VaultKey(b"u" * 32)
OWNER, OTHER = KEY.owner_id(), OTHER_KEY.owner_id()
DEVICES = [bytes([number]) * 16 for number in range(3)]


def share(number: int, index: int = 0, **changed: object) -> AnnouncedShare:
    announced = AnnouncedShare(b"e" * 15 + bytes([number]), index, b"o" * 31 + bytes([number]), OWNER, 2, 3, 100)
    for name, value in changed.items():
        setattr(announced, name, value)
    return announced


def object_id(number: int) -> bytes:
    return b"o" * 31 + bytes([number])


def made(limit: int = LIMIT) -> ChangeLog:
    return ChangeLog(CatalogRows(in_memory()), limit)


def test_each_object_is_told_once_in_the_order_of_its_last_change() -> None:
    log = made()
    for name in (b"a", b"b", b"c", b"a"):
        log.note(OWNER, name)
    log.note(OTHER, b"d")
    assert log.since(OWNER, 0, 10) == ([b"b", b"c", b"a"], 5, True)
    assert log.since(OWNER, 3, 10) == ([b"a"], 5, True)
    assert log.since(OWNER, 5, 10) == ([], 5, True)
    assert log.since(OTHER, 0, 10).objects == [b"d"]


def test_pages_go_on_behind_one_another() -> None:
    log, found, number, complete = made(), [], 0, False
    for value in range(7):
        log.note(OWNER, bytes([value]))
    while not complete:
        page, number, complete = log.since(OWNER, number, 3)
        found += page
    assert found == [bytes([value]) for value in range(7)]
    assert number == log.number


def test_what_was_forgotten_is_not_called_unchanged() -> None:
    log = made(limit=3)
    for value in range(4):
        log.note(OWNER, bytes([value]))
    assert not log.knows(log.epoch, 3)
    assert log.knows(log.epoch, log.tell())
    log.note(OWNER, b"x")
    assert log.since(OWNER, 4, 10).objects == [b"x"]
    assert not log.knows(b"another", log.number)
    assert not log.knows(log.epoch, log.number + 1)


def test_while_nobody_is_in_step_nothing_is_kept() -> None:
    log = made(limit=3)
    for value in range(10):
        log.note(OWNER, bytes([value]))
    assert log.since(OWNER, 0, 10).objects == []
    number = log.tell()
    assert log.knows(log.epoch, number)
    assert not log.knows(log.epoch, number - 1)
    log.note(OWNER, b"x")
    assert log.since(OWNER, number, 10).objects == [b"x"]


# --- over a restart


@pytest.fixture
def rows() -> sqlite3.Connection:
    return in_memory()


def started(rows: sqlite3.Connection, limit: int = LIMIT) -> ChangeLog:
    """Anew, as of what was committed."""
    rows.rollback()
    return ChangeLog(CatalogRows(rows), limit)


def commit(log: ChangeLog) -> None:
    log.write()
    log._rows.commit()


def test_who_was_in_step_before_a_restart_is_told_what_changed_since(rows: sqlite3.Connection) -> None:
    log = started(rows)
    for value in (0, 1, 2, 3, 4, 3, 1):
        log.note(OWNER, bytes([value]))
        commit(log)
    for _ in range(3):
        before, log = log, started(rows)
        assert log.epoch != before.epoch
        for number in range(8):
            assert log.knows(before.epoch, number)
            assert log.since(OWNER, number, 10) == before.since(OWNER, number, 10)
        assert log.since(OWNER, 2, 10).objects == [bytes([2]), bytes([4]), bytes([3]), bytes([1])]
        commit(log)


def test_what_was_told_beyond_what_is_kept_never_passes_for_what_came_later(rows: sqlite3.Connection) -> None:
    log = started(rows)
    log.note(OWNER, b"a")
    commit(log)
    log.note(OWNER, b"b")  # not committed: an older file, or a copy, is as one of a broker that was killed
    told = log.tell()
    again = started(rows)
    for value in range(5):
        assert not again.knows(log.epoch, told)
        again.note(OWNER, bytes([value]))
    commit(again)
    assert not started(rows).knows(log.epoch, told)
    assert started(rows).knows(log.epoch, told - 1)


def test_a_catalog_that_was_lost_knows_no_number_of_before() -> None:
    log = made()
    log.note(OWNER, b"a")
    assert not made().knows(log.epoch, log.tell())


def test_what_was_forgotten_stays_so_after_a_restart(rows: sqlite3.Connection) -> None:
    log = started(rows, limit=3)
    for value in range(3):
        log.note(OWNER, bytes([value]))
    commit(log)
    log.note(OWNER, bytes([0]))
    log.note(OWNER, b"one too many")
    number = log.tell()
    log.note(OWNER, b"x")
    commit(log)
    again = started(rows, limit=3)
    assert not again.knows(log.epoch, number - 1)
    assert again.since(OWNER, number, 10) == ([b"x"], number + 1, True)
    assert rows.execute("SELECT count(*) FROM changes").fetchone() == (1,)


def test_many_starts_take_no_more_room(rows: sqlite3.Connection) -> None:
    log = started(rows)
    log.note(OWNER, b"a")
    commit(log)
    first = log.epoch
    for _ in range(200):
        log = started(rows)
        commit(log)
    assert len(log._state.epochs) < 100
    assert not started(rows).knows(first, 1)


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE changes SET object = x'99' WHERE number = 2",
        "UPDATE changes SET owner = x'99' WHERE number = 2",
        "UPDATE changes SET number = 9 WHERE number = 2",
        "DELETE FROM changes WHERE number = 2",
        "UPDATE change_log SET state = x'00'",
        "DELETE FROM change_log",
    ],
)
def test_a_log_that_is_damaged_is_not_believed(rows: sqlite3.Connection, spoil: str) -> None:
    log = started(rows)
    for value in range(3):
        log.note(OWNER, bytes([value]))
    commit(log)
    rows.execute(spoil)
    with pytest.raises(CatalogDamaged):
        started(rows)


def tombstone(number: int, generation: int = 1) -> ToldTombstone:
    return ToldTombstone(KEY.tombstone(object_id(number), share(number).encoding_id, generation, 0), 0, 1000)


@pytest.mark.parametrize(
    "change",
    [
        lambda catalog: catalog.announce(DEVICES[1], [share(1, 1)]),
        lambda catalog: catalog.withdraw(DEVICES[0], [(share(1).encoding_id, 0)]),
        lambda catalog: catalog.distrust(share(1).encoding_id, Place(0, DEVICES[0])),
        lambda catalog: catalog.announce(DEVICES[0], [share(1, sound=False)]),
        lambda catalog: catalog.announce(DEVICES[1], [share(1, 1, sound=False, object_id=None)]),
        lambda catalog: catalog.add_tombstones(DEVICES[2], [tombstone(1)], 1000),
        lambda catalog: catalog.forget_device(DEVICES[0]),
    ],
    ids=["one more", "one less", "distrusted", "damaged", "another damaged", "deleted", "its device forgotten"],
)
def test_whatever_changes_what_is_listed_is_told(change: Callable[[Catalog], None]) -> None:
    catalog = Catalog()
    catalog.announce(DEVICES[0], [share(1), share(2)])
    before, number = listed(catalog), catalog.changes.number
    change(catalog)
    assert listed(catalog) != before
    assert object_id(1) in catalog.changes.since(OWNER, number, 10).objects


def listed(catalog: Catalog) -> list[EncodingAt]:
    return catalog.page(OWNER, b"", 10, lambda _: True)[0]


def test_what_is_taken_back_or_mended_is_told() -> None:
    catalog = Catalog()
    catalog.announce(DEVICES[0], [share(1)])
    catalog.announce(DEVICES[1], [share(1, 1, sound=False, object_id=None)])
    number = catalog.changes.number
    catalog.withdraw(DEVICES[1], [(share(1).encoding_id, 1)])
    assert catalog.changes.since(OWNER, number, 10).objects == [object_id(1)]
    catalog.add_tombstones(DEVICES[0], [tombstone(1)], 1000)
    number = catalog.changes.number
    catalog.add_tombstones(DEVICES[0], [tombstone(1, 2)], 1000)
    assert catalog.changes.since(OWNER, number, 10).objects == [object_id(1)]


def test_who_an_object_is_shared_with_is_told_too() -> None:
    catalog = Catalog()
    granted = GrantedTo(OTHER, b"g" * 32)
    catalog.announce(DEVICES[0], [share(1, grants=[granted])])
    assert catalog.changes.since(OTHER, 0, 10).objects == [b"g" * 32]
    number = catalog.changes.number
    catalog.announce(DEVICES[0], [share(1)])
    assert catalog.changes.since(OTHER, number, 10).objects == [b"g" * 32]


def test_a_client_is_told_what_changed_and_what_is_gone() -> None:
    broker = SampleBroker()
    client, worker = broker.client(KEY), broker.worker("attic")
    worker.announce([share(1), share(2)])
    first = client.changes(ListChanges())[0]
    assert not first.known
    worker.announce([share(1, 1), share(3)], complete=False)
    header, changed = client.changes(ListChanges(first.epoch, first.number))
    assert header.known and header.complete
    assert sorted((each.object_id, len(each.encodings)) for each in changed) == [(object_id(1), 1), (object_id(3), 1)]
    assert [each.encodings for each in changed] == [client.locate(each.object_id)[1] for each in changed]
    worker.withdraw(ShareName(share(2).encoding_id, 0))
    header, changed = client.changes(ListChanges(header.epoch, header.number))
    assert [(each.object_id, each.encodings) for each in changed] == [(object_id(2), [])]
    assert client.changes(ListChanges(header.epoch, header.number))[1] == []
    assert not client.changes(ListChanges(b"x" * 16, header.number))[0].known


def killed(broker: SampleBroker) -> SampleBroker:
    """Another one with what that one had committed."""
    rows = broker.queries.catalog.rows.connection
    rows.rollback()
    return SampleBroker(members=broker.members, storage=Storage(rows))


def test_a_client_is_told_after_a_restart_only_what_changed_since() -> None:
    broker = SampleBroker()
    worker = broker.worker("attic")
    worker.announce([share(1), share(2)])
    told = broker.client(KEY).changes(ListChanges())[0]
    again = killed(broker)
    worker = SamplePeer(again, worker.side, worker.public_key)
    worker.register()
    worker.announce([share(1), share(3)])
    header, changed = client_of(again).changes(ListChanges(told.epoch, told.number))
    assert header.known and header.epoch != told.epoch
    assert {each.object_id: len(each.encodings) for each in changed} == {object_id(2): 0, object_id(3): 1}


def test_what_was_shown_before_the_broker_was_killed_is_told_when_it_is_not_so_now() -> None:
    broker = SampleBroker()
    client, worker = broker.client(KEY), broker.worker("attic")
    worker.announce([share(1)])
    told = client.changes(ListChanges())[0]
    worker.announce([share(2)], complete=False)
    assert len(client.objects()) == 2, "so it is listed, before anything was committed by time"
    again = killed(broker)
    worker = SamplePeer(again, worker.side, worker.public_key)
    worker.register()
    worker.announce([share(1)])
    header, changed = client_of(again).changes(ListChanges(told.epoch, told.number))
    assert header.known
    assert [(each.object_id, each.encodings) for each in changed] == [(object_id(2), [])]


def client_of(broker: SampleBroker) -> SamplePeer:
    """The vault's client, at a broker that knows it already."""
    peer = SamplePeer(broker, Side.CLIENTS, next(bytes.fromhex(m.public_key) for m in clients(broker)))
    peer.hello(KEY)
    return peer


def clients(broker: SampleBroker) -> list[Member]:
    return [each for each in broker.members.members.all() if each.standing is Standing.CLIENT]
