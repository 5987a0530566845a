"""The base of views: a model, a method that builds the widgets, and one that shows the model's state."""

from __future__ import annotations

from typing import Any, Generic, Optional, TypeVar

import customtkinter

from desktop.model.model import Model

M = TypeVar("M", bound=Model)
_SHOW_AFTER = 60  # milliseconds for which changes are gathered


class View(customtkinter.CTkFrame, Generic[M]):
    """A frame that shows one model. Subclasses give `build`, called once, and `show`, called after changes."""

    def __init__(self, parent: Any, model: M) -> None:
        super().__init__(parent, fg_color="transparent", corner_radius=0)
        self.model = model
        self._waiting: Optional[str] = None
        self._forget = model.on_change(self._changed)
        self.build()
        self.show()

    def build(self) -> None:
        raise NotImplementedError

    def show(self) -> None:
        raise NotImplementedError

    def _changed(self) -> None:
        if self._waiting is None:
            self._waiting = self.after(_SHOW_AFTER, self._show_now)

    def _show_now(self) -> None:
        self._waiting = None
        self.show()

    def destroy(self) -> None:
        forget, self._forget = self._forget, lambda: None  # Tk may call it twice
        forget()
        if self._waiting is not None:
            self.after_cancel(self._waiting)
            self._waiting = None
        super().destroy()
