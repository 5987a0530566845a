"""Photographs go to six devices and come back from four, with a mouse, and byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from pathlib import Path
from tkinter import filedialog
from typing import Any

import pytest

from cluster.local import CHECKOUT, LocalCluster
from consumer.gathering import Gathering
from desktop.model.gallery import GalleryModel
from desktop.model.putting import State
from desktop.model.reassemble import Phase, ReassembleModel
from desktop.model.store import Phase as StorePhase
from desktop.model.store import StoreModel
from producer.distribution import Distribution
from tests.desktop.conftest import StartApp
from tests.desktop.driving import Driven
from tests.support.devices import held_shares, wait_lost

WORDS = "four words for keeping"
PHOTOGRAPHS = ["astronaut.png", "hubble_deep_field.jpg", "rocket.jpg"]
LARGE = 100_000_000  # bytes: more than are hashed first, so that it can go on
_MIDDLE = 12  # of its 24 segments


def opened(cluster: LocalCluster, start_app: StartApp, name: str) -> Driven:
    """The app, its vault unlocked."""
    window = start_app(Path(cluster.add_client(name, WORDS)["TESSERA_HOME"]))
    window.fill_in(0, WORDS)
    window.press("Unlock")
    window.until(lambda: window.app.title() == "Gallery - Tessera", "the gallery")
    return window


def store_model(window: Driven) -> StoreModel:
    model = window.app.models["store"]
    assert isinstance(model, StoreModel)
    return model


def reassemble_model(window: Driven) -> ReassembleModel:
    model = window.app.models["reassemble"]
    assert isinstance(model, ReassembleModel)
    return model


def choose_files(window: Driven, monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """What the file dialog, which is the system's own, answers."""
    monkeypatch.setattr(filedialog, "askopenfilenames", lambda **_: tuple(str(path) for path in paths))
    window.press("Add files…")
    window.until(lambda: len(store_model(window).items) == len(paths), "the files in the table")


def choose_new_file(window: Driven, monkeypatch: pytest.MonkeyPatch, path: Path, size: int) -> None:
    """Make a file of `size` random bytes and choose it in the view for storing, once all devices are seen there."""
    path.write_bytes(os.urandom(size))
    window.press("Store")
    choose_files(window, monkeypatch, path)
    window.until(lambda: store_model(window).most == 6, "all devices")


def save_as(window: Driven, monkeypatch: pytest.MonkeyPatch, target: Path) -> None:
    monkeypatch.setattr(filedialog, "asksaveasfilename", lambda **_: str(target))
    window.press("Save as…")
    window.until(lambda: window.sees("byte for byte the original"), "the saved file")


def kill(cluster: LocalCluster, *indices: int) -> None:
    """End these devices at once, and wait until the broker has noticed."""
    for index in indices:
        cluster.kill_device(index)
    wait_lost(cluster, *indices)


def held_in_the_middle(monkeypatch: pytest.MonkeyPatch, kind: type[Any], method: str) -> threading.Event:
    """An event without which half of a LARGE image goes no further, however fast the machine is and slow the window."""
    go_on = threading.Event()
    real = getattr(kind, method)

    async def held(self: Any, segment: Any, *rest: Any) -> Any:
        number = segment if isinstance(segment, int) else segment.segment
        while number >= _MIDDLE and not go_on.is_set():
            await asyncio.sleep(0.01)
        return await real(self, segment, *rest)

    monkeypatch.setattr(kind, method, held)
    return go_on


def held_at(monkeypatch: pytest.MonkeyPatch, kind: type[Any], method: str) -> threading.Event:
    """An event without which a step is not begun."""
    go_on = threading.Event()
    real = getattr(kind, method)

    async def held(self: Any, *arguments: Any) -> Any:
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return await real(self, *arguments)

    monkeypatch.setattr(kind, method, held)
    return go_on


def encodings_on(cluster: LocalCluster, index: int) -> set[str]:
    """The encodings of which a device has a share on its disk."""
    return {share.encoding for share in held_shares(cluster) if share.device == f"device-{index}"}


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_three_photographs_are_stored_seen_and_reassembled_without_two_devices(
    fragile_cluster: LocalCluster, start_app: StartApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = fragile_cluster
    window = opened(cluster, start_app, f"{tmp_path.name}-photographs")
    window.press("Store")
    photographs = [CHECKOUT / "samples" / name for name in PHOTOGRAPHS]
    choose_files(window, monkeypatch, *photographs)
    window.until(lambda: window.sees("Any 4 of 6 devices bring it back; two may be lost"), "k and n in words")
    window.press("Store now")
    window.until(lambda: window.sees("3 of 3 images stored"), "all stored")
    put = store_model(window).put
    assert put is not None
    assert {name: len(device.committed) for name, device in put.devices.items()} == dict.fromkeys(cluster.devices, 3)

    window.press("Gallery")
    gallery = window.app.models["gallery"]
    assert isinstance(gallery, GalleryModel)
    window.until(lambda: len(gallery.shown) == 3, "three images in the gallery")

    kill(cluster, 1, 2)
    wanted = sha256_of(photographs[0])
    gallery.reassemble(wanted)
    model = reassemble_model(window)
    window.until(lambda: model.phase is not Phase.GATHERING, "the end of gathering")
    window.until(lambda: window.sees("The original: its SHA-256 matches."), "the image itself")
    pixels = model.pixels
    assert pixels is not None
    assert (pixels.width, pixels.height) == (512, 512), "it is the image and no thumbnail"
    assert {device.name for device in model.reassembly.missing} == {"device-1", "device-2"}
    save_as(window, monkeypatch, tmp_path / "back.png")
    assert sha256_of(tmp_path / "back.png") == wanted

    cluster.start_device(1)
    cluster.start_device(2)
    cluster.wait_registered(6)
    window.press("Retry missing")
    window.until(lambda: model.phase is Phase.PROVEN, "the image once more")
    assert not model.reassembly.missing
    window.until(lambda: not window.can_press("Retry missing"), "that nothing is missing")


def test_that_one_devices_loss_would_lose_what_is_stored_is_said_in_the_window(
    cluster: LocalCluster, start_app: StartApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    window = opened(cluster, start_app, f"{tmp_path.name}-none-to-spare")
    choose_new_file(window, monkeypatch, tmp_path / "image.png", 1000)
    store_model(window).choose_shares(6, 6)
    assert not window.sees("Warning")
    window.press("Store now")
    window.until(lambda: window.sees("1 of 1 image stored"), "it stored")
    assert window.sees("Warning: 6 of 6: the loss of a single device loses what is stored now")


def test_with_three_of_six_devices_away_it_says_what_to_do_and_a_retry_succeeds(
    fragile_cluster: LocalCluster, start_app: StartApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = fragile_cluster
    window = opened(cluster, start_app, f"{tmp_path.name}-away")
    path = tmp_path / "photograph.bin"
    choose_new_file(window, monkeypatch, path, 200_000)
    window.press("Store now")
    window.until(lambda: window.sees("1 of 1 image stored"), "the end of storing")
    kill(cluster, 1, 2, 3)
    window.press("Reassemble")
    window.fill_in(0, sha256_of(path)[:12])
    window.press("Bring it back")
    back = reassemble_model(window)
    window.until(lambda: window.sees("connect one of these again: device-1, device-2, device-3"), "the advice")
    window.until(lambda: window.sees("Not the original"), "what is on the screen")
    assert not window.can_press("Save as…")
    cluster.start_device(3)
    cluster.wait_registered(4)
    window.press("Retry missing")
    window.until(lambda: back.phase is Phase.PROVEN, "the image")


def test_with_devices_away_it_stores_for_them_too_once_ticked_and_says_what_lacks(
    fragile_cluster: LocalCluster, start_app: StartApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = fragile_cluster
    window = opened(cluster, start_app, f"{tmp_path.name}-accepting")
    path = tmp_path / "photograph.bin"
    choose_new_file(window, monkeypatch, path, 200_000)
    assert not window.sees("away")
    kill(cluster, 1, 2)
    window.until(lambda: window.sees("device-1 and device-2 are away"), "the offer")
    window.until(lambda: window.sees("none of the 4 here may be lost"), "what it means")
    window.app._views["store"]._for_all.toggle()
    window.until(lambda: window.sees("Any 4 of 6 devices bring it back"), "that it is coded for all")
    window.press("Store now")
    window.until(lambda: window.sees("1 of 1 image stored, 1 of them with fewer shares"), "what became of it")
    (item,) = store_model(window).items
    assert item.state is State.DEGRADED
    assert "only 4 of 6 shares found a device; 0 may be lost" in item.text
    assert "the rest is made when device-1 and device-2 come back" in item.text


def test_two_devices_that_die_in_the_middle_of_reassembling_are_done_without(
    fragile_cluster: LocalCluster, start_app: StartApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = fragile_cluster
    window = opened(cluster, start_app, f"{tmp_path.name}-dying")
    path = tmp_path / "large.bin"
    choose_new_file(window, monkeypatch, path, LARGE)
    window.press("Store now")
    window.until(lambda: window.sees("1 of 1 image stored"), "the end of storing")

    go_on = held_in_the_middle(monkeypatch, Gathering, "segment")
    window.app.reassemble(sha256_of(path))
    model = reassemble_model(window)
    window.until(lambda: model.reassembly.part > 0.1, "a tenth of it")
    kill(cluster, 1, 2)
    window.until(lambda: window.sees("Not yet the original"), "that it is still on its way")
    assert 0.1 < model.reassembly.part < 1
    go_on.set()
    window.until(lambda: model.phase is Phase.PROVEN, "the file")
    assert {device.name for device in model.reassembly.missing} <= {"device-1", "device-2", "device-3"}
    save_as(window, monkeypatch, tmp_path / "back.bin")
    assert sha256_of(tmp_path / "back.bin") == sha256_of(path)


def test_a_put_that_is_cancelled_in_the_middle_goes_on_where_it_stopped(
    cluster: LocalCluster,
    start_app: StartApp,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    window = opened(cluster, start_app, f"{tmp_path.name}-cancelled")
    path = tmp_path / "large.bin"
    choose_new_file(window, monkeypatch, path, LARGE)
    model = store_model(window)
    go_on = held_in_the_middle(monkeypatch, Distribution, "append")
    window.press("Store now")
    window.until(lambda: model.put is not None and model.put.part > 0.3, "a third of it on its way")
    window.press("Cancel")
    window.until(lambda: model.phase is StorePhase.STOPPED, "that it stopped")
    go_on.set()
    window.until(lambda: window.sees("Resume sends the rest"), "what that means")
    window.press("Resume")
    window.until(lambda: window.sees("1 of 1 image stored"), "the rest")
    assert window.sees("goes on at"), "it began anew"

    window.app.reassemble(sha256_of(path))
    window.until(lambda: reassemble_model(window).phase is Phase.PROVEN, "the file again")
    save_as(window, monkeypatch, tmp_path / "back.bin")
    assert sha256_of(tmp_path / "back.bin") == sha256_of(path)


def test_resend_sends_the_share_of_a_device_that_died_to_one_that_is_ticked(
    fragile_cluster: LocalCluster, start_app: StartApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = fragile_cluster
    window = opened(cluster, start_app, f"{tmp_path.name}-resend")
    path = tmp_path / "large.bin"
    choose_new_file(window, monkeypatch, path, LARGE)
    model = store_model(window)
    model.choose_device("device-6", False)
    before = encodings_on(cluster, 6)
    go_on = held_in_the_middle(monkeypatch, Distribution, "append")
    window.press("Store now")
    window.until(lambda: model.put is not None and model.put.part > 0.3, "a third of it on its way")
    kill(cluster, 1)
    go_on.set()
    (item,) = model.items
    window.until(lambda: not model.busy, "the end of storing")
    assert item.state is State.DEGRADED, item.text
    window.until(lambda: window.sees("only 4 of 5 shares found a device"), "what became of it")

    window.press("Resend 1 image")
    window.until(lambda: not model.busy, "the end of sending")
    assert item.state is State.DEGRADED, "there is no device for it"
    window.until(lambda: window.sees("no other of the chosen devices took one"), "why")
    assert encodings_on(cluster, 6) == before, "nothing goes where it is not to go"

    model.choose_device("device-6", True)
    go_on = held_at(monkeypatch, Distribution, "commit")
    window.press("Resend 1 image")
    assert "--to device-6" in model.command
    go_on.set()
    window.until(lambda: not model.busy, "the end of sending")
    assert (item.state, model.error) == (State.STORED, None), item.text
    assert len(encodings_on(cluster, 6) - before) == 1, "the device that is ticked now has the share"
    put = model.put
    assert put is not None
    assert [name for name, device in put.devices.items() if device.committed] == ["device-6"]
