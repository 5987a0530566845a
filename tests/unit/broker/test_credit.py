"""Credit: what is granted never exceeds the limits, and all of it comes back."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from broker.credit import ANSWERS_WITHIN, CREDIT, FORGET_AFTER, REQUESTS, TOTAL_CREDIT, Forwarded, Ledger
from common.protocol.codec import MAX_PAYLOAD
from common.protocol.envelope import Operation

SESSION, OTHER_SESSION = b"s" * 16, b"t" * 16
DEVICE, OTHER_DEVICE = b"d" * 16, b"e" * 16


def request(
    number: int, credit: int = 0, *, session: bytes = SESSION, device: bytes = DEVICE, since: float = 0.0
) -> Forwarded:
    return Forwarded(session + b"client", session, number.to_bytes(16, "big"), device, Operation.FETCH, credit, since)


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_a_request_is_remembered_until_its_reply_passes() -> None:
    ledger, entry = Ledger(), request(1, 1000)
    assert ledger.find(SESSION, name(1)) is None
    assert ledger.enter(entry)
    assert ledger.find(SESSION, name(1)) == entry
    assert ledger.total == 1000
    assert ledger.leave(SESSION, name(1)) == entry
    assert ledger.leave(SESSION, name(1)) is None
    assert ledger.find(SESSION, name(1)) is None
    assert ledger.total == 0


def test_a_client_has_so_many_requests_under_way_and_no_more() -> None:
    ledger = Ledger()
    assert all(ledger.enter(request(number)) for number in range(REQUESTS))
    assert not ledger.enter(request(REQUESTS))
    ledger.leave(SESSION, name(3))
    assert ledger.enter(request(REQUESTS))
    assert not ledger.enter(request(REQUESTS + 1))


def test_a_client_has_so_many_bytes_under_way_and_no_more() -> None:
    ledger = Ledger()
    fitting = CREDIT // MAX_PAYLOAD
    assert all(ledger.enter(request(number, MAX_PAYLOAD)) for number in range(fitting))
    assert not ledger.enter(request(fitting, 1))
    assert ledger.enter(request(fitting, 0))
    ledger.leave(SESSION, name(0))
    assert ledger.enter(request(fitting + 1, MAX_PAYLOAD))
    assert not ledger.enter(request(fitting + 2, 1))


def test_one_client_does_not_use_up_anothers_credit() -> None:
    ledger = Ledger()
    while ledger.enter(request(ledger.total, MAX_PAYLOAD)):
        pass
    assert ledger.enter(request(0, MAX_PAYLOAD, session=OTHER_SESSION))


def test_all_clients_together_have_so_many_bytes_and_no_more() -> None:
    ledger = Ledger()
    sessions = [number.to_bytes(16, "big") for number in range(TOTAL_CREDIT // CREDIT + 1)]
    granted = [
        ledger.enter(request(number, MAX_PAYLOAD, session=session))
        for session in sessions
        for number in range(CREDIT // MAX_PAYLOAD)
    ]
    assert sum(granted) == TOTAL_CREDIT // MAX_PAYLOAD
    assert ledger.total == TOTAL_CREDIT
    assert not ledger.enter(request(0, 1, session=sessions[-1]))
    ledger.leave(sessions[0], name(0))
    assert ledger.enter(request(0, MAX_PAYLOAD, session=sessions[-1]))


def test_more_than_a_message_can_carry_is_never_granted() -> None:
    assert not Ledger().enter(request(1, MAX_PAYLOAD + 1))


def test_when_a_device_goes_its_requests_are_told_and_others_stay() -> None:
    ledger = Ledger()
    lost = [request(1, 10), request(2, 20, session=OTHER_SESSION)]
    stays = request(3, 30, device=OTHER_DEVICE)
    for entry in (*lost, stays):
        ledger.enter(entry)
    assert ledger.leave_device(DEVICE) == lost
    assert ledger.leave_device(DEVICE) == []
    assert ledger.total == 30
    assert ledger.find(SESSION, name(3)) == stays


def test_when_a_client_goes_its_credit_comes_back_and_others_keep_theirs() -> None:
    ledger = Ledger()
    for number in range(4):
        ledger.enter(request(number, 100))
    ledger.enter(request(0, 7, session=OTHER_SESSION))
    ledger.leave_session(SESSION)
    assert ledger.total == 7
    assert ledger.find(OTHER_SESSION, name(0)) is not None


def test_what_is_behind_many_others_is_waited_for_longer() -> None:
    ledger = Ledger()
    for number in range(65):
        ledger.enter(request(number, session=b"%016d" % number))
    for reports, unanswered in ((3, 0), (4, 32), (5, 32), (6, 1)):
        assert len(ledger.unanswered(ANSWERS_WITHIN, lambda device, so=reports: so)) == unanswered  # type: ignore[misc]


def test_a_request_that_nobody_waits_for_any_more_is_forgotten() -> None:
    ledger = Ledger()
    ledger.enter(request(1, 10, since=0.0))
    ledger.enter(request(2, 20, since=50.0))
    ledger.expire(FORGET_AFTER - 0.5)
    assert ledger.total == 30
    ledger.expire(FORGET_AFTER)
    assert (ledger.find(SESSION, name(1)), ledger.total) == (None, 20)
    ledger.expire(50.0 + FORGET_AFTER)
    assert ledger.total == 0


class LedgerAgainstAList(RuleBasedStateMachine):
    """Any order of events: the ledger agrees with a plain list of what was granted, and never goes over a limit."""

    sessions = st.sampled_from([SESSION, OTHER_SESSION])
    devices = st.sampled_from([DEVICE, OTHER_DEVICE])
    granted = Bundle("granted")

    @initialize()
    def start(self) -> None:
        self.ledger = Ledger()
        self.expected: list[Forwarded] = []
        self.now = 0.0
        self.count = 0

    @rule(target=granted, session=sessions, device=devices, credit=st.integers(0, MAX_PAYLOAD))
    def enter(self, session: bytes, device: bytes, credit: int) -> Optional[Forwarded]:
        self.count += 1
        entry = request(self.count, credit, session=session, device=device, since=self.now)
        of_session = [one.credit for one in self.expected if one.session == session]
        fits = len(of_session) < REQUESTS and (not of_session or sum(of_session) + credit <= CREDIT)
        assert self.ledger.enter(entry) is fits
        self.expected += [entry] if fits else []
        return entry

    @rule(entry=granted)
    def leave(self, entry: Forwarded) -> None:
        assert (self.ledger.leave(entry.session, entry.request_id) is not None) is (entry in self.expected)
        self.expected = [one for one in self.expected if one != entry]

    @rule(device=devices)
    def device_goes(self, device: bytes) -> None:
        assert self.ledger.leave_device(device) == [one for one in self.expected if one.device == device]
        self.expected = [one for one in self.expected if one.device != device]

    @rule(session=sessions)
    def session_goes(self, session: bytes) -> None:
        self.ledger.leave_session(session)
        self.expected = [one for one in self.expected if one.session != session]

    @rule(seconds=st.floats(0, FORGET_AFTER))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.ledger.expire(self.now)
        self.expected = [one for one in self.expected if self.now - one.since < FORGET_AFTER]

    @invariant()
    def total_is_what_is_under_way(self) -> None:
        assert self.ledger.total == sum(one.credit for one in self.expected)
        assert all(self.ledger.find(one.session, one.request_id) == one for one in self.expected)


TestLedgerAgainstAList = LedgerAgainstAList.TestCase
TestLedgerAgainstAList.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.mark.parametrize("count", [1, REQUESTS])
def test_after_all_replies_a_client_may_ask_as_much_as_at_first(count: int) -> None:
    ledger = Ledger()
    for _ in range(3):
        for number in range(count):
            assert ledger.enter(request(number, CREDIT // count if count > 4 else MAX_PAYLOAD))
        for number in range(count):
            ledger.leave(SESSION, name(number))
    assert ledger.total == 0
