"""Whoever has no mouse sees where they are: what Tab reaches is in sight, and has a ring."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import customtkinter
import pytest
from PIL import ImageColor, ImageGrab

from cluster.local import LocalCluster
from desktop.app import ROUTES
from desktop.views.controls import FOCUS
from tests.desktop.conftest import StartApp
from tests.desktop.driving import Driven
from tests.desktop.test_looking_after import opened

_RING = 150  # pixels, that the smallest has


def has_ring(widget: Any) -> bool:
    """Whether there are enough pixels in the colour of a ring, in what is seen of the widget."""
    if not isinstance(widget.master, (customtkinter.CTkEntry, customtkinter.CTkTextbox)):
        area = widget
    else:
        area = widget.master
    left, top = area.winfo_rootx() - 3, area.winfo_rooty() - 3
    right, below = left + area.winfo_width() + 6, top + area.winfo_height() + 6
    seen = ImageGrab.grab(bbox=(max(0, left), max(0, top), right, below), xdisplay=os.environ["DISPLAY"]).convert("RGB")
    colours = seen.getcolors(seen.width * seen.height) or []
    return sum(count for count, colour in colours if colour == ImageColor.getrgb(FOCUS[0])) >= _RING


def stops(window: Driven) -> list[Any]:
    """All that Tab reaches, in its order."""
    found: list[Any] = []
    widget: Any = window.app.tk_focusNext()
    while widget is not None and widget not in found:
        found.append(widget)
        widget = widget.tk_focusNext()
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="a picture of an X11 screen")
def test_whatever_tab_reaches_in_any_view_is_in_sight_and_has_a_ring(
    cluster: LocalCluster, start_app: StartApp
) -> None:
    window = opened(cluster, start_app)
    customtkinter.set_appearance_mode("light")
    window.app.geometry("900x560+0+0")  # the smallest, where most is out of sight
    seen: set[str] = set()
    for name in ROUTES:
        window.app.show(name)
        if name in ("store", "devices"):
            window.until(lambda: window.sees("device-6") or window.app._views["store"]._devices._rows, "the devices")
        for widget in stops(window):
            if str(widget) in seen or not widget.winfo_exists():
                continue
            seen.add(str(widget))
            widget.focus_force()
            window.until(partial(has_ring, widget), f"a ring around {widget} in {name}", 10)
