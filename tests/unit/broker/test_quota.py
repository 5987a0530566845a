"""What one vault may have in the whole cluster, and one device at the broker."""

from __future__ import annotations

import pytest

from broker import catalog as catalog_module
from broker.catalog import Catalog
from broker.queries import Queries
from broker.quota import OwnerQuota
from common.protocol.codec import pack, pack_header
from common.protocol.device_messages import Open
from common.protocol.envelope import Operation
from common.protocol.messages import AnnouncedShare, Code, Places
from common.vault.keys import VaultKey
from tests.support.sample_broker import STARTED, SampleBroker, SamplePeer, code, requests

KEY, OTHER_KEY = VaultKey(b"t" * 32), VaultKey(b"u" * 32)
VAULT = KEY.owner_id()
MIB = 1 << 20
QUOTA = 10 * MIB


class QuotaBroker(SampleBroker):
    """A broker that gives each vault 10 MiB."""

    def __init__(self) -> None:
        super().__init__()
        self.queries._quota = OwnerQuota(self.queries.catalog, QUOTA)


def share(number: int, size: int, key: VaultKey = KEY) -> AnnouncedShare:
    return AnnouncedShare(number.to_bytes(16, "big"), 0, b"o" * 32, key.owner_id(), 2, 3, size)


def open_share(client: SamplePeer, device: SamplePeer, size: int) -> Code:
    opening = Open(b"n" * 16, 1, 2, 3, MIB, size)
    messages = client.ask(Operation.OPEN, opening, device=device.device)
    return Code.GRANTED if requests(messages) else code(messages)


@pytest.mark.parametrize(("size", "answer"), [(MIB, Code.GRANTED), (MIB + 1, Code.NO_ROOM), (0, Code.GRANTED)])
def test_a_put_that_would_go_over_the_quota_opens_no_share(size: int, answer: Code) -> None:
    broker = QuotaBroker()
    device, client = broker.worker("nas", [share(1, QUOTA - MIB)]), broker.client(KEY)
    assert open_share(client, device, size) is answer
    placed = client.ask(Operation.PLACES, Places(1, size), pack([b"n" * 16]))
    assert code(placed) is answer


def test_whole_shares_count_with_what_they_carry() -> None:
    broker = QuotaBroker()
    device, client = broker.worker("nas", [share(1, QUOTA - 100)]), broker.client(KEY)
    for size, passes in ((100, True), (101, False)):
        messages = client.ask(Operation.STORE, Places(1, 0), b"x" * size, device=device.device, credit=size)
        assert bool(requests(messages)) is passes


def test_a_full_quota_stops_a_put_of_unknown_length_and_no_other_vault() -> None:
    broker = QuotaBroker()
    device = broker.worker("nas", [share(1, QUOTA)])
    assert open_share(broker.client(KEY), device, 0) is Code.NO_ROOM
    assert open_share(broker.client(OTHER_KEY), device, MIB) is Code.GRANTED


def test_what_was_given_up_counts_no_more() -> None:
    broker = QuotaBroker()
    device, client = broker.worker("nas", [share(1, QUOTA)]), broker.client(KEY)
    broker.queries.catalog.withdraw(device.device, [(share(1, QUOTA).encoding_id, 0)])
    assert broker.queries.catalog.bytes_of(VAULT) == 0
    assert open_share(client, device, MIB) is Code.GRANTED


def test_a_malformed_opening_is_left_to_the_device() -> None:
    broker = QuotaBroker()
    device, client = broker.worker("nas"), broker.client(KEY)
    assert requests(client.ask(Operation.OPEN, Places(1, 0), device=device.device))
    assert (
        pack_header(Places(1, 0)) == requests(client.ask(Operation.OPEN, Places(1, 0), device=device.device))[0].header
    )


def test_without_a_quota_a_vault_has_what_it_likes() -> None:
    broker = SampleBroker()
    assert Queries(broker.members, STARTED, lambda: 0)._quota.refusal(VAULT, 1 << 60) is None


def test_a_device_that_announces_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "MAX_SHARES_ON_A_DEVICE", 10)
    catalog = Catalog()
    catalog.announce(b"d" * 16, [share(number, 1) for number in range(100)])
    assert catalog.shares_on(b"d" * 16) == 10
    catalog.announce(b"d" * 16, [share(3, 2)])  # what it says anew of what it has is heard
    assert catalog.bytes_of(VAULT) == 11
    catalog.announce(b"e" * 16, [share(50, 1)])
    assert catalog.shares_on(b"e" * 16) == 1
