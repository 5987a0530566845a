"""Files that are dragged from another program's window and dropped on the app are in the table."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import CHECKOUT, LocalCluster
from desktop.model.store import StoreModel
from tests.desktop.conftest import StartApp
from tests.desktop.driving import Driven

XDOTOOL = shutil.which("xdotool") or ""
WORDS = "four words for keeping"
_SOURCE = (1080, 600, 180, 100)  # x, y, width, height: beside the app
NAMES = ["plain.png", "two words.png", "Großmutters {Garten} [1].png", "$HOME; écran.png"]

pytestmark = [
    pytest.mark.skipif(not XDOTOOL, reason="no xdotool (Debian: apt install xdotool)"),
]


def xdotool(*arguments: object) -> str:
    return subprocess.run(
        [XDOTOOL, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=30
    ).stdout.strip()


@pytest.fixture
def source(screen: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Path]]:
    """The files that another program's window gives to whoever they are dragged to."""
    pytest.importorskip("tkinterdnd2", reason="tkinterdnd2 is not installed: nothing can be dropped")
    monkeypatch.setenv("DISPLAY", screen)
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(name.encode())
    paths = [folder / name for name in NAMES]
    x, y, width, height = _SOURCE
    command = [sys.executable, "-m", "tests.desktop.drag_source", f"{width}x{height}+{x}+{y}", *map(str, paths)]
    with subprocess.Popen(command, cwd=CHECKOUT, env=dict(os.environ)) as program:
        yield paths
        program.kill()


def drag(window: Driven, to: tuple[int, int]) -> None:
    """Press on the other window, move to a place of the screen in steps, as a hand does, and let go."""
    x, y, width, height = _SOURCE
    start = (x + width // 2, y + height // 2)
    steps: list[tuple[object, ...]] = [("mousemove", *start), ("mousedown", 1)]
    for step in range(1, 21):
        steps.append(("mousemove", *(a + (b - a) * step // 20 for a, b in zip(start, to))))
    for each in [*steps, ("mousemove", to[0] + 1, to[1])]:
        xdotool(*each)
        window.app.update()
    for _ in range(20):
        window.app.update()
        xdotool("mousemove", to[0], to[1])
    xdotool("mouseup", 1)


def test_files_that_are_dropped_on_the_store_view_are_taken_whatever_they_are_called(
    cluster: LocalCluster, start_app: StartApp, source: list[Path], tmp_path: Path
) -> None:
    window = start_app(Path(cluster.add_client(f"{tmp_path.name}-dropping", WORDS)["TESSERA_HOME"]))
    window.app.geometry("1000x560+0+0")
    window.fill_in(0, WORDS)
    window.press("Unlock")
    window.until(lambda: window.app.title() == "Gallery - Tessera", "the gallery")
    window.press("Store")
    window.until(lambda: window.sees("or drop them here"), "that files can be dropped")
    model = window.app.models["store"]
    assert isinstance(model, StoreModel)
    window.until(lambda: xdotool("search", "--onlyvisible", "--name", "^Drag source$"), "the other window")
    view = window.app._views["store"]
    to = (view.winfo_rootx() + 250, view.winfo_rooty() + 200)
    drag(window, to)
    window.until(lambda: len(model.items) == len(NAMES), "the files in the table")
    assert sorted(item.source.path for item in model.items if item.source.path) == sorted(source)
    assert all(item.source.fault is None for item in model.items)
    assert not model.error
