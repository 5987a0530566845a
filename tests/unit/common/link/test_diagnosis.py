"""Why a broker is not reached, told apart: by a joiner and by a client, for each address that they tried."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
import zmq

from common.discovery.addresses import BrokerAddress
from common.errors import UnreachableError
from common.link import client_protocol, diagnosis, joining
from common.link.joining import join
from common.link.link import Link, run_with_link
from common.membership.identity import ClientIdentity, KeyPair
from common.membership.invite import Invite
from common.protocol.operations import Role
from tests.support.running_broker import RunningBroker

KEY = bytes(range(32))
OTHER_KEY = "something answers there, but not with the broker's key"
MUTE = "something takes the connection there and says nothing"
Behaviour = Callable[[socket.socket], Any]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    running = RunningBroker(tmp_path_factory.mktemp("broker"))
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "TIMEOUT", 0.8)
    monkeypatch.setattr(client_protocol, "CONNECT_TIMEOUT", 0.8)


@contextlib.contextmanager
def service(behave: Behaviour) -> Iterator[int]:
    """A service on loopback that does this with each connection; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    behave(connection)

        kept: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        for connection in kept:
            connection.close()


def talk_http(connection: socket.socket) -> None:
    connection.recv(64)
    connection.sendall(b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nBad request\r\n" * 3)
    connection.close()


def talk_ssh(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")


def told_to_joiner(*brokers: BrokerAddress) -> str:
    invite = Invite(Role.CLIENT, list(brokers), KeyPair.generate())
    with pytest.raises(UnreachableError) as caught:
        join(invite, Role.CLIENT, "laptop", KeyPair.generate(), interfaces=["127.0.0.1"])
    return str(caught.value)


def told_to_client(broker: BrokerAddress) -> str:
    async def connect() -> None:
        async with Link(ClientIdentity(KeyPair.generate(), [broker]), None):
            raise AssertionError("it has a session")

    with pytest.raises(UnreachableError) as caught:
        run_with_link(connect)
    return str(caught.value)


told = pytest.mark.parametrize("told", [told_to_joiner, told_to_client])


def at(port: int, host: str = "127.0.0.1") -> BrokerAddress:
    return BrokerAddress(host, port, port, KEY)


@told
def test_a_broker_with_another_key_is_told_to_be_that(broker: RunningBroker, told: Callable[..., str]) -> None:
    port = broker.address.client_port
    assert told(at(port)) == f"no answer from the broker at tcp://127.0.0.1:{port} ({OTHER_KEY})"


@told
@pytest.mark.parametrize("behave", [socket.socket.close, talk_http, talk_ssh])
def test_another_service_is_told_not_to_have_the_brokers_key(behave: Behaviour, told: Callable[..., str]) -> None:
    with service(behave) as port:
        assert OTHER_KEY in told(at(port))


@told
def test_zeromq_without_keys_is_told_not_to_have_the_brokers_key(told: Callable[..., str]) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    try:
        assert OTHER_KEY in told(at(port))
    finally:
        context.destroy(linger=0)


@told
def test_what_takes_connections_and_is_mute_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, told: Callable[..., str]
) -> None:
    monkeypatch.setattr(joining, "TIMEOUT", 2.6)  # libzmq waits 2 s for a handshake
    monkeypatch.setattr(client_protocol, "CONNECT_TIMEOUT", 2.6)
    with service(lambda _: None) as port:
        assert MUTE in told(at(port))


@told
def test_where_nothing_listens_that_is_told(told: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "(nothing listens there: " in told(at(port))


@told
def test_a_name_that_nobody_knows_is_told_to_be_that(told: Callable[..., str]) -> None:
    said = told(at(5570, "no-such-host.invalid"))
    assert "tcp://no-such-host.invalid:5570 (that name is not known here)" in said


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(101, "Network is unreachable"), "there is no way there from this machine"),
        (OSError(113, "No route to host"), "there is no way there from this machine"),
        (TimeoutError(), "no answer: it is off, in another network, or a firewall is in the way"),
    ],
)
def test_no_way_and_no_answer_are_told_apart(monkeypatch: pytest.MonkeyPatch, error: OSError, why: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert str(diagnosis.diagnose([at(5570)], Role.CLIENT, {})).endswith(f"tcp://127.0.0.1:5570 ({why})")


def test_each_address_has_its_reason(broker: RunningBroker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = at(free.getsockname()[1])
    impostor = at(broker.address.client_port)
    said = told_to_joiner(nobody, impostor)
    assert f"{nobody.endpoint(Role.CLIENT)} (nothing listens there" in said
    assert f"{impostor.endpoint(Role.CLIENT)} ({OTHER_KEY})" in said


# --- an address that fails is looked for


def test_a_broker_that_is_not_where_its_invite_says_is_found_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = RunningBroker(tmp_path)
    lie = replace_address(running.address, 1)

    class Found:
        """As if these were found on the LAN, one after the other."""

        def __init__(self, seconds: float, keys: set[bytes], interfaces: object) -> None:
            assert keys == {running.pair.public}
            self._left = [lie, running.address]

        def next(self) -> Optional[BrokerAddress]:
            return self._left.pop(0) if self._left else None

        def close(self) -> None:
            self._left.clear()

    monkeypatch.setattr(joining, "Search", Found)
    monkeypatch.setattr(joining, "TIMEOUT", 8.0)
    monkeypatch.setattr(joining, "_LOOK_AFTER", 0.1)
    try:
        invite = replace(running.invite(Role.CLIENT), brokers=[replace_address(running.address, 2)])
        joined = join(invite, Role.CLIENT, "laptop", KeyPair.generate(), interfaces=["127.0.0.1"])
        assert joined.brokers == [running.address], "neither the invite's address nor the lie is kept"
    finally:
        running.stop()


def replace_address(broker: BrokerAddress, port: int) -> BrokerAddress:
    return BrokerAddress(broker.host, port, port, broker.public_key)
