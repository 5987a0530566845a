"""What one vault may have in the whole cluster, and one device at the broker."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from broker import catalog as catalog_module
from broker.catalog import Catalog
from broker.overruns import BYTES
from broker.rights import Standing
from common.protocol.codec import pack, pack_header
from common.protocol.device_messages import Open
from common.protocol.envelope import Operation
from common.protocol.messages import PROTOCOL_VERSION, AnnouncedShare, Code, Hello, Placed, Places
from common.vault.keys import VaultKey
from tests.support.sample_broker import SampleBroker, SamplePeer, answer, code, requests

KEY, OTHER_KEY = VaultKey(b"t" * 32), VaultKey(b"u" * 32)
VAULT = KEY.owner_id()
MIB = 1 << 20
QUOTA = 10 * MIB


def share(number: int, size: int, key: VaultKey = KEY, index: int = 0) -> AnnouncedShare:
    return AnnouncedShare(number.to_bytes(16, "big"), index, b"o" * 32, key.owner_id(), 2, 3, size)


class QuotaBroker(SampleBroker):
    """A broker that gives each vault 10 MiB, and two devices that each have half of what one has."""

    def __init__(self, has: int = 0, key: VaultKey = KEY) -> None:
        super().__init__(owner_quota=QUOTA)
        self.nas, self.attic = self.worker("nas"), self.worker("attic")
        self.store(1, has, key)

    def store(self, number: int, size: int, key: VaultKey) -> None:
        for index, device in enumerate((self.nas, self.attic)):
            device.announce([share(number, size // 2, key, index)])


def open_share(client: SamplePeer, device: SamplePeer, size: int) -> Code:
    opening = Open(b"n" * 16, 1, 2, 3, MIB, size)
    messages = client.ask(Operation.OPEN, opening, device=device.device)
    return Code.GRANTED if requests(messages) else code(messages)


@pytest.mark.parametrize(("size", "answer"), [(MIB, Code.GRANTED), (MIB + 1, Code.NO_ROOM), (0, Code.GRANTED)])
def test_a_put_that_would_go_over_the_quota_opens_no_share(size: int, answer: Code) -> None:
    broker = QuotaBroker(QUOTA - MIB)
    client = broker.client(KEY)
    assert open_share(client, broker.nas, size) is answer
    placed = client.ask(Operation.PLACES, Places(1, size), pack([b"n" * 16]))
    assert code(placed) is answer


def test_whole_shares_count_with_what_they_carry() -> None:
    broker = QuotaBroker(QUOTA - 100)
    client = broker.client(KEY)
    for size, passes in ((100, True), (101, False)):
        messages = client.ask(Operation.STORE, Places(1, 0), b"x" * size, device=broker.nas.device, credit=size)
        assert bool(requests(messages)) is passes


def test_a_full_quota_stops_a_put_of_unknown_length_and_no_other_vault() -> None:
    broker = QuotaBroker(QUOTA)
    assert open_share(broker.client(KEY), broker.nas, 0) is Code.NO_ROOM
    assert open_share(broker.client(OTHER_KEY), broker.nas, MIB) is Code.GRANTED


def test_what_is_left_for_a_vault_counts_for_who_left_it() -> None:
    """A vault whose quota is used up can be left something, and who has left much learns nothing of the vault's."""
    broker = QuotaBroker(QUOTA)
    camera = broker.admit(Standing.CLIENT, "camera")
    camera.ask(Operation.HELLO, Hello(PROTOCOL_VERSION, OTHER_KEY.owner_proof(camera.public_key), KEY.owner_key()))

    def refused() -> str:
        return answer(camera.ask(Operation.PLACES, Places(1, 1), pack([b"n" * 16])), Placed).answer.text

    assert refused() == ""
    left = replace(share(7, QUOTA), depositor=OTHER_KEY.owner_id())
    for index, device in enumerate((broker.nas, broker.attic)):
        device.announce([replace(left, share=index)])
    assert f"has {2 * QUOTA} bytes" in refused()
    assert broker.queries.catalog.bytes_of(VAULT) == QUOTA


def test_what_was_given_up_counts_no_more() -> None:
    broker = QuotaBroker(QUOTA)
    for index, device in enumerate((broker.nas, broker.attic)):
        broker.queries.catalog.withdraw(device.device, [(share(1, QUOTA).encoding_id, index)])
    assert broker.queries.catalog.bytes_of(VAULT) == 0
    assert open_share(broker.client(KEY), broker.nas, MIB) is Code.GRANTED


def test_shares_of_100_mb_that_one_device_makes_up_use_up_nobody_s_quota() -> None:
    broker = QuotaBroker(MIB)
    liar = broker.worker("liar", [share(number, 100 * MIB) for number in range(2, 9)])
    assert broker.queries.catalog.bytes_of(VAULT) <= 2 * MIB
    assert open_share(broker.client(KEY), broker.nas, MIB) is Code.GRANTED
    one_of_seven = msgspec.structs.replace(share(9, 100 * MIB), k=1, n=7)
    assert liar.announce([one_of_seven]) is Code.MALFORMED, "one device alone could have it rebuilt"


def test_30_made_up_vaults_have_no_more_than_the_quota_of_one_client() -> None:
    broker = QuotaBroker()
    client = broker.client(KEY)
    stored = 0
    for number in range(30):
        key = VaultKey(bytes([number]) * 32)
        client = client.reconnected()
        client.hello(key)
        if open_share(client, broker.nas, 9 * MIB) is Code.GRANTED:
            broker.store(100 + number, 9 * MIB, key)
            stored += 9 * MIB
    assert stored == 9 * MIB
    assert (client.public_key, BYTES) in broker.queries.overruns.current(broker.now)
    assert open_share(broker.client(OTHER_KEY), broker.nas, 9 * MIB) is Code.GRANTED


def test_a_malformed_opening_is_left_to_the_device() -> None:
    broker = QuotaBroker()
    (passed,) = requests(broker.client(KEY).ask(Operation.OPEN, Places(1, 0), device=broker.nas.device))
    assert passed.header == pack_header(Places(1, 0))


def test_without_a_quota_a_vault_has_what_it_likes() -> None:
    assert SampleBroker().queries.quota.refusal(VAULT, 1 << 60) is None


def test_a_device_that_announces_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "MAX_SHARES_ON_A_DEVICE", 10)
    catalog = Catalog()
    catalog.announce(b"d" * 16, [share(number, 1) for number in range(100)])
    assert catalog.shares_on(b"d" * 16) == 10
    catalog.announce(b"d" * 16, [share(3, 2)])  # what it says anew of what it has is heard
    assert catalog.bytes_on(b"d" * 16) == 11
    catalog.announce(b"e" * 16, [share(50, 1)])
    assert catalog.shares_on(b"e" * 16) == 1
