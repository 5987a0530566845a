"""What changed in the catalog since a number: each object once, however it changed, and never too few."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.catalog import Catalog
from broker.change_log import ChangeLog
from broker.claims import Place
from common.protocol.device_messages import ShareName
from common.protocol.messages import AnnouncedShare, EncodingAt, GrantedTo, ListChanges, ToldTombstone
from common.vault.keys import VaultKey
from tests.support.sample_broker import SampleBroker

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


def test_each_object_is_told_once_in_the_order_of_its_last_change() -> None:
    log = ChangeLog()
    for name in (b"a", b"b", b"c", b"a"):
        log.note(OWNER, name)
    log.note(OTHER, b"d")
    assert log.since(OWNER, 0, 10) == ([b"b", b"c", b"a"], 5, True)
    assert log.since(OWNER, 3, 10) == ([b"a"], 5, True)
    assert log.since(OWNER, 5, 10) == ([], 5, True)
    assert log.since(OTHER, 0, 10).objects == [b"d"]


def test_pages_go_on_behind_one_another() -> None:
    log, found, number, complete = ChangeLog(), [], 0, False
    for value in range(7):
        log.note(OWNER, bytes([value]))
    while not complete:
        page, number, complete = log.since(OWNER, number, 3)
        found += page
    assert found == [bytes([value]) for value in range(7)]
    assert number == log.number


def test_what_was_forgotten_is_not_called_unchanged() -> None:
    log = ChangeLog(limit=3)
    for value in range(4):
        log.note(OWNER, bytes([value]))
    assert not log.knows(log.epoch, 3)
    assert log.knows(log.epoch, log.number)
    log.note(OWNER, b"x")
    assert log.since(OWNER, 4, 10).objects == [b"x"]
    assert not log.knows(b"another", log.number)
    assert not log.knows(log.epoch, log.number + 1)


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
    assert [(each.object_id, len(each.encodings)) for each in changed] == [(object_id(1), 1), (object_id(3), 1)]
    assert [each.encodings for each in changed] == [client.locate(each.object_id)[1] for each in changed]
    worker.withdraw(ShareName(share(2).encoding_id, 0))
    header, changed = client.changes(ListChanges(header.epoch, header.number))
    assert [(each.object_id, each.encodings) for each in changed] == [(object_id(2), [])]
    assert client.changes(ListChanges(header.epoch, header.number))[1] == []
    assert not client.changes(ListChanges(b"x" * 16, header.number))[0].known
