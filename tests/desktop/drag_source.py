"""A small window from which files are dragged: python -m tests.desktop.drag_source GEOMETRY FILE …"""

from __future__ import annotations

import sys
import tkinter
from typing import Any


def main() -> None:
    from tkinterdnd2 import COPY, DND_FILES, TkinterDnD

    geometry, *paths = sys.argv[1:]
    window: Any = TkinterDnD.Tk(className="Drag source")
    window.title("Drag source")
    window.geometry(geometry)
    label: Any = tkinter.Label(window, text="drag me", background="#ffd27f")
    label.pack(fill="both", expand=True)
    label.drag_source_register(1, DND_FILES)
    label.dnd_bind("<<DragInitCmd>>", lambda _: (COPY, DND_FILES, tuple(paths)))
    window.mainloop()


if __name__ == "__main__":
    main()
