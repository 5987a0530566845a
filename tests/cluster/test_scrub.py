"""Each worker reads its own disk, and finds what nobody has asked for."""

from __future__ import annotations

from cluster.local import LocalCluster
from tests.support.devices import number_of, restart, share_files, wait_lost
from tests.support.programs import User, random_bytes, wait_until


def test_a_bit_that_flips_on_a_disk_is_found_by_its_worker_alone(fragile_cluster: LocalCluster, owner: User) -> None:
    before = share_files(fragile_cluster)
    content = random_bytes(9_000_000)
    stored = owner.store_bytes(content)
    file = min(share_files(fragile_cluster) - before, key=lambda file: file.share)
    index = number_of(fragile_cluster, file.device)
    fragile_cluster.kill_device(index)
    wait_lost(fragile_cluster, index)
    fragile_cluster.start_device(index, "--scrub-every", "2s")
    fragile_cluster.wait_registered(len(fragile_cluster.devices))
    size = file.path.stat().st_size
    with open(file.path, "r+b") as written:  # in place, behind the worker's back
        written.seek(size // 2)
        byte = written.read(1)[0]
        written.seek(size // 2)
        written.write(bytes([byte ^ 1]))
    found = fragile_cluster.directory / file.device / "quarantine" / file.path.name
    wait_until(found.exists, "the share in quarantine")
    assert not file.path.exists()
    assert f"the share {file.path.name} is damaged" in fragile_cluster.log_tail(file.device)
    ended = owner.restore(stored["sha256"], output=owner.folder / "out")
    assert ended.exit_code == 0, ended
    assert (owner.folder / "out").read_bytes() == content
    restart(fragile_cluster, index)
