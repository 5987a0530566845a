"""The gallery with thousands of images, by the app's own timer: python bench/gallery.py

Stores that many small pictures on a cluster of this machine, opens the real window on it (under Xvfb where there is no
screen), and measures, from the moment at which the vault is unlocked: how long until tiles are painted, until those in
sight have their pictures, until all images are there, and until the devices have said how each is. Then it scrolls from
top to bottom by the wheel, and jumps about by the bar; a stall is the time in which the window's timer did not fire.
"""

from __future__ import annotations

import io
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NoReturn, Optional

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout's root, in place of this folder

import typer

from bench.metering import peak_memory
from bench.screen import virtual_screen
from cluster.local import CHECKOUT, LocalCluster, require_success
from cluster.ports import find_base_port
from common.errors import NotEnoughError
from common.process.program import application, run

if TYPE_CHECKING:
    from desktop.app import App

commands = application("Measure the desktop app's gallery.")
_SAMPLES = ("chelsea.png", "coffee.png", "astronaut.png", "hubble_deep_field.jpg", "rocket.jpg")
_EDGE = 320  # pixels of a picture
_TICK = 5  # milliseconds between two looks of the window's timer
_TURN = 16  # milliseconds between two turns of the wheel
_JUMPS = 40
_TIMEOUT = 120.0  # seconds


@commands.command()
def gallery(
    images: int = typer.Option(5000, min=100, help="How many images."),
    size: str = typer.Option("1280x720", help="The window's size in pixels."),
    json_file: Optional[Path] = typer.Option(None, "--json", help="Write the figures there, too."),
) -> None:
    """Print the figures as a Markdown table."""
    with tempfile.TemporaryDirectory(prefix="tessera-gallery-") as scratch, _screen(size):
        place = Path(scratch)
        _make_pictures(place / "pictures", images)
        with LocalCluster(place / "cluster", workers=3, base_port=find_base_port(1)) as cluster:
            stored = cluster.run("producer", str(place / "pictures"))
            require_success("producer", stored)
            os.environ.update(cluster.environment)
            found = _measure(images, size)
    print(_table(found))
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1))


@contextmanager
def _screen(size: str) -> Iterator[None]:
    """The screen that there is, else one of Xvfb's."""
    if sys.platform == "win32" or os.environ.get("DISPLAY"):
        yield
        return
    with virtual_screen(size) as display:
        os.environ["DISPLAY"] = display
        try:
            yield
        finally:
            os.environ.pop("DISPLAY", None)


def _make_pictures(folder: Path, count: int) -> None:
    """Small pictures, no two alike: pieces of the samples."""
    from PIL import Image

    folder.mkdir()
    rng = random.Random(5)
    samples = [Image.open(CHECKOUT / "samples" / name).convert("RGB") for name in _SAMPLES]
    for number in range(count):
        sample = samples[number % len(samples)]
        across = rng.randrange(_EDGE // 2, min(sample.size))
        down = max(_EDGE // 4, round(across * rng.choice((0.66, 0.75, 1.0))))
        down = min(down, sample.height)
        x, y = rng.randrange(sample.width - across + 1), rng.randrange(sample.height - down + 1)
        piece = sample.crop((x, y, x + across, y + down))
        piece.thumbnail((_EDGE, _EDGE))
        piece.putpixel((0, 0), (number % 256, number // 256 % 256, 7))
        content = io.BytesIO()
        piece.save(content, "JPEG", quality=80, comment=str(number).encode())
        (folder / f"IMG_{number:05}.jpg").write_bytes(content.getvalue())


class _Timer:
    """The window's timer: how long it did not fire, while `watching`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._last = time.monotonic()
        self.gaps: list[float] = []
        self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        self.gaps.append(now - self._last - _TICK / 1000)
        self._last = now
        self._app.after(_TICK, self._tick)

    def restart(self) -> None:
        self.gaps.clear()
        self._last = time.monotonic()


def _measure(images: int, size: str) -> dict[str, float]:
    from desktop.app import App

    app = App()
    app.geometry(f"{size}+0+0")
    found: dict[str, float] = {}
    script = _script(app, images, found)
    end = time.monotonic() + _TIMEOUT

    failures: list[BaseException] = []

    def go_on() -> None:
        try:
            wait = next(script)
            if time.monotonic() > end:
                raise NotEnoughError(f"the gallery did not get there in {_TIMEOUT:g} s: {found}")
        except BaseException as error:
            if not isinstance(error, StopIteration):
                failures.append(error)
            app.close()
            return
        app.after(wait, go_on)

    app.after(500, go_on)
    app.mainloop()
    if failures:
        raise failures[0]
    return found


def _script(app: App, images: int, found: dict[str, float]) -> Iterator[int]:
    """What is done in the window; yields the milliseconds until it goes on."""
    key = app.session.vault.unlock(os.environ["TESSERA_PASSPHRASE"])
    yield 1000  # the viewer's process starts while a person types the passphrase
    timer = _Timer(app)
    started = time.monotonic()
    app.session.open(key)
    app.go_on()
    model, view = app.models["gallery"], app._views["gallery"]
    tiles, canvas = view.tiles, view.tiles.canvas

    def since(name: str) -> None:
        found[name] = time.monotonic() - started

    while not tiles.painted:
        yield 1
    canvas.update_idletasks()
    since("first paint")
    steps: list[tuple[str, Callable[[], bool]]] = [
        ("pictures in sight", lambda: not tiles.waiting),
        ("all images", lambda: len(model.images) == images),  # type: ignore[attr-defined]
        ("all health", lambda: model.images.looked),  # type: ignore[attr-defined]
    ]
    while steps:
        for name, reached in list(steps):
            if reached():
                since(name)
                steps.remove((name, reached))
        yield 2
    yield 1000
    found["longest stall while opening"] = max(timer.gaps)
    timer.restart()
    last, turns = -1.0, 0
    while canvas.yview()[1] < 1.0 and canvas.yview()[0] != last:
        last = canvas.yview()[0]
        if sys.platform.startswith("linux"):
            canvas.event_generate("<Button-5>")
        else:
            canvas.event_generate("<MouseWheel>", delta=-120)
        turns += 1
        yield _TURN
    found["turns of the wheel"] = turns
    found["longest stall while scrolling"] = max(timer.gaps)
    found["99th percentile while scrolling"] = statistics.quantiles(timer.gaps, n=100)[98]
    timer.restart()
    rng = random.Random(6)
    for _ in range(_JUMPS):
        canvas.yview_moveto(rng.random())
        yield 100
    found["longest stall while jumping"] = max(timer.gaps)
    began = time.monotonic()
    canvas.yview_moveto(0.5)
    while tiles.waiting:
        yield 1
    found["pictures after a jump"] = time.monotonic() - began
    found["memory"] = float(peak_memory(os.getpid()))


def _table(found: dict[str, float]) -> str:
    rows = ["| | |", "|---|---:|"]
    for name, value in found.items():
        if name == "memory":
            shown = f"{value / (1 << 20):.0f} MiB"
        elif name.startswith("turns"):
            shown = f"{value:.0f}"
        else:
            shown = f"{value * 1000:.0f} ms"
        rows.append(f"| {name} | {shown} |")
    return "\n".join(rows)


def main() -> NoReturn:
    run(commands, "gallery")


if __name__ == "__main__":
    main()
