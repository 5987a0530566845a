"""A small window from which files are dragged: python -m tests.desktop.drag_source GEOMETRY FILE …

It gives the files as other programs do, as text with a URI in each line. Left to itself tkinterdnd2 gives them, where
it is the source and not the target, as numbers, which nobody can read.
"""

from __future__ import annotations

import sys
import tkinter
from pathlib import Path
from typing import Any

_AS_TEXT = """
proc ::tkdnd::xdnd::registerSelectionHandler {source types} {
    foreach type $types {
        selection handle -selection XdndSelection -type $type -format STRING $source $::as_text
    }
}
"""


def main() -> None:
    from tkinterdnd2 import COPY, DND_FILES, TkinterDnD

    geometry, *paths = sys.argv[1:]
    text = "".join(f"{Path(path).as_uri()}\r\n" for path in paths)
    window: Any = TkinterDnD.Tk(className="Drag source")
    window.title("Drag source")
    window.geometry(geometry)
    label: Any = tkinter.Label(window, text="drag me", background="#ffd27f")
    label.pack(fill="both", expand=True)

    def give(offset: str, count: str) -> str:
        return text[int(offset) : int(offset) + int(count)]

    window.tk.setvar("as_text", window.register(give))
    window.tk.eval(_AS_TEXT)
    label.drag_source_register(1, DND_FILES)
    label.dnd_bind("<<DragInitCmd>>", lambda _: (COPY, DND_FILES, tuple(paths)))
    window.mainloop()


if __name__ == "__main__":
    main()
