"""Joining: an invite is traded for a permanent place, with a real broker behind real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

from broker.members import INVITE_LIFETIME, Address
from broker.rights import Standing
from common.discovery.addresses import BrokerAddress
from common.errors import RefusedError, UnreachableError, UsageError
from common.link import joining
from common.link.joining import join
from common.membership.identity import KeyPair
from common.protocol.messages import ReachedAt
from common.protocol.operations import Role
from tests.support.running_broker import RunningBroker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    running = RunningBroker(tmp_path_factory.mktemp("broker"))
    yield running
    running.stop()


@pytest.mark.parametrize(("role", "standing"), [(Role.WORKER, Standing.WORKER), (Role.CLIENT, Standing.CLIENT)])
def test_a_joiner_is_admitted_under_its_name_and_again_with_the_same_answer(
    broker: RunningBroker, role: Role, standing: Standing
) -> None:
    invite, permanent = broker.invite(role), KeyPair.generate()
    assert join(invite, role, f"a {role.value}", permanent).name == f"a {role.value}"
    assert join(invite, role, f"a {role.value}", permanent).name == f"a {role.value}"
    assert broker.standing(permanent.public) is standing


def test_a_broker_is_admitted_with_the_address_that_others_reach_it_at(broker: RunningBroker) -> None:
    permanent = KeyPair.generate()
    assert (
        join(broker.invite(Role.BROKER), Role.BROKER, "broker-b", permanent, ReachedAt("b.lan", 1, 2)).name
        == "broker-b"
    )
    assert broker.standing(permanent.public) is Standing.BROKER
    assert broker.members.members.brokers()[permanent.public] == Address("b.lan", 1, 2)


@pytest.mark.parametrize(("role", "reached_at"), [(Role.BROKER, None), (Role.WORKER, ReachedAt("b.lan", 1, 2))])
def test_a_broker_and_nobody_else_says_where_it_is_reached(
    broker: RunningBroker, role: Role, reached_at: Optional[ReachedAt]
) -> None:
    permanent = KeyPair.generate()
    with pytest.raises(RefusedError, match="a broker, and nobody else"):
        join(broker.invite(role), role, "odd", permanent, reached_at)
    assert broker.standing(permanent.public) is None


def test_where_one_broker_is_away_or_does_not_know_the_invite_the_next_is_asked(
    broker: RunningBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "TIMEOUT", 3.0)
    away = BrokerAddress("127.0.0.1", 1, 1, b"x" * 32)
    unknowing = RunningBroker(tmp_path)
    try:
        invite = broker.invite(Role.CLIENT)
        others = [away, BrokerAddress("no host: at all", 1, 1, b"x" * 32), unknowing.address]
        name = join(replace(invite, brokers=[*others, broker.address]), Role.CLIENT, "tablet", KeyPair.generate()).name
        assert name == "tablet"
        with pytest.raises(RefusedError, match="over or was withdrawn"):
            join(replace(invite, brokers=others), Role.CLIENT, "tablet", KeyPair.generate())
    finally:
        unknowing.stop()


def test_an_invite_that_one_broker_knows_to_be_used_is_not_shown_to_another(
    broker: RunningBroker, tmp_path: Path
) -> None:
    """The other may not have heard of it yet."""
    behind = RunningBroker(tmp_path)
    try:
        invite, permanent = broker.invite(Role.WORKER), KeyPair.generate()
        behind.members.change(lambda members: members.merge(broker.members.members.all(), int(time.time())))
        join(invite, Role.WORKER, "nas", KeyPair.generate())
        with pytest.raises(RefusedError, match="has been used"):
            join(replace(invite, brokers=[broker.address, behind.address]), Role.WORKER, "nas", permanent)
        assert behind.standing(permanent.public) is None
    finally:
        behind.stop()


def test_a_name_that_is_taken_gets_a_number(broker: RunningBroker) -> None:
    names = [join(broker.invite(Role.WORKER), Role.WORKER, "写真 nas", KeyPair.generate()).name for _ in range(2)]
    assert names == ["写真 nas", "写真 nas-2"]


def test_an_invite_for_the_other_role_is_refused_before_anything_is_sent(broker: RunningBroker) -> None:
    permanent = KeyPair.generate()
    with pytest.raises(UsageError, match="for a worker, not for a client"):
        join(broker.invite(Role.WORKER), Role.CLIENT, "laptop", permanent)
    assert broker.standing(permanent.public) is None


def test_an_invite_that_was_used_is_refused(broker: RunningBroker) -> None:
    invite, other = broker.invite(Role.CLIENT), KeyPair.generate()
    join(invite, Role.CLIENT, "laptop", KeyPair.generate())
    with pytest.raises(RefusedError, match="has been used") as refusal:
        join(invite, Role.CLIENT, "laptop", other)
    assert "invite" in str(refusal.value.advice)
    assert broker.standing(other.public) is None


@pytest.mark.parametrize("made", ["by nobody", "an hour ago"])
def test_an_invite_that_the_broker_does_not_know_any_longer_is_refused(broker: RunningBroker, made: str) -> None:
    invite = broker.invite(Role.WORKER, age=INVITE_LIFETIME)
    if made == "by nobody":
        invite = replace(invite, one_time=KeyPair.generate())
    with pytest.raises(RefusedError, match="over or was withdrawn"):
        join(invite, Role.WORKER, "nas", KeyPair.generate())


@pytest.mark.parametrize("fault", ["another broker answers there", "nobody listens there"])
def test_where_the_broker_does_not_answer_the_address_is_named(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(joining, "TIMEOUT", 0.5)
    invite = broker.invite(Role.WORKER)
    address = BrokerAddress("127.0.0.1", 1, 1, broker.address.public_key)
    if fault == "another broker answers there":
        address = BrokerAddress("127.0.0.1", broker.address.client_port, broker.address.worker_port, b"x" * 32)
    with pytest.raises(UnreachableError, match=address.endpoint(Role.WORKER)):
        join(replace(invite, brokers=[address]), Role.WORKER, "nas", KeyPair.generate())
