"""A frame that scrolls, whose bar is seen only where there is something to scroll."""

from __future__ import annotations

from typing import Any

import customtkinter

from desktop.views.controls import LINE, QUIET


class Scrolling(customtkinter.CTkScrollableFrame):
    """`ground`: the colours behind it, which hide the bar."""

    def __init__(self, parent: Any, ground: tuple[str, str], **options: Any) -> None:
        super().__init__(parent, fg_color="transparent", corner_radius=0, **options)
        self._ground = ground
        self._bar_shown = True
        for widget in (self, self._parent_canvas):
            widget.bind("<Configure>", lambda _: self.after_idle(self._show_bar), add=True)

    def _show_bar(self) -> None:
        if not self.winfo_exists():
            return
        needed = self._parent_canvas.yview() != (0.0, 1.0)
        if needed != self._bar_shown:
            self._bar_shown = needed
            colour, hover = (LINE, QUIET) if needed else (self._ground, self._ground)
            self.configure(scrollbar_button_color=colour, scrollbar_button_hover_color=hover)
