"""From what was pasted or typed to an invite: faults are told before any search, and both forms let the same one in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from broker.rights import Standing
from common.discovery import search
from common.discovery.addresses import BrokerAddress
from common.errors import UnreachableError, UsageError
from common.link import joining
from common.link.joining import join, read_invite
from common.membership.identity import KeyPair
from common.membership.short_invite import ShortInvite
from common.protocol.operations import Role
from tests.support.running_broker import RunningBroker

Wanted = Callable[[BrokerAddress], bool]
LOOPBACK = ["127.0.0.1"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    running = RunningBroker(tmp_path / "broker")
    yield running
    running.stop()


def invited(broker: RunningBroker, role: Role) -> ShortInvite:
    """A short invite that the broker honours."""
    short = ShortInvite.generate(role, broker.pair.public)
    one_time = short.one_time(broker.pair.public).public
    broker.members.change(lambda members: members.invite(one_time, role, int(time.time())))
    return short


def announced(monkeypatch: pytest.MonkeyPatch, *brokers: BrokerAddress) -> None:
    """As if these were found on the LAN."""

    def find(wanted: Wanted, *_: Any) -> list[BrokerAddress]:
        return [broker for broker in brokers if wanted(broker)]

    monkeypatch.setattr(joining, "find", find)


def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(*_: Any) -> list[BrokerAddress]:
        raise AssertionError("it searched")

    monkeypatch.setattr(joining, "find", find)


def test_a_fault_and_another_role_are_told_before_any_search(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_search(monkeypatch)
    code = invited(broker, Role.WORKER).encode()
    with pytest.raises(UsageError, match="it has a typing error"):
        read_invite(code[:-1] + ("A" if code[-1] != "A" else "B"), Role.WORKER)
    with pytest.raises(UsageError, match="for a worker, not for a client"):
        read_invite(code, Role.CLIENT, Role.ADMIN)
    with pytest.raises(UsageError, match="for a client, not for a broker"):
        read_invite(broker.invite(Role.CLIENT).encode(), Role.BROKER)
    with pytest.raises(UsageError, match="not complete or has a typing error"):
        read_invite("tessera-client-aaaa", Role.CLIENT)


def test_a_whole_line_is_read_without_any_search(broker: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    no_search(monkeypatch)
    invite = broker.invite(Role.ADMIN)
    assert read_invite(f" {invite.encode()}\n", Role.CLIENT, Role.ADMIN) == invite


@pytest.mark.parametrize(("role", "standing"), [(Role.WORKER, Standing.WORKER), (Role.CLIENT, Standing.CLIENT)])
def test_a_joiner_with_the_code_is_let_in_by_the_broker_that_made_it(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch, role: Role, standing: Standing
) -> None:
    other = BrokerAddress("127.0.0.1", 1, 1, KeyPair.generate().public)
    announced(monkeypatch, other, broker.address)
    invite, permanent = read_invite(invited(broker, role).encode().lower(), role), KeyPair.generate()
    assert invite.brokers == [broker.address]
    assert join(invite, role, "newcomer", permanent).brokers == [broker.address]
    assert broker.standing(permanent.public) is standing


def test_an_announcement_that_lies_about_the_address_does_not_keep_a_joiner_out(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie = BrokerAddress("127.0.0.1", 1, 1, broker.pair.public)
    announced(monkeypatch, lie, broker.address)
    permanent = KeyPair.generate()
    joined = join(read_invite(invited(broker, Role.CLIENT).encode(), Role.CLIENT), Role.CLIENT, "laptop", permanent)
    assert joined.brokers == [broker.address], "the lie is not kept"
    assert broker.standing(permanent.public) is Standing.CLIENT


def test_a_broker_that_is_not_found_is_told_soon_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "FIND_TIMEOUT", 0.3)
    code = ShortInvite.generate(Role.CLIENT, bytes(range(32))).encode()
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="not found on the LAN") as caught:
        read_invite(code, Role.CLIENT, interfaces=LOOPBACK)
    assert "paste the whole line" in str(caught.value.advice)
    assert time.monotonic() - began < 3.0


def test_where_there_is_no_mdns_the_advice_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> None:
        raise UnreachableError("this machine cannot look for brokers on the LAN (mDNS): no")

    monkeypatch.setattr(search, "browse", refuse)
    with pytest.raises(UnreachableError, match="cannot look for brokers") as caught:
        read_invite(ShortInvite.generate(Role.CLIENT, bytes(32)).encode(), Role.CLIENT)
    assert "paste the whole line" in str(caught.value.advice)
