"""The search and the announcer, with real mDNS on the loopback interface: what is announced is found, and no more."""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from zeroconf import ServiceInfo, Zeroconf

from broker import mdns
from broker.listening import Listening
from broker.mdns import Responder
from common import files
from common.discovery import search
from common.discovery.addresses import BrokerAddress
from common.discovery.announcement import MAX_FOUND, SERVICE, Announcement
from common.discovery.search import Search, browse, find
from common.errors import UnreachableError
from tests import ROOT

LOOPBACK = ["127.0.0.1"]
ELSEWHERE = "192.0.2.77"  # RFC 5737
SOON = 30.0  # seconds


def announced(
    zeroconf: Zeroconf, said: Announcement, address: str = ELSEWHERE, *, quietly: bool = False, **changed: Any
) -> None:
    """Have something announced by whoever has this responder."""
    properties = {**said.properties(), **changed}
    info = ServiceInfo(
        SERVICE,
        said.instance,
        port=1,
        addresses=[socket.inet_aton(address)],
        properties=properties,
        server=said.host,
    )
    if quietly:  # answers who asks, and nothing before
        zeroconf.registry.async_add(info)
    else:
        zeroconf.register_service(info, cooperating_responders=True)


def fresh() -> Announcement:
    return Announcement(5570, 5571, secrets.token_bytes(32))


def at(said: Announcement, address: str = ELSEWHERE) -> BrokerAddress:
    return BrokerAddress(address, said.client_port, said.worker_port, said.public_key)


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """No other run's announcements: all runs on a machine share its loopback interface, and a search is bounded."""
    with files.lock(Path(tempfile.gettempdir(), "tessera-tests-mdns.lock"), wait=True):
        yield


@pytest.fixture
def lan(alone: None) -> Iterator[Zeroconf]:
    """Another machine, as it were."""
    try:
        responder = Zeroconf(interfaces=LOOPBACK)
    except OSError as error:
        pytest.skip(f"no mDNS here: {error}")
    yield responder
    responder.close()


def test_a_broker_is_found_and_among_others_the_one_that_is_wanted(lan: Zeroconf) -> None:
    wanted, other = fresh(), fresh()
    announced(lan, other)
    announced(lan, wanted)
    found = find(lambda broker: broker.public_key == wanted.public_key, SOON, 0.1, LOOPBACK)
    assert found == [at(wanted)]


def test_a_search_for_keys_gives_those_only_and_ends_in_time(lan: Zeroconf) -> None:
    wanted, other = fresh(), fresh()
    announced(lan, other)
    announced(lan, wanted)
    search = Search(5.0, [wanted.public_key], LOOPBACK)
    found: list[BrokerAddress] = []
    end = time.monotonic() + SOON
    while not search.ended:
        assert time.monotonic() < end
        broker = search.next(0.1)
        if broker is not None:
            found.append(broker)
    assert found == [at(wanted)]
    assert search.next() is None


def test_a_broker_that_comes_later_is_found_when_it_comes_also_in_another_round(
    lan: Zeroconf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "ROUND", 2.0)  # a record is multicast once a second (RFC 6762, section 6)
    first, second = fresh(), fresh()
    announced(lan, first)

    async def both() -> list[BrokerAddress]:
        came: asyncio.Queue[BrokerAddress] = asyncio.Queue()
        task = asyncio.get_running_loop().create_task(
            browse(came.put_nowait, [first.public_key, second.public_key], LOOPBACK)
        )
        found = [await asyncio.wait_for(came.get(), SOON)]
        await asyncio.get_running_loop().run_in_executor(None, announced, lan, second)
        found.append(await asyncio.wait_for(came.get(), SOON))
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        return found

    assert asyncio.run(both()) == [at(first), at(second)]


def test_a_search_that_is_closed_ends(lan: Zeroconf) -> None:
    search = Search(1000.0, interfaces=LOOPBACK)
    search.close()
    end = time.monotonic() + SOON
    while not search.ended:
        assert time.monotonic() < end
        search.next(0.05)
    assert search.fault is None


def test_hostile_announcements_are_passed_over_and_of_many_a_few_are_given(lan: Zeroconf) -> None:
    liars = [fresh() for _ in range(MAX_FOUND + 30)]
    for said in liars:
        announced(lan, said, quietly=True)
    bad: list[dict[str, Any]] = [
        {"k": "00"},
        {"c": "0"},
        {"w": "70000"},
        {"v": "9"},
        {"k": "x" * 250},
        {"z" * 200: b"\xff" * 40},
    ]
    odd = [fresh() for _ in bad]
    for said, changed in zip(odd, bad):
        announced(lan, said, quietly=True, **changed)
    here = fresh()
    announced(lan, here, "127.0.0.1", quietly=True)
    found = find(lambda _: True, SOON, 2.0, LOOPBACK)
    refused = {said.public_key for said in [*odd[:5], here]}
    assert 0 < len(found) <= MAX_FOUND
    assert not refused & {broker.public_key for broker in found}


def test_where_mdns_cannot_be_had_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import zeroconf.asyncio

    def refuse(**_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(zeroconf.asyncio, "AsyncZeroconf", refuse)
    with pytest.raises(UnreachableError, match="Operation not permitted"):
        asyncio.run(browse(lambda _: None, interfaces=LOOPBACK))
    with pytest.raises(UnreachableError, match="cannot look for brokers on the LAN"):
        find(lambda _: True, SOON, 0.1, LOOPBACK)


# --- the announcer


def test_a_responder_announces_and_follows_a_changed_address(lan: Zeroconf, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Zeroconf
    monkeypatch.setattr("zeroconf.Zeroconf", lambda interfaces: real(interfaces=LOOPBACK))
    said = fresh()
    responder = Responder(said)
    try:
        for address in (ELSEWHERE, "192.0.2.78"):
            responder.announce_at([address])
            found = find(lambda broker, host=address: broker == at(said, host), SOON, 0.1, LOOPBACK)  # type: ignore[misc]
            assert found == [at(said, address)]
        responder.announce_at([])
        assert find(lambda broker: broker.public_key == said.public_key, 1.0, 0.1, LOOPBACK) == []
    finally:
        responder.close()


def test_a_machine_without_mdns_says_so_once_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("zeroconf.Zeroconf", refuse)
    responder = Responder(fresh())
    for _ in range(3):
        responder.announce_at([ELSEWHERE])
    responder.announce_at([])
    responder.announce_at([ELSEWHERE])
    assert [record.getMessage() for record in caplog.records] == [
        "the broker cannot be announced on the LAN (mDNS): [Errno 98] Address already in use; invites work all the same"
    ]


def test_the_announcers_process_ends_with_the_pipe_of_the_broker() -> None:
    command = [sys.executable, "-m", "broker.mdns", "127.0.0.1", "1", "2", "00" * 32]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(SOON) == 0


def test_the_announcer_looks_again_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the network comes up late."""
    stopping, asked = threading.Event(), []
    monkeypatch.setattr(mdns, "_LOOK_EVERY", 0.01)

    def announced_at(listening: Listening) -> list[str]:
        asked.append(listening.host)
        if len(asked) == 3:
            stopping.set()
        return []

    monkeypatch.setattr(Listening, "announced_at", announced_at)
    mdns.announce(fresh(), Listening("*", 5570, 5571), stopping)
    assert asked == ["*"] * 3
