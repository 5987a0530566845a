"""What one client may have, whatever vaults it makes up: places, room, requests, vaults and the broker's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker import vault_origins
from broker.credit import CREDIT, REQUESTS, SESSIONS
from broker.overruns import MEMORY, ROOM, VAULTS
from broker.overruns import REQUESTS as REQUEST_LIMIT
from broker.reservations import IDLE_AFTER, MAX_PLACES
from broker.rights import Standing
from broker.vault_origins import MAX_VAULTS, VaultOrigins
from common.protocol.codec import MAX_PAYLOAD, pack
from common.protocol.device_messages import Open, ShareName
from common.protocol.envelope import Operation
from common.protocol.messages import (
    MAX_GRANTS,
    Acknowledged,
    AnnouncedShare,
    Answer,
    Code,
    Empty,
    GrantedTo,
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


# --- places and room


def test_two_made_up_vaults_leave_most_of_the_512_places_of_five_devices() -> None:
    cluster = Cluster()
    for number in (2, 3):
        client = cluster.as_vault(number)
        for device in cluster.devices:
            for each in range(256):
                opened(client, device, 1000 * number + each)
    for device in cluster.devices:
        assert opened(cluster.hostile, device, 9999) is Code.BUSY
        assert opened(cluster.honest, device, 9999) is Code.GRANTED
        taken = cluster.queries.storing._reservations._open[cluster.hostile.public_key, device.device]
        assert len(taken) == MAX_PLACES == 512 // 4
    assert cluster.limits_of(cluster.hostile) == [ROOM]
    assert cluster.limits_of(cluster.honest) == []


def test_36_made_up_openings_leave_half_of_the_room_of_each_device() -> None:
    cluster = Cluster(6)
    for device in cluster.devices:
        took = 0
        for number in range(2, 8):
            for size in (FREE, FREE // 2, FREE // 4):
                if opened(cluster.as_vault(number), device, 100 * number + size // MIB, size) is Code.GRANTED:
                    took += size
        assert took == FREE // 2
        assert opened(cluster.honest, device, 1, FREE // 4) is Code.GRANTED


def test_a_client_that_is_alone_in_the_cluster_may_take_all_the_room() -> None:
    broker = SampleBroker()
    device, client = broker.worker("nas"), broker.client()
    device.report(0, FREE)
    assert opened(client, device, 1, FREE) is Code.GRANTED


def test_what_is_stored_given_up_or_left_alone_holds_no_place() -> None:
    cluster = Cluster(1)
    (device,) = cluster.devices
    client, owner = cluster.hostile, vault(2).owner_id()
    for number in range(3):
        assert opened(client, device, number, FREE // 6) is Code.GRANTED
    assert opened(client, device, 9, FREE // 6) is Code.BUSY
    device.announce([share(0, 0, owner)])
    assert opened(client, device, 9, FREE // 6) is Code.GRANTED
    client.ask(Operation.ABANDON, ShareName(encoding(1), 0), device=device.device)
    assert opened(client, device, 10, FREE // 6) is Code.GRANTED
    assert opened(client, device, 11, FREE // 6) is Code.BUSY
    cluster.now += IDLE_AFTER + 1
    device.report(0, FREE)
    cluster.tick()
    assert opened(client, device, 11, FREE // 6) is Code.GRANTED


def test_what_its_device_refuses_takes_no_room() -> None:
    cluster = Cluster(1)
    (device,) = cluster.devices
    opening = Open(encoding(1), 0, 2, 3, MIB, FREE // 2)
    (request,) = requests(cluster.hostile.ask(Operation.OPEN, opening, device=device.device))
    assert opened(cluster.hostile, device, 2, FREE // 2) is Code.BUSY
    device.reply(request, Acknowledged(Answer(Code.NO_ROOM)))
    assert opened(cluster.hostile, device, 2, FREE // 2) is Code.GRANTED


def test_a_share_that_is_opened_again_counts_once() -> None:
    cluster = Cluster(1)
    for _ in range(3):
        assert opened(cluster.hostile, cluster.devices[0], 1, FREE // 2) is Code.GRANTED


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
