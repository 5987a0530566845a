"""What is done with chosen images says what came of each, and what went wrong on the way though it came right."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from admin.deleting import DeletedImage
from common.protocol.envelope import Operation
from common.protocol.messages import Code, Trashed
from common.vault.contact_card import card_of
from common.vault.contacts import Contacts
from common.vault.keys import VaultKey
from desktop.background import Background
from desktop.model.entries import Entry, Tone
from desktop.model.image_work import ImageWorkModel
from desktop.model.images import read_kept
from desktop.model.report import Finding, Report
from desktop.model.trash import TrashModel
from desktop.session import Session
from producer.owner import OwnVault
from tests.support.desktop_models import deliver_until, reach
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put

CONTENT = b"content"


class Scene:
    """One image of the window's vault on the devices of a cluster in memory."""

    def __init__(self, session: Session, background: Background, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.cluster = MemoryCluster(4)
        reach(self.cluster, session, patch)
        self.session, self.folder = session, folder
        self.store("a.jpg", CONTENT)
        self.model = ImageWorkModel(session, background)
        assert [each.sha256 for each in self.images] == [hashlib.sha256(CONTENT).hexdigest()]

    def store(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)
        owner = OwnVault(self.session.vault, self.session.key)
        run(put(self.cluster, owner, 2, 4, [str(self.folder / name)]))

    @property
    def images(self) -> list[Entry]:
        return read_kept(self.session.vault.index(self.session.key))

    def report(self) -> Report:
        deliver_until(self.model.background, lambda: not self.model.doing)
        assert self.model.report is not None, self.model.error
        return self.model.report


@pytest.fixture
def scene(session: Session, background: Background, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(session, background, tmp_path, monkeypatch)


def test_a_device_with_a_damaged_share_is_named_though_the_image_is_saved(scene: Scene, tmp_path: Path) -> None:
    scene.cluster.devices[0].decline(Operation.FETCH, Code.DAMAGED)
    scene.model.save(scene.images, str(tmp_path / "back"))
    report = scene.report()
    assert (tmp_path / "back" / "a.jpg").read_bytes() == CONTENT
    assert report.summary.endswith("Shares were missing or damaged on device-1."), report.summary
    assert report.tone is Tone.NOTICE


def test_a_device_that_does_not_delete_is_named_though_the_others_do(scene: Scene) -> None:
    scene.cluster.devices[1].decline(Operation.DELETE, Code.FAULT)
    scene.model.delete(scene.images)
    report = scene.report()
    assert report.summary.startswith("1 image deleted.")
    assert [finding.name for finding in report.findings] == ["device-2"]
    assert report.tone is Tone.NOTICE


def test_a_device_that_deletes_none_of_several_images_is_named_once(scene: Scene) -> None:
    scene.store("b.jpg", b"other content")
    for image in (1, 2):
        scene.cluster.devices[1].decline(Operation.DELETE, Code.FAULT, at=image)
    scene.model.delete(scene.images)
    report = scene.report()
    assert report.summary == "2 images deleted."
    assert report.findings == [Finding("device-2", "fault", Tone.NOTICE)]


def test_a_device_that_refuses_to_share_is_named_and_not_called_away(scene: Scene) -> None:
    Contacts(scene.session.home, scene.session.key).add("Bob", card_of(VaultKey.generate(), "bob"))
    scene.cluster.devices[1].decline(Operation.AMEND, Code.FAULT)
    scene.model.share(scene.images, "Bob")
    report = scene.report()
    assert report.summary == "1 image shared with Bob."
    assert report.findings == [Finding("device-2", "fault", Tone.NOTICE)]


def test_a_device_that_is_away_while_an_image_is_shared_is_named(scene: Scene) -> None:
    Contacts(scene.session.home, scene.session.key).add("Bob", card_of(VaultKey.generate(), "bob"))
    scene.cluster.devices[2].alive = False
    scene.model.share(scene.images, "Bob")
    report = scene.report()
    assert report.summary == "1 image shared with Bob. device-3: away; told when they come back."
    assert report.findings == []


def test_a_colon_in_the_name_of_a_device_stays_in_its_name(scene: Scene) -> None:
    scene.cluster.devices[1].name = "nas: attic"
    scene.cluster.devices[1].decline(Operation.DELETE, Code.FAULT)
    scene.model.delete(scene.images)
    assert [finding.name for finding in scene.report().findings] == ["nas: attic"]


def test_a_device_that_does_not_take_back_is_named_though_the_others_do(scene: Scene) -> None:
    scene.store("b.jpg", b"other content")
    in_trash = [Trashed(e.object_id, e.encoding_id, 1, 2**40, scene.cluster.ids) for e in scene.cluster.encodings()]
    scene.model.delete(scene.images)
    assert scene.report().summary == "2 images deleted."
    for image in (1, 2):
        scene.cluster.devices[1].decline(Operation.UNDELETE, Code.FAULT, at=image)
    model = TrashModel(scene.session, scene.model.background)
    model.take_back([DeletedImage("", "", each.trash_left, (each,)) for each in in_trash])
    deliver_until(model.background, lambda: not model.busy)
    assert (model.words, model.error) == ("2 images taken back. device-2: fault.", None)
