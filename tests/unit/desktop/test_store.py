"""Storing without a window: what is chosen, what k and n mean, how far each device is, and what failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Optional

import pytest

from common.errors import NotEnoughError, NotFoundError
from common.link.link import Link
from common.process.events import Warned, waiting
from common.protocol.messages import Device
from common.text import format_size
from desktop.background import Background
from desktop.model import wording
from desktop.model.putting import Item, Put, Rate, State, outcome_words, snapshot_words
from desktop.model.store import Phase, StoreModel
from desktop.session import Session
from producer.events import FailedImage, Interrupted, ShareStep, Step, StoredImage
from producer.owner import OwnVault
from producer.sources import Source
from tests.support.desktop_models import deliver_until
from tests.support.memory_cluster import MemoryCluster

SHA256 = bytes(32)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def device(number: int, *, alive: bool = True) -> Device:
    return Device(bytes([number] * 16), f"device-{number}", alive, 0, 1 << 30)


def item(name: str, size: int = 1000) -> Item:
    return Item(Source(Path(name), name, name, size))


def stored(name: str, *devices: Optional[str], again: bool = False) -> StoredImage:
    return StoredImage(SHA256, name, 1000, 2, len(devices), list(devices), again, 1.0, True)


# --- in plain words


@pytest.mark.parametrize(
    ("k", "n", "words"),
    [
        (4, 6, "any 4 of 6 devices bring it back; two may be lost"),
        (2, 3, "any 2 of 3 devices bring it back; one may be lost"),
        (3, 3, "all 3 devices are needed to bring it back; none may be lost"),
    ],
)
def test_k_of_n_in_plain_words(k: int, n: int, words: str) -> None:
    assert wording.redundancy(k, n) == words


def test_sizes_and_times_are_rounded_to_what_a_person_reads() -> None:
    assert [format_size(count) for count in (0, 999, 1000, 2_449_000, 150_000_000, 999_950_000)] == [
        *("0 bytes", "999 bytes", "1.0 kB", "2.4 MB", "150 MB", "1.0 GB"),
    ]
    assert [wording.time_left(seconds) for seconds in (None, 1, 30, 300, 7200)] == [
        *("", "about 1 s left", "about 30 s left", "about 5 min left", "about 2 h left"),
    ]


def test_a_rate_is_that_of_the_last_seconds_and_none_before_it_can_be_told() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.per_second() is None
    rate.add(1000)
    assert rate.per_second() is None
    clock.now += 2
    rate.add(1000)
    assert rate.per_second() == 1000
    assert rate.seconds_for(3000) == 3
    clock.now += 10
    assert rate.seconds_for(3000) is None, "nothing came lately"


# --- one put


def test_a_devices_bar_counts_bytes_and_its_words_count_shares() -> None:
    put = Put([item("a"), item("b")], Clock())
    for name in ("a", "b"):
        put.take(ShareStep(name, 0, "attic", Step.PLACED, 500))
    put.take(ShareStep("a", 0, "attic", Step.ACKNOWLEDGED, 500))
    attic = put.devices["attic"]
    assert (attic.part, len(attic.committed), len(attic.placed)) == (0.5, 0, 2)
    put.take(ShareStep("a", 0, "attic", Step.COMMITTED))
    put.take(ShareStep("b", 0, "attic", Step.COMMITTED))
    assert (attic.part, len(attic.committed)) == (1.0, 2)
    assert put.items["a"].state is State.SENDING


def test_a_share_that_moves_leaves_a_device_with_the_reason_and_counts_for_another() -> None:
    put = Put([item("a")], Clock())
    put.take(ShareStep("a", 0, "attic", Step.PLACED, 500))
    put.take(ShareStep("a", 0, "attic", Step.LOST, why="no room"))
    put.take(ShareStep("a", 0, "desk", Step.PLACED, 500))
    attic, desk = put.devices["attic"], put.devices["desk"]
    assert (len(attic.placed), list(attic.lost.values()), len(desk.placed)) == (0, ["no room"], 1)


def test_what_came_of_an_image_is_told_and_what_lacks_shares_can_be_sent_again() -> None:
    put = Put([item("whole"), item("twice"), item("degraded"), item("failed")], Clock())
    put.take(stored("whole", "x", "y", "z"))
    put.take(stored("twice", "x", "y", "z", again=True))
    put.take(stored("degraded", "x", "y", "z", None))
    put.take(FailedImage("failed", NotEnoughError("failed: only 2 shares")))
    states = {name: each.state for name, each in put.items.items()}
    assert list(states.values()) == [State.STORED, State.STORED, State.DEGRADED, State.FAILED]
    assert "stored already" in put.items["twice"].text
    assert "only 3 of 4 shares" in put.items["degraded"].text
    assert put.items["failed"].advice == NotEnoughError.advice
    assert [name for name, each in put.items.items() if each.resendable] == ["degraded", "failed"]


def test_a_file_that_cannot_be_read_is_nothing_to_send_again() -> None:
    missing = Item(Source(Path("a"), "a", "a", fault=NotFoundError("a: no such file")))
    missing.conclude(FailedImage("a", NotFoundError("a: no such file")))
    assert not missing.resendable


# --- the model


@pytest.fixture
def model(session: Session, background: Background) -> StoreModel:
    return StoreModel(session, background)


def test_left_to_itself_it_chooses_for_the_devices_that_are_connected_and_chosen(model: StoreModel) -> None:
    model._see([device(number) for number in range(1, 7)])
    assert model.words == "any 4 of 6 devices bring it back; two may be lost"
    assert "-k" not in model.command
    assert "--to" not in model.command
    model.choose_device("device-6", False)
    assert model.words == "any 3 of 5 devices bring it back; two may be lost"
    assert model.command.count("--to") == 5
    model._see([device(number, alive=number < 5) for number in range(1, 7)])
    assert model.words == "any 2 of 4 devices bring it back; two may be lost", "a choice outlives a look"


def test_what_cannot_be_is_said_in_place_of_the_words(model: StoreModel) -> None:
    model._see([device(1), device(2)])
    assert model.words == "2 of at least 3 devices are alive"


def test_the_sliders_stay_within_the_devices_and_show_in_the_command(model: StoreModel) -> None:
    model._see([device(number) for number in range(1, 7)])
    model.choose_shares(3, 9)
    assert (model.k, model.n) == (3, 6)
    model.choose_shares(5, 4)
    assert (model.k, model.n) == (4, 4)
    assert "-k 4 -n 4" in model.command
    model.leave_to_app()
    assert (model.k, model.n) == (4, 6)


def test_with_devices_away_it_offers_to_store_for_them_too_and_says_what_that_means(model: StoreModel) -> None:
    model._see([device(number, alive=number < 5) for number in range(1, 7)])
    assert model.words == "any 2 of 4 devices bring it back; two may be lost"
    assert model.offer == (
        "device-5 and device-6 are away. Shares that find no device now are made when they are back; until then none "
        "of the 4 here may be lost."
    )
    assert "--accept-degraded" not in model.command, "nobody said yes"
    model.accept_degraded(True)
    assert model.words == "any 4 of 6 devices bring it back; two may be lost"
    assert "--accept-degraded" in model.command
    model._see([device(number) for number in range(1, 7)])
    assert (model.offer, model.words) == ("", "any 4 of 6 devices bring it back; two may be lost")
    assert "--accept-degraded" not in model.command, "none is away any more"


def test_of_three_devices_one_away_refuses_or_is_made_up_for_as_its_owner_says(model: StoreModel) -> None:
    model._see([device(number, alive=number < 3) for number in range(1, 4)])
    assert model.words == "2 of at least 3 devices are alive"
    assert model.offer.endswith("made when it is back; until then none of the 2 here may be lost.")
    model.accept_degraded(True)
    assert model.words == "any 2 of 3 devices bring it back; one may be lost"
    model.choose_device("device-3", False)
    assert model.offer == "", "it gets no share, back or not"


def test_nothing_is_offered_where_every_share_has_a_device_or_too_few_are_here(model: StoreModel) -> None:
    model._see([device(number, alive=number != 8) for number in range(1, 9)])
    assert model.offer == "", "six of seven are enough"
    model._see([device(number, alive=number < 4) for number in range(1, 7)])
    assert model.offer == "", "four would be needed"


def test_the_sliders_reach_as_far_as_the_devices_that_are_counted(model: StoreModel) -> None:
    model._see([device(number, alive=number < 5) for number in range(1, 7)])
    model.choose_shares(3, 6)
    assert (model.k, model.n) == (3, 4)
    model.accept_degraded(True)
    model.choose_shares(3, 6)
    assert (model.k, model.n) == (3, 6)
    assert "until then one of the 4 here may be lost" in model.offer
    model.accept_degraded(False)
    assert (model.k, model.n) == (3, 4)


def test_what_came_of_all_counts_what_lacks_shares_and_what_was_skipped() -> None:
    items = [item(name) for name in "abcd"]
    for each, state in zip(items, (State.STORED, State.DEGRADED, State.FAILED, State.SKIPPED)):
        each.state = state
    assert outcome_words(items) == "2 of 3 images stored, 1 of them with fewer shares, 1 skipped"
    assert outcome_words(items[:1]) == "1 of 1 image stored"


def test_folders_are_walked_and_no_file_is_taken_twice(model: StoreModel, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"content")
    model.add([str(folder)])
    deliver_until(model.background, lambda: not model.looking)
    model.add([str(folder / "a.jpg")])
    deliver_until(model.background, lambda: not model.looking)
    assert [each.source.name for each in model.items] == ["a.jpg", "b.jpg"]
    assert str(folder) in model.command


def test_while_missing_shares_are_sent_the_command_shown_is_that_for_it(model: StoreModel) -> None:
    degraded = item("a")
    digest = SHA256.hex()
    degraded.state, degraded.sha256 = State.DEGRADED, digest
    model.items = [degraded]
    model._see([device(1), device(2)])
    model.resend()
    expected = model.command
    assert expected.endswith(f"repair --hash {digest} --to device-1 --to device-2")
    model._see([device(1), device(2), device(3)])
    assert model.busy and model.command == expected
    deliver_until(model.background, lambda: not model.busy)
    assert model.items[0].text == "its missing shares were not sent"


def test_that_one_devices_loss_would_lose_everything_is_said_while_it_is_stored(
    model: StoreModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = MemoryCluster(3)

    @asynccontextmanager
    async def reached(link: Link) -> AsyncIterator[Link]:
        yield link

    monkeypatch.setattr("producer.run.reached", reached)
    monkeypatch.setattr(OwnVault, "link", lambda *_: cluster.link)
    monkeypatch.setattr(Session, "identity", None)
    (tmp_path / "a.jpg").write_bytes(b"content")
    model.add([str(tmp_path / "a.jpg")])
    deliver_until(model.background, lambda: model.items)
    model._see(cluster.as_devices())
    for n, warning in ((3, ""), (2, "Warning: 2 of 2: the loss of a single device loses what is stored now")):
        model.choose_shares(2, n)
        model.items[0].state = State.WAITING
        model.start()
        deliver_until(model.background, lambda: not model.busy)
        assert model.phase is Phase.DONE and model.put is not None
        assert model.put.warning == warning


def test_a_folder_is_recorded_in_a_snapshot_and_that_is_said(
    model: StoreModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = MemoryCluster(3)
    cluster.owner = model.session.key.owner_id()

    @asynccontextmanager
    async def reached(link: Link) -> AsyncIterator[Link]:
        yield link

    monkeypatch.setattr("producer.run.reached", reached)
    monkeypatch.setattr(OwnVault, "link", lambda *_: cluster.link)
    monkeypatch.setattr(Session, "identity", None)
    (tmp_path / "album/empty").mkdir(parents=True)
    (tmp_path / "album/a.jpg").write_bytes(b"content")
    model.add([str(tmp_path / "album")])
    deliver_until(model.background, lambda: model.items)
    model._see(cluster.as_devices())
    model.start()
    deliver_until(model.background, lambda: not model.busy)
    assert model.put is not None and model.put.recorded is not None
    snapshot = model.put.recorded.snapshot
    assert (snapshot.files, snapshot.folders, snapshot.complete) == (1, 2, True)
    digits = model.put.recorded.sha256.hex()[:8]
    assert snapshot_words(model.put.recorded) == f"Folders, names and dates are in snapshot {digits}."


def test_what_a_put_waits_for_is_said_until_it_is_there() -> None:
    put = Put([item("a")], Clock())
    with waiting(put.take, "reaching the broker at 192.0.2.7"):
        assert put.waits_for == "reaching the broker at 192.0.2.7"
    assert put.waits_for == ""


def test_of_many_warnings_some_are_shown_and_the_others_counted() -> None:
    put = Put([item("a")], Clock())
    for number in range(5):
        put.take(Warned(f"file {number}: no journal\x1b can be kept"))
    assert put.warning.splitlines()[0] == "File 0: no journal� can be kept"
    assert put.warning.splitlines()[-1] == "(and 2 other warnings)"


def test_what_to_type_to_go_on_is_no_warning_in_a_window() -> None:
    put = Put([item("a")], Clock())
    put.take(Interrupted("a"))
    assert put.warning == ""


def test_without_a_cluster_the_error_is_shown_and_everything_can_go_on(model: StoreModel, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"content")
    model.add([str(tmp_path / "a.jpg")])
    deliver_until(model.background, lambda: model.items)
    model.start()
    assert model.busy
    deliver_until(model.background, lambda: not model.busy)
    assert model.phase is Phase.STOPPED
    assert model.error is not None and "not admitted" in str(model.error)
    assert model.waiting, "it can be tried again"
