"""Several brokers: a client goes on with the next when one is lost, in the middle of what it does."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.discovery.addresses import BrokerAddress
from common.errors import RefusedError, UnreachableError
from common.link import client_protocol
from common.link.link import Link
from common.membership.identity import ClientIdentity, load_brokers
from common.protocol.codec import pack_header
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.messages import Acknowledged, Answer, Code, KnownBroker, Welcome
from tests.support.small_broker import PATIENCE, SmallBroker, ask, ask_and_wait, came, granted, nothing, over_link


class Pair:
    """Two brokers that admit one client, which prefers the first."""

    def __init__(self) -> None:
        self.first, self.second = SmallBroker(), SmallBroker()
        self.second.admitted.add(self.first.client.public)

    @property
    def identity(self) -> ClientIdentity:
        return ClientIdentity(self.first.client, [self.first.address, self.second.address])


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.first.stop()
    pair.second.stop()


@pytest.fixture
def nowhere() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def in_thread(action: object) -> None:
    assert callable(action)
    await asyncio.get_running_loop().run_in_executor(None, action)


def test_what_has_no_answer_is_sent_to_the_next_broker_under_the_same_id(pair: Pair) -> None:
    pair.first.answer = nothing

    async def work(link: Link) -> list[bytes]:
        tasks = [ask(link, bytes([number])) for number in range(5)]
        await came(pair.first, 5)
        await in_thread(pair.first.stop)
        answers = list(await asyncio.gather(*tasks))
        assert link.address == f"tcp://127.0.0.1:{pair.second.port}"
        return answers

    assert over_link(pair.first, work, pair.identity) == [bytes([number]) for number in range(5)]
    asked, again = ({r.envelope.request_id for r in broker.requests} for broker in (pair.first, pair.second))
    assert asked == again
    assert len(pair.second.greetings) == 1, "it says hello there first"


def test_what_is_asked_while_no_broker_is_in_use_is_answered_by_the_next(pair: Pair) -> None:
    async def work(link: Link) -> list[bytes]:
        await ask(link)
        await in_thread(pair.first.stop)
        return list(await asyncio.gather(*(ask(link, bytes([number])) for number in range(30))))

    assert over_link(pair.first, work, pair.identity) == [bytes([number]) for number in range(30)]


def test_a_broker_that_is_back_at_once_is_used_further(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    monkeypatch.setattr(client_protocol, "FAILOVER_TIMEOUT", 20.0)
    pair.first.answer = nothing

    async def work(link: Link) -> bytes:
        task = ask(link, b"payload")
        await came(pair.first, 1)
        pair.first.answer = granted
        await in_thread(pair.first.cut_and_bind_anew)
        return await task

    assert over_link(pair.first, work, pair.identity) == b"payload"
    assert pair.second.greetings == []


def test_brokers_are_tried_in_turn_until_one_is_back(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    monkeypatch.setattr(client_protocol, "FAILOVER_TIMEOUT", 0.3)
    pair.second.admitted.clear()

    async def work(link: Link) -> bytes:
        await ask(link)
        pair.first.close_port()
        task = ask(link, b"payload")
        await in_thread(lambda: pair.second.wait_for(lambda: pair.second.refused >= 3))
        await in_thread(pair.first.cut_and_bind_anew)
        return await task

    assert over_link(pair.first, work, pair.identity) == b"payload"
    assert len(pair.first.greetings) >= 2  # once more for each time that the answer took longer than that


def test_where_none_of_the_brokers_answers_any_more_all_ends_in_the_end(
    monkeypatch: pytest.MonkeyPatch, pair: Pair
) -> None:
    monkeypatch.setattr(client_protocol, "OUTAGE_TIMEOUT", 4.0)

    async def work(link: Link) -> None:
        pair.first.close_port()
        pair.second.close_port()
        with pytest.raises(UnreachableError, match="no broker was reached for 4 s"):
            await ask(link, timeout=1.0)

    over_link(pair.first, work, pair.identity)


# --- refusals


def test_whom_one_broker_does_not_admit_another_may(pair: Pair) -> None:
    pair.first.admitted.clear()
    assert over_link(pair.first, lambda link: ask_and_wait(link, b"found"), pair.identity) == b"found"


def test_whom_no_broker_admits_is_told_at_once(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    monkeypatch.setattr(client_protocol, "CONNECT_TIMEOUT", 1000.0)  # it must not be waited for
    pair.first.admitted.clear()
    pair.second.admitted.clear()
    with pytest.raises(RefusedError, match="does not admit this machine"):
        over_link(pair.first, lambda link: ask_and_wait(link, b""), pair.identity)


def test_whom_one_does_not_admit_while_the_other_is_away_is_told_so(
    monkeypatch: pytest.MonkeyPatch, pair: Pair, nowhere: int
) -> None:
    monkeypatch.setattr(client_protocol, "CONNECT_TIMEOUT", 2.0)
    pair.second.admitted.clear()
    away = BrokerAddress("127.0.0.1", nowhere, 1, pair.first.pair.public)
    identity = ClientIdentity(pair.first.client, [away, pair.second.address])
    with pytest.raises(RefusedError, match=f"{pair.second.port} does not admit this machine"):
        over_link(pair.second, lambda link: ask_and_wait(link, b""), identity)


def test_whoever_is_revoked_by_all_while_connected_is_told(pair: Pair) -> None:
    pair.first.answer = nothing

    async def work(link: Link) -> None:
        task = ask(link)
        (request,) = await came(pair.first, 1)
        pair.first.admitted.clear()
        pair.second.admitted.clear()
        farewell = Envelope(Kind.REPLY, Operation.PROBE, bytes(16))
        pair.first.send(request, [[farewell.encode(), pack_header(Acknowledged(Answer(Code.NOT_ALLOWED)))]])
        with pytest.raises(RefusedError, match="does not admit this machine"):
            await task
        with pytest.raises(RefusedError):
            await ask(link)

    over_link(pair.first, work, pair.identity)
    assert pair.second.refused == 1


def test_a_broker_of_another_version_is_passed_over(pair: Pair) -> None:
    pair.first.welcome = Welcome(Answer(Code.MALFORMED))
    assert over_link(pair.first, lambda link: ask_and_wait(link, b"found"), pair.identity) == b"found"


def test_an_address_that_is_none_is_passed_over(pair: Pair) -> None:
    none = BrokerAddress("no host: at all", 5570, 5571, pair.first.pair.public)
    identity = ClientIdentity(pair.first.client, [none, pair.second.address])
    assert over_link(pair.second, lambda link: ask_and_wait(link, b"found"), identity) == b"found"


# --- told of others


def test_a_broker_that_the_first_tells_of_is_used_when_the_first_is_lost(pair: Pair, tmp_path: Path) -> None:
    pair.first.brokers = [pair.first.known, pair.second.known]
    brokers_file = tmp_path / "brokers.json"
    identity = ClientIdentity(pair.first.client, [pair.first.address], brokers_file)

    async def work(link: Link) -> bytes:
        await in_thread(lambda: wait_for_file(brokers_file))
        await in_thread(pair.first.stop)
        return await ask(link, b"payload")

    assert over_link(pair.first, work, identity) == b"payload"
    assert [request.payload for request in pair.second.requests] == [b"payload"]


def wait_for_file(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_was_told_is_known_the_next_time_the_broker_in_use_first(pair: Pair, tmp_path: Path) -> None:
    pair.second.brokers = [pair.first.known, pair.second.known]
    pair.first.admitted.clear()
    brokers_file = tmp_path / "brokers.json"
    identity = ClientIdentity(pair.first.client, [pair.first.address, pair.second.address], brokers_file)
    over_link(pair.first, lambda link: in_thread(lambda: wait_for_file(brokers_file)), identity)
    assert load_brokers(brokers_file) == [pair.second.address, pair.first.address]


@pytest.mark.parametrize("named", ["none", "itself", "junk"])
def test_where_nothing_new_is_told_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, pair: Pair, tmp_path: Path, named: str
) -> None:
    monkeypatch.setattr(client_protocol, "BROKERS_PERIOD", 0.01)
    moved = KnownBroker("elsewhere.lan", 1, 1, pair.first.pair.public)
    lists = {"none": [], "itself": [moved], "junk": [KnownBroker("", 0, -1, b"short")]}
    pair.first.brokers = lists[named]
    identity = ClientIdentity(pair.first.client, [pair.first.address], tmp_path / "brokers.json")

    async def work(link: Link) -> bytes:
        await in_thread(lambda: pair.first.wait_for(lambda: pair.first.told >= 3))
        return await ask(link, b"payload")

    assert over_link(pair.first, work, identity) == b"payload"
    assert list(tmp_path.iterdir()) == []
