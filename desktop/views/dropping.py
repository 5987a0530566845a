"""Files that are dropped on a widget, where tkinterdnd2 and its library are there for this platform."""

from __future__ import annotations

import tkinter
from typing import Any, Callable


def accept_files(widget: Any, dropped: Callable[[list[str]], None]) -> bool:
    """Have files that are dropped on the widget handed over; whether that works here."""
    try:
        from tkinterdnd2 import COPY, DND_FILES, TkinterDnD
    except ImportError:
        return False
    window = widget.winfo_toplevel()
    try:
        TkinterDnD._require(window)  # what TkinterDnD.Tk does for a window of its own
        window.tk.call("tkdnd::drop_target", "register", str(widget), (DND_FILES,))
    except (tkinter.TclError, RuntimeError):
        return False

    def take(data: str) -> str:
        dropped([str(path) for path in window.tk.splitlist(data)])
        return str(COPY)

    window.tk.call("bind", str(widget), "<<Drop:DND_Files>>", f"{window.register(take)} %D")
    return True
