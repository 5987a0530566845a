"""The steward's requests: few at a time, within a rate, each answered once, and nothing retried without a pause."""

from __future__ import annotations

import random

import pytest

from broker.steward.requests import PER_DEVICE, Reply, Request, Requests, Sending
from common.protocol.codec import pack_header
from common.protocol.envelope import Operation
from common.protocol.messages import Acknowledged, Answer, Code, Empty
from common.protocol.operations import FETCH

NAS, PI = b"n" * 16, b"p" * 16
RATE = 1000
START = 50.0


def everybody(_: bytes) -> bool:
    return True


class Asker:
    """Asks, and keeps what it is told."""

    def __init__(self, rate: int = RATE) -> None:
        self.requests = Requests(rate, random.Random(1))  # noqa: S311
        self.told: list[Code] = []
        self.payloads: list[bytes] = []

    def ask(self, device: bytes = NAS, payload: bytes = b"", credit: int = 4096, again: float = 0.0) -> None:
        request = Request(device, b"o" * 16, Operation.APPEND, Empty(), payload, credit, again=again)
        self.requests.add(request, self.came, self)

    def came(self, reply: Reply, now: float) -> None:
        self.told.append(reply.code)
        self.payloads.append(bytes(reply.payload or b""))

    def release(self, now: float = START) -> list[Sending]:
        return self.requests.release(now, everybody)

    def reply(
        self, sending: Sending, code: Code = Code.GRANTED, payload: bytes = b"", device: bytes = NAS, now: float = START
    ) -> None:
        frames = [memoryview(pack_header(Acknowledged(Answer(code)))), *([memoryview(payload)] if payload else [])]
        self.requests.answered(device, sending.request_id, frames, now)


@pytest.fixture
def asker() -> Asker:
    return Asker()


def test_few_requests_are_under_way_to_a_device_and_others_do_not_wait_for_it(asker: Asker) -> None:
    for _ in range(5):
        asker.ask(NAS)
    asker.ask(PI)
    first = asker.release()
    assert sorted(sending.request.device for sending in first) == [NAS] * PER_DEVICE + [PI]
    assert asker.release() == []
    asker.reply(first[0])
    assert [sending.request.device for sending in asker.release()] == [NAS]


def test_an_answer_reaches_its_asker_once(asker: Asker) -> None:
    asker.ask()
    (sending,) = asker.release()
    asker.reply(sending, payload=b"block", device=PI)
    assert asker.told == []
    asker.reply(sending, payload=b"block")
    asker.reply(sending, payload=b"block")
    assert (asker.told, asker.payloads) == ([Code.GRANTED], [b"block"])


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x91\x01", b"\x90"])
def test_an_answer_that_makes_no_sense_is_a_fault(asker: Asker, frame: bytes) -> None:
    asker.ask()
    (sending,) = asker.release()
    asker.requests.answered(NAS, sending.request_id, [memoryview(frame)], START)
    assert asker.told == [Code.FAULT]


def test_an_answer_with_more_than_its_credit_is_a_fault_and_not_used(asker: Asker) -> None:
    asker.ask(credit=4)
    (sending,) = asker.release()
    asker.reply(sending, payload=b"12345")
    assert (asker.told, asker.payloads) == ([Code.FAULT], [b""])


def test_a_busy_device_is_asked_again_after_a_pause_that_grows(asker: Asker) -> None:
    asker.ask()
    (sending,) = asker.release()
    now, pauses = START, []
    for _ in range(4):
        asker.reply(sending, Code.BUSY, now=now)
        busy_at = now
        while not asker.release(now):
            now += 0.05
        pauses.append(now - busy_at)
    assert asker.told == []
    assert pauses == sorted(pauses)
    assert pauses[0] >= 0.25
    assert pauses[-1] <= 2.1


def test_who_has_the_first_lease_asks_again_for_another_ones_until_that_is_let_go(asker: Asker) -> None:
    asker.ask(again=3.0)
    (sending,) = asker.release()
    now = START
    while now < START + 2.0:
        asker.reply(sending, Code.CONFLICT, now=now)
        assert asker.release(now + 0.2) == []
        now += 0.3
        assert asker.release(now) == [sending]
        assert not asker.requests.is_slow(NAS)
    assert asker.told == []
    asker.reply(sending, now=now)
    assert asker.told == [Code.GRANTED]


def test_a_conflict_that_lasts_is_told_in_the_end(asker: Asker) -> None:
    asker.ask(again=3.0)
    (sending,) = asker.release()
    asker.reply(sending, Code.CONFLICT, now=START + 2.9)
    assert asker.told == []
    assert asker.release(START + 3.2) == [sending]
    asker.reply(sending, Code.CONFLICT, now=START + 3.2)
    assert asker.told == [Code.CONFLICT]


def test_what_could_not_be_sent_since_the_device_is_full_is_sent_again_after_a_pause(asker: Asker) -> None:
    asker.ask()
    (sending,) = asker.release()
    asker.requests.full(sending.request_id)
    assert asker.release(START + 0.2) == []
    assert asker.release(START + 0.3) == [sending]


def test_what_is_not_answered_is_sent_again_under_the_same_id_and_has_an_end(asker: Asker) -> None:
    asker.ask()
    sent = []
    for step in range(int(2 * FETCH.timeout)):
        sent += asker.release(START + step)
    assert len({sending.request_id for sending in sent}) == 1
    assert 3 <= len(sent) <= 5
    assert asker.told == [Code.FAULT]


def test_a_device_that_left_something_unanswered_is_late_for_a_while(
    asker: Asker,
) -> None:
    def leave_unanswered(start: float) -> float:
        """The time at which it counts as late no more."""
        asker.requests.add(Request(NAS, b"o" * 16, Operation.APPEND, Empty(), timeout=6.0))
        for step in range(8):
            asker.release(start + step)
        assert asker.requests.is_late(NAS)
        assert not asker.requests.is_late(PI)
        now = start + 8
        while asker.requests.is_late(NAS):
            now += 1
            asker.release(now)
        return now

    first = leave_unanswered(START)
    assert 60 <= first - START <= 70
    assert 120 <= leave_unanswered(first) - first <= 130


def test_what_a_device_that_is_gone_was_asked_is_answered_and_more_is_not_sent_to_it(asker: Asker) -> None:
    for _ in range(PER_DEVICE + 1):
        asker.ask()
    asker.release()
    asker.requests.lose(NAS)
    assert asker.told == [Code.GONE] * (PER_DEVICE + 1)
    asker.ask()
    assert asker.requests.release(START, lambda device: device != NAS) == []
    assert asker.told == [Code.GONE] * (PER_DEVICE + 2)


def test_an_asker_that_is_dropped_while_it_is_told_is_told_no_more(asker: Asker) -> None:
    def came(reply: Reply, now: float) -> None:
        asker.told.append(reply.code)
        asker.requests.drop(asker)

    for _ in range(PER_DEVICE + 2):
        asker.requests.add(Request(NAS, b"o" * 16, Operation.FETCH, Empty()), came, asker)
    (sending, *_) = asker.release()
    asker.requests.lose(NAS)
    assert asker.told == [Code.GONE]
    asker.reply(sending)
    assert asker.told == [Code.GONE]


def test_no_more_bytes_than_the_rate_are_moved_in_the_long_run(asker: Asker) -> None:
    moved, now = 0, START
    while now < START + 20:
        asker.ask(payload=bytes(100))
        for sending in asker.release(now):
            asker.reply(sending, payload=bytes(150), now=now)
            moved += 250
        now += 0.05
    assert 0.8 * 20 * RATE <= moved <= 22 * RATE
    assert asker.requests.moved_bytes == moved


def test_a_pause_is_not_made_up_for_by_a_burst(asker: Asker) -> None:
    asker.release(START)
    asker.release(START + 1000)
    moved = 0
    for _ in range(100):
        asker.ask(payload=bytes(100))
        for sending in asker.release(START + 1000):
            asker.reply(sending)
            moved += 100
    assert moved <= RATE + 100


def test_a_device_that_has_to_be_asked_again_counts_as_late_for_a_moment(asker: Asker) -> None:
    asker.ask(NAS)
    asker.release()
    (again,) = asker.release(START + 5)
    assert asker.requests.is_late(NAS)
    asker.reply(again, now=START + 5)
    asker.release(START + 16)
    assert not asker.requests.is_late(NAS)


# --- slow


def test_a_device_is_slow_from_a_second_after_it_was_sent_something_until_it_answers(asker: Asker) -> None:
    for _ in range(PER_DEVICE + 1):
        asker.ask()
    sent = asker.release()
    asker.release(START + 1.0)
    assert not asker.requests.is_slow(NAS)
    asker.release(START + 1.1)
    assert asker.requests.is_slow(NAS)
    assert not asker.requests.is_slow(PI) and not asker.requests.is_late(NAS)
    for sending in sent:
        asker.reply(sending, now=START + 1.1)
    asker.release(START + 2)  # what waited for its turn was not late
    assert not asker.requests.is_slow(NAS)


def test_what_is_durable_before_it_is_answered_may_take_longer(asker: Asker) -> None:
    asker.requests.add(Request(NAS, b"o" * 16, Operation.COMMIT, Empty()))
    asker.release()
    asker.release(START + 3.9)
    assert not asker.requests.is_slow(NAS)
    asker.release(START + 4.1)
    assert asker.requests.is_slow(NAS)


def test_a_device_that_was_not_waited_for_is_slow_for_a_moment(asker: Asker) -> None:
    asker.ask(NAS)
    asker.ask(PI)
    asker.release()
    asker.release(START + 0.5)
    asker.ask(NAS)
    asker.release(START + 1.2)
    asker.requests.drop(asker)
    assert asker.requests.is_slow(NAS)
    asker.release(START + 11)
    assert asker.requests.is_slow(NAS)
    asker.release(START + 12)
    assert not asker.requests.is_slow(NAS)


def test_who_is_in_time_is_not_slow_because_nobody_waits_any_more(asker: Asker) -> None:
    asker.ask()
    asker.release()
    asker.release(START + 0.9)
    asker.requests.drop(asker)
    assert not asker.requests.is_slow(NAS)


def test_all_that_is_left_unanswered_at_a_time_makes_a_device_late_once(asker: Asker) -> None:
    for _ in range(2 * PER_DEVICE):
        asker.requests.add(Request(NAS, b"o" * 16, Operation.FETCH, Empty(), timeout=6.0))
    for step in range(15):
        asker.release(START + step)
    asker.release(START + 14 + 59)
    assert not asker.requests.is_late(NAS)
