"""A client whose broker has another address by now finds it by its key, and nobody who only claims to be it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Callable

import pytest

from common.discovery.addresses import BrokerAddress
from common.errors import UnreachableError
from common.link import client_protocol
from common.link import link as link_module
from common.link.link import Link
from common.membership.identity import ClientIdentity, KeyPair, load_brokers
from tests.support.small_broker import PATIENCE, SmallBroker, ask, ask_and_wait, over_link
from tests.support.turning_away import TurningAway


class Lan:
    """In place of a search: what is announced there."""

    def __init__(self) -> None:
        self.announced: list[BrokerAddress] = []
        self.searches: list[set[bytes]] = []
        self.fault = False

    async def browse(self, found: Callable[[BrokerAddress], None], keys: Collection[bytes]) -> None:
        self.searches.append(set(keys))
        if self.fault:
            raise UnreachableError("no mDNS here")
        for broker in self.announced:
            found(broker)
        await asyncio.sleep(PATIENCE)


@pytest.fixture
def lan(monkeypatch: pytest.MonkeyPatch) -> Lan:
    made = Lan()
    monkeypatch.setattr(link_module, "browse", made.browse)
    monkeypatch.setattr(client_protocol, "is_loopback", lambda _: False)
    monkeypatch.setattr(client_protocol, "SEARCH_AFTER", 0.2)
    monkeypatch.setattr(client_protocol, "FAILOVER_TIMEOUT", 0.4)
    return made


@pytest.fixture
def broker() -> Iterator[SmallBroker]:
    running = SmallBroker()
    yield running
    running.stop()


@pytest.fixture
def liar() -> Iterator[TurningAway]:
    running = TurningAway()
    yield running
    running.close()


def former(broker: SmallBroker) -> BrokerAddress:
    """Where it is known to be, and nobody is."""
    return BrokerAddress("127.0.0.1", 1, 1, broker.pair.public)


def kept(path: Path, expected: list[BrokerAddress]) -> bool:
    return path.exists() and load_brokers(path) == expected


def test_a_broker_that_moved_is_found_and_known_there_the_next_time(
    lan: Lan, broker: SmallBroker, tmp_path: Path
) -> None:
    lan.announced = [broker.address]
    brokers_file = tmp_path / "brokers.json"
    identity = ClientIdentity(broker.client, [former(broker)], brokers_file)

    async def work(link: Link) -> bytes:
        answer = await ask(link, b"found")
        end = time.monotonic() + PATIENCE
        while not kept(brokers_file, [broker.address]):
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        return answer

    assert over_link(broker, work, identity) == b"found"
    assert lan.searches == [{broker.pair.public}]


def test_where_the_broker_is_at_its_place_nobody_looks_for_it(
    lan: Lan, broker: SmallBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_protocol, "SEARCH_AFTER", 1.0)  # longer than a handshake takes on a busy machine

    async def work(link: Link) -> bytes:
        await asyncio.sleep(2 * client_protocol.SEARCH_AFTER)
        return await ask(link, b"there")

    assert over_link(broker, work) == b"there"
    assert lan.searches == []


def test_a_session_that_is_lost_goes_on_where_the_broker_is_found(lan: Lan, broker: SmallBroker) -> None:
    def move() -> None:
        broker.close_port()
        before, broker.port = broker.port, 0
        broker.cut_and_bind_anew()
        assert broker.port != before
        lan.announced = [broker.address]

    async def work(link: Link) -> bytes:
        await ask(link)
        await asyncio.get_running_loop().run_in_executor(None, move)
        return await ask(link, b"again")

    assert over_link(broker, work) == b"again"


def test_who_announces_the_brokers_key_and_turns_us_away_refuses_nothing(
    lan: Lan, broker: SmallBroker, liar: TurningAway
) -> None:
    lan.announced = [broker.address, liar.posing_as(broker.pair.public)]  # the one found last is tried first
    identity = ClientIdentity(broker.client, [former(broker)])
    assert over_link(broker, lambda link: ask_and_wait(link, b"found"), identity) == b"found"


def test_where_only_a_liar_is_found_the_failure_is_as_without_and_no_later(
    lan: Lan, broker: SmallBroker, liar: TurningAway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_protocol, "CONNECT_TIMEOUT", 2.0)
    lan.announced = [liar.posing_as(broker.pair.public)]
    identity = ClientIdentity(broker.client, [former(broker)])
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"no answer from the broker at tcp://127\.0\.0\.1:1"):
        over_link(broker, lambda link: ask_and_wait(link, b""), identity)
    assert time.monotonic() - began < 4.0
    assert liar.asked == 1


@pytest.mark.parametrize("fault", [True, False])
def test_where_nothing_is_found_the_failure_is_as_without_and_no_later(
    lan: Lan, broker: SmallBroker, monkeypatch: pytest.MonkeyPatch, fault: bool
) -> None:
    monkeypatch.setattr(client_protocol, "CONNECT_TIMEOUT", 1.0)
    lan.fault = fault
    lan.announced = [BrokerAddress("127.0.0.1", broker.port, broker.port, KeyPair.generate().public)]
    identity = ClientIdentity(broker.client, [former(broker)])
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="no answer from the broker"):
        over_link(broker, lambda link: ask_and_wait(link, b""), identity)
    assert time.monotonic() - began < 3.0
    assert broker.greetings == []
