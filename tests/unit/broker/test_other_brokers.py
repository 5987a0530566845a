"""Brokers of one cluster: what one is told of its members, all of them soon know, with real sockets between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from broker.members import MAX_SYNCED, Address, Member, MemberList, MembersFile, take_up
from broker.rights import Standing
from common.errors import ProtocolError, RefusedError, UsageError
from common.link.joining import join
from common.membership.identity import KeyPair
from common.protocol.codec import MAX_PAYLOAD, pack
from common.protocol.messages import GRANTED, Code
from common.protocol.operations import Role
from tests.support.running_broker import PATIENCE, RunningBroker

NOW = 1_800_000_000
SOON = 10.0  # seconds, in which all brokers that are connected know of a change; two, where a disk is not slow


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.01)


class Two:
    """A broker, and a second one that joined its cluster."""

    def __init__(self, folder: Path) -> None:
        self.first = RunningBroker(folder / "first")
        self.second = RunningBroker(folder / "second", self.first.invite(Role.BROKER))
        wait_until(lambda: self.lists_agree)

    @property
    def lists_agree(self) -> bool:
        lists = []
        for broker in (self.first, self.second):
            broker.members.refresh()
            lists.append(sorted(broker.members.members.all(), key=lambda member: member.public_key))
        return lists[0] == lists[1]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    pair = Two(tmp_path_factory.mktemp("two"))
    yield pair
    pair.first.stop()
    pair.second.stop()


def test_a_broker_that_joined_has_the_whole_list_and_each_knows_where_the_other_is(two: Two) -> None:
    for broker in (two.first, two.second):
        assert broker.members.members.brokers() == {
            each.pair.public: Address("127.0.0.1", each.address.client_port, each.address.worker_port)
            for each in (two.first, two.second)
        }


@pytest.mark.parametrize("role", [Role.WORKER, Role.CLIENT])
def test_an_invite_of_one_is_honoured_by_the_other(two: Two, role: Role) -> None:
    invite, permanent = two.first.invite(role), KeyPair.generate()
    wait_until(lambda: two.second.standing(invite.one_time.public) is not None, SOON)
    invite.brokers[:] = [two.second.address]
    assert join(invite, role, f"a {role.value}", permanent).name == f"a {role.value}"
    wait_until(lambda: two.first.standing(permanent.public) is not None, SOON)
    wait_until(lambda: two.lists_agree, SOON)


def test_a_revocation_at_one_bites_at_the_other(two: Two) -> None:
    permanent = KeyPair.generate()
    name = join(two.first.invite(Role.CLIENT), Role.CLIENT, "laptop", permanent).name
    wait_until(lambda: two.second.standing(permanent.public) is Standing.CLIENT, SOON)
    two.second.revoke(name)
    wait_until(lambda: two.first.standing(permanent.public) is None, SOON)
    assert two.first.members.members.revoked(permanent.public)


def test_a_broker_that_was_away_learns_of_changes_when_it_returns(two: Two) -> None:
    revoked, admitted = KeyPair.generate(), KeyPair.generate()
    name = join(two.first.invite(Role.WORKER), Role.WORKER, "nas", revoked).name
    wait_until(lambda: two.second.standing(revoked.public) is Standing.WORKER, SOON)
    two.second.stop()
    two.first.revoke(name)
    join(two.first.invite(Role.WORKER), Role.WORKER, "new", admitted)
    assert two.second.standing(revoked.public) is Standing.WORKER
    two.second.start()
    wait_until(lambda: two.second.standing(revoked.public) is None)
    wait_until(lambda: two.second.standing(admitted.public) is Standing.WORKER)
    wait_until(lambda: two.lists_agree)


def test_a_list_of_more_members_than_one_message_has_arrives_whole(two: Two) -> None:
    many = [Member(f"{number:064x}", Standing.CLIENT, f"c{number}", NOW) for number in range(MAX_SYNCED + 500)]
    two.first.members.change(lambda members: members.merge(many, NOW))
    wait_until(lambda: two.lists_agree)
    assert len(two.second.members.members.all()) > len(many)


def test_a_broker_that_is_revoked_ends_and_is_let_in_again_by_a_new_invite(tmp_path: Path) -> None:
    two = Two(tmp_path)
    try:
        (name,) = [m.name for m in two.first.members.members.all() if m.public_key == two.second.pair.public.hex()]
        two.first.revoke(name)
        two.second.thread.join(PATIENCE)
        assert isinstance(two.second.ended_by, RefusedError)
        assert two.first.members.members.brokers().keys() == {two.first.pair.public}
        with pytest.raises(RefusedError, match="revoked"):
            two.second.start()
        two.second.start(two.first.invite(Role.BROKER))
        wait_until(lambda: two.lists_agree)
        assert two.first.members.members.brokers().keys() == {two.first.pair.public, two.second.pair.public}
    finally:
        two.first.stop()
        two.second.stop()


def test_a_broker_with_members_of_its_own_does_not_join_another_cluster(two: Two, tmp_path: Path) -> None:
    own = RunningBroker(tmp_path)
    own.stop()
    join_later = two.first.invite(Role.BROKER)
    own.members.change(lambda members: members.merge([Member("1" * 64, Standing.CLIENT, "laptop", NOW)], NOW))
    own.pair = KeyPair.generate()
    with pytest.raises(UsageError, match="a cluster of its own"):
        RunningBroker(tmp_path, join_later)


# --- what comes is checked


def unlimited(**changes: object) -> bytes:
    fields = {"public_key": "1" * 64, "standing": "worker", "name": "nas", "added": NOW, **changes}
    return pack([fields])


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc1", id="no msgpack"),
        pytest.param(pack([5]), id="numbers"),
        pytest.param(unlimited(public_key="12"), id="a short key"),
        pytest.param(unlimited(public_key="G" * 64), id="a key that is not hexadecimal"),
        pytest.param(unlimited(standing="king"), id="a standing that there is not"),
        pytest.param(unlimited(name="n" * 101), id="a name without end"),
        pytest.param(unlimited(added=-1), id="a time before all times"),
        pytest.param(unlimited(revision=1 << 60), id="a revision without end"),
        pytest.param(unlimited(address={"host": "", "client_port": 1, "worker_port": 1}), id="no host"),
        pytest.param(unlimited(address={"host": "h", "client_port": 0, "worker_port": 1}), id="no port"),
        pytest.param(pack([Member("1" * 64, Standing.WORKER, "", NOW)] * (MAX_SYNCED + 1)), id="too many members"),
        pytest.param(bytes(MAX_PAYLOAD + 1), id="too many bytes"),
    ],
)
def test_what_is_no_list_of_members_is_refused_and_changes_nothing(tmp_path: Path, payload: bytes) -> None:
    file = MembersFile(tmp_path)
    with pytest.raises(ProtocolError):
        take_up(file, memoryview(payload), NOW)
    assert not (tmp_path / "members.json").exists()


def test_what_a_list_says_is_on_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    members = [Member("1" * 64, Standing.WORKER, "nas", NOW), Member("2" * 64, Standing.REVOKED, "pi", NOW, NOW + 1)]
    assert take_up(MembersFile(tmp_path), memoryview(pack(members)), NOW) == GRANTED
    assert MembersFile(tmp_path).members.all() == members


def test_a_list_that_cannot_be_written_is_not_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MembersFile(tmp_path)

    def refuse(action: Callable[[MemberList], object]) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(file, "change", refuse)
    assert take_up(file, memoryview(pack([])), NOW).code is Code.FAULT


def test_the_largest_page_of_members_fits_into_a_message() -> None:
    largest = Member(
        "f" * 64,
        Standing.INVITED_BROKER,
        "\U0001f5bc" * 100,
        2**53 - 1,
        2**53 - 1,
        "f" * 64,
        Address("\U0001f5bc" * 255, 65535, 65535),
        2**53 - 1,
    )
    assert len(pack([largest] * MAX_SYNCED)) <= MAX_PAYLOAD
