"""A frame that scrolls: its bar is seen only where there is something to scroll, and what has the focus is in sight."""

from __future__ import annotations

from typing import Any

import customtkinter

from desktop.model.fitting import top_to_show
from desktop.views.controls import LINE, QUIET

_MARGIN = 8  # pixels above and below what is brought in sight


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

    def reveal(self, widget: Any) -> None:
        """Scroll so far that a widget in it is in sight."""
        canvas, height = self._parent_canvas, max(1, self.winfo_height())
        upper = widget.winfo_rooty() - self.winfo_rooty()
        shown = (upper - _MARGIN, upper + widget.winfo_height() + _MARGIN)
        canvas.yview_moveto(top_to_show(shown, canvas.canvasy(0), canvas.winfo_height()) / height)


def reveal_focus(event: Any) -> None:
    """For a `<FocusIn>` anywhere in a window."""
    frame = event.widget
    while frame is not None and not isinstance(frame, Scrolling):
        frame = getattr(frame, "master", None)
    if frame is not None:
        frame.reveal(event.widget)
