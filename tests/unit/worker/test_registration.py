"""What a worker tells a broker of itself, and when: events and the time in, messages out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from common.chunks import chunks
from common.errors import RefusedError
from common.protocol.announcements import MODULUS, digest_of
from common.protocol.codec import unpack, unpack_header
from common.protocol.device_messages import ShareName
from common.protocol.envelope import Kind, Operation
from common.protocol.identifiers import BROKER
from common.protocol.messages import (
    GRANTED,
    MAX_ANNOUNCED,
    MAX_TOMBSTONES,
    PROTOCOL_VERSION,
    Announce,
    AnnouncedShare,
    Answer,
    Code,
    DeviceKind,
    KnownUpTo,
    Register,
    Report,
    ToldTombstone,
    Tombstone,
)
from tests.support.sample_shares import OWNER, damage, declined, held_by, sample
from tests.support.tombstones import told
from worker.index import Changes
from worker.registration import Registration, Statement
from worker.store import ShareStore

CAPACITY = 10 * 2**20
CONFLICT = Answer(Code.CONFLICT, "another worker with this store's key is registered")
NO_SESSION = Answer(Code.NO_SESSION)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ShareStore]:
    store = ShareStore(tmp_path / "store", CAPACITY)
    yield store
    store.close()


@pytest.fixture
def registration(store: ShareStore) -> Registration:
    return Registration(store, "tcp://broker:5571")


@pytest.fixture
def registered(registration: Registration) -> Registration:
    """Registered at time 0, and heard."""
    registration.connected(0.0)
    granted(registration, 0.0)
    registration.tick(0.0)
    return registration


def granted(registration: Registration, now: float, known: Optional[KnownUpTo] = None) -> list[Statement]:
    """What is told once the broker has let it in, while that answers everything."""
    assert registration.answered(Operation.REGISTER, GRANTED, now, known) == []
    statements: list[Statement] = []
    while more := [each for each in registration.tick(now) if each.envelope.operation is not Operation.REPORT]:
        statements += more
        for each in more:
            registration.heard(each.envelope.request_id)
    return statements


def operations(statements: list[Statement]) -> list[Operation]:
    return [statement.envelope.operation for statement in statements]


def announced(statements: list[Statement]) -> list[tuple[bool, list[AnnouncedShare]]]:
    """Of each page whether it completes the announcement, and what it announces."""
    assert set(operations(statements)) <= {Operation.ANNOUNCE}
    return [
        (unpack_header(page.header, Announce).complete, unpack(page.payload or b"", list[AnnouncedShare]))
        for page in statements
    ]


def many_shares(count: int) -> list[AnnouncedShare]:
    return [AnnouncedShare(i.to_bytes(16, "big"), 0, b"o" * 32, OWNER, 4, 6, 1000) for i in range(count)]


def many_tombstones(count: int) -> list[Tombstone]:
    return [Tombstone(i.to_bytes(16, "big"), b"o" * 32, b"w" * 32, 1 + i % 2, 1000, b"s" * 64) for i in range(count)]


def test_a_connected_worker_registers_with_its_version_and_its_room(
    store: ShareStore, registration: Registration
) -> None:
    sample().put(store, 0)
    (statement,) = registration.connected(0.0)
    assert statement.envelope.kind is Kind.REQUEST
    assert statement.envelope.operation is Operation.REGISTER
    assert statement.envelope.peer == BROKER
    said = unpack_header(statement.header, Register)
    used = store.used_bytes
    assert said == Register(PROTOCOL_VERSION, CAPACITY, used, CAPACITY - used, epoch=store.numbering.epoch)


def test_a_worker_tells_what_kind_of_device_it_is_on(store: ShareStore) -> None:
    (statement,) = Registration(store, "tcp://broker:5571", DeviceKind.LAPTOP).connected(0.0)
    assert unpack_header(statement.header, Register).kind is DeviceKind.LAPTOP


def test_every_statement_has_a_request_id_of_its_own(registration: Registration) -> None:
    statements = registration.connected(0.0) + registration.tick(1.0) + registration.tick(2.0)
    assert len({statement.envelope.request_id for statement in statements}) == 3


def test_a_registered_worker_announces_all_it_holds(store: ShareStore, registration: Registration) -> None:
    for label in ("one", "other"):
        sample(label).put(store, 0)
    registration.connected(0.0)
    pages = announced(granted(registration, 0.1))
    assert pages == [(False, list(held_by(store).values())), (True, [])]


def test_a_worker_that_holds_nothing_says_so(registration: Registration) -> None:
    registration.connected(0.0)
    assert announced(granted(registration, 0.1)) == [(True, [])]


@pytest.mark.parametrize("count", [MAX_ANNOUNCED, MAX_ANNOUNCED + 1, 2 * MAX_ANNOUNCED, 2 * MAX_ANNOUNCED + 7])
def test_many_shares_are_announced_in_pages_of_which_the_last_completes(
    monkeypatch: pytest.MonkeyPatch, store: ShareStore, registration: Registration, count: int
) -> None:
    shares = many_shares(count)
    monkeypatch.setattr(store, "pages", lambda: chunks(shares, MAX_ANNOUNCED))
    registration.connected(0.0)
    pages = announced(granted(registration, 0.1))
    assert [share for _, page in pages for share in page] == shares
    assert all(len(page) <= MAX_ANNOUNCED for _, page in pages)
    assert [complete for complete, _ in pages] == [False] * (len(pages) - 1) + [True]


def test_a_new_share_is_announced_without_completing(registered: Registration) -> None:
    shares = many_shares(1)
    assert announced(registered.announce(Changes(announced=shares))) == [(False, shares)]


def test_news_come_in_pages_too_and_deletions_first(
    store: ShareStore, registered: Registration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "told", told)
    count = MAX_ANNOUNCED + 3
    names = [ShareName(share.encoding_id, share.share) for share in many_shares(count)]
    deleted = many_tombstones(MAX_TOMBSTONES + 3)
    statements = registered.announce(Changes(deleted, names, many_shares(count)))
    assert (
        operations(statements) == [Operation.REPORT_DELETED] * 2 + [Operation.WITHDRAW] * 2 + [Operation.ANNOUNCE] * 2
    )
    payloads = [statement.payload or b"" for statement in statements]
    assert [t for page in payloads[:2] for t in unpack(page, list[ToldTombstone])] == [told(each) for each in deleted]
    assert [name for page in payloads[2:4] for name in unpack(page, list[ShareName])] == names
    assert announced(statements[4:]) == [
        (False, many_shares(count)[:MAX_ANNOUNCED]),
        (False, many_shares(count)[MAX_ANNOUNCED:]),
    ]


def test_no_news_are_no_messages(registered: Registration) -> None:
    assert registered.announce(Changes()) == []


def test_a_registering_worker_tells_of_deletions_before_it_announces_what_it_holds(
    monkeypatch: pytest.MonkeyPatch, store: ShareStore, registration: Registration
) -> None:
    sample().put(store, 0)
    monkeypatch.setattr(store, "tombstones", lambda: iter(many_tombstones(MAX_TOMBSTONES + 1)))
    registration.connected(0.0)
    statements = granted(registration, 0.1)
    assert operations(statements) == [Operation.REPORT_DELETED] * 2 + [Operation.ANNOUNCE] * 2
    assert announced(statements[2:]) == [(False, list(held_by(store).values())), (True, [])]


def test_nothing_is_told_or_reported_to_a_broker_that_does_not_know_us(registration: Registration) -> None:
    changes = Changes(many_tombstones(1), [ShareName(b"e" * 16, 0)], many_shares(1))
    assert registration.announce(changes) == []
    assert registration.tick(100.0) == []
    registration.connected(100.0)
    assert registration.announce(changes) == []


def test_a_registered_worker_reports_its_room_every_second(store: ShareStore, registered: Registration) -> None:
    reports = [(now, registered.tick(now)) for now in (0.5, 0.99, 1.0, 1.25, 1.99, 2.0, 2.5, 3.1)]
    assert [now for now, said in reports if said] == [1.0, 2.0, 3.1]
    (report,) = reports[2][1]
    assert report.envelope.operation is Operation.REPORT
    assert unpack_header(report.header, Report) == Report(0, CAPACITY)
    sample().put(store, 0)
    (report,) = registered.tick(5.0)
    assert unpack_header(report.header, Report) == Report(store.used_bytes, CAPACITY - store.used_bytes, 1)


def test_an_unanswered_registration_is_repeated_every_second(registration: Registration) -> None:
    registration.connected(0.0)
    asked = [now for now in (0.5, 1.0, 1.5, 2.0) if operations(registration.tick(now)) == [Operation.REGISTER]]
    assert asked == [1.0, 2.0]


def test_a_registration_granted_twice_is_announced_twice(registered: Registration) -> None:
    """Between the two the broker may have forgotten what it was told."""
    assert announced(granted(registered, 0.2)) == [(True, [])]


@pytest.mark.parametrize("operation", [Operation.ANNOUNCE, Operation.REPORT])
def test_a_broker_that_forgot_us_is_registered_with_anew(registered: Registration, operation: Operation) -> None:
    assert registered.answered(operation, GRANTED, 1.0) == []
    assert operations(registered.answered(operation, NO_SESSION, 1.0)) == [Operation.REGISTER]
    assert registered.answered(operation, NO_SESSION, 1.1) == [], "it was asked already"
    assert announced(granted(registered, 1.2)) == [(True, [])]


@pytest.mark.parametrize("code", [Code.NOT_ALLOWED, Code.MALFORMED])
def test_a_refusal_for_good_ends_it_with_the_reason(registration: Registration, code: Code) -> None:
    registration.connected(0.0)
    with pytest.raises(RefusedError, match=r"tcp://broker:5571 refuses this worker: the reason"):
        registration.answered(Operation.REGISTER, Answer(code, "the reason"), 0.1)


@pytest.mark.parametrize("code", [Code.MALFORMED, Code.FAULT, Code.CONFLICT])
def test_a_report_or_an_announcement_that_is_not_granted_ends_nothing(registered: Registration, code: Code) -> None:
    for operation in (Operation.REPORT, Operation.ANNOUNCE):
        assert registered.answered(operation, Answer(code, "the reason"), 0.5) == []
    assert operations(registered.tick(1.0)) == [Operation.REPORT]


def test_a_conflict_is_waited_out(registration: Registration) -> None:
    # The broker has not noticed yet that our last connection was cut.
    registration.connected(0.0)
    for second in range(5):
        assert registration.answered(Operation.REGISTER, CONFLICT, second + 0.1) == []
        assert operations(registration.tick(second + 1.0)) == [Operation.REGISTER]
    assert announced(granted(registration, 5.1)) == [(True, [])]


def test_a_conflict_that_lasts_ends_it(registration: Registration) -> None:
    # It is another worker with a copy of our store.
    registration.connected(0.0)
    for second in range(13):
        assert registration.answered(Operation.REGISTER, CONFLICT, float(second)) == []
    with pytest.raises(RefusedError, match="another worker"):
        registration.answered(Operation.REGISTER, CONFLICT, 12.1)


def test_patience_with_a_conflict_begins_anew_with_each_registration_and_connection(
    registered: Registration,
) -> None:
    registered.answered(Operation.REPORT, NO_SESSION, 10.0)
    assert registered.answered(Operation.REGISTER, CONFLICT, 10.0) == []
    registered.answered(Operation.REGISTER, GRANTED, 11.0)
    registered.answered(Operation.REPORT, NO_SESSION, 30.0)
    assert registered.answered(Operation.REGISTER, CONFLICT, 30.0) == []
    registered.disconnected()
    registered.connected(60.0)
    assert registered.answered(Operation.REGISTER, CONFLICT, 60.0) == []


def test_a_lost_connection_is_silence_until_the_next(registered: Registration) -> None:
    registered.disconnected()
    assert registered.tick(10.0) == []
    assert registered.announce(Changes(announced=many_shares(1))) == []
    assert registered.answered(Operation.REPORT, NO_SESSION, 10.0) == [], "an answer that was on its way"
    assert registered.answered(Operation.REGISTER, GRANTED, 10.0) == []
    assert operations(registered.connected(11.0)) == [Operation.REGISTER]
    assert announced(granted(registered, 11.1)) == [(True, [])]


def test_a_new_connection_registers_anew_even_if_nobody_said_that_the_last_was_lost(registered: Registration) -> None:
    assert operations(registered.connected(5.0)) == [Operation.REGISTER]
    assert registered.announce(Changes(announced=many_shares(1))) == []


# --- by difference


def known_to(store: ShareStore) -> KnownUpTo:
    """As a broker knows it that was told everything."""
    return KnownUpTo(*store.numbering)


def digest(store: ShareStore) -> bytes:
    """Of all that is held, from its beginning."""
    return (sum(map(digest_of, held_by(store).values())) % MODULUS).to_bytes(16, "big")


def last_of(statements: list[Statement]) -> Announce:
    return unpack_header(statements[-1].header, Announce)


def test_a_broker_that_knows_all_is_told_that_it_does(store: ShareStore, registration: Registration) -> None:
    sample().put(store, 0)
    registration.connected(0.0)
    statements = granted(registration, 0.1, known_to(store))
    assert announced(statements) == [(True, [])]
    assert last_of(statements) == Announce(True, *store.numbering)
    assert store.numbering.digest == digest(store)


def test_a_broker_is_told_what_came_and_went_since_it_was_told_last(
    store: ShareStore, registration: Registration
) -> None:
    for label in ("stays", "deleted", "damaged", "amended", "back"):
        sample(label).put(store, 0)
    store.delete(sample("back").deletion(), OWNER)
    known = known_to(store)
    sample("new").put(store, 0)
    store.delete(sample("deleted").deletion(), OWNER)
    store.undelete(sample("back").undeletion(), OWNER)
    damage(store, sample("damaged"), 0)
    with declined(Code.DAMAGED):
        store.share(sample("damaged").key(0), OWNER)
    store.amend(sample("amended").encoding_id, sample("amended").signed(mapping=b"other", revision=2), OWNER)
    registration.connected(0.0)
    statements = [each for each in granted(registration, 0.1, known) if each.envelope.operation in NEWS]
    withdrawn = unpack(statements[0].payload or b"", list[ShareName])
    assert [(name.encoding_id, name.share) for name in withdrawn] == [sample("deleted").key(0)]
    told = [share for _, page in announced(statements[1:]) for share in page]
    held = held_by(store)
    assert sorted(told, key=repr) == sorted((held[sample(label).key(0)] for label in CHANGED), key=repr)
    assert last_of(statements) == Announce(True, *store.numbering)
    assert store.numbering.digest == digest(store)


def test_a_broker_that_knows_another_numbering_is_told_everything(
    store: ShareStore, registration: Registration
) -> None:
    sample().put(store, 0)
    everything = [(False, list(held_by(store).values())), (True, [])]
    epoch, sequence, all_of_it = store.numbering
    for known in (KnownUpTo(b"e" * 16, sequence, all_of_it), KnownUpTo(epoch, sequence + 1, all_of_it)):
        registration.connected(0.0)
        assert announced(granted(registration, 0.1, known)) == everything


def test_the_numbering_outlives_a_restart_and_not_the_index(store: ShareStore, tmp_path: Path) -> None:
    sample().put(store, 0)
    numbering = store.numbering
    store.close()
    again = ShareStore(tmp_path / "store", CAPACITY)
    assert again.numbering == numbering
    again.close()
    for path in (tmp_path / "store").glob("index*"):
        path.unlink()
    again = ShareStore(tmp_path / "store", CAPACITY)
    assert again.numbering.epoch != numbering.epoch
    assert again.numbering.digest == numbering.digest
    again.close()


def test_where_withdrawals_are_forgotten_everything_is_announced(
    store: ShareStore, registration: Registration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.index._MOST_WITHDRAWN", 2)
    monkeypatch.setattr("worker.index._PAGE", 1)
    for number in range(6):
        sample(f"{number}").put(store, 0)
    early, late = known_to(store), None
    for number in range(5):
        store.delete(sample(f"{number}").deletion(), OWNER)
        late = late or (known_to(store) if number == 3 else None)
    for known, withdrawn in ((early, 0), (late, 1)):
        registration.connected(0.0)
        statements = [each for each in granted(registration, 0.1, known) if each.envelope.operation in NEWS]
        assert operations(statements).count(Operation.WITHDRAW) == withdrawn
        assert len(announced(statements[withdrawn:])) == (1 if withdrawn else 2)


def test_what_changes_while_everything_is_announced_is_told_and_counted(
    store: ShareStore, registration: Registration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.index._PAGE", 1)
    monkeypatch.setattr("worker.registration._UNDER_WAY", 1)
    for number in range(4):
        sample(f"{number}").put(store, 0)
    store.changes()
    registration.connected(0.0)
    registration.answered(Operation.REGISTER, GRANTED, 0.0)
    registration.heard(registration.tick(0.0)[0].envelope.request_id)
    sample("new").put(store, 0)
    store.delete(sample("0").deletion(), OWNER)
    news = registration.announce(store.changes())
    told = [each for each in news if each.envelope.operation in NEWS]
    assert {unpack_header(each.header, Announce).sequence for each in told[-1:]} == {0}, "not all before was told"
    for each in news:
        registration.heard(each.envelope.request_id)
    statements: list[Statement] = []
    while more := [each for each in registration.tick(0.0) if each.envelope.operation is Operation.ANNOUNCE]:
        statements += more
        for each in more:
            registration.heard(each.envelope.request_id)
    assert last_of(statements) == Announce(True, *store.numbering)


NEWS = (Operation.WITHDRAW, Operation.ANNOUNCE)
CHANGED = ("new", "back", "damaged", "amended")
