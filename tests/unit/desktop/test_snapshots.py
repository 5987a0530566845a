"""Snapshots in the gallery: folders are read when they are looked into, and restored as the consumer restores them."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any, Optional

import pytest

from admin.deleting import delete_images
from common.protocol.envelope import Operation
from common.repository.repository import Repository
from common.vault.tree import Entry, EntryType
from consumer.batch import BatchRestorer
from consumer.restore_tree import TreeRestorer
from consumer.target_folder import TargetFolder
from desktop.background import Background
from desktop.model.entries import Tone
from desktop.model.gallery import GalleryModel
from desktop.model.report import Report
from desktop.model.snapshots import folder_entries, snapshot_lines
from desktop.session import Session
from producer.owner import OwnVault
from producer.run import Run
from producer.sources import find_all
from producer.trees import Trees
from tests.support.desktop_models import deliver_until, reach
from tests.support.generated_trees import described
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.putting import put
from tests.support.sample_images import Unseeing


class Scene:
    """A window's gallery, and a cluster in memory that holds snapshots of the folder `in`."""

    def __init__(self, session: Session, background: Background, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.cluster = MemoryCluster(4)
        reach(self.cluster, session, patch)
        patch.chdir(folder)
        self.session, self.background, self.folder = session, background, folder
        self.reassembled: list[str] = []
        self.model = GalleryModel(session, background, Unseeing(), self.reassembled.append)

    def write(self, path: str, content: bytes) -> None:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    def put(self, *given: str, label: Optional[str] = None) -> None:
        one = Run(given, find_all(given, "stdin"), Trees())
        run(put(self.cluster, OwnVault(self.session.vault, self.session.key), 2, 4, given, run=one, label=label))

    def look(self, snapshots: int) -> None:
        """Have the window ask the cluster, until it shows so many snapshots and knows how each image is."""
        self.model.deactivate()
        self.model.activate()
        self.until(lambda: len(self.model.snapshots.kept) == snapshots and self.model.images.looked)

    def until(self, condition: Any) -> None:
        deliver_until(self.background, condition)

    def open(self, *names: str) -> None:
        """Look into the newest snapshot, and into folders in it, one in the other."""
        self.model.snapshots.choose(self.model.snapshots.kept[0].sha256)
        for name in names:
            self.until(lambda: self.model.snapshots.entries is not None)
            (key,) = [entry.key for entry in self.model.shown if entry.name == name]
            self.model.open(key)
        self.until(lambda: self.model.snapshots.entries is not None)

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.model.shown]

    def restored(self, folder: str) -> Report:
        self.model.restore(folder)
        self.until(lambda: not self.model.work.doing)
        assert self.model.work.report is not None, self.model.error
        return self.model.work.report


@pytest.fixture
def scene(session: Session, background: Background, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(session, background, tmp_path, monkeypatch)
    scene.write("in/b.jpg", b"first")
    scene.write("in/a.jpg", b"second")
    scene.write("in/2019/deep/c.jpg", b"third")
    scene.write("in/2019/same.jpg", b"third")
    scene.write("in/2019/again.jpg", b"third")
    os.utime("in/b.jpg", ns=(10**9, 10**9))
    os.utime("in/2019", ns=(2 * 10**9, 2 * 10**9))
    return scene


def test_the_newest_snapshot_comes_first_and_one_that_lacks_something_is_marked(scene: Scene) -> None:
    scene.put("in", label="album")
    scene.put("in", "missing.jpg")
    scene.look(snapshots=2)
    newest, oldest = map(snapshot_lines, scene.model.snapshots.kept)
    assert newest[1:] == ("in, missing.jpg", "5 files, incomplete")
    assert oldest[1:] == ("album", "5 files")
    assert scene.model.summary == "3 images"
    scene.model.deactivate()


def test_a_snapshot_shows_its_folders_first_goes_into_them_and_back(scene: Scene) -> None:
    scene.put("in")
    scene.look(snapshots=1)
    scene.open("in")
    assert scene.names == ["2019", "a.jpg", "b.jpg"]
    assert [entry.badge.words for entry in scene.model.shown] == ["folder", "whole", "whole"]
    assert scene.model.summary == "1 folder, 2 files"
    assert scene.model.command.endswith(f"--ls {scene.model.snapshots.kept[0].id[:8]} --path in")
    scene.model.open(scene.model.shown[0].key)
    scene.until(lambda: scene.names == ["deep", "again.jpg", "same.jpg"])
    asked = sum(device.asked[Operation.FETCH] for device in scene.cluster.devices)
    scene.model.up()
    scene.until(lambda: scene.names == ["2019", "a.jpg", "b.jpg"])
    assert sum(device.asked[Operation.FETCH] for device in scene.cluster.devices) == asked, "it was here already"
    scene.model.look_for("A.JP")
    assert (scene.names, scene.model.summary) == (["a.jpg"], "1 of 1 folder, 2 files")
    scene.model.open(scene.model.shown[0].key)
    assert scene.reassembled == [scene.model.shown[0].sha256]
    scene.model.look_for("")
    scene.model.snapshots.choose(None)
    assert len(scene.model.shown) == 3
    scene.model.deactivate()


def test_equal_files_are_chosen_by_their_places_and_are_one_image(scene: Scene) -> None:
    scene.put("in")
    scene.look(snapshots=1)
    scene.open("in", "2019")
    scene.model.select(scene.model.shown[1].key)
    assert scene.model.entry is not None and scene.model.entry.name == "again.jpg"
    scene.model.select_all()
    assert len(scene.model.chosen) == 3
    assert [entry.is_image for entry in scene.model.chosen_images or []] == [True], "a folder is no image"
    scene.model.deactivate()


def test_a_folder_in_view_is_restored_alone_and_the_root_as_the_whole_snapshot(scene: Scene) -> None:
    scene.put("in")
    scene.look(snapshots=1)
    scene.open("in", "2019")
    report = scene.restored("one")
    assert (report.summary, report.tone, report.findings) == ("3 of 3 files restored in one.", Tone.GOOD, [])
    assert described(Path("one/2019")) == described(Path("in/2019"))
    assert os.listdir("one") == ["2019"]
    scene.model.snapshots.back_to(0)
    assert scene.restored("all").tone is Tone.GOOD
    assert described(Path("all/in")) == described(Path("in"))
    scene.model.deactivate()


def test_each_name_that_is_changed_and_each_file_that_fails_is_said_and_counted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.put("in", "missing.jpg")
    scene.write("out/in/b.jpg", b"another's")
    monkeypatch.setattr(TargetFolder, "takes", lambda _, name: name != b"a.jpg")
    scene.look(snapshots=1)
    scene.open()
    report = scene.restored("out")
    assert report.summary == (
        "4 of 5 files restored in out. 1 could not be. 1 name had to be changed. "
        "The snapshot is incomplete: 1 could not be stored when it was taken."
    )
    assert report.tone is Tone.ALARM
    assert [finding.tone for finding in report.findings] == [Tone.ALARM, Tone.NOTICE]
    assert "in/b.jpg" in report.findings[0].words and report.findings[1].name == "in/a.jpg"
    assert Path("out/in/b.jpg").read_bytes() == b"another's"
    scene.model.deactivate()


def test_a_restore_that_is_cancelled_ends_and_leaves_nothing_of_its_own(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = threading.Event()

    async def never(*_: object) -> None:
        began.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(TreeRestorer, "_fetch", never)
    monkeypatch.setattr(BatchRestorer, "restore", never)
    scene.put("in")
    scene.look(snapshots=1)
    scene.open()
    scene.model.restore("out")
    scene.until(began.is_set)
    scene.model.work.cancel()
    assert scene.model.work.report is not None
    assert scene.model.work.report.summary == "Cancelled. What was done before stays done."
    scene.until(lambda: os.listdir("out") == ["in"])
    assert [path for path in Path("out").rglob("*") if not path.is_dir()] == []
    scene.model.deactivate()


def test_a_snapshot_that_is_forgotten_is_looked_at_no_more(scene: Scene) -> None:
    scene.put("in")
    scene.look(snapshots=1)
    scene.open("in")

    async def forget() -> None:
        repository = Repository(scene.cluster.link, scene.session.vault, scene.session.key)
        held = (await repository.holdings()).images
        await delete_images(repository, [each for each in held if each.mapping.kind == "snapshot"], 7)

    run(forget())
    scene.look(snapshots=0)
    assert scene.model.snapshots.chosen is None
    assert len(scene.model.shown) == 3
    scene.model.deactivate()


def test_what_is_no_file_or_not_at_hand_says_so_and_folders_come_first() -> None:
    def entry(name: bytes, kind: EntryType, **fields: Any) -> Entry:
        return Entry(name, kind, 0o644, -5, 0, **fields)

    tree = [
        entry(b"gone.jpg", EntryType.FILE, size=3, content=bytes(32)),
        entry(b"newest", EntryType.LINK, target=b"2020\x1b"),
        entry(b"pipe", EntryType.PIPE),
        entry(b"\xff", EntryType.FOLDER, content=bytes(32)),
    ]
    entries = folder_entries(tree, (b"in",), {})
    assert [(each.name, each.badge.words) for each in entries] == [
        ("�", "folder"),
        ("gone.jpg", "not at hand"),
        ("newest", "link to 2020�"),
        ("pipe", "named pipe, not kept"),
    ]
    assert os.fsencode(entries[0].place) == b"in/\xff"
    assert not any(each.is_image for each in entries)
