"""Each worker reads its own disk, and finds what nobody has asked for."""

from __future__ import annotations

import pytest

from cluster.local import LocalCluster
from tests.support.devices import held_shares, number_of, restart, wait_lost
from tests.support.programs import User, random_bytes, wait_until
from tests.support.store_folder import shares_in
from worker.share_states import State


@pytest.mark.parametrize("size", [60_000, 9_000_000], ids=["in a pack", "in a file"])
def test_a_bit_that_flips_on_a_disk_is_found_by_its_worker_alone(
    fragile_cluster: LocalCluster, owner: User, size: int
) -> None:
    before = held_shares(fragile_cluster)
    content = random_bytes(size)
    stored = owner.store_bytes(content)
    record = min(held_shares(fragile_cluster) - before, key=lambda record: record.share)
    index = number_of(fragile_cluster, record.device)
    fragile_cluster.kill_device(index)
    wait_lost(fragile_cluster, index)
    fragile_cluster.start_device(index, "--scrub-every", "2s")
    fragile_cluster.wait_registered(len(fragile_cluster.devices))
    record.flip(record.length // 2)  # behind the worker's back
    folder = fragile_cluster.directory / record.device
    wait_until(lambda: shares_in(folder)[record] is State.DAMAGED, "the share to be marked")
    assert f"the share {record.encoding}.{record.share:02x} is damaged" in fragile_cluster.log_tail(record.device)
    ended = owner.restore(stored["sha256"], output=owner.folder / "out")
    assert ended.exit_code == 0, ended
    assert (owner.folder / "out").read_bytes() == content
    restart(fragile_cluster, index)
