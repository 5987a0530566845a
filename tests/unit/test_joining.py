"""Joining: an invite is traded for a permanent place, with a real broker behind real sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.members import MembersFile
from broker.rights import Standing
from broker.server import Listening, Server
from broker.steward.steward import Settings
from cluster.ports import find_base_port
from common import joining
from common.errors import RefusedError, UnreachableError, UsageError
from common.identity import KeyPair
from common.invite import INVITE_LIFETIME, BrokerAddress, Invite, Role
from common.joining import join


class RunningBroker:
    def __init__(self, folder: Path, port: int) -> None:
        pair = KeyPair.generate()
        self.members = MembersFile(folder)
        self.address = BrokerAddress("127.0.0.1", port, port + 1, pair.public)
        self._server = Server(Listening("127.0.0.1", port, port + 1), pair, MembersFile(folder), Settings())
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._server.serve, args=(self._stopping,))
        self._thread.start()

    def invite(self, role: Role, age: int = 0) -> Invite:
        one_time = KeyPair.generate()
        self.members.change(lambda members: members.invite(one_time.public, role, int(time.time()) - age))
        return Invite(role, self.address, one_time)

    def standing(self, key: bytes) -> Standing | None:
        self.members.refresh()
        member = self.members.members.find(key, int(time.time()))
        return None if member is None else member.standing

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._server.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    running = RunningBroker(tmp_path_factory.mktemp("broker"), find_base_port())
    yield running
    running.stop()


@pytest.mark.parametrize(("role", "standing"), [(Role.WORKER, Standing.WORKER), (Role.CLIENT, Standing.CLIENT)])
def test_a_joiner_is_admitted_under_its_name_and_again_with_the_same_answer(
    broker: RunningBroker, role: Role, standing: Standing
) -> None:
    invite, permanent = broker.invite(role), KeyPair.generate()
    assert join(invite, role, f"a {role.value}", permanent) == f"a {role.value}"
    assert join(invite, role, f"a {role.value}", permanent) == f"a {role.value}"
    assert broker.standing(permanent.public) is standing


def test_a_name_that_is_taken_gets_a_number(broker: RunningBroker) -> None:
    names = [join(broker.invite(Role.WORKER), Role.WORKER, "写真 nas", KeyPair.generate()) for _ in range(2)]
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
    monkeypatch.setattr(joining, "PATIENCE", 0.5)
    invite = broker.invite(Role.WORKER)
    address = BrokerAddress("127.0.0.1", 1, 1, broker.address.public_key)
    if fault == "another broker answers there":
        address = BrokerAddress("127.0.0.1", broker.address.client_port, broker.address.worker_port, b"x" * 32)
    with pytest.raises(UnreachableError, match=address.endpoint(Role.WORKER)):
        join(replace(invite, broker=address), Role.WORKER, "nas", KeyPair.generate())
