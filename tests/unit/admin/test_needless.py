"""Of an image that is stored more than once one encoding stays: the owner decides, and has read it before."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin import needless, repairing
from admin.printer import AdminPrinter
from admin.repairing import repair_held
from admin.sharing import adding, change_image
from admin.verifying import verify_images
from common.errors import RefusedError
from common.membership.identity import ClientIdentity, KeyPair
from common.protocol.messages import EncodingAt
from common.repository.images import Held
from common.repository.repository import Repository
from common.vault.contact_card import card_of
from common.vault.folder import VaultFolder
from producer.events import StoredImage
from producer.owner import OtherVault, Owner, OwnVault
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import KEY, OTHER_KEY, chance

K, N = 2, 3
IDENTITY = ClientIdentity(KeyPair.generate(), [])


class Scene:
    """An image that this vault stored, and that somebody left for it as well."""

    def __init__(self, folder: Path, *owners: Owner) -> None:
        self.cluster = MemoryCluster(N)
        self.vault = VaultFolder(folder / "home")
        path = folder / "image.bin"
        path.write_bytes(chance("image", 5000))
        for owner in owners or (OwnVault(self.vault, KEY), OtherVault(card_of(KEY, "me"), IDENTITY)):
            run(self._put(owner, path))
        assert len(self.encodings()) == 2

    async def _put(self, owner: Owner, path: Path) -> None:
        outcomes = await put(self.cluster, owner, K, N, [str(path)])
        assert all(isinstance(outcome, StoredImage) for outcome in outcomes)

    def repository(self) -> Repository:
        return Repository(self.cluster.link, self.vault, KEY, AdminPrinter("repairing"))

    def repair(self) -> int:
        return run(repair_held(self.repository(), None, []))

    def encodings(self) -> list[EncodingAt]:
        return self.cluster.encodings()

    def left(self) -> EncodingAt:
        """What the other left for the vault."""
        return next(e for e in self.encodings() if not self.is_own(e))

    def own(self) -> EncodingAt:
        return next(e for e in self.encodings() if self.is_own(e))

    def is_own(self, encoding: EncodingAt) -> bool:
        image = run(self.repository().holdings()).images[0]
        return encoding.object_id == KEY.object_id(image.mapping.image_sha256)


@pytest.fixture(autouse=True)
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all had been stored yesterday."""
    monkeypatch.setattr(needless, "GRACE", 0)


def test_what_the_vault_stored_stays_and_what_another_left_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(tmp_path)
    own = scene.own()
    assert scene.repair() == 0
    assert [e.encoding_id for e in scene.encodings()] == [own.encoding_id]
    assert "was stored more than once" in capsys.readouterr().out


def test_verify_says_so_and_by_what_that_is_ended(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def found() -> list[int]:
        repository = scene.repository()
        verified = await verify_images(repository, await repository.holdings(), deep=False)
        return [verdict.needless for verdict in verified.verdicts]

    assert run(found()) == [1]
    scene.repair()
    assert run(found()) == [0]


def test_of_two_that_others_left_one_stays(tmp_path: Path) -> None:
    scene = Scene(tmp_path, *(OtherVault(card_of(KEY, "me"), IDENTITY) for _ in range(2)))
    assert scene.repair() == 0
    assert len(scene.encodings()) == 1


def test_what_is_not_a_day_old_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needless, "GRACE", 86_400)
    scene = Scene(tmp_path)
    assert scene.repair() == 0
    assert len(scene.encodings()) == 2


def test_where_the_one_that_would_stay_is_bad_nothing_is_deleted(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    own = scene.own().encoding_id
    for device in scene.cluster.devices[:2]:
        device.damage(next(key for key in device.shares if key[0] == own))
    assert scene.repair() != 0
    assert len(scene.encodings()) == 2


def test_what_is_not_whole_makes_nothing_needless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairing, "_TIMEOUT", 0.5)  # seconds: nobody makes it whole
    scene = Scene(tmp_path)
    scene.cluster.devices[0].lose_all()
    scene.repair()
    assert len(scene.encodings()) == 2


def test_what_is_shared_with_others_than_what_would_stay_is_not_deleted(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    left = scene.left()
    image = run(scene.repository().holdings()).images[0]
    shared = Held(image.mapping, [left])
    run(change_image(scene.repository(), shared, adding("friend", card_of(OTHER_KEY, "friend"), KEY), "friend"))
    assert scene.repair() in (0, RefusedError.exit_code)
    assert left.encoding_id in [e.encoding_id for e in scene.encodings()]
