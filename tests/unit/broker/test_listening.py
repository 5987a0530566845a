"""Where a broker listens, and where others are told that it is: from its options, and the interfaces as they are."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from broker import listening, server
from broker.listening import Listening, load, parse_listening_host, save
from broker.members import Address, MembersFile
from broker.own_entry import OwnEntry, enter_self
from broker.server import bind
from common.discovery.addresses import Interface, interfaces
from common.discovery.announcement import host_of
from common.errors import UsageError
from common.link.sockets import make_router
from common.membership.identity import KeyPair

PAIR = KeyPair.from_secret(bytes(range(32)))
EVERY_IPV4 = "0.0.0.0"  # noqa: S104 - that is what is tested
ELSEWHERE = "192.0.2.77"  # RFC 5737


@pytest.fixture
def router() -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield make_router(context, PAIR, "clients")
    context.destroy(linger=0)


def at(host: str, **more: object) -> Listening:
    return Listening(host, 5570, 5571, **more)  # type: ignore[arg-type]


def bound_port(router: zmq.Socket[bytes]) -> int:
    return int(str(router.get_string(zmq.LAST_ENDPOINT)).rpartition(":")[2])


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 5.0).close()
    except OSError:
        return False
    return True


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "ipv4", "ipv6"),
    [
        ("*", True, True),
        ("::", True, True),
        (EVERY_IPV4, True, False),
        ("127.0.0.1", True, False),
        ("[::1]", False, True),
        ("::1", False, True),
    ],
)
def test_it_listens_by_ipv4_and_ipv6_unless_one_is_chosen(
    router: zmq.Socket[bytes], host: str, ipv4: bool, ipv6: bool
) -> None:
    bind(router, at(parse_listening_host(host)), 0)
    port = bound_port(router)
    assert (answers("127.0.0.1", port), answers("::1", port)) == (ipv4, ipv6)


def test_a_name_and_an_interface_are_listened_at(router: zmq.Socket[bytes]) -> None:
    bind(router, at(parse_listening_host("localhost")), 0)
    assert answers("127.0.0.1", bound_port(router)) or answers("::1", bound_port(router))
    loopback = next(each for each in interfaces() if "127.0.0.1" in each.addresses).names[0]
    assert "127.0.0.1" in at(parse_listening_host(loopback)).bound()


def test_a_name_with_an_address_that_is_not_there_is_listened_at_by_the_others(
    router: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As localhost where IPv6 is off, and an interface whose address has not settled."""
    monkeypatch.setattr(listening, "interfaces", lambda: [Interface(["eth9"], [ELSEWHERE, "127.0.0.1"])])
    bind(router, at("eth9"), 0)
    assert answers("127.0.0.1", bound_port(router))


@pytest.mark.parametrize("host", ["*", "127.0.0.1"])
def test_a_port_that_is_taken_is_named(router: zmq.Socket[bytes], host: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"at port {port} of .*: another broker or another program") as caught:
            bind(router, at(host), port)
    assert "--client-port" in str(caught.value.advice)


@pytest.mark.parametrize("host", [ELSEWHERE, "2001:db8::77"])
def test_an_address_of_another_machine_is_told_to_be_that(router: zmq.Socket[bytes], host: str) -> None:
    with pytest.raises(UsageError, match=f"{host}: that is no address of this machine") as caught:
        bind(router, at(host), 0)
    assert "leave --host out" in str(caught.value.advice)


def test_a_port_that_is_not_this_accounts_is_told_to_be_that(
    router: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise zmq.ZMQError(13, "Permission denied")

    monkeypatch.setattr(zmq.Socket, "bind", lambda _, where: refuse(where))
    with pytest.raises(UsageError, match="port 80 of this machine: this account may not"):
        bind(router, at("*"), 80)


def test_a_name_that_nobody_knows_is_told_to_be_that(router: zmq.Socket[bytes]) -> None:
    with pytest.raises(UsageError, match="no name that it knows"):
        bind(router, at(parse_listening_host("no-such-host.invalid")), 0)


# --- where others reach it


def test_what_listens_everywhere_is_reached_and_announced_at_all_interfaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening, "own_addresses", lambda: [ELSEWHERE, "10.0.0.7", "fe80::7%eth0"])
    for host in ("*", "::", EVERY_IPV4):
        assert at(host).reached_at() == [ELSEWHERE, "10.0.0.7", "fe80::7%eth0"]
        assert at(host).announced_at() == [ELSEWHERE, "10.0.0.7"]
    monkeypatch.setattr(listening, "own_addresses", list)
    assert at("*").reached_at() == at("*").announced_at() == []


def test_what_listens_at_one_address_is_reached_there_and_what_was_said_comes_first() -> None:
    assert at(ELSEWHERE).reached_at() == at(ELSEWHERE).announced_at() == [ELSEWHERE]
    assert at("*", address="broker.lan").reached_at() == ["broker.lan"]


def test_what_listens_at_an_interface_is_reached_at_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        listening,
        "interfaces",
        lambda: [Interface(["eth9"], [ELSEWHERE, "fe80::7%eth9"]), Interface(["e"], ["10.1.1.1"])],
    )
    assert at("eth9").reached_at() == [ELSEWHERE]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "no-such-host.invalid"])
def test_nothing_is_announced_where_no_other_machine_reaches_it(host: str) -> None:
    assert at(host).announced_at() == []


def test_the_lists_entry_stays_while_it_holds_and_is_named_while_there_is_no_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here: list[str] = []
    monkeypatch.setattr(listening, "own_addresses", lambda: here)
    assert at("*").entry(PAIR.public) == Address(host_of(PAIR.public), 5570, 5571)
    here[:] = ["10.0.0.7", "10.0.1.7"]
    assert at("*").entry(PAIR.public).host == "10.0.0.7"
    assert at("*").entry(PAIR.public, Address("10.0.1.7", 1, 2)) == Address("10.0.1.7", 5570, 5571)
    assert at("*").entry(PAIR.public, Address("10.0.9.9", 1, 2)).host == "10.0.0.7"


def test_a_broker_that_gets_an_address_says_so_on_its_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here: list[str] = []
    monkeypatch.setattr(listening, "own_addresses", lambda: here)
    members = MembersFile(tmp_path)
    enter_self(members, PAIR, at("*").entry(PAIR.public), 0)
    entry = OwnEntry(members, PAIR, at("*"))
    entry.tick(0.0)
    here.append("10.0.0.7")
    entry.tick(1.0)
    assert members.members.brokers()[PAIR.public].host == host_of(PAIR.public), "it looks now and then"
    entry.tick(10.0)
    assert members.members.brokers()[PAIR.public].host == "10.0.0.7"


# --- what the commands know of the broker that serves


def test_how_a_broker_is_served_is_read_back(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    for served in (at("*", announced=True), at("fe80::1%eth0", address="broker.lan")):
        save(tmp_path, served)
        assert load(tmp_path) == served


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b'{"host": "", "client_port": 0, "worker_port": 1}', b"\xff" * 9]
)
def test_a_damaged_record_counts_for_none(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "serving.json").write_bytes(content)
    assert load(tmp_path) is None
    assert "serving.json is damaged" in caplog.text


def test_the_advice_names_the_addresses_that_there_are(
    router: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "own_addresses", lambda: ["10.0.0.7"])
    with pytest.raises(UsageError) as caught:
        bind(router, at(ELSEWHERE), 0)
    assert "it has 10.0.0.7" in str(caught.value.advice)
