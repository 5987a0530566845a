"""What a worker told a broker and has no answer to is told again, as it is by then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.protocol.codec import unpack, unpack_header
from common.protocol.device_messages import ShareName
from common.protocol.envelope import Operation
from common.protocol.messages import GRANTED, Announce, AnnouncedShare
from tests.support.sample_shares import held_by, sample
from worker.registration import Registration, Statement, Subjects, Unacknowledged
from worker.store import ShareStore

ONE, OTHER = (b"e" * 16, 1), (b"e" * 16, 2)


def test_what_is_answered_is_not_told_again_and_what_was_passed_over_is_once() -> None:
    unacknowledged = Unacknowledged()
    unacknowledged.sent(b"first", Subjects([ONE]))
    unacknowledged.sent(b"second", Subjects([OTHER], complete=True))
    unacknowledged.sent(b"third", Subjects())
    unacknowledged.heard(b"first")
    unacknowledged.heard(b"third")
    assert unacknowledged.overdue() == Subjects()
    assert unacknowledged.overdue() == Subjects([OTHER], complete=True)
    assert unacknowledged.overdue() == Subjects()


def test_a_broker_that_needs_its_time_is_told_nothing_again() -> None:
    unacknowledged = Unacknowledged()
    for number in range(100):
        unacknowledged.sent(bytes([number]), Subjects([(b"e" * 16, number)]))
    for number in range(100):
        assert [unacknowledged.overdue() for _ in range(5)] == [Subjects()] * 5
        unacknowledged.heard(bytes([number]))
    assert [unacknowledged.overdue() for _ in range(5)] == [Subjects()] * 5


def test_what_is_answered_after_something_later_is_not_told_again() -> None:
    unacknowledged = Unacknowledged()
    unacknowledged.sent(b"first", Subjects([ONE]))
    unacknowledged.sent(b"second", Subjects([OTHER]))
    unacknowledged.heard(b"second")
    unacknowledged.overdue()
    unacknowledged.heard(b"first")
    assert unacknowledged.overdue() == Subjects()


def test_a_share_told_of_twice_is_told_again_once() -> None:
    unacknowledged = Unacknowledged()
    unacknowledged.sent(b"first", Subjects([ONE]))
    unacknowledged.sent(b"second", Subjects([ONE, OTHER]))
    unacknowledged.sent(b"third", Subjects())
    unacknowledged.heard(b"third")
    unacknowledged.overdue()
    assert unacknowledged.overdue() == Subjects([ONE, OTHER])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ShareStore]:
    store = ShareStore(tmp_path / "store", 10 * 2**20)
    yield store
    store.close()


@pytest.fixture
def registration(store: ShareStore) -> Registration:
    """Registered at time 0, with one share, of which the broker has heard nothing."""
    sample().put(store, 0)
    registration = Registration(store, "tcp://broker:5571")
    registration.connected(0.0)
    registration.answered(Operation.REGISTER, GRANTED, 0.0)
    assert len(told(registration.tick(0.0), Operation.ANNOUNCE)) == 2
    return registration


def told(statements: list[Statement], operation: Operation) -> list[Statement]:
    return [statement for statement in statements if statement.envelope.operation is operation]


def tick_and_hear(registration: Registration, now: float) -> list[Statement]:
    """A second passes, and the broker answers the report."""
    statements = registration.tick(now)
    (report,) = told(statements, Operation.REPORT)
    registration.heard(report.envelope.request_id)
    return statements


def test_an_announcement_without_an_answer_is_made_again_and_still_completes(
    store: ShareStore, registration: Registration
) -> None:
    assert told(tick_and_hear(registration, 1.0), Operation.ANNOUNCE) == []
    assert told(tick_and_hear(registration, 2.0), Operation.ANNOUNCE) == []
    shares, completing = told(registration.tick(3.0), Operation.ANNOUNCE)
    assert unpack(shares.payload or b"", list[AnnouncedShare]) == list(held_by(store).values())
    assert unpack_header(completing.header, Announce).complete
    for again in (shares, completing):
        registration.heard(again.envelope.request_id)
    assert all(told(registration.tick(float(now)), Operation.ANNOUNCE) == [] for now in range(4, 9))


def test_a_broker_that_answers_nothing_is_not_told_again(registration: Registration) -> None:
    assert all(told(registration.tick(float(now)), Operation.ANNOUNCE) == [] for now in range(1, 60))


def test_a_share_that_is_not_there_any_more_is_withdrawn_instead(
    store: ShareStore, registration: Registration, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = held_by(store)
    monkeypatch.setattr(store, "held", lambda _: {})
    tick_and_hear(registration, 1.0)
    tick_and_hear(registration, 2.0)
    statements = registration.tick(3.0)
    (withdrawn,) = told(statements, Operation.WITHDRAW)
    assert unpack(withdrawn.payload or b"", list[ShareName]) == [ShareName(*key)]
    (completing,) = told(statements, Operation.ANNOUNCE)
    assert unpack(completing.payload or b"", list[AnnouncedShare]) == []


def test_a_registration_that_was_granted_once_more_is_announced_once_more(registration: Registration) -> None:
    """A REGISTER that came twice makes the broker forget what was announced in between."""
    registration.answered(Operation.REGISTER, GRANTED, 0.5)
    assert len(told(registration.tick(0.5), Operation.ANNOUNCE)) == 2
    assert registration.answered(Operation.REPORT, GRANTED, 0.6) == []
