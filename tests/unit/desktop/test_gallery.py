"""The gallery's model: what is kept here is there at once, what the cluster says takes its place."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import pytest

from common.protocol.envelope import Operation
from common.repository.repository import Repository
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from desktop.background import Background, void
from desktop.model import gallery as gallery_module
from desktop.model import images as images_module
from desktop.model.entries import Entry, newest_first
from desktop.model.gallery import GalleryModel
from desktop.model.images import Images, Look, Order, Rows, State, look, read_kept, read_order
from desktop.model.shown import Pages
from desktop.model.thumbnails import Thumbnails
from desktop.session import Session
from tests.support.desktop_models import deliver_until, keep
from tests.support.memory_cluster import MemoryCluster, run
from tests.support.memory_device import HeldShare
from tests.support.sample_images import KEY, EncodedImage, Unseeing, device_of, encode
from viewer.process import Pixels

IMAGE, OTHER = encode(b"content"), encode(b"other content")


def kept_in(vault: VaultFolder, *images: EncodedImage, key: VaultKey = KEY) -> VaultFolder:
    for image in images:
        vault.index(key).keep_mapping(image.commitment.object_id, image.encoding_id, image.commitment.mapping)
    return vault


def sha256(image: EncodedImage) -> str:
    return hashlib.sha256(image.content).hexdigest()


# --- what there is


def test_what_is_kept_here_is_read_and_what_does_not_open_is_passed_over(tmp_path: Path) -> None:
    vault = kept_in(VaultFolder(tmp_path), OTHER)
    vault.index(KEY).keep_mapping(IMAGE.commitment.object_id, IMAGE.encoding_id, IMAGE.commitment.mapping[:-1])
    assert [entry.sha256 for entry in read_kept(vault.index(KEY))] == [sha256(OTHER)]


def test_what_the_cluster_says_takes_the_place_of_what_was_kept(tmp_path: Path) -> None:
    images = Images()
    images.kept = read_kept(kept_in(VaultFolder(tmp_path), IMAGE, OTHER).index(KEY))
    assert len(images) == 2
    state = State(None, {device_of(0): "attic"}, frozenset(), 0)
    order = Order(np.array([7], np.int64), ("PNG",))
    assert images.take(Look(order, state))
    assert (len(images), images.formats, images.names) == (1, ["PNG"], state.names)
    assert not images.take(Look(None, state))
    assert len(images) == 1


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
    """What a look finds, and the entries that there are then."""
    repository = Repository(cluster.link, VaultFolder(folder), KEY)
    found = run(look(repository, images.state, void))
    images.take(found)
    return found, Rows(repository.index, images.alive).read(images.order.numbers.tolist())


def described(cluster: MemoryCluster) -> int:
    return sum(device.asked[Operation.DESCRIBE] for device in cluster.devices)


def test_a_look_at_the_cluster_asks_for_unknown_mappings_only_and_counts_unreadable(tmp_path: Path) -> None:
    cluster = cluster_with(IMAGE, OTHER, encode(b"third content"))
    for device in cluster.devices:
        device.alive = False
    kept_in(VaultFolder(tmp_path), IMAGE, OTHER)
    found, entries = looked(cluster, tmp_path, Images())
    assert {entry.sha256 for entry in entries} == {sha256(IMAGE), sha256(OTHER)}
    assert (found.state.unreadable, described(cluster)) == (1, 0)
    for device in cluster.devices:
        device.alive = True
    found, entries = looked(cluster, tmp_path, Images())
    assert len(entries) == 3
    assert all(entry.badge.words == "whole" for entry in entries)
    assert (found.state.unreadable, described(cluster)) == (0, 1)


def test_a_look_that_finds_nothing_new_says_so_and_one_that_does_says_that(tmp_path: Path) -> None:
    cluster, images = cluster_with(IMAGE), Images()
    assert [looked(cluster, tmp_path, images)[0].order is None for _ in range(3)] == [False, True, True]
    cluster.devices[3].alive = False
    found, entries = looked(cluster, tmp_path, images)
    assert found.order is not None
    assert [entry.badge.words for entry in entries] == ["1 share missing"]
    hold(cluster, OTHER)
    found, entries = looked(cluster, tmp_path, images)
    assert found.order is not None
    assert {entry.sha256 for entry in entries} == {sha256(IMAGE), sha256(OTHER)}


def test_while_devices_say_what_they_have_what_is_known_already_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "_AT_ONCE", 2)
    monkeypatch.setattr("common.repository.images._AT_ONCE", 2)
    repository = Repository(cluster_with(*many(9)).link, VaultFolder(tmp_path), KEY)
    told: list[int] = []
    found = run(look(repository, None, lambda order: told.append(len(order.numbers))))
    assert told == [2, 4, 8]
    assert found.order is not None
    assert len(found.order.numbers) == 9


def test_what_was_looked_at_before_is_there_the_next_time_what_was_stored_last_first(tmp_path: Path) -> None:
    looked(cluster_with(*many(3)), tmp_path, Images())
    index = VaultFolder(tmp_path).index(KEY)
    entries = Rows(index).read(read_order(index).numbers.tolist())
    assert entries == newest_first(entries)
    assert {entry.sha256 for entry in entries} == set(map(sha256, many(3)))
    assert all(entry.health is None for entry in entries), "nobody was asked yet"


def many(count: int) -> list[EncodedImage]:
    return [encode(b"content %d" % number) for number in range(count)]


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
    model.select(model.shown[0].key)
    assert model.entry == model.shown[0]
    assert sha256(image)[:16] in model.command
    model.reassemble(sha256(image))
    assert opened == [sha256(image)]
    model.look_for("nothing like it")
    assert (len(model.shown), model.emptiness) == (0, "No image is like that.")
    assert model.summary == "0 of 1 image"
    model.deactivate()


class Window:
    """A gallery whose index has these images, each with all its shares; the cluster is not asked."""

    def __init__(self, session: Session, background: Background, *images: EncodedImage) -> None:
        index = kept_in(session.vault, *images, key=session.key).index(session.key)
        index.apply({image.commitment.object_id: [image.located()] for image in images})
        self.session, self.background = session, background
        self.model = GalleryModel(session, background, Unseeing(), void)
        self.take(0, 1, 2, 3)

    def take(self, *alive: int, unreadable: int = 0) -> None:
        """The cluster says that these devices are connected."""
        state = State(None, {device_of(3): "attic"}, frozenset(map(device_of, alive)), unreadable)
        self.model._read = True
        self.model._take(Look(read_order(self.session.vault.index(self.session.key)), state))

    def until(self, condition: Callable[[], object]) -> None:
        deliver_until(self.background, condition)

    @property
    def is_read(self) -> bool:
        return all(entry.is_read for entry in self.model.shown)


def test_the_state_of_shares_that_are_away_is_shown_with_the_devices_that_have_them(
    session: Session, background: Background
) -> None:
    window = Window(session, background, encode(b"content", key=session.key))
    model = window.model
    window.take(0, 1, 2, unreadable=2)
    window.until(lambda: window.is_read)
    model.select(model.shown[0].key)
    assert model.shown[0].badge.words == "1 share missing"
    assert [(place.device, place.state) for place in model.places][3] == ("attic", "away")
    assert "2 more images cannot be shown" in model.state


def test_of_many_images_only_those_near_the_ones_in_sight_are_in_memory(
    session: Session, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("desktop.model.shown.PAGE", 2)
    monkeypatch.setattr("desktop.model.shown._KEPT", 3)
    window = Window(session, background, *(encode(b"content %d" % n, key=session.key) for n in range(20)))
    shown = window.model.shown
    assert isinstance(shown, Pages)
    names = []
    for place in range(20):
        window.until(lambda at=place: shown[at].is_read)  # type: ignore[misc]
        names.append(shown[place].sha256)
    assert len(set(names)) == 20
    assert set(shown.at_hand) == set(shown._numbers[-6:].tolist())
    for place in range(20):
        window.take(*range(4 - place % 2))  # by which all is read anew
        window.until(lambda at=place: window.model.shown[at].is_read)  # type: ignore[misc]
        assert isinstance(window.model.shown, Pages)
        assert 0 < len(window.model.shown.at_hand) <= 6


def test_what_was_shown_stays_until_what_is_new_of_it_is_read(session: Session, background: Background) -> None:
    window = Window(session, background, encode(b"content", key=session.key))
    window.until(lambda: window.is_read)
    window.take(0, 1)
    assert [entry.badge.words for entry in window.model.shown] == ["whole"]
    window.until(lambda: [entry.badge.words for entry in window.model.shown] == ["in danger"])


def test_what_is_looked_for_is_found_among_all_and_stays_found_as_more_comes(
    session: Session, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "_AT_ONCE", 3)
    images = [encode(b"content %d" % n, key=session.key) for n in range(10)]
    window = Window(session, background, *images)
    model, wanted = window.model, sha256(images[7])
    model.look_for(wanted[:12])
    window.until(lambda: model.state != "Searching …" and window.is_read)
    assert ([entry.sha256 for entry in model.shown], model.summary) == ([wanted], "1 of 10 images")
    window.take(0, 1, 2)
    window.until(lambda: [entry.badge.words for entry in model.shown] == ["1 share missing"])
    model.look_for("")
    assert len(model.shown) == 10
    model.choose_unwell(True)
    window.until(lambda: model.state != "Searching …")
    assert len(model.shown) == 10


def test_more_images_than_can_be_worked_on_at_once_are_chosen_and_not_read(
    session: Session, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_module, "MOST_CHOSEN", 3)
    window = Window(session, background, *(encode(b"content %d" % n, key=session.key) for n in range(4)))
    model = window.model
    model.select_all()
    assert (len(model.chosen), model.chosen_images, model.entry) == (4, None, None)
    model.toggle(model.shown[2].key)
    window.until(lambda: model.chosen_images is not None)
    assert len(model.chosen_images or []) == 3


def test_an_image_that_is_gone_is_said_to_be_and_no_other_in_its_place(
    session: Session, background: Background
) -> None:
    gone, stays = (encode(content, key=session.key) for content in (b"content", b"other content"))
    window = Window(session, background, gone, stays)
    session.vault.index(session.key).apply({gone.commitment.object_id: []})
    window.until(lambda: window.is_read)
    assert {(entry.sha256, entry.remark) for entry in window.model.shown} == {("", "gone"), (sha256(stays), "")}
    window.model.select_all()
    window.until(lambda: window.model.chosen_images is not None)
    assert [entry.sha256 for entry in window.model.chosen_images or []] == [sha256(stays)]


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
