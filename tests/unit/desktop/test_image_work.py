"""What is done with chosen images says what came of each, and what went wrong on the way though it came right."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.link.link import Link
from common.protocol.envelope import Operation
from common.protocol.messages import Code
from desktop.background import Background
from desktop.model.entries import Entry, Tone
from desktop.model.image_work import ImageWorkModel
from desktop.model.images import read_kept
from desktop.model.report import Report
from desktop.session import Session
from producer.owner import OwnVault
from tests.support.desktop_models import deliver_until
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put

CONTENT = b"content"


class Scene:
    """One image of the window's vault on the devices of a cluster in memory."""

    def __init__(self, session: Session, background: Background, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.cluster = cluster = MemoryCluster(4)

        @asynccontextmanager
        async def link(_: Session) -> AsyncIterator[Link]:
            yield cluster.link

        patch.setattr(Session, "link", link)
        (folder / "a.jpg").write_bytes(CONTENT)
        run(put(cluster, OwnVault(session.vault, session.key), 2, 4, [str(folder / "a.jpg")]))
        self.model = ImageWorkModel(session, background)
        self.images: list[Entry] = [each for batch in read_kept(session.vault, session.key) for each in batch]
        assert [each.sha256 for each in self.images] == [hashlib.sha256(CONTENT).hexdigest()]

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
    assert report.tone is Tone.GOOD


def test_a_device_that_does_not_delete_is_named_though_the_others_do(scene: Scene) -> None:
    scene.cluster.devices[1].decline(Operation.DELETE, Code.FAULT)
    scene.model.delete(scene.images)
    report = scene.report()
    assert report.summary.startswith("1 image deleted.")
    assert [finding.name for finding in report.findings] == ["device-2"]
    assert report.tone is Tone.NOTICE
