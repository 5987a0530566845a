"""Screenshots of every view of the desktop app, light and dark, into docs/images: python docs/make_screenshots.py

Starts a cluster of this machine, stores pictures on it, loses two of its devices, and shows the real app under Xvfb at
1280×720 and 1920×1080. The pictures are the samples and pieces of them. Takes about two minutes.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout's root, in place of this folder

from PIL import Image, ImageGrab

from bench.screen import virtual_screen
from cluster.local import CHECKOUT, LocalCluster, require_success
from cluster.ports import find_base_port
from common.errors import UsageError

if TYPE_CHECKING:
    from desktop.app import App

IMAGES = CHECKOUT / "docs" / "images"
SIZES = ("1280x720", "1920x1080")
THEMES = ("light", "dark")
_NAMES = ("attic", "desk", "kitchen", "laptop", "nas", "office", "studio", "workshop")
_LOST = (3, 7)  # devices that are gone when the app is looked at
_SAMPLES = ("chelsea.png", "coffee.png", "astronaut.png", "hubble_deep_field.jpg", "rocket.jpg")
_PICTURES = 40
_DELETED = 3
_WORDS = "four words for a guest"
_LARGE = (6000, 4000)  # pixels, so that storing and reassembling can be seen under way
_CHILD = "--one-window"
_RUN_TIMEOUT = 240.0  # seconds
_TIMEOUT = 60.0  # seconds
_COLOURS = 256  # of a screenshot, which makes it a third as large


def main() -> None:
    if sys.argv[1:] == [_CHILD]:
        _Shooting(json.load(sys.stdin)).shoot()
        return
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tessera-screenshots-") as scratch:
        place = Path(scratch)
        pictures, more = place / "pictures", place / "holiday"
        _make_pictures(pictures / "2018", _PICTURES // 2, 2041)
        _make_pictures(pictures / "2019", _PICTURES // 2, 2141)
        _make_pictures(more, 6, 3107)
        with Image.open(CHECKOUT / "samples" / "hubble_deep_field.jpg") as sample:
            sample.resize(_LARGE).save(more / "deep field, large.tif")
        with LocalCluster(place / "cluster", workers=len(_NAMES), base_port=find_base_port(1)) as cluster:
            for number, name in enumerate(_NAMES, 1):
                renamed = cluster.run(
                    "broker", "rename", f"device-{number}", name, environment=cluster.broker_environment(1)
                )
                require_success("broker", renamed)
            samples = [str(CHECKOUT / "samples" / name) for name in _SAMPLES]
            lines: list[str] = []
            runs = {"family album": [str(pictures)], "the year 2018": [str(pictures / "2018")], "samples": samples}
            for name, given in runs.items():
                stored = cluster.run("producer", *given, "--label", name)
                require_success("producer", stored)
                lines += stored.stdout.splitlines()
            hashes = list(dict.fromkeys(line.split()[0] for line in lines))
            deleted = [word for sha256 in hashes[:_DELETED] for word in ("--hash", sha256)]
            require_success("admin", cluster.run("admin", "delete", "--yes", *deleted))
            _wait_reported(cluster)
            for number in _LOST:
                cluster.kill_device(number)
            for size in SIZES:
                with virtual_screen(size) as display:
                    new_home = place / f"new-{size}"
                    told = {
                        "size": size,
                        "more": more.name,
                        "invite": cluster.invite("client"),
                        "new_home": str(new_home),
                        "sha256": hashes[-1],
                    }
                    # As a broker is that serves a LAN: its invites have a short code, too.
                    environment = {**cluster.environment, "DISPLAY": display, "TESSERA_HOST": "0.0.0.0"}  # noqa: S104
                    for which in ("way in", "views"):
                        _run({**told, "which": which}, environment, place)


def _wait_reported(cluster: LocalCluster) -> None:
    """Until every device has said how much of its room is taken."""
    end = time.monotonic() + _TIMEOUT
    while not all(device["used_bytes"] for device in cluster.status()["devices"]):
        if time.monotonic() > end:
            sys.exit("not all devices said how full they are")


def _run(told: dict[str, str], environment: dict[str, str], place: Path) -> None:
    """The app in a process of its own, since one process has one window; in `place`, so that paths are short."""
    command = [sys.executable, str(Path(__file__).resolve()), _CHILD]
    subprocess.run(
        command, cwd=place, env=environment, input=json.dumps(told).encode(), check=True, timeout=_RUN_TIMEOUT
    )


def _make_pictures(folder: Path, count: int, first: int) -> None:
    """Pieces of the samples, called as a camera calls them."""
    folder.mkdir(parents=True)
    rng = random.Random(first)  # noqa: S311 - the same pictures each time
    samples = [Image.open(CHECKOUT / "samples" / name).convert("RGB") for name in _SAMPLES]
    number = first
    for _ in range(count):
        sample = rng.choice(samples)
        shape = rng.choice((1.5, 1.33, 1.0, 0.75))
        down = int(min(sample.height, sample.width / shape) * rng.uniform(0.5, 0.9))
        across = min(sample.width, int(down * shape))
        x, y = rng.randrange(sample.width - across + 1), rng.randrange(sample.height - down + 1)
        piece = sample.crop((x, y, x + across, y + down)).resize((2 * across, 2 * down))
        piece.save(folder / f"IMG_{number}.{rng.choice(('jpg', 'jpg', 'png', 'webp'))}")
        number += rng.randrange(1, 9)


class _Shooting:
    """One window, and the screenshots of it."""

    def __init__(self, told: dict[str, str]) -> None:
        self._told = told
        if told["which"] == "way in":
            os.environ["TESSERA_HOME"] = told["new_home"]
        from desktop.app import App

        self._app: App = App()
        self._app.geometry(f"{told['size']}+0+0")

    def shoot(self) -> None:
        width = int(self._told["size"].split("x")[0])
        self._until(lambda: self._app.winfo_width() == width)  # it begins as small as Tk makes any window
        (self._way_in if self._told["which"] == "way in" else self._views)()
        self._app.close()

    # --- the scenes

    def _way_in(self) -> None:
        from desktop.session import Stage

        app = self._app
        self._both("first-start")
        model: Any = app._front.model if app._front is not None else None
        model.join(self._told["invite"], "laptop of a guest")
        self._until(lambda: model.joined or model.error)
        self._both("new-vault")
        model.create_vault(_WORDS, _WORDS)
        self._until(lambda: model.stage is Stage.OPEN or model.error)
        self._both("new-vault-copies")
        app.session.lock()
        app.go_on()
        self._both("unlock")

    def _views(self) -> None:
        app = self._app
        app.session.open(app.session.vault.unlock(os.environ["TESSERA_PASSPHRASE"]))
        app.session.keep_settings(copy_for=app.session.vault_name)  # so that nobody is reminded of one
        app.go_on()
        gallery: Any = app.models["gallery"]
        view: Any = app._views["gallery"]
        tiles = view.tiles
        self._until(lambda: gallery.images.looked and not tiles.waiting)
        self._both("gallery", lambda: not tiles.waiting)
        gallery.select(gallery.shown[2].key)
        self._both("gallery-image", lambda: not tiles.waiting)
        self._over_the_gallery(gallery, view)
        gallery.select(None)
        self._snapshot(gallery, tiles)
        self._store()
        app.reassemble(self._told["sha256"])
        reassemble: Any = app.models["reassemble"]
        self._until(lambda: reassemble.pixels or reassemble.error)
        self._both("reassemble")
        self._devices()
        self._safety()

    def _snapshot(self, gallery: Any, tiles: Any) -> None:
        gallery.snapshots.choose(gallery.snapshots.kept[-1].sha256)
        for name in ("pictures", "2019"):
            self._until(lambda name=name: any(entry.name == name for entry in gallery.shown))  # type: ignore[misc]
            gallery.open(next(entry.key for entry in gallery.shown if entry.name == name))
        self._until(lambda: gallery.snapshots.entries)
        self._settle()
        self._both("gallery-snapshot", lambda: not tiles.waiting)

    def _over_the_gallery(self, gallery: Any, view: Any) -> None:
        view._details._share()
        self._until(lambda: gallery.sharing.recipients is not None)
        self._both("gallery-share")
        self._app.overlays[-1].close()
        view._open_trash()
        self._until(lambda: gallery.trash.images)
        self._both("gallery-trash")
        self._app.overlays[-1].close()

    def _store(self) -> None:
        self._app.show("store")
        store: Any = self._app.models["store"]
        store.add([self._told["more"]])
        self._until(lambda: store.items and store.devices)
        self._both("store")
        store.start()
        self._until(lambda: not store.busy)
        self._both("stored")

    def _devices(self) -> None:
        self._app.show("devices")
        from desktop.views.devices import MACHINES

        devices: Any = self._app.models["devices"]
        view: Any = self._app._views["devices"]
        self._until(lambda: devices.rows)
        self._both("devices")
        view.retire(devices.rows[0].name)
        self._both("devices-retire")
        devices.make_invite("worker")
        self._until(lambda: devices.invite or devices.error)
        self._both("devices-invite")
        view._overlay.close()
        self._until(lambda: devices.machines)
        view.turn(MACHINES)
        self._both("devices-machines")

    def _safety(self) -> None:
        self._app.show("safety")
        safety: Any = self._app.models["safety"]
        safety.verify(deep=True)
        self._until(lambda: safety.report or safety.error)
        self._both("safety")

    # --- the camera

    def _both(self, name: str, ready: Callable[[], object] = lambda: True) -> None:
        """One picture in each appearance."""
        import customtkinter

        for theme in THEMES:
            customtkinter.set_appearance_mode(theme)
            self._settle()
            self._until(ready)
            self._settle()
            picture = ImageGrab.grab(xdisplay=os.environ["DISPLAY"])
            picture = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=_COLOURS)
            picture.save(IMAGES / f"{name}-{theme}-{self._told['size']}.png", optimize=True)

    def _until(self, reached: Callable[[], object]) -> None:
        end = time.monotonic() + _TIMEOUT
        while not reached():
            if time.monotonic() > end:
                sys.exit(f"{self._told['which']}: what is to be shown did not come")
            self._app.update()
            time.sleep(0.01)

    def _settle(self) -> None:
        """Let what is waiting to be drawn be drawn."""
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            self._app.update()
            time.sleep(0.01)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"{error}; {error.advice}")
