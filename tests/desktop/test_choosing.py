"""Many images at once in the window: chosen by mouse and keyboard, saved, deleted behind a question and taken back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tkinter import filedialog

import pytest

from cluster.local import CHECKOUT, LocalCluster
from tests.desktop.conftest import StartApp
from tests.desktop.test_looking_after import PHOTOGRAPHS, gallery, in_gallery, opened, shows_all


def test_all_that_a_search_finds_is_saved_deleted_and_taken_back(
    cluster: LocalCluster, start_app: StartApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = opened(cluster, start_app)
    model, view = gallery(window)
    window.until(lambda: shows_all(model, view), "all pictures")
    view.tiles.canvas.focus_force()
    view.tiles.canvas.event_generate("<Control-a>")
    assert len(model.chosen) == len(model.shown) >= len(PHOTOGRAPHS)
    every = model.shown
    window.until(lambda: window.sees(f"{len(every)} images"), "how many are chosen")

    monkeypatch.setattr(filedialog, "askdirectory", lambda **_: str(tmp_path))
    (tmp_path / "chelsea.png").write_bytes(b"of somebody else")
    window.press("Save …")
    window.until(lambda: window.sees(f"{len(every) - 1} of {len(every)} images saved"), "what was saved")
    window.until(lambda: window.sees("chelsea.png: ") and window.sees("already"), "what was not, and why")
    assert (tmp_path / "chelsea.png").read_bytes() == b"of somebody else"
    for name in ("astronaut.png", "rocket.jpg"):
        assert (tmp_path / name).read_bytes() == (CHECKOUT / "samples" / name).read_bytes()

    rocket = hashlib.sha256((CHECKOUT / "samples" / "rocket.jpg").read_bytes()).hexdigest()
    model.select(in_gallery(model, rocket)[0].key)
    window.press("Delete …")
    window.until(lambda: window.sees("7 days"), "the question")
    window.key("Escape")
    assert in_gallery(model, rocket), "Escape is a no"
    window.press("Delete …")
    window.press("Delete")
    window.until(lambda: window.sees("1 image deleted"), "that it is deleted")
    window.until(lambda: not in_gallery(model, rocket), "the gallery without it")
    window.press("Take back")
    window.until(lambda: window.sees("1 image taken back"), "that it is back")
    window.until(lambda: in_gallery(model, rocket), "the gallery with it")


def test_format_age_and_appearance_are_reached_by_tab_and_changed_by_arrows(
    cluster: LocalCluster, start_app: StartApp
) -> None:
    window = opened(cluster, start_app)
    model, view = gallery(window)
    window.until(lambda: len(model.shown) >= len(PHOTOGRAPHS), "the pictures")
    reached = []
    window.focus(view._words)
    for _ in range(60):
        focus = window.app.focus_get()
        assert focus is not None
        reached.append(str(focus))
        focus.event_generate("<Tab>")
        window.app.update()
    for widget in (view._format, view._age, view._unwell, view.tiles.canvas, window.app._sidebar._appearance):
        assert str(widget) in reached
    window.focus(view._age)
    view._age.event_generate("<Down>")
    window.until(lambda: model.search.age.value == "last 24 hours", "another age")
