"""Verifying while a cluster is at work on itself: what is about to be right is no trouble."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.printer import AdminPrinter
from admin.verifying import Verdict, verify_images
from common.protocol.envelope import Operation
from common.protocol.messages import Code
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from producer.events import StoredImage
from producer.owner import OwnVault
from tests.support.memory_cluster import ClusterDevice, MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import KEY, chance

K, N = 2, 3
FIRST = 0  # the share of which there are two copies


class Scene:
    """An image on three devices; a fourth has a second copy of one share."""

    def __init__(self, folder: Path) -> None:
        self.cluster = MemoryCluster(N)
        self.vault = VaultFolder(folder / "home")
        path = folder / "image.bin"
        path.write_bytes(chance("image", 5000))
        (outcome,) = run(put(self.cluster, OwnVault(self.vault, KEY), K, N, [str(path)]))
        assert isinstance(outcome, StoredImage)
        (key,) = [key for key in self.cluster.holdings() if key[1] == FIRST]
        ((self.holder, self.held),) = self.cluster.holdings()[key]
        self.spare = ClusterDevice("spare")
        self.cluster.devices.append(self.spare)
        self.spare.hold(FIRST, self.held)

    def verify(self) -> Verdict:
        async def verify() -> Verdict:
            repository = Repository(self.cluster.link, self.vault, KEY, AdminPrinter("verifying"))
            found = await verify_images(repository, await repository.holdings(), deep=True)
            return found.verdicts[0]

        return run(verify())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_copy_given_up_while_it_is_read_is_no_trouble_as_the_other_is_good(scene: Scene) -> None:
    scene.spare.decline(Operation.FETCH, Code.NOT_FOUND)
    verdict = scene.verify()
    assert (verdict.exit_code, verdict.troubles) == (0, [])
    assert (verdict.health.good, verdict.health.proven) == (N, True)


def test_a_share_that_is_moved_while_it_is_read_is_found_where_it_is_now(scene: Scene) -> None:
    scene.spare.lose_all()

    def moved(_header: bytes, _payload: bytes) -> None:
        if scene.holder.shares:
            scene.holder.lose_all()
            scene.spare.hold(FIRST, scene.held)

    scene.holder.intercept(Operation.FETCH, moved)
    verdict = scene.verify()
    assert (verdict.exit_code, verdict.troubles) == (0, [])
    assert (verdict.health.good, verdict.health.proven) == (N, True)
    assert scene.spare.asked[Operation.FETCH]


def test_the_only_copy_that_is_gone_is_named(scene: Scene) -> None:
    scene.spare.lose_all()
    scene.holder.decline(Operation.FETCH, Code.NOT_FOUND)
    verdict = scene.verify()
    assert any(scene.holder.name in line for line in verdict.troubles)
    assert verdict.health.good == N - 1


def test_a_damaged_copy_is_named_however_good_the_other_is(scene: Scene) -> None:
    (key,) = scene.spare.shares
    scene.spare.damage(key)
    verdict = scene.verify()
    assert any("spare" in line for line in verdict.troubles)
    assert [bad.device_id for bad in scene.cluster.bad_shares] == [scene.spare.device_id]
