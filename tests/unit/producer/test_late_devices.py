"""A device that answers nothing costs a run the wait for it once, not once for each image."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from common.link import stragglers
from common.protocol.envelope import Operation
from common.vault.folder import VaultFolder
from producer.events import StoredImage
from producer.owner import OwnVault
from producer.target import StoreOptions, Target
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import KEY, chance

K, N = 2, 4
LARGE = 9 << 20  # bytes: more than one segment


def stored(cluster: MemoryCluster, folder: Path, sizes: list[int]) -> list[StoredImage]:
    paths = [folder / f"{number}.bin" for number in range(len(sizes))]
    for path, size in zip(paths, sizes):
        path.write_bytes(chance(path.name, size))
    outcomes = run(put(cluster, OwnVault(VaultFolder(folder / "home"), KEY), K, N, [str(path) for path in paths]))
    return [outcome for outcome in outcomes if isinstance(outcome, StoredImage)]


def asked(cluster: MemoryCluster, number: int) -> int:
    """How often this device was asked to store something."""
    begin = Operation.STORE, Operation.OPEN
    return sum(device == cluster.ids[number] and operation in begin for device, operation in cluster.messages)


def test_a_batch_waits_for_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stragglers, "LEAST", 4.0)
    cluster = MemoryCluster(N + 1)
    cluster.devices[0].silent = {Operation.STORE}
    started = time.monotonic()
    (outcome,) = stored(cluster, tmp_path, [1000])
    assert not outcome.degraded
    assert 4.0 <= time.monotonic() - started < 8.0


@pytest.mark.parametrize("sizes", [[LARGE] * 6, [2 << 20] * 8], ids=["streams", "batches"])
def test_what_comes_after_it_goes_to_others(sizes: list[int], tmp_path: Path) -> None:
    cluster = MemoryCluster(N + 1)
    cluster.devices[0].silent = {Operation.STORE, Operation.OPEN}
    outcomes = stored(cluster, tmp_path, sizes)
    assert [outcome.degraded for outcome in outcomes] == [False] * len(sizes)
    assert 0 < asked(cluster, 0) < len(sizes)


@pytest.mark.parametrize("spare", [0, 1])
def test_it_is_asked_again_where_too_few_others_have_room_and_after_a_minute(
    spare: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = MemoryCluster(N + spare)
    late = cluster.ids[0]
    owner = OwnVault(VaultFolder(tmp_path / "home"), KEY)
    target = Target(cluster.link, owner, K, N, cluster.as_devices(), StoreOptions())
    target.note_late(late)

    def places(*exclude: bytes, wanted: int = 0) -> list[bytes]:
        return run(target.find_places([bytes(16)], 1000, exclude, wanted)).devices[0]

    assert (late in places()) is not bool(spare)
    assert (late in places(*cluster.ids[2:], wanted=1)) is False, "the second has room"
    assert places(*cluster.ids[1:], wanted=1) == [late]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61.0)
    assert late in places()
