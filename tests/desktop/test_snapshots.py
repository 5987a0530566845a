"""A folder is stored, looked into and restored from a snapshot, with a mouse and without one."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from tkinter import filedialog

import customtkinter
import pytest

from cluster.local import CHECKOUT, LocalCluster
from desktop.model.gallery import GalleryModel
from desktop.views.gallery import GalleryView
from tests.desktop.conftest import StartApp
from tests.desktop.driving import Driven
from tests.desktop.test_focus import has_ring, stops
from tests.desktop.test_there_and_back import opened
from tests.support.generated_trees import described


def make_album(album: Path) -> None:
    for path in ("readme.txt", "2019/equal.txt", "2019/deep/equal.txt"):
        (album / path).parent.mkdir(parents=True, exist_ok=True)
        (album / path).write_bytes(f"{album.parent.name} {path.rpartition('/')[2]}".encode())
    (album / "2019/rocket.jpg").write_bytes((CHECKOUT / "samples" / "rocket.jpg").read_bytes())
    (album / "empty").mkdir()
    os.utime(album / "2019/rocket.jpg", ns=(10**18, 10**18 + 7))
    os.utime(album / "2019", ns=(10**18, 10**18))


def gallery(window: Driven) -> tuple[GalleryModel, GalleryView]:
    model, view = window.app.models["gallery"], window.app._views["gallery"]
    assert isinstance(model, GalleryModel) and isinstance(view, GalleryView)
    return model, view


def names(view: GalleryView) -> list[str]:
    """What the tiles show."""
    return [entry.name for entry in view.tiles._entries]


def open_first(window: Driven, view: GalleryView) -> None:
    """Open the first tile with the keys."""
    window.focus(view.tiles.canvas)
    window.key("Right")
    window.until(lambda: view.tiles._selected == view.tiles._entries[0].key, "the first one selected")
    window.key("Return")


def test_a_folder_that_was_stored_is_seen_in_the_list_looked_into_and_restored(
    cluster: LocalCluster, start_app: StartApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    album = tmp_path / "album"
    make_album(album)
    window = opened(cluster, start_app, f"{tmp_path.name}-album")
    customtkinter.set_appearance_mode("light")
    window.app.geometry("900x560+0+0")  # the smallest
    model, view = gallery(window)
    window.until(lambda: model.images.looked, "the cluster's answer")
    assert not view._list.winfo_viewable(), "there is no snapshot"

    window.press("Store")
    monkeypatch.setattr(filedialog, "askdirectory", lambda **_: str(album))
    window.press("Add a folder…")
    window.press("Store now")
    window.until(lambda: window.sees("4 of 4 images stored"), "all stored")
    window.press("Gallery")
    window.until(lambda: view._list.winfo_viewable() and len(model.shown) == 3, "the snapshot, and three images")

    tree = view._list.table._tree
    window.focus(tree)
    assert tree.item("1", "values")[0].endswith("\n4 files")
    tree.focus("0")
    window.key("Down")
    window.until(lambda: names(view) == ["album"], "what was given, at the root")
    open_first(window, view)
    window.until(lambda: names(view) == ["2019", "empty", "readme.txt"], "the folder")
    if sys.platform != "win32":  # a picture of an X11 screen
        for widget in stops(window):
            widget.focus_force()
            window.until(partial(has_ring, widget), f"a ring around {widget}", 10)
    open_first(window, view)
    window.until(lambda: names(view) == ["deep", "equal.txt", "rocket.jpg"], "the folder in it")
    window.until(lambda: not view.tiles.waiting and view.tiles.words == {"folder", "whole"}, "how each is")

    monkeypatch.setattr(filedialog, "askdirectory", lambda **_: str(tmp_path / "one"))
    window.press("Restore folder…")
    window.until(lambda: window.sees("3 of 3 files restored in"), "what was restored")
    assert described(tmp_path / "one/2019") == described(album / "2019")
    window.key("BackSpace")
    window.until(lambda: names(view) == ["2019", "empty", "readme.txt"], "the folder again")
    window.press("Snapshot")
    window.until(lambda: names(view) == ["album"], "the root again")
    monkeypatch.setattr(filedialog, "askdirectory", lambda **_: str(tmp_path / "all"))
    (tmp_path / "all/album").mkdir(parents=True)
    (tmp_path / "all/album/readme.txt").write_bytes(b"another's")
    window.press("Close")
    window.press("Restore folder…")
    window.until(lambda: window.sees("3 of 4 files restored in"), "what was restored")
    assert window.sees("1 could not be.") and window.sees("album/readme.txt")
    assert (tmp_path / "all/album/readme.txt").read_bytes() == b"another's"
    (tmp_path / "all/album/readme.txt").unlink()
    window.press("Restore folder…")
    window.until(lambda: window.sees("4 of 4 files restored in"), "all of it")
    assert described(tmp_path / "all/album") == described(album)
