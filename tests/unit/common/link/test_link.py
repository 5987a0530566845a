"""The clients' link: ZeroMQ's send is not delivery, and still every request is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Optional, cast

import pytest
import zmq

from common.errors import UnreachableError
from common.link.channel import _State
from common.link.link import Attachment, Link
from common.link.replies import DeclinedError
from common.process.running_time import RunningTime
from common.protocol.codec import MAX_PAYLOAD
from common.protocol.envelope import Kind, Operation
from common.protocol.messages import GRANTED, PROTOCOL_VERSION, Acknowledged, Code, Hello
from tests.support.sample_images import chance
from tests.support.small_broker import (
    DEVICE,
    PROOF,
    Request,
    Responses,
    SmallBroker,
    ask,
    ask_and_wait,
    came,
    declined,
    granted,
    nothing,
    over_link,
    reply,
)


@pytest.fixture
def broker() -> Iterator[SmallBroker]:
    broker = SmallBroker()
    yield broker
    broker.stop()


# --- asking


def test_a_request_is_answered_with_header_and_payload(broker: SmallBroker) -> None:
    async def work(link: Link) -> None:
        assert await ask(link, b"payload") == b"payload"
        assert await ask(link) == b""
        assert link.address == f"tcp://127.0.0.1:{broker.port}"

    over_link(broker, work)
    assert broker.greetings == [Hello(PROTOCOL_VERSION, PROOF)]
    first, second = broker.requests
    assert first.envelope.kind is Kind.REQUEST
    assert (first.envelope.operation, first.envelope.peer) == (Operation.FETCH, DEVICE)
    assert first.envelope.request_id != second.envelope.request_id


def test_the_envelope_says_how_many_bytes_request_and_reply_may_have(broker: SmallBroker) -> None:
    over_link(broker, lambda link: ask_and_wait(link, bytes(100), reply_bytes=1000))
    assert broker.requests[0].envelope.credit == 1100


def test_answers_may_come_in_any_order(broker: SmallBroker) -> None:
    broker.answer = nothing

    async def work(link: Link) -> list[bytes]:
        tasks = [ask(link, bytes([number])) for number in range(10)]
        for request in reversed(await came(broker, 10)):
            broker.send(request, granted(request))
        return list(await asyncio.gather(*tasks))

    assert over_link(broker, work) == [bytes([number]) for number in range(10)]


def test_no_more_is_under_way_than_was_granted(broker: SmallBroker) -> None:
    broker.welcome.requests_per_device = 3
    broker.answer = nothing

    async def work(link: Link) -> None:
        tasks = [ask(link, bytes([number])) for number in range(9)]
        for answered in range(9):
            requests = await came(broker, min(9, answered + 3))
            # What is beyond the third waits for an answer, so that it cannot have been sent yet.
            assert len(requests) <= answered + 3
            broker.send(requests[answered], granted(requests[answered]))
        await asyncio.gather(*tasks)

    over_link(broker, work)


# --- sent again


def test_a_request_is_sent_again_after_the_connection_was_cut(broker: SmallBroker) -> None:
    broker.answer = nothing

    async def work(link: Link) -> list[bytes]:
        tasks = [ask(link, bytes([number])) for number in range(5)]
        await came(broker, 5)
        broker.answer = granted
        await asyncio.get_running_loop().run_in_executor(None, broker.cut_and_bind_anew)
        return list(await asyncio.gather(*tasks))

    assert over_link(broker, work) == [bytes([number]) for number in range(5)]
    assert len(broker.greetings) == 2, "a new session begins with a greeting"
    before, after = broker.requests[:5], broker.requests[5:]
    assert {request.session for request in after} == {1}
    assert sorted(r.envelope.request_id for r in before) == sorted(r.envelope.request_id for r in after)


def test_what_is_asked_while_the_broker_is_away_is_sent_when_it_is_back(broker: SmallBroker) -> None:
    async def work(link: Link) -> list[bytes]:
        await ask(link)
        cutting = asyncio.get_running_loop().run_in_executor(None, broker.cut_and_bind_anew)
        tasks = [ask(link, bytes([number])) for number in range(30)]
        await cutting
        return list(await asyncio.gather(*tasks))

    assert over_link(broker, work) == [bytes([number]) for number in range(30)]


def test_an_answer_is_taken_once_though_the_request_went_twice(broker: SmallBroker) -> None:
    broker.answer = lambda request: [*granted(request), *granted(request)]

    async def work(link: Link) -> list[bytes]:
        return [await ask(link, bytes([number])) for number in range(20)]

    assert over_link(broker, work) == [bytes([number]) for number in range(20)]


@pytest.mark.parametrize("code", [Code.BUSY, Code.NO_SESSION])
def test_whoever_is_busy_is_asked_again(broker: SmallBroker, code: Code) -> None:
    broker.answer = lambda request: declined(request, code) if len(broker.requests) < 4 else granted(request)
    assert over_link(broker, lambda link: ask_and_wait(link, b"payload")) == b"payload"
    assert len(broker.requests) == 4
    assert {request.payload for request in broker.requests} == {b"payload"}


def test_whoever_stays_busy_is_given_up_at_the_deadline(broker: SmallBroker) -> None:
    broker.answer = lambda request: declined(request, Code.BUSY)
    with pytest.raises(UnreachableError, match=r"within 0\.3 s"):
        over_link(broker, lambda link: ask_and_wait(link, b"", timeout=0.3))
    assert len(broker.requests) > 1


@pytest.mark.parametrize("size", [1 << 20, MAX_PAYLOAD])
def test_many_large_requests_to_a_slow_broker_are_all_answered(broker: SmallBroker, size: int) -> None:
    """More than pipes and buffers hold, so that sending stops and goes on at events that are announced only once."""
    count = (200 << 20) // size
    payload = chance("payload", size)
    broker.pause = 0.001
    broker.answer = lambda request: [reply(request, Acknowledged(GRANTED), (request.payload or b"")[:40])]

    async def work(link: Link) -> None:
        answers = await asyncio.gather(*(ask(link, payload) for _ in range(count)))
        assert answers == [payload[:40]] * count

    over_link(broker, work)
    assert len(broker.requests) == count, "each was sent once"


def test_no_large_request_is_left_behind_where_all_are_needed_before_any_is_answered(broker: SmallBroker) -> None:
    """So that no other answer's event wakes whoever waits for room to send."""
    payload = chance("payload", 2 << 20)
    held: list[Request] = []

    def answer_all_at_once(request: Request) -> Responses:
        held.append(request)
        if len(held) < broker.welcome.requests:
            return []
        responses = [message for request in held for message in declined(request, Code.NO_ROOM)]
        held.clear()
        return responses

    broker.answer = answer_all_at_once

    async def work(link: Link) -> None:
        tasks = [ask(link, payload) for _ in range(6 * broker.welcome.requests)]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {DeclinedError}

    over_link(broker, work)


class SwallowingSocket:
    """A socket at its worst: whatever it is asked, it swallows the event that would have announced the other kind."""

    def __init__(self) -> None:
        self.room = 0  # messages that can be sent
        self.incoming = 0
        self.sent: list[Any] = []
        self.taken = 0
        self.closed = False

    def send_multipart(self, frames: Any, *_: Any, **__: Any) -> None:
        if not self.room:
            raise zmq.Again
        self.room -= 1
        self.sent.append(frames)
        self.incoming += 1

    def recv_multipart(self, *_: Any, **__: Any) -> list[zmq.Frame]:
        if not self.incoming:
            self.room = 1
            raise zmq.Again
        self.incoming -= 1
        self.taken += 1
        return [zmq.Frame(b"junk")]

    def getsockopt(self, option: int) -> int:
        assert option == zmq.EVENTS
        return (zmq.POLLIN if self.incoming else 0) | (zmq.POLLOUT if self.room else 0)


class Unsent:
    """In place of the protocol: messages that are to be sent."""

    def __init__(self, broker: SmallBroker, messages: list[list[bytes]]) -> None:
        self.broker, self.connection, self._messages = broker.address, 0, messages

    def to_send(self) -> Optional[list[bytes]]:
        return self._messages[0] if self._messages else None

    def sent(self) -> None:
        del self._messages[0]

    def received(self, frames: list[memoryview], now: float) -> None:
        pass


def test_one_event_suffices_to_send_and_take_all_there_is(broker: SmallBroker) -> None:
    """ZeroMQ's descriptor tells of an event once; what its calls swallow it does not tell again."""
    swallowing = SwallowingSocket()

    async def work() -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        protocol = Unsent(broker, [[bytes([number])] for number in range(10)])
        attachment = Attachment(context, broker.client, cast(Any, protocol), RunningTime(), lambda: None)
        channel, worst = attachment._channel, cast(Any, swallowing)
        real, channel._curve, channel._state = channel._curve, worst, _State.ON_CURVE
        attachment.exchange()
        channel._curve = real
        attachment.close()
        context.destroy(linger=0)

    asyncio.run(work())
    assert swallowing.sent == [[bytes([number])] for number in range(10)]
    assert (swallowing.incoming, swallowing.taken) == (0, 10)


def test_many_large_answers_are_all_taken(broker: SmallBroker) -> None:
    payload = chance("payload", 1 << 20)
    broker.answer = lambda request: [reply(request, Acknowledged(GRANTED), payload)]

    async def work(link: Link) -> None:
        for answer in await asyncio.gather(*(ask(link, reply_bytes=1 << 20) for _ in range(60))):
            assert answer == payload

    over_link(broker, work)
