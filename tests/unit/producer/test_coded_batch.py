"""Small images go to the broker once, in as few messages as fit; what it makes of them wrongly is noticed and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.coding import Coding, DeviceRequest
from common.errors import IntegrityError
from common.process.events import Warned
from common.protocol.codec import MAX_HEADER, MAX_PAYLOAD, pack
from common.protocol.envelope import Operation
from common.protocol.identifiers import BROKER
from common.protocol.messages import MAX_BATCH, MAX_CODED_SHARES, Code, StoreSegments
from common.vault.folder import VaultFolder
from producer.broker_coding import CodeAt
from producer.coded_batch import CodedBatch, Placed, Sealed, divide
from producer.events import FailedImage, Outcome, StoredImage
from producer.owner import OwnVault
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import KEY, chance

K, N = 2, 4
FILES = 20


class Home:
    """A machine with a vault and some small files beside a cluster in memory."""

    def __init__(self, folder: Path, devices: int = N) -> None:
        self.cluster = MemoryCluster(devices)
        self.vault = VaultFolder(folder / "home")
        self.told: list[object] = []
        self.files = []
        for number in range(FILES):
            self.files.append(folder / f"{number}.bin")
            self.files[-1].write_bytes(chance(f"file {number}", 100 + 900 * number))

    def put(self, code_at: CodeAt = CodeAt.BROKER) -> list[Outcome]:
        owner, paths = OwnVault(self.vault, KEY), [str(path) for path in self.files]
        return run(put(self.cluster, owner, K, N, paths, emit=self.told.append, code_at=code_at))

    def sent(self, operation: Operation, device: bytes = BROKER) -> int:
        return self.cluster.messages.count((device, operation))

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.told if isinstance(event, Warned)]

    def check_stored(self, outcomes: list[Outcome]) -> None:
        assert all(isinstance(outcome, StoredImage) and not outcome.degraded for outcome in outcomes)
        assert len(outcomes) == FILES
        assert {len(held) for held in self.cluster.holdings().values()} == {1}, "a share is on one device"
        assert len(self.cluster.holdings()) == FILES * N


@pytest.mark.parametrize("code_at", CodeAt)
def test_all_are_stored_wherever_parity_is_made(tmp_path: Path, code_at: CodeAt) -> None:
    home = Home(tmp_path)
    home.check_stored(home.put(code_at))
    assert home.sent(Operation.STORE_SEGMENTS) == (1 if code_at is CodeAt.BROKER else 0)
    assert [home.sent(Operation.STORE, device) for device in home.cluster.ids] == [1] * N
    assert home.warnings == []


class Altering(Coding):
    """Makes wrong parity, or flips one byte of what each device gets."""

    def __init__(self, *, parity_only: bool) -> None:
        super().__init__()
        self._parity_only = parity_only

    def stores(self, asked: StoreSegments, payload: memoryview) -> list[DeviceRequest]:
        if self._parity_only:
            self._code(asked.k, asked.n).encode_together = lambda segments: None  # type: ignore[method-assign]
            return super().stores(asked, payload)
        parts = super().stores(asked, payload)
        return [part._replace(payload=bytes([part.payload[0] ^ 1]) + part.payload[1:]) for part in parts]


@pytest.mark.parametrize("parity_only", [True, False])
def test_a_broker_that_codes_wrongly_is_named_and_everything_is_stored_right(tmp_path: Path, parity_only: bool) -> None:
    home = Home(tmp_path)
    home.cluster.coding = Altering(parity_only=parity_only)
    home.check_stored(home.put())
    (warning,) = home.warnings
    assert home.cluster.address in warning


def test_a_broker_that_alters_all_that_it_passes_on_stores_nothing_and_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path)
    request = home.cluster.request

    async def altering(operation: Any, header: Any, **keywords: Any) -> Any:
        if operation.number is Operation.STORE:
            content, flipped = bytearray(memoryview(keywords["payload"])), 0
            for share in header.shares:
                content[flipped] ^= 1
                flipped += share.block_bytes + share.commitment_bytes
            keywords["payload"] = bytes(content)
        return await request(operation, header, **keywords)

    home.cluster.request = altering  # type: ignore[method-assign]
    for outcome in home.put():
        assert isinstance(outcome, FailedImage)
        assert isinstance(outcome.error, IntegrityError)
        assert home.cluster.address in str(outcome.error)
    assert home.cluster.holdings() == {}


def test_a_device_that_fails_costs_its_shares_only_and_these_move_alone(tmp_path: Path) -> None:
    home = Home(tmp_path, N + 1)
    home.cluster.devices[1].decline(Operation.STORE, Code.NO_ROOM)
    home.check_stored(home.put())
    assert home.sent(Operation.STORE_SEGMENTS) == 1
    assert home.sent(Operation.STORE, home.cluster.ids[N]) > 0


# --- what goes together


def image(number: int, block: int, commitment: int) -> Sealed:
    return Sealed(number.to_bytes(16, "big"), [np.zeros(block, np.uint8)] * 16, bytes(commitment))


_SIZES = st.tuples(st.integers(1, 1 << 20), st.integers(1, 1 << 17))


@given(
    st.integers(2, MAX_CODED_SHARES).flatmap(lambda n: st.tuples(st.integers(2, n), st.just(n))),
    st.lists(st.tuples(_SIZES, st.integers(0, 40), st.integers(1, 16)), max_size=90),
)
def test_whatever_is_placed_goes_once_and_each_message_fits(
    code: tuple[int, int], drawn: list[tuple[tuple[int, int], int, int]]
) -> None:
    k, n = code
    placed: list[Placed] = []
    for number, ((block, commitment), first, count) in enumerate(drawn):
        devices = {share: bytes([(first + share) % 50 + 1]) * 16 for share in range(min(count, n))}
        placed.append((image(number, block, commitment), devices))
    together, alone = divide(placed, k)
    assert sorted([*alone, *(each for group in together for each in group)], key=lambda each: each[0][0]) == placed
    for group in together:
        batch = CodedBatch(group, k, n)
        requests = batch.requests()
        assert 0 < len(requests) <= MAX_CODED_SHARES and len(group) <= MAX_BATCH
        assert len(batch.payload()) <= MAX_PAYLOAD
        assert sum(request.size for request in requests) <= 4 * MAX_PAYLOAD
        assert len(pack(batch.header({place: bytes(16) for place in range(len(requests))}))) <= MAX_HEADER


def test_the_message_names_only_the_devices_that_get_their_shares_by_it() -> None:
    devices = [bytes([number]) * 16 for number in range(3)]
    batch = CodedBatch([(image(1, 32, 5), dict(enumerate(devices)))], 2, 3)
    header = batch.header({0: b"r" * 16, 2: b"s" * 16})
    assert [store.device_id for store in header.stores] == [devices[0], devices[2]]
    assert header.images[0].places == bytes([0, 255, 1])
