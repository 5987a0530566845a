"""What a client is told when the answer is no, does not come, or is none; and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest

from common.discovery.addresses import BrokerAddress
from common.errors import NotEnoughError, ProtocolError, RefusedError, UnreachableError
from common.link import client_protocol
from common.link.link import Link, reached, run_with_link
from common.link.replies import DeclinedError
from common.membership.identity import ClientIdentity, KeyPair
from common.protocol.codec import pack_header
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import GRANTED, Acknowledged, Answer, Code, Empty, Status, Welcome
from tests.support.small_broker import (
    DEVICE,
    PATIENCE,
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
)


@pytest.fixture
def broker() -> Iterator[SmallBroker]:
    broker = SmallBroker()
    yield broker
    broker.stop()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- no answer, or no


def test_a_deadline_names_the_address(broker: SmallBroker) -> None:
    broker.answer = nothing
    with pytest.raises(UnreachableError, match=f"tcp://127.0.0.1:{broker.port}.* within 0.2 s") as raised:
        over_link(broker, lambda link: ask_and_wait(link, b"", timeout=0.2))
    assert raised.value.exit_code == 7


def test_a_request_that_was_given_up_makes_room_for_the_next(broker: SmallBroker) -> None:
    broker.welcome.requests_per_device = 1
    broker.answer = nothing

    async def work(link: Link) -> bytes:
        for _ in range(3):
            with pytest.raises(UnreachableError):
                await ask(link, timeout=0.05)
        task = ask(link)
        await came(broker, 1)
        task.cancel()
        broker.answer = granted
        return await ask(link, b"next")

    assert over_link(broker, work) == b"next"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [(Code.GONE, 7), (Code.NO_ROOM, 8), (Code.NOT_ALLOWED, 6), (Code.NOT_FOUND, 3), (Code.DAMAGED, 4), (Code.FAULT, 4)],
)
def test_an_answer_that_is_no_says_why_and_who(broker: SmallBroker, code: Code, exit_code: int) -> None:
    broker.answer = lambda request: declined(request, code, "because")
    with pytest.raises(DeclinedError, match="because") as raised:
        over_link(broker, lambda link: ask_and_wait(link, b""))
    error = raised.value
    assert (error.code, error.device, error.exit_code) == (code, DEVICE, exit_code)


def test_without_a_broker_the_address_is_named(monkeypatch: pytest.MonkeyPatch, broker: SmallBroker) -> None:
    monkeypatch.setattr(client_protocol, "CONNECT_TIMEOUT", 0.3)
    nowhere = BrokerAddress("127.0.0.1", unused_port(), 1, broker.pair.public)
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{nowhere.client_port}") as raised:
        over_link(broker, lambda link: ask_and_wait(link, b""), ClientIdentity(broker.client, [nowhere]))
    assert raised.value.exit_code == 7


def test_the_next_broker_is_tried_where_the_first_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, broker: SmallBroker
) -> None:
    monkeypatch.setattr(client_protocol, "CONNECT_TIMEOUT", 4.0)
    nowhere = BrokerAddress("127.0.0.1", unused_port(), 1, broker.pair.public)
    identity = ClientIdentity(broker.client, [nowhere, broker.address])
    assert over_link(broker, lambda link: ask_and_wait(link, b"found"), identity) == b"found"


def test_whoever_is_not_admitted_is_told_at_once_and_how_to_be(
    monkeypatch: pytest.MonkeyPatch, broker: SmallBroker
) -> None:
    monkeypatch.setattr(client_protocol, "CONNECT_TIMEOUT", 1000.0)  # it must not be waited for
    stranger = ClientIdentity(KeyPair.generate(), [broker.address])
    with pytest.raises(RefusedError, match=f"127.0.0.1:{broker.port} does not admit this machine") as raised:
        over_link(broker, lambda link: ask_and_wait(link, b""), stranger)
    assert raised.value.exit_code == 6
    assert "admin.py join" in (raised.value.advice or "")
    assert broker.greetings == []


def test_whoever_is_no_longer_admitted_is_told_too(broker: SmallBroker) -> None:
    broker.answer = nothing

    async def work(link: Link) -> None:
        task = ask(link)
        await came(broker, 1)
        broker.admitted.clear()
        await asyncio.get_running_loop().run_in_executor(None, broker.cut_and_bind_anew)
        with pytest.raises(RefusedError):
            await task

    over_link(broker, work)


def test_whoever_is_revoked_while_connected_is_told_at_once(broker: SmallBroker) -> None:
    broker.answer = nothing

    async def work(link: Link) -> None:
        tasks = [ask(link), ask(link)]
        request = (await came(broker, 2))[0]
        farewell = Envelope(Kind.REPLY, Operation.PROBE, bytes(16))
        broker.send(request, [[farewell.encode(), pack_header(Acknowledged(Answer(Code.NOT_ALLOWED)))]])
        for task in tasks:
            with pytest.raises(RefusedError, match="does not admit this machine"):
                await task

    over_link(broker, work)


def test_a_broker_with_another_key_is_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch, broker: SmallBroker) -> None:
    monkeypatch.setattr(client_protocol, "CONNECT_TIMEOUT", 1.0)
    impostor = BrokerAddress("127.0.0.1", broker.port, broker.port, KeyPair.generate().public)
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{broker.port}"):
        over_link(broker, lambda link: ask_and_wait(link, b""), ClientIdentity(broker.client, [impostor]))
    assert broker.greetings == []


def test_a_broker_that_refuses_the_greeting_is_an_error_at_once(broker: SmallBroker) -> None:
    broker.welcome = Welcome(Answer(Code.MALFORMED))
    with pytest.raises(DeclinedError):
        over_link(broker, lambda link: ask_and_wait(link, b""))


def test_closing_the_link_ends_what_still_waits(broker: SmallBroker) -> None:
    broker.answer = nothing
    left: list[asyncio.Task[bytes]] = []

    async def whole() -> None:
        async with Link(broker.identity, PROOF) as link:
            left.append(ask(link))
            await came(broker, 1)
        with pytest.raises(UnreachableError, match="closed"):
            await left[0]

    run_with_link(whole)


def test_a_link_that_was_closed_does_nothing_more(broker: SmallBroker) -> None:
    faults: list[object] = []

    async def whole() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, fault: faults.append(fault))
        async with Link(broker.identity, PROOF) as link:
            await ask(link)
            ask(link).cancel()
            asked = ask(link)
            await asyncio.sleep(0)  # it is to be sent in the loop's next turn
        with pytest.raises(UnreachableError, match="closed"):
            await asked
        with pytest.raises(UnreachableError, match="closed"):
            await ask(link)

    run_with_link(whole)
    assert faults == []


# --- junk


def junk_before(request: Request) -> Responses:
    """All kinds of messages that answer nothing, and then the answer."""
    envelope, header = request.envelope, pack_header(Acknowledged(GRANTED))
    other_id = bytes(16)
    return [
        [b""],
        [b"junk"],
        [b"junk", b"junk", b"junk", b"junk"],
        [bytes(len(envelope.encode())), header],
        [envelope.encode(), header, b"wrong"],  # a request, with this very id
        [Envelope(Kind.PROBE, Operation.PROBE, envelope.request_id).encode()],
        [Envelope(Kind.REPLY, Operation.FETCH, other_id, DEVICE).encode(), header, b"wrong"],
        [envelope.reply().encode()[:-1], header, b"wrong"],
        *granted(request),
    ]


def test_junk_is_ignored(broker: SmallBroker) -> None:
    broker.answer = junk_before

    async def work(link: Link) -> list[bytes]:
        return list(await asyncio.gather(*(ask(link, bytes([number])) for number in range(5))))

    assert over_link(broker, work) == [bytes([number]) for number in range(5)]


def test_an_answer_that_comes_too_late_is_ignored(broker: SmallBroker) -> None:
    broker.answer = nothing

    async def work(link: Link) -> bytes:
        late = ask(link, b"first", timeout=1.0)  # time to be sent, and not to be sent twice
        (first,) = await came(broker, 1)
        with pytest.raises(UnreachableError):
            await late
        task = ask(link, b"second")
        second = (await came(broker, 2))[1]
        broker.send(first, granted(first))
        broker.send(second, granted(second))
        return await task

    assert over_link(broker, work) == b"second"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([], id="no header"),
        pytest.param([b""], id="an empty header"),
        pytest.param([b"\xc1"], id="no msgpack"),
        pytest.param([pack_header(Empty())], id="no answer in it"),
        pytest.param([pack_header(Status(GRANTED, True))], id="another shape"),
        pytest.param([bytes(5000)], id="a header over the limit"),
        pytest.param([pack_header(Acknowledged(GRANTED)), b"", b""], id="a frame too many"),
    ],
)
def test_an_answer_of_the_wrong_form_is_an_error_for_its_request_and_no_other(
    broker: SmallBroker, answer: list[bytes]
) -> None:
    broker.answer = lambda request: (
        [[request.envelope.reply().encode(), *answer]] if request.payload == b"bad" else granted(request)
    )

    async def work(link: Link) -> None:
        bad, good = ask(link, b"bad"), ask(link, b"good")
        with pytest.raises(ProtocolError):
            await bad
        assert await good == b"good"

    over_link(broker, work)


# --- no broker for a while


def wait_said(caplog: pytest.LogCaptureFixture, words: str) -> None:
    end = time.monotonic() + PATIENCE
    while words not in caplog.text:
        assert time.monotonic() < end, caplog.text


def test_a_broker_away_for_longer_than_a_request_is_waited_for_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, broker: SmallBroker, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client_protocol, "WARN_AFTER", 0.5)
    broker.answer = nothing

    async def work(link: Link) -> bytes:
        task = ask(link, b"late", timeout=0.4)
        await came(broker, 1)
        broker.answer = granted
        broker.close_port()
        await asyncio.to_thread(wait_said, caplog, "no broker is reached; waiting for up to 120 s")
        assert not task.done()
        before = link.time()
        broker.cut_and_bind_anew()
        answer = await task
        assert link.time() - before < 0.4, "time without a broker is not counted"
        await asyncio.to_thread(wait_said, caplog, f"a broker is reached again, at tcp://127.0.0.1:{broker.port}")
        return answer

    assert over_link(broker, work) == b"late"


def test_where_no_broker_comes_back_all_ends_with_why(monkeypatch: pytest.MonkeyPatch, broker: SmallBroker) -> None:
    monkeypatch.setattr(client_protocol, "WARN_AFTER", 0.1)
    monkeypatch.setattr(client_protocol, "OUTAGE_TIMEOUT", 0.5)
    broker.answer = nothing

    async def work(link: Link) -> None:
        asked = [ask(link), ask(link)]
        await came(broker, 2)
        broker.close_port()
        why = "no broker was reached for 0.5 s: no answer from the broker at tcp://127.0.0.1"
        for error in await asyncio.gather(*asked, ask(link), return_exceptions=True):
            assert isinstance(error, UnreachableError) and str(error).startswith(why)
        lost_shares = NotEnoughError("0 of 5 shares")
        assert link.cause(lost_shares, "a.jpg").exit_code == UnreachableError.exit_code
        assert str(link.cause(lost_shares, "a.jpg")).startswith("a.jpg: no broker was reached for 0.5 s")
        raise lost_shares

    with pytest.raises(UnreachableError, match="no broker was reached"):
        run_with_link(partial(_over_reached, broker, work))


async def _over_reached(broker: SmallBroker, work: Callable[[Link], Awaitable[None]]) -> None:
    async with reached(Link(broker.identity, PROOF)) as link:
        await work(link)


def test_what_is_hurried_waits_for_no_broker(broker: SmallBroker) -> None:
    async def work(link: Link) -> None:
        await ask(link)
        broker.close_port()
        with pytest.raises(UnreachableError, match=r"within 0.3 s"):
            await ask(link, timeout=0.3, hurried=True)

    over_link(broker, work)
