"""A request without an answer is sent again: not too soon, and ever more rarely."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from common.link import client_protocol
from common.link.client_protocol import RESEND_AFTER, Resending
from tests.support.small_broker import SmallBroker, ask_and_wait, came, granted, nothing, over_link


@pytest.fixture
def broker() -> Iterator[SmallBroker]:
    broker = SmallBroker()
    yield broker
    broker.stop()


def test_at_first_it_is_two_seconds_then_ever_longer() -> None:
    fresh = Resending()
    assert [fresh.due_after(times) for times in (1, 2, 3)] == [RESEND_AFTER, 2 * RESEND_AFTER, 4 * RESEND_AFTER]


def test_where_answers_take_long_it_is_three_times_as_long() -> None:
    slow = Resending()
    slow.answered(5.0, 1)
    assert slow.due_after(1) == 15.0
    for _ in range(200):
        slow.answered(0.01, 1)
    assert slow.due_after(1) == RESEND_AFTER


def test_the_answer_to_what_was_sent_twice_tells_nothing() -> None:
    lossy = Resending()
    lossy.answered(6.0, 2)
    assert lossy.due_after(1) == RESEND_AFTER


def test_a_request_that_was_lost_is_sent_again_under_the_same_id_and_answered(
    broker: SmallBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_protocol, "RESEND_AFTER", 0.05)
    broker.answer = nothing

    async def work(link: object) -> bytes:
        task = asyncio.ensure_future(ask_and_wait(link, b"payload"))  # type: ignore[arg-type]
        first, second = (await came(broker, 2))[:2]
        assert first.envelope == second.envelope
        broker.send(second, granted(second))
        return await task

    assert over_link(broker, work) == b"payload"
