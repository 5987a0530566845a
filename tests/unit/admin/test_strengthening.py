"""What is stored weaker than the devices allow is stored anew, and nothing of the old goes before the new is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import msgspec
import pytest

from admin.printer import AdminPrinter
from admin.strengthening import strengthen_images
from common.errors import NotEnoughError
from common.membership.identity import ClientIdentity, KeyPair
from common.protocol.envelope import Operation
from common.protocol.messages import Code, EncodingAt
from common.repository.repository import Repository
from common.vault.contact_card import card_of
from common.vault.folder import VaultFolder
from common.vault.granting import open_any
from common.vault.mapping import Mapping
from producer.events import StoredImage
from producer.owner import OtherVault, Owner, OwnVault
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import KEY, chance

IDENTITY = ClientIdentity(KeyPair.generate(), [])
OF_THE_CODE = ("data_key", "segment_count", "segment_size", "k", "n", "recipe_digest")
SIZES = [0, 1, 40_000, (9 << 20) + 1]


class Scene:
    """Images that were stored on three devices, as 2 of 3; now there are six."""

    def __init__(self, folder: Path, *sizes: int, owner: Optional[Owner] = None) -> None:
        self.cluster = MemoryCluster(6)
        self.vault = VaultFolder(folder / "home")
        self.contents = [chance(f"image {size}", size) for size in sizes]
        paths = [folder / f"image {size}.bin" for size in sizes]
        for path, content in zip(paths, self.contents):
            path.write_bytes(content)
        for device in self.cluster.devices[3:]:
            device.alive = False
        run(self._put([str(path) for path in paths], owner or OwnVault(self.vault, KEY)))
        for device in self.cluster.devices:
            device.alive = True

    async def _put(self, paths: list[str], owner: Owner) -> None:
        outcomes = await put(self.cluster, owner, 2, 3, paths)
        assert all(isinstance(outcome, StoredImage) for outcome in outcomes)

    def strengthen(self) -> int:
        async def strengthened() -> int:
            repository = Repository(self.cluster.link, self.vault, KEY, AdminPrinter("strengthening"))
            return await strengthen_images(repository, (await repository.holdings()).images)

        return run(strengthened())

    def encodings(self) -> list[tuple[int, int, int]]:
        """k, n and the number of devices of each encoding that there is anything of."""
        return [(e.k, e.n, len({share.device_id for share in e.shares})) for e in self.cluster.encodings()]

    def mapping(self, encoding: EncodingAt) -> Mapping:
        holders = [device for device in self.cluster.devices if device.shares]
        held = next(h for device in holders for (e, _), h in device.shares.items() if e == encoding.encoding_id)
        assert held.commitment is not None
        return open_any(KEY, held.commitment.mapping, encoding.object_id, encoding.encoding_id)

    def uncommitted(self) -> int:
        return sum(held.commitment is None for device in self.cluster.devices for held in device.shares.values())


def test_images_of_every_size_get_todays_code_and_keep_what_is_known_of_them(tmp_path: Path) -> None:
    scene = Scene(tmp_path, *SIZES)
    before = {m.image_sha256: m for m in map(scene.mapping, scene.cluster.encodings())}
    keys = {m.data_key for m in before.values()}
    assert scene.encodings() == [(2, 3, 3)] * len(SIZES)
    assert scene.strengthen() == 0
    assert scene.encodings() == [(4, 6, 6)] * len(SIZES)
    for now in map(scene.mapping, scene.cluster.encodings()):
        then = before[now.image_sha256]
        assert now == msgspec.structs.replace(then, **{name: getattr(now, name) for name in OF_THE_CODE})
        assert now.data_key not in keys, "no two encodings share a key"


def test_what_is_strong_already_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(tmp_path, 1000)
    scene.strengthen()
    asked = len(scene.cluster.messages)
    assert scene.strengthen() == 0
    assert "none could be stronger" in capsys.readouterr().out
    assert not {Operation.OPEN, Operation.DELETE} & {operation for _, operation in scene.cluster.messages[asked:]}


@pytest.mark.parametrize("operation", [Operation.OPEN, Operation.APPEND, Operation.COMMIT])
@pytest.mark.parametrize("size", [1000, 9 << 20])
def test_the_old_encoding_stays_alone_where_one_device_does_not_take_its_share(
    tmp_path: Path, operation: Operation, size: int
) -> None:
    scene = Scene(tmp_path, size)
    scene.cluster.devices[5].decline(operation, Code.NO_ROOM)
    assert scene.strengthen() == NotEnoughError.exit_code
    assert scene.encodings() == [(2, 3, 3)]
    assert scene.uncommitted() == 0
    assert scene.strengthen() == 0, "another run goes on"
    assert scene.encodings() == [(4, 6, 6)]


def test_a_device_that_dies_at_the_commit_costs_the_old_encoding_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1000)
    scene.cluster.devices[4].die(Operation.COMMIT)
    assert scene.strengthen() == NotEnoughError.exit_code
    assert scene.encodings() == [(2, 3, 3)]


def test_a_run_that_was_killed_before_it_deleted_the_old_encoding_is_gone_on_with(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1000)
    for device in scene.cluster.devices[:3]:
        device.decline(Operation.DELETE, Code.BUSY)
    assert scene.strengthen() != 0
    assert sorted(scene.encodings()) == [(2, 3, 3), (4, 6, 6)]
    asked = len(scene.cluster.messages)
    assert scene.strengthen() == 0
    assert scene.encodings() == [(4, 6, 6)]
    assert Operation.OPEN not in {operation for _, operation in scene.cluster.messages[asked:]}, "it was whole"


def test_what_a_killed_run_left_of_an_encoding_goes_with_the_old_one(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1000)
    for device in scene.cluster.devices[:3]:
        device.decline(Operation.DELETE, Code.BUSY)
    scene.strengthen()
    scene.cluster.devices[5].lose_all()
    assert scene.strengthen() == 0
    assert scene.encodings() == [(4, 6, 6)]


def test_an_image_that_was_left_by_another_becomes_the_vaults_own(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1000, owner=OtherVault(card_of(KEY, "me"), IDENTITY))
    assert scene.strengthen() == 0
    (encoding,) = scene.cluster.encodings()
    assert (encoding.k, encoding.n) == (4, 6)
    assert encoding.object_id == KEY.object_id(scene.mapping(encoding).image_sha256)


def test_too_few_shares_of_one_image_hinder_no_other(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1000, 2000)
    unrecoverable = scene.cluster.encodings()[0].encoding_id
    for device in scene.cluster.devices[:2]:
        device.lose(*[key for key in device.shares if key[0] == unrecoverable])
    assert scene.strengthen() == NotEnoughError.exit_code
    assert sorted(scene.encodings()) == [(2, 3, 1), (4, 6, 6)]
