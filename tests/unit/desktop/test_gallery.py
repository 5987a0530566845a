"""The gallery's model: what is kept here is there at once, what the cluster says takes its place."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Optional

from common.protocol.envelope import Operation
from common.protocol.messages import ShareAt
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from desktop.background import Background
from desktop.model.entries import Entry
from desktop.model.gallery import GalleryModel
from desktop.model.images import Images, Look, State, look, read_kept
from desktop.model.thumbnails import Thumbnails
from desktop.session import Session
from tests.support.desktop_models import deliver_until, keep
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.memory_device import HeldShare
from tests.support.sample_images import KEY, EncodedImage, Unseeing, device_of, encode
from viewer.process import Pixels

IMAGE, OTHER = encode(b"content"), encode(b"other content")


def kept_in(vault: VaultFolder, *images: EncodedImage) -> VaultFolder:
    for image in images:
        vault.index(KEY).keep_mapping(image.commitment.object_id, image.encoding_id, image.commitment.mapping)
    return vault


def entries_of(*images: EncodedImage, folder: Path) -> list[Entry]:
    return [entry for batch in read_kept(kept_in(VaultFolder(folder), *images), KEY) for entry in batch]


def sha256(image: EncodedImage) -> str:
    return hashlib.sha256(image.content).hexdigest()


# --- what there is


def test_what_is_kept_here_is_read_and_what_does_not_open_is_passed_over(tmp_path: Path) -> None:
    vault = kept_in(VaultFolder(tmp_path), OTHER)
    vault.index(KEY).keep_mapping(IMAGE.commitment.object_id, IMAGE.encoding_id, IMAGE.commitment.mapping[:-1])
    assert [entry.sha256 for batch in read_kept(vault, KEY) for entry in batch] == [sha256(OTHER)]


def test_what_the_cluster_says_takes_the_place_of_what_was_kept(tmp_path: Path) -> None:
    images = Images()
    images.add(entries_of(IMAGE, OTHER, folder=tmp_path))
    assert len(images) == 2
    whole = entries_of(IMAGE, folder=tmp_path / "again")[0].known_at([IMAGE.located()])
    state = State(None, {device_of(0): "attic"}, frozenset(), 0)
    assert images.take(Look({whole.sha256: whole}, state))
    assert [images.entry(sha256(image)) is None for image in (IMAGE, OTHER)] == [False, True]
    assert not images.take(Look({whole.sha256: whole}, state, changed=False))
    images.add(entries_of(IMAGE, folder=tmp_path / "third"))
    assert images.entry(sha256(IMAGE)) == whole


def cluster_with(*images: EncodedImage) -> MemoryCluster:
    cluster = MemoryCluster(4)
    for image in images:
        hold(cluster, image)
    return cluster


def hold(cluster: MemoryCluster, image: EncodedImage) -> None:
    for share, device in enumerate(cluster.devices):
        blocks = {segment: blocks[share] for segment, blocks in enumerate(image.blocks)}
        device.hold(share, HeldShare(KEY.owner_id(), blocks, image.signed))


def looked(cluster: MemoryCluster, folder: Path, images: Images) -> tuple[Look, list[Entry]]:
    told: list[Entry] = []
    repository = Repository(cluster.link, VaultFolder(folder), KEY)
    found = run(look(repository, images.known, told.extend))
    images.take(found)
    return found, told


def described(cluster: MemoryCluster) -> int:
    return sum(device.asked[Operation.DESCRIBE] for device in cluster.devices)


def test_a_look_at_the_cluster_asks_for_unknown_mappings_only_and_counts_unreadable(tmp_path: Path) -> None:
    cluster = cluster_with(IMAGE, OTHER, encode(b"third content"))
    for device in cluster.devices:
        device.alive = False
    kept_in(VaultFolder(tmp_path), IMAGE, OTHER)
    found, told = looked(cluster, tmp_path, Images())
    assert set(found.entries) == {sha256(IMAGE), sha256(OTHER)}
    assert (found.state.unreadable, told, described(cluster)) == (1, [], 0)
    for device in cluster.devices:
        device.alive = True
    found, told = looked(cluster, tmp_path, Images())
    assert [entry.sha256 for entry in told] == [sha256(encode(b"third content"))]
    assert len(found.entries) == 3
    assert all(entry.badge.words == "whole" for entry in found.entries.values())
    assert (found.state.unreadable, described(cluster)) == (0, 1)


def test_a_look_that_finds_nothing_new_says_so_and_one_that_does_says_that(tmp_path: Path) -> None:
    cluster, images = cluster_with(IMAGE), Images()
    assert [looked(cluster, tmp_path, images)[0].changed for _ in range(3)] == [True, False, False]
    cluster.devices[3].alive = False
    found, _ = looked(cluster, tmp_path, images)
    assert found.changed
    assert [entry.badge.words for entry in found.entries.values()] == ["1 share missing"]
    hold(cluster, OTHER)
    found, told = looked(cluster, tmp_path, images)
    assert found.changed
    assert [entry.sha256 for entry in told] == [sha256(OTHER)]
    assert set(found.entries) == {sha256(IMAGE), sha256(OTHER)}


def test_what_was_looked_at_before_is_there_the_next_time_what_was_stored_last_first(tmp_path: Path) -> None:
    images = [encode(b"content %d" % number) for number in range(3)]
    looked(cluster_with(*images), tmp_path, Images())
    vault = VaultFolder(tmp_path)
    stored = [rows[0].described for rows in vault.index(KEY).images(newest_first=True)]
    found = [entry for batch in read_kept(vault, KEY) for entry in batch]
    assert [entry.sha256 for entry in found] == [each.sha256 for each in stored if each is not None]
    assert {entry.sha256 for entry in found} == set(map(sha256, images))


# --- the model


def test_the_gallery_shows_what_is_kept_though_nobody_answers_and_says_so(
    session: Session, background: Background
) -> None:
    image = encode(b"content", key=session.key)
    keep(session, image)
    opened: list[str] = []
    model = GalleryModel(session, background, Unseeing(), opened.append)
    model.activate()
    deliver_until(background, lambda: model.shown and model.error)
    assert [entry.sha256 for entry in model.shown] == [sha256(image)]
    assert model.error is not None
    assert model.error.exit_code == 6  # this machine was never admitted to a cluster
    assert model.state == "The broker is not reached"
    model.select(model.shown[0].sha256)
    assert model.entry == model.shown[0]
    assert sha256(image)[:16] in model.command
    model.reassemble(sha256(image))
    assert opened == [sha256(image)]
    model.look_for("nothing like it")
    assert (model.shown, model.emptiness) == ([], "No image is like that.")
    assert model.summary == "0 of 1 image"
    model.deactivate()


def test_the_state_of_shares_that_are_away_is_shown_with_the_devices_that_have_them(
    session: Session, background: Background
) -> None:
    model = GalleryModel(session, background, Unseeing(), lambda _: None)
    image = encode(b"content", key=session.key)
    keep(session, image)
    entry = next(read_kept(session.vault, session.key))[0]
    shares = [ShareAt(share, device_of(share), True, share != 3) for share in range(4)]
    known = entry.known_at([image.located(shares=shares)])
    model._take(Look({known.sha256: known}, State(None, {device_of(3): "attic"}, frozenset(), 2)))
    model.select(entry.sha256)
    assert model.shown[0].badge.words == "1 share missing"
    assert [(place.device, place.state) for place in model.places][3] == ("attic", "away")
    model._all_read(None)
    assert "2 more images cannot be shown" in model.state
    model.deactivate()


# --- thumbnails


def test_of_thumbnails_asked_for_before_none_is_made_that_is_not_wanted_any_more() -> None:
    entered, go_on = threading.Event(), threading.Event()
    made: list[str] = []
    done = threading.Event()

    def make(key: str) -> Optional[Pixels]:
        entered.set()
        go_on.wait(20)
        return None

    def deliver(key: str, _: Optional[Pixels]) -> None:
        made.append(key)
        if key == "d":
            done.set()

    thumbnails = Thumbnails(make, deliver)
    thumbnails.want(["a", "b", "c"])
    assert entered.wait(20)
    thumbnails.want(["c", "d"])
    go_on.set()
    assert done.wait(20)
    thumbnails.close()
    assert made == ["a", "c", "d"]
