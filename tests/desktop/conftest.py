"""A screen that nobody looks at, a cluster of six devices, and the real app between them.

Skipped where there is no tkinter, no customtkinter, or nothing to show a window on.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from bench.screen import virtual_screen
from cluster.local import LocalCluster
from tests.cluster.conftest import running_cluster
from tests.support.devices import revive

if TYPE_CHECKING:
    from tests.desktop.driving import Driven

_SIZE = "1280x720"
StartApp = Callable[[Path], "Driven"]


@pytest.fixture(scope="session")
def screen() -> Iterator[str]:
    """The name of a display: Xvfb's where there is one, else this session's own."""
    pytest.importorskip("tkinter", reason="this Python has no tkinter")
    pytest.importorskip("customtkinter", reason="customtkinter is not installed")
    if shutil.which("Xvfb") is None:
        if sys.platform != "win32" and not os.environ.get("DISPLAY"):
            pytest.skip("no display, and no Xvfb (Debian: apt install xvfb)")
        yield os.environ.get("DISPLAY", "")
        return
    with virtual_screen(_SIZE) as display:
        yield display


@pytest.fixture(scope="session")
def cluster(screen: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Six devices; made only where there is a screen."""
    with running_cluster(tmp_path_factory.mktemp("desktop") / "cluster", 6) as running:
        yield running


@pytest.fixture
def fragile_cluster(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """The same, for tests that kill devices: all run again afterwards."""
    yield cluster
    revive(cluster)


@pytest.fixture
def start_app(screen: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartApp]:
    """Opens the app's window for a home; it is closed at the end."""
    monkeypatch.setenv("DISPLAY", screen)
    started: list[Driven] = []

    def start(home: Path) -> Driven:
        from desktop.app import App
        from tests.desktop.driving import Driven

        monkeypatch.setenv("TESSERA_HOME", str(home))
        started.append(Driven(App()))
        return started[-1]

    yield start
    for driven in started:
        driven.close()
