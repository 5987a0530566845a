"""A device that numbers what it announces tells a broker only what that one does not know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

import pytest

from broker.catalog import in_memory
from broker.catalog_rows import Storage
from broker.devices import SETTLE
from common.protocol.announcements import MODULUS, digest_of
from common.protocol.codec import pack
from common.protocol.device_messages import ShareName
from common.protocol.envelope import Operation
from common.protocol.messages import (
    PROTOCOL_VERSION,
    Acknowledged,
    Announce,
    AnnouncedShare,
    Code,
    KnownUpTo,
    Register,
    Registered,
    Withdraw,
    shares_at_hand,
)
from common.vault.keys import VaultKey
from tests.support.sample_broker import ROOM, SampleBroker, SamplePeer, answer, code

KEY = VaultKey(b"t" * 32)
EPOCH, NEXT_EPOCH = b"e" * 16, b"f" * 16


def share(number: int) -> AnnouncedShare:
    object_id = bytes([number]) * 32
    return AnnouncedShare(object_id[:16], 0, object_id, KEY.owner_id(), 2, 3, 1000)


def digest(*numbers: int) -> bytes:
    return (sum(digest_of(share(number)) for number in numbers) % MODULUS).to_bytes(16, "big")


def register(device: SamplePeer, epoch: Optional[bytes] = EPOCH) -> Optional[KnownUpTo]:
    header = Register(PROTOCOL_VERSION, ROOM, 0, ROOM, epoch=epoch)
    return answer(device.ask(Operation.REGISTER, header)[:1], Registered).known


def announce(device: SamplePeer, numbers: Iterable[int], sequence: int, digest: Optional[bytes] = None) -> Code:
    header = Announce(digest is not None, EPOCH, sequence, digest)
    return code(device.ask(Operation.ANNOUNCE, header, pack([share(number) for number in numbers])))


def known_objects(broker: SampleBroker) -> set[int]:
    return {each.object_id[0] for each in broker.client(KEY).objects() if shares_at_hand(each)}


@pytest.fixture
def storage() -> Storage:
    return Storage(in_memory(), 1 << 30)


def restarted(storage: Storage, before: Optional[SampleBroker] = None) -> SampleBroker:
    broker = SampleBroker(members=before.members if before is not None else None, storage=storage)
    broker.now += SETTLE
    return broker


def again(device: SamplePeer, broker: SampleBroker) -> SamplePeer:
    """The same device at another broker, or with another connection."""
    return SamplePeer(broker, device.side, device.public_key)


def first(broker: SampleBroker) -> SamplePeer:
    """A device whose two shares the broker has learned, as its numbers 1 and 2."""
    device = broker.worker("nas")
    broker.switchboard.forget(broker.switchboard._devices[device.device])
    device = again(device, broker)
    assert register(device) is None, "nothing is known yet"
    assert announce(device, [1], 1) is Code.GRANTED
    assert announce(device, [2], 2, digest(1, 2)) is Code.GRANTED
    return device


def test_a_broker_started_anew_asks_only_for_what_came_since(storage: Storage) -> None:
    old = restarted(storage)
    device = first(old)
    old.queries.catalog.commit()
    broker = restarted(storage, old)
    device = again(device, broker)
    assert register(device) == KnownUpTo(EPOCH, 2, digest(1, 2))
    assert known_objects(broker) == set(), "the device has yet to say that this is all"
    names = [ShareName(share(1).encoding_id, 0)]
    assert code(device.ask(Operation.WITHDRAW, Withdraw(EPOCH, 3), pack(names))) is Code.GRANTED
    assert announce(device, [3], 4, digest(2, 3)) is Code.GRANTED
    assert known_objects(broker) == {2, 3}


def test_where_both_do_not_agree_everything_is_announced_anew(storage: Storage) -> None:
    broker = restarted(storage)
    device = first(broker)
    broker.switchboard.forget(broker.switchboard._devices[device.device])
    device = again(device, broker)
    assert register(device) is not None
    assert announce(device, [], 2, digest(2, 3)) is Code.NO_SESSION
    assert register(again(device, broker)) is None


def test_of_another_epoch_nothing_is_known(storage: Storage) -> None:
    broker = restarted(storage)
    device = first(broker)
    for epoch in (NEXT_EPOCH, None, EPOCH):
        broker.switchboard.forget(broker.switchboard._devices[device.device])
        device = again(device, broker)
        assert register(device, epoch) is None, "since the last one left what is known in doubt"


def test_of_a_device_without_epoch_what_it_does_not_name_goes(storage: Storage) -> None:
    broker = restarted(storage)
    device = first(broker)
    broker.switchboard.forget(broker.switchboard._devices[device.device])
    device = again(device, broker)
    header = Register(PROTOCOL_VERSION, ROOM, 0, ROOM)
    assert answer(device.ask(Operation.REGISTER, header)[:1], Acknowledged).answer.granted
    assert device.announce([share(2)]) is Code.GRANTED
    assert known_objects(broker) == {2}


def test_what_was_not_announced_to_the_end_is_not_known(storage: Storage) -> None:
    old = restarted(storage)
    device = first(old)
    old.switchboard.forget(old.switchboard._devices[device.device])
    device = again(device, old)
    register(device, NEXT_EPOCH)
    device.ask(Operation.ANNOUNCE, Announce(False, NEXT_EPOCH, 9), pack([share(3)]))
    old.queries.catalog.commit()
    broker = restarted(storage, old)
    assert register(again(device, broker), NEXT_EPOCH) is None


def test_a_device_of_which_not_all_is_remembered_is_not_asked_without_end(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.catalog.MAX_SHARES_ON_A_DEVICE", 1)
    broker = restarted(storage)
    device = first(broker)
    assert broker.queries.catalog.shares_on(device.device) == 1
