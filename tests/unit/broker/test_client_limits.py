"""What one client may have, whatever vaults it makes up: places, room, requests, vaults and the broker's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker import vault_origins
from broker.credit import CREDIT, REQUESTS, SESSIONS
from broker.overruns import MEMORY, VAULTS, room_on
from broker.overruns import REQUESTS as REQUEST_LIMIT
from broker.rights import Standing
from broker.vault_origins import MAX_VAULTS, VaultOrigins
from common.protocol.codec import MAX_PAYLOAD, pack, pack_header
from common.protocol.device_messages import Open, ShareName
from common.protocol.envelope import Envelope, Kind, Operation
from common.protocol.identifiers import NO_ACCOUNT, account_id
from common.protocol.messages import (
    MAX_GRANTS,
    AnnouncedShare,
    Code,
    Empty,
    GrantedTo,
    Message,
    Places,
    ToldTombstone,
)
from common.vault.keys import VaultKey
from tests.support.sample_broker import SampleBroker, SamplePeer, code, requests

MIB = 1 << 20
FREE = 1000 * MIB


def vault(number: int) -> VaultKey:
    return VaultKey(number.to_bytes(32, "big"))


def encoding(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Cluster(SampleBroker):
    """Devices with as much room, an honest client and one that makes up vaults."""

    def __init__(self, devices: int = 5, budget: int = 64 * MIB) -> None:
        super().__init__(budget=budget)
        self.devices = [self.worker(f"device-{number}") for number in range(devices)]
        for device in self.devices:
            device.report(0, FREE)
        self.honest = self.client(vault(1))
        self.hostile = self.client(vault(2))

    def as_vault(self, number: int) -> SamplePeer:
        """The hostile client once more, for another vault."""
        peer = self.hostile.reconnected()
        peer.hello(vault(number))
        return peer

    def limits_of(self, client: SamplePeer) -> list[str]:
        return [limit for key, limit in self.queries.overruns.current(self.now) if key == client.public_key]


def opened(client: SamplePeer, device: SamplePeer, number: int, size: int = 0) -> Code:
    """What comes of an OPEN; its device answers at once, or it would be over its credit."""
    messages = client.ask(Operation.OPEN, Open(encoding(number), 0, 2, 3, MIB, size), device=device.device)
    for request in requests(messages):
        device.reply(request)
        return Code.GRANTED
    return code(messages)


def share(number: int, index: int, owner: bytes, grants: int = 0) -> AnnouncedShare:
    granted = [GrantedTo(encoding(16 * number + each), bytes(32)) for each in range(grants)]
    return AnnouncedShare(encoding(number), index, number.to_bytes(32, "big"), owner, 2, 3, 100, grants=granted)


# --- room, which devices share between the accounts that brokers name


def envelope_of(client: SamplePeer, device: SamplePeer, operation: Operation, header: Message) -> Envelope:
    (request,) = requests(client.ask(operation, header, device=device.device))
    device.reply(request)
    return request.envelope


def opening(number: int) -> Open:
    return Open(encoding(number), 0, 2, 3, MIB, MIB)


def test_made_up_vaults_of_one_client_have_one_account_at_each_device() -> None:
    cluster = Cluster(2)
    one, other = cluster.devices
    accounts = {
        envelope_of(cluster.as_vault(number), one, Operation.OPEN, opening(number)).account for number in range(2, 8)
    }
    assert accounts == {account_id(cluster.hostile.public_key, one.device)}
    assert envelope_of(cluster.hostile, other, Operation.OPEN, opening(2)).account not in accounts
    asked = envelope_of(cluster.honest, one, Operation.OPEN, opening(1))
    assert asked.account == account_id(cluster.honest.public_key, one.device)
    assert asked.members == 2, "clients on the list"


def test_what_several_clients_store_for_one_vault_counts_for_who_brought_it() -> None:
    cluster = Cluster(1)
    (device,) = cluster.devices
    envelope_of(cluster.honest, device, Operation.OPEN, opening(1))
    phone = cluster.client(vault(1))
    for operation, header in ((Operation.OPEN, opening(2)), (Operation.PROGRESS, ShareName(encoding(1), 0))):
        asked = envelope_of(phone, device, operation, header)
        assert asked.account == account_id(cluster.honest.public_key, device.device)
    assert envelope_of(phone, device, Operation.ABANDON, ShareName(encoding(1), 0)).account == NO_ACCOUNT


def test_an_account_that_a_client_names_itself_reaches_no_device() -> None:
    cluster = Cluster(1)
    (device,) = cluster.devices
    peer = cluster.hostile
    claimed = account_id(cluster.honest.public_key, device.device)
    made = Envelope(Kind.REQUEST, Operation.OPEN, encoding(77), device.device, account=claimed, members=9)
    (passed,) = requests(peer.send(made.encode(), pack_header(opening(5))))
    assert passed.envelope.account == account_id(peer.public_key, device.device)


def test_whom_a_device_says_to_be_over_its_part_is_named_with_that_device() -> None:
    cluster = Cluster(1)
    (device,) = cluster.devices
    made_up = account_id(b"x" * 32, device.device)
    device.report(0, FREE, over=[account_id(cluster.hostile.public_key, device.device), made_up])
    assert cluster.limits_of(cluster.hostile) == [room_on("device-0")]
    assert cluster.limits_of(cluster.honest) == []


# --- requests


def test_many_sessions_of_one_client_have_a_quarter_of_all_credit() -> None:
    cluster = Cluster(1)
    (device,) = cluster.devices
    passed = 0
    for _ in range(20):
        client = cluster.as_vault(2)
        passed += sum(len(requests(client.fetch(device, MAX_PAYLOAD))) for _ in range(REQUESTS))
    assert passed * MAX_PAYLOAD == SESSIONS * CREDIT
    assert cluster.limits_of(cluster.hostile) == [REQUEST_LIMIT]
    assert requests(cluster.honest.fetch(device, MAX_PAYLOAD))


# --- vaults


def test_10000_made_up_retirements_leave_room_for_others() -> None:
    cluster = Cluster(1)
    answers = [code(cluster.as_vault(number).ask(Operation.RETIRE_OWNER, Empty())) for number in range(10, 210)]
    assert answers.count(Code.GRANTED) == MAX_VAULTS
    assert cluster.limits_of(cluster.hostile) == [VAULTS]
    assert len(cluster.members.members.retired_owners) == MAX_VAULTS
    assert code(cluster.honest.ask(Operation.RETIRE_OWNER, Empty())) is Code.GRANTED


def test_a_client_stores_for_no_more_vaults_than_it_may_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_origins, "MAX_VAULTS", 3)
    cluster = Cluster(2)
    for number in range(10, 13):
        client = cluster.as_vault(number)
        assert opened(client, cluster.devices[0], number) is Code.GRANTED
        for index, device in enumerate(cluster.devices):
            device.announce([share(number, index, vault(number).owner_id())])
    assert opened(cluster.as_vault(13), cluster.devices[0], 13) is Code.NO_ROOM
    for index, device in enumerate(cluster.devices):
        cluster.queries.catalog.withdraw(device.device, [(encoding(10), index)])
    assert opened(cluster.as_vault(13), cluster.devices[0], 13) is Code.GRANTED, "what is empty makes way"


def test_who_brought_a_vault_outlives_the_broker(tmp_path: Path) -> None:
    path = tmp_path / "vaults.json"

    def bring(origins: VaultOrigins, owner: bytes, client: bytes, *, gone: bytes = b"") -> None:
        assert origins.bring(owner, client, is_member=lambda key: key != gone, in_use=lambda _: True)

    alice, bob, nobody = (bytes([number]) * 32 for number in (1, 2, 3))
    origins = VaultOrigins(path)
    bring(origins, encoding(1), alice)
    bring(origins, encoding(1), bob)
    bring(origins, encoding(2), bob)
    origins.save()
    again = VaultOrigins(path)
    assert again.brought_by(alice) == {encoding(1)}
    assert again.brought_by(bob) == {encoding(2)}
    assert again.brought_by(nobody) == set()
    bring(again, encoding(1), bob, gone=alice)
    assert again.brought_by(bob) == {encoding(1), encoding(2)}
    path.write_text("{]")
    assert VaultOrigins(path).clients() == []


# --- the broker's memory


def test_20000_encodings_with_16_grants_of_one_client_stop_before_the_memory_does() -> None:
    budget = 2 * MIB
    cluster = Cluster(3, budget)
    owner, stored = vault(2).owner_id(), 0
    for number in range(20_000):
        if not requests(cluster.hostile.ask(Operation.STORE, Empty(), b"", device=cluster.devices[0].device)):
            break
        for entry in list(cluster.switchboard._ledger._entries.values()):
            cluster.switchboard._ledger.leave(entry.session, entry.request_id)
        for index, device in enumerate(cluster.devices):
            device.announce([share(number, index, owner, MAX_GRANTS)])
        stored += 1
        if number % 20 == 0:
            cluster.tick()
    assert 100 < stored < 1000, "2 MiB are for some hundred of these"
    assert cluster.queries.catalog.budget.total < budget
    assert not cluster.queries.catalog.cut_off, "no device has to pay for it"
    assert MEMORY in cluster.limits_of(cluster.hostile)
    assert requests(cluster.honest.ask(Operation.STORE, Empty(), b"", device=cluster.devices[0].device))
    assert code(cluster.hostile.ask(Operation.PLACES, Places(1, 1), pack([encoding(1)]))) is Code.NO_ROOM
    assert cluster.admit(Standing.CLIENT, "another").hello(vault(9)).answer.granted


def test_what_one_client_stores_and_deletes_without_end_stops_before_the_memory_does() -> None:
    budget = 8 * MIB
    cluster = Cluster(3, budget)
    key, deleted = vault(2), 0
    for number in range(20_000):
        if not requests(cluster.hostile.ask(Operation.STORE, Empty(), b"", device=cluster.devices[0].device)):
            break
        for entry in list(cluster.switchboard._ledger._entries.values()):
            cluster.switchboard._ledger.leave(entry.session, entry.request_id)
        tombstone = ToldTombstone(key.tombstone(number.to_bytes(32, "big"), encoding(number), 1, 0), 0, 9)
        for device in cluster.devices:
            cluster.queries.catalog.add_tombstones(device.device, [tombstone], cluster.today)
        deleted += 1
        if number % 20 == 0:
            cluster.tick()
    assert 1000 < deleted < 7000, "8 MiB are for 7,489 of these"
    assert cluster.queries.catalog.budget.total < budget
    assert not cluster.queries.catalog.cut_off, "no device has to pay for it"
    assert MEMORY in cluster.limits_of(cluster.hostile)
    assert requests(cluster.honest.ask(Operation.STORE, Empty(), b"", device=cluster.devices[0].device))
