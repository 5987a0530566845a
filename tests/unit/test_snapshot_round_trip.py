"""A folder comes back exactly as it was: a whole put and restore of snapshots, over a cluster in memory."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import pytest
from hypothesis import HealthCheck, given, settings

from admin import pruning
from admin.deleting import DeletedImage, Deletion, by_object, delete_images, find_deletion, list_deleted, list_trash
from admin.prune_plans import PrunePlan
from admin.pruning import find_unneeded, finish_interrupted, let_go, prune
from admin.undeleting import undelete_images
from common.coding.slicing import BLOCK_SIZE, TAG_SIZE
from common.errors import NotEnoughError, NotFoundError
from common.membership.identity import ClientIdentity, KeyPair
from common.protocol.envelope import Operation
from common.protocol.identifiers import BROKER
from common.protocol.messages import is_at_hand
from common.repository.repository import Repository
from common.vault.contact_card import card_of
from common.vault.folder import VaultFolder
from consumer.events import Changed, NotRestored, Restored
from consumer.restore_tree import TreeRestorer
from consumer.selecting import Selection
from consumer.snapshot_commands import list_files
from consumer.snapshots import KeptSnapshot, SnapshotReader, choose, shown_path
from consumer.target_folder import TargetFolder
from producer import run as run_of_producer
from producer.events import FailedImage, Outcome, RecordedSnapshot, StoredImage
from producer.owner import OtherVault, OwnVault
from producer.run import Run
from producer.sources import find_all
from producer.trees import Trees
from tests.support.generated_trees import Folder, described, folders, make
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.programs import sha256_of
from tests.support.putting import put
from tests.support.sample_images import KEY

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its file systems keep other names and modes")


_PR_SET_DUMPABLE = 4
SEGMENT = 2 * BLOCK_SIZE - TAG_SIZE  # bytes of the image in a segment of 2 of 4


class Killed(Exception):
    """In the middle of something."""


class Machine:
    """One machine with the vault, beside a cluster in memory."""

    def __init__(self, home: Path, cluster: Optional[MemoryCluster] = None) -> None:
        self.cluster = cluster or MemoryCluster(4)
        self.vault = VaultFolder(home)
        self.told: list[Any] = []

    def put(self, *arguments: Union[Path, str], **options: Any) -> tuple[list[Outcome], Optional[RecordedSnapshot]]:
        """What came of each file, and the snapshot."""
        recorded: list[RecordedSnapshot] = []
        failed: list[Outcome] = []

        def emit(event: object) -> None:
            if isinstance(event, RecordedSnapshot):
                recorded.append(event)
            elif isinstance(event, FailedImage):
                failed.append(event)

        given = [os.fspath(argument) for argument in arguments]
        one = Run(given, find_all(given, "stdin"), Trees())
        outcomes = run(put(self.cluster, OwnVault(self.vault, KEY), 2, 4, given, emit=emit, run=one, **options))
        return outcomes + failed, recorded[0] if recorded else None

    def _repository(self) -> Repository:
        return Repository(self.cluster.link, self.vault, KEY, self.told.append)

    def snapshots(self) -> list[KeptSnapshot]:
        found, failed = run(SnapshotReader(self._repository()).snapshots())
        assert failed == []
        return found

    def named(self, root: bytes) -> set[bytes]:
        """The paths in a snapshot with this root."""
        listing = run(SnapshotReader(self._repository()).listing(root))
        return {b"/".join(each.path) for each in listing.entries}

    def restore(self, wanted: str, folder: Path, below: Sequence[bytes] = (), *, force: bool = False) -> list[Any]:
        """Restore a snapshot; what was told."""
        self.told = []
        run(self._restore(wanted, folder, tuple(below), force))
        return [each for each in self.told if isinstance(each, (Restored, NotRestored, Changed))]

    async def _restore(self, wanted: str, folder: Path, below: tuple[bytes, ...], force: bool) -> None:
        repository = self._repository()
        reader = SnapshotReader(repository)
        found, _ = await reader.snapshots()
        listing = await reader.listing(choose(found, wanted, None).snapshot.root, below)
        with TargetFolder(folder) as target:
            await TreeRestorer(repository, target, reader.locate, force=force).restore(listing, max(0, len(below) - 1))

    def unneeded(self, now: Optional[float] = None) -> list[tuple[str, Optional[str]]]:
        """Name and kind of what no snapshot names."""
        found = run(find_unneeded(self._repository(), time.time() + LATER if now is None else now))
        return [(image.mapping.name, image.mapping.kind) for image in found.images]

    def forget(self, sha256: bytes) -> None:
        run(self._forget(sha256))

    async def _forget(self, sha256: bytes) -> None:
        repository = self._repository()
        images = [image for image in (await repository.holdings()).images if image.sha256 == sha256.hex()]
        assert len(images) == 1
        assert await delete_images(repository, images, 7) == 0

    def deletion(self, content: bytes) -> Deletion:
        return run(find_deletion(self._repository(), [sha256_of(content)]))

    def put_and_forget(self, *arguments: str) -> bytes:
        """A put whose snapshot is gone, and what that named is not yet; the snapshot's SHA-256."""
        _, recorded = self.put(*arguments)
        assert recorded is not None
        self.forget(recorded.sha256)
        return recorded.sha256

    def put_killed_before_it_looks(self, source: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
        """A put that is killed once its snapshot is there; a prune deletes what it found stored. The SHA-256."""

        async def killed(*_: object) -> None:
            raise Killed

        with monkeypatch.context() as changed:
            changed.setattr(run_of_producer, "_require_there", killed)
            with pytest.raises(Killed):
                self.put(source, before_recording=lambda: self.prune())
        (kept,) = self.snapshots()
        return kept.sha256

    def trash(self) -> list[DeletedImage]:
        return run(list_deleted(self._repository()))

    def plans_in_trash(self) -> int:
        return len(by_object(run(list_trash(self._repository()))).get(KEY.prune_object_id(), []))

    def let_go_and_delete(self, content: bytes) -> None:
        images = self.deletion(content).images
        run(let_go(self._repository(), {image.mapping.image_sha256 for image in images}, 7))
        assert run(delete_images(self._repository(), images, 7)) == 0

    def undelete(self, sha256: str) -> int:
        return run(undelete_images(self._repository(), [sha256]))

    def prune(self, meanwhile: Callable[[], None] = lambda: None) -> int:
        """The exit code; `meanwhile`: what another client does between the look and the deleting."""
        run(finish_interrupted(self._repository(), 7))
        unneeded = run(find_unneeded(self._repository(), time.time() + LATER))
        meanwhile()
        return run(prune(self._repository(), unneeded, 7))


def failures(told: Sequence[Any]) -> list[Any]:
    return [each for each in told if not isinstance(each, Restored)]


@pytest.mark.one_python
@given(folders())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_folder_comes_back_exactly_as_it_was(folder: Folder) -> None:
    place = Path(tempfile.mkdtemp())
    try:
        make(folder, os.fsencode(place / "in"))
        before = described(place / "in")
        machine = Machine(place / "home")
        outcomes, recorded = machine.put(place / "in")
        if not folder.entries:  # as a mount point without its mount
            assert [type(outcome) for outcome in outcomes] == [FailedImage]
            assert recorded is None
            return
        assert recorded is not None
        assert recorded.snapshot.complete
        assert failures(machine.restore("latest", place / "out")) == []
        assert described(place / "out" / "in") == before
        machine.cluster.devices[0].alive = machine.cluster.devices[3].alive = False
        assert failures(machine.restore("latest", place / "out")) == []  # where all is there already
        assert described(place / "out" / "in") == before
    finally:
        shutil.rmtree(place)


# --- one promise each


def write(path: Path, content: bytes = b"content") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_equal_files_in_two_folders_and_two_empty_ones_are_all_there_again(here: Path) -> None:
    write(here / "in/a/x")
    write(here / "in/b/y")
    write(here / "in/one", b"")
    write(here / "in/two", b"")
    machine = Machine(here / "home")
    machine.put("in")
    assert failures(machine.restore("latest", here / "o")) == []
    assert described(here / "o/in") == described(here / "in")


def test_a_renamed_file_comes_back_under_the_name_it_had_in_each_snapshot(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/old.jpg")
    _, before = machine.put("in")
    (here / "in/old.jpg").rename(here / "in/new.jpg")
    machine.put("in")
    assert before is not None
    machine.restore(before.sha256.hex()[:8], here / "then")
    machine.restore("latest", here / "now")
    assert os.listdir(here / "then/in") == ["old.jpg"]
    assert os.listdir(here / "now/in") == ["new.jpg"]


def test_an_unchanged_folder_is_not_written_again(here: Path) -> None:
    machine = Machine(here / "home")
    for name in "abc":
        write(here / f"in/{name}/x", name.encode())
    machine.put("in")
    before = machine.cluster.holdings()
    machine.put("in")
    new = {encoding_id for encoding_id, _ in machine.cluster.holdings().keys() - before.keys()}
    assert len(new) == 1  # the snapshot


def test_a_file_that_cannot_be_stored_makes_the_snapshot_incomplete(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/good")
    (here / "in/locked").symlink_to("good")
    outcomes, recorded = machine.put("in", "missing.jpg")
    assert [outcome.shown for outcome in outcomes if isinstance(outcome, FailedImage)] == ["missing.jpg"]
    assert recorded is not None
    assert (recorded.snapshot.complete, recorded.snapshot.failed, recorded.snapshot.files) == (False, 1, 1)
    assert failures(machine.restore("latest", here / "o")) == []
    assert described(here / "o/in") == described(here / "in")


def test_a_link_that_was_planted_in_the_target_is_never_written_through(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/sub/x", b"mine")
    write(here / "in/y", b"mine")
    machine.put("in")
    write(here / "elsewhere/x", b"another's")
    for force in (False, True):
        shutil.rmtree(here / "o", ignore_errors=True)
        (here / "o/in").mkdir(parents=True)
        (here / "o/in/sub").symlink_to(here / "elsewhere", target_is_directory=True)
        (here / "o/in/y").symlink_to(here / "elsewhere/x")
        told = failures(machine.restore("latest", here / "o", force=force))
        assert (here / "elsewhere/x").read_bytes() == b"another's"
        assert [type(each) for each in told] == [NotRestored] * (2 if force else 3)
        assert os.listdir(here / "elsewhere") == ["x"]
    assert (here / "o/in/y").read_bytes() == b"mine"


def test_what_is_there_with_other_content_is_written_over_only_by_force(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/x", b"true")
    machine.put("in")
    write(here / "o/in/x", b"else")
    (told,) = failures(machine.restore("latest", here / "o"))
    assert isinstance(told, NotRestored)
    assert (here / "o/in/x").read_bytes() == b"else"
    assert failures(machine.restore("latest", here / "o", force=True)) == []
    assert (here / "o/in/x").read_bytes() == b"true"


def _show_again() -> None:
    """Linux closes a process to others of its user as soon as that changes, and leaves it so (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder of somebody who is not root: root may write anywhere."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o777)
    root = sys.platform != "win32" and os.geteuid() == 0
    if root:
        os.seteuid(65534)  # type: ignore[attr-defined,unused-ignore]  # not on Windows
    try:
        yield place
    finally:
        if root:
            os.seteuid(0)  # type: ignore[attr-defined,unused-ignore]  # as above
            _show_again()
        for folder, _, _ in os.walk(place):
            os.chmod(folder, 0o700)
        shutil.rmtree(place)


def test_a_folder_that_may_not_be_written_to_is_restored_again_too(as_nobody: Path) -> None:
    here = as_nobody
    machine = Machine(here / "home")
    write(here / "in/sub/x")
    (here / "in/sub").chmod(0o500)
    machine.put(here / "in")
    assert failures(machine.restore("latest", here / "o")) == []
    (here / "o/in/sub").chmod(0o700)
    (here / "o/in/sub/x").unlink()
    (here / "o/in/sub").chmod(0o500)
    assert failures(machine.restore("latest", here / "o")) == []
    assert described(here / "o/in") == described(here / "in")


def test_what_is_there_already_costs_no_traffic(here: Path) -> None:
    machine = Machine(here / "home")
    for name in "abc":
        write(here / f"in/{name}", name.encode() * 5000)
    machine.put("in")
    machine.restore("latest", here / "o")
    (here / "o/in/b").unlink()
    asked = fetched(machine)
    machine.restore("latest", here / "o")
    assert fetched(machine) - asked == 2  # of one file k shares
    assert described(here / "o/in") == described(here / "in")


def fetched(machine: Machine) -> int:
    """Questions to devices for blocks, so far."""
    return sum(device.asked[Operation.FETCH] for device in machine.cluster.devices)


def test_a_snapshot_and_its_trees_are_known_where_they_were_stored_or_read(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/sub/a", b"content")
    machine.put("in")
    other = Machine(here / "other", machine.cluster)
    for reader, asked in ((machine, 0), (other, 4 * 2), (other, 0)):  # k shares of the snapshot and three trees
        before = fetched(machine)
        (kept,) = reader.snapshots()
        assert reader.named(kept.snapshot.root) == {b"in", b"in/sub", b"in/sub/a"}
        assert fetched(machine) - before == asked
    machine.forget(kept.sha256)
    assert machine.prune() == 0
    assert machine.snapshots() == []


def listed(machine: Machine, capsys: pytest.CaptureFixture[str], **options: Any) -> list[dict[str, Any]]:
    """What `--list --json` prints."""
    run(list_files(machine._repository(), Selection(**options), as_json=True))
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_list_has_the_paths_in_the_newest_snapshots_however_it_knows_them(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(here / "home")
    write(here / "in/a", b"a")
    no_unicode = os.fsdecode(b"in/b/\xff")
    write(here / no_unicode, b"c")
    machine.put("in")
    for lister in (machine, machine, Machine(here / "other", machine.cluster)):
        assert sorted(image["paths"] for image in listed(lister, capsys)) == [["in/a"], [no_unicode]]
    assert [image["paths"] for image in listed(machine, capsys, name=no_unicode[-1])] == [[no_unicode]]
    (here / "in/a").rename(here / "in/d")
    machine.put("in")
    for _ in range(2):
        assert sorted(image["paths"] for image in listed(machine, capsys)) == [[no_unicode], ["in/d"]]
    monkeypatch.setattr(SnapshotReader, "listing", None)  # which a list need not read again
    assert sorted(image["paths"] for image in listed(machine, capsys)) == [[no_unicode], ["in/d"]]


def test_a_list_of_a_machine_that_knows_all_asks_no_device(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(here / "home")
    for number in range(20):
        write(here / f"in/{number}", b"%d" % number)
    machine.put("in")
    other = Machine(here / "other", machine.cluster)
    assert len(listed(other, capsys)) == 20
    before = len([to for to, _ in machine.cluster.messages if to != BROKER])
    assert len(listed(other, capsys)) == 20
    assert len([to for to, _ in machine.cluster.messages if to != BROKER]) == before


def test_a_list_follows_what_is_stored_and_deleted_elsewhere(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(here / "home")
    write(here / "in/a", b"a")
    machine.put("in")
    other = Machine(here / "other", machine.cluster)
    assert [image["name"] for image in listed(other, capsys)] == ["a"]
    write(here / "alone", b"alone")
    run(put(machine.cluster, OwnVault(machine.vault, KEY), 2, 4, ["alone"]))
    assert sorted(image["name"] for image in listed(other, capsys)) == ["a", "alone"]
    found = machine.deletion(b"alone")
    run(delete_images(machine._repository(), found.images, 0))
    assert [image["name"] for image in listed(other, capsys)] == ["a"]
    for device in machine.cluster.devices[1:]:
        device.alive = False
    assert [image["restorable"] for image in listed(other, capsys)] == [False]


def test_one_folder_of_a_snapshot_is_restored_alone_under_its_own_name(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/2019/a")
    write(here / "in/2020/b")
    machine.put("in")
    machine.restore("latest", here / "o", [b"in", b"2020"])
    assert described(here / "o/2020") == described(here / "in/2020")
    assert os.listdir(here / "o") == ["2020"]


def test_a_machine_that_has_the_key_alone_finds_all_snapshots(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/x")
    ids = [machine.put("in")[1], machine.put("in")[1]]
    other = Machine(here / "other", machine.cluster)
    assert [each.sha256 for each in other.snapshots()] == [each.sha256 for each in ids if each is not None]


@pytest.mark.parametrize("wanted", ["latest", "0123"])
def test_a_snapshot_that_may_be_one_that_cannot_be_read_is_not_called_missing(wanted: str) -> None:
    with pytest.raises(NotEnoughError, match="2 cannot be"):
        choose([], wanted, None, unread=2)
    with pytest.raises(NotFoundError):
        choose([], wanted, None)


def test_devices_cannot_tell_a_tree_or_a_snapshot_from_a_small_image(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/x", b"x" * 70)
    machine.put("in")
    shares = [share for held in machine.cluster.holdings().values() for _, share in held]
    beside = [share.commitment for share in shares if share.commitment is not None]
    assert len(beside) == len(shares) == 4 * 4  # of the image, two trees and the snapshot
    assert len({(len(each.mapping), each.revision, len(each.grants)) for each in beside}) == 1


# --- deleting, forgetting and pruning

LATER = 2 * 86_400.0  # seconds from now, when what is stored now is no longer of the last day


def test_a_deletion_says_each_snapshot_and_path_that_would_lack_it(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/a/x", b"twice")
    write(here / "in/b/deep/y", b"twice")
    write(here / "in/b/z", b"another")
    _, first = machine.put("in")
    (here / "in/a/x").rename(here / "in/a/renamed")
    _, second = machine.put("in")
    assert first is not None and second is not None
    found = machine.deletion(b"twice")
    (image,) = found.images
    assert [(place.kept.sha256, shown_path(place.path)) for place in found.places_of(image)] == [
        (first.sha256, "in/a/x"),
        (first.sha256, "in/b/deep/y"),
        (second.sha256, "in/a/renamed"),
        (second.sha256, "in/b/deep/y"),
    ]
    assert found.warnings == ["2 snapshots would lack what is deleted, under 4 paths"]
    line = found.places_of(image)[0].line
    assert line.startswith(first.sha256.hex()[:8]) and line.endswith(f"{first.snapshot.label}  in/a/x")


def test_a_deletion_of_what_no_snapshot_names_says_nothing_of_snapshots(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/x", b"named")
    machine.put("in")
    write(here / "alone", b"alone")
    run(put(machine.cluster, OwnVault(machine.vault, KEY), 2, 4, ["alone"]))
    found = machine.deletion(b"alone")
    assert (found.places_of(found.images[0]), found.warnings) == ([], [])


def test_a_deletion_says_that_a_snapshot_cannot_be_asked(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/x", b"x")
    machine.put("in")
    other = Machine(here / "other", machine.cluster)
    run(other._repository().holdings())  # so that the mappings are known there
    for device in machine.cluster.devices[1:]:
        device.alive = False
    found = other.deletion(b"x")
    assert found.warnings == ["which others name it cannot be told: 1 object of theirs cannot be read"]


def test_pruning_deletes_what_no_snapshot_names_and_nothing_else(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/stays", b"stays")
    write(here / "in/goes", b"goes")
    _, before = machine.put("in")
    (here / "in/goes").unlink()
    machine.put("in")
    assert [name for name, _ in machine.unneeded()] == []
    assert before is not None
    machine.forget(before.sha256)
    assert machine.unneeded(now=0.0) == [], "what was stored in the last day may still be named"
    assert sorted(machine.unneeded()) == [("goes", None), ("in", "tree"), ("snapshot", "tree")]
    assert machine.prune() == 0
    assert machine.unneeded() == []
    assert failures(machine.restore("latest", here / "o")) == []
    assert described(here / "o/in") == described(here / "in")


def test_what_a_snapshot_names_that_comes_while_it_is_pruned_is_taken_back(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/sub/x", b"content")
    machine.put_and_forget("in")

    def put_again() -> None:  # between the look at the snapshots and the deleting
        machine.put("in")

    assert machine.prune(meanwhile=put_again) == 0
    assert failures(machine.restore("latest", here / "o")) == []
    assert described(here / "o/in") == described(here / "in")


def test_a_put_says_what_was_pruned_before_its_snapshot_was_there(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/x", b"content")
    machine.put_and_forget("in")
    outcomes, recorded = machine.put("in", before_recording=lambda: machine.prune())
    assert recorded is not None
    (failed,) = [outcome for outcome in outcomes if isinstance(outcome, FailedImage)]
    assert "3 of what it names were deleted meanwhile" in str(failed.error)
    outcomes, _ = machine.put("in")
    assert [type(outcome) for outcome in outcomes] == [StoredImage]
    assert failures(machine.restore(recorded.sha256.hex(), here / "o")) == []
    assert described(here / "o/in") == described(here / "in")


def test_a_put_of_more_than_a_day_says_what_it_stored_itself_and_a_prune_deleted(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(here / "home")
    write(here / "in/x", b"content")
    real = time.time

    def days_later() -> None:  # what this put has stored is named by no snapshot yet
        monkeypatch.setattr(time, "time", lambda: real() + LATER)
        assert machine.prune() == 0

    outcomes, recorded = machine.put("in", before_recording=days_later)
    (failed,) = [outcome for outcome in outcomes if isinstance(outcome, FailedImage)]
    assert "3 of what it names were deleted meanwhile" in str(failed.error)
    outcomes, _ = machine.put("in")
    assert [type(outcome) for outcome in outcomes] == [StoredImage]
    assert recorded is not None
    assert failures(machine.restore(recorded.sha256.hex(), here / "o")) == []


def test_a_prune_that_is_killed_holds_puts_up_and_the_next_takes_back_what_they_name(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(here / "home")
    write(here / "in/x", b"content")
    machine.put_and_forget("in")

    async def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:  # once it has deleted, and before it reads the snapshots once more
        changed.setattr(PrunePlan, "end", killed)
        changed.setattr(pruning, "_new", lambda *_: [])
        with pytest.raises(KeyboardInterrupt):
            machine.prune()
    monkeypatch.setattr(run_of_producer, "_PRUNE_TIMEOUT", 0.05)
    outcomes, recorded = machine.put("in")
    assert recorded is not None
    (failed,) = [outcome for outcome in outcomes if isinstance(outcome, FailedImage)]
    assert "another machine prunes the vault, or was broken off in it" in str(failed.error)
    assert machine.prune() == 0
    outcomes, _ = machine.put("in")
    assert [type(outcome) for outcome in outcomes] == [StoredImage]
    assert failures(machine.restore("latest", here / "o")) == []
    assert described(here / "o/in") == described(here / "in")


def test_what_a_put_that_was_killed_names_is_taken_back_by_the_next_prune(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(here / "home")
    write(here / "in/x", b"content")
    machine.put_and_forget("in")
    recorded = machine.put_killed_before_it_looks("in", monkeypatch)
    assert machine.prune() == 0
    assert failures(machine.restore(recorded.hex(), here / "o")) == []
    assert described(here / "o/in") == described(here / "in")


def test_what_prunes_deleted_is_in_one_plan_in_the_trash_which_no_list_shows(here: Path) -> None:
    machine = Machine(here / "home")
    for name in ("x", "y", "z"):
        write(here / "in/x", name.encode())
        machine.put_and_forget("in")
        assert machine.prune() == 0
    assert machine.prune() == 0
    assert machine.plans_in_trash() == 1
    assert sorted(each.name for each in machine.trash()) == sorted(["x", "in", "snapshot", "snapshot"] * 3)
    assert machine.cluster.encodings() == []


def test_what_was_deleted_on_purpose_no_prune_takes_back(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(here / "home")
    write(here / "in/x", b"content")
    machine.put_and_forget("in")
    recorded = machine.put_killed_before_it_looks("in", monkeypatch)
    write(here / "other/x", b"content")
    machine.put("other")
    machine.let_go_and_delete(b"content")
    assert machine.prune() == 0
    assert len(failures(machine.restore(recorded.hex(), here / "o"))) == 1
    assert len(failures(machine.restore("latest", here / "p"))) == 1


def test_the_rest_of_a_snapshot_whose_put_was_killed_is_told_with_how_it_is_deleted(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/x", b"content")
    _, recorded = machine.put("in")
    assert recorded is not None
    rest = KEY.snapshot_object_id(recorded.sha256)
    (encoding,) = [each for each in machine.cluster.encodings() if each.object_id == rest]
    for device in machine.cluster.devices[1:]:
        device.lose(*[key for key in device.shares if key[0] == encoding.encoding_id])
    other = Machine(here / "other home", machine.cluster)  # this one knows what it stored
    with pytest.raises(NotEnoughError, match="nothing was deleted") as told:
        other.prune()
    assert f"delete it: python admin/admin.py delete --hash {recorded.sha256.hex()}" in (told.value.advice or "")
    other.forget(recorded.sha256)
    assert other.prune() == 0
    assert machine.cluster.encodings() == []


def test_a_snapshot_is_taken_back_with_all_that_it_names(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/sub/x", b"content")
    snapshot = machine.put_and_forget("in").hex()
    assert machine.prune() == 0
    assert machine.cluster.encodings() == []
    assert machine.undelete(snapshot) == 0
    assert failures(machine.restore(snapshot, here / "o")) == []
    assert described(here / "o/in") == described(here / "in")


def test_nothing_is_pruned_while_devices_are_away_that_may_have_a_snapshot_alone(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "in/x", b"content")
    machine.put("in")
    for device in machine.cluster.devices[:2]:
        device.alive = False
    with pytest.raises(NotEnoughError, match=r"device-1, device-2: not connected.*nothing was deleted"):
        machine.unneeded()


def test_what_others_left_or_share_is_never_pruned(here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "x", b"left by a camera")
    card = card_of(KEY, "ann")
    deposit = OtherVault(card, ClientIdentity(KeyPair.generate(), []))
    run(put(machine.cluster, deposit, 2, 4, ["x"]))
    assert machine.unneeded() == []


@pytest.mark.parametrize("size", [100, SEGMENT + 100])
def test_what_was_stored_without_a_snapshot_is_never_pruned(size: int, here: Path) -> None:
    machine = Machine(here / "home")
    write(here / "x", bytes(size))
    run(put(machine.cluster, OwnVault(machine.vault, KEY), 2, 4, ["x"]))
    assert machine.unneeded() == []


def test_what_a_run_with_a_snapshot_stored_first_is_said_to_be_open_to_prune(here: Path) -> None:
    machine = Machine(here / "home")

    def put_without_snapshot(name: str) -> tuple[bool, bool]:
        (outcome,) = run(put(machine.cluster, OwnVault(machine.vault, KEY), 2, 4, [name]))
        assert isinstance(outcome, StoredImage)
        return outcome.already_stored, outcome.may_be_pruned

    for name in ("first with", "first without"):
        Path(name).write_bytes(name.encode())
    assert put_without_snapshot("first without") == (False, False)
    (with_one, without), _ = machine.put("first with", "first without")
    assert isinstance(with_one, StoredImage) and isinstance(without, StoredImage)
    assert not (with_one.may_be_pruned or without.may_be_pruned), "the snapshot names them"
    assert put_without_snapshot("first with") == (True, True)
    assert put_without_snapshot("first without") == (True, False)


# --- where things are


def test_what_the_list_told_of_is_not_asked_for_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "source" / "below").mkdir(parents=True)
    (here / "source" / "below" / "x").write_bytes(b"content")
    machine = Machine(here / "home")
    machine.put(here / "source")
    asked: list[bytes] = []
    locate_all = Repository.locate_all

    async def counted(repository: Repository, sha256s: Sequence[bytes]) -> Any:
        asked.extend(sha256s)
        return await locate_all(repository, sha256s)

    monkeypatch.setattr(Repository, "locate_all", counted)
    (restored,) = machine.restore("latest", here / "target")
    assert isinstance(restored, Restored)
    assert (here / "target" / "source" / "below" / "x").read_bytes() == b"content"
    assert not asked


def test_what_was_listed_without_enough_shares_is_asked_for_again(here: Path) -> None:
    (here / "x").write_bytes(b"content")
    machine = Machine(here / "home")
    machine.put(here / "x")
    repository = machine._repository()
    reader = SnapshotReader(repository)

    async def located() -> bool:
        for device in machine.cluster.devices[:3]:
            device.alive = False
        await reader.snapshots()
        for device in machine.cluster.devices[:3]:
            device.alive = True
        (found,) = (await reader.locate([bytes.fromhex(sha256_of(b"content"))])).values()
        return isinstance(found, list) and any(map(is_at_hand, found))

    assert run(located())
