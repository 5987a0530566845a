"""The trash, over the gallery: what was deleted, until when it can be undeleted, and a button for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from admin.deleting import DeletedImage
from desktop.model.layout import fitting
from desktop.model.trash import TrashModel, name_of
from desktop.views.controls import PANEL, Button, Scrolling, label, note
from desktop.views.overlay import Overlay

_HEIGHT = 190  # units
_NAME = 30  # characters
_MOST = 200  # rows


class TrashSheet(Overlay):
    def __init__(self, view: Any, model: TrashModel) -> None:
        super().__init__(view, "Trash", self._left)
        self._model = model
        self._shown: Optional[Sequence[DeletedImage]] = None
        self.say("What was deleted can be taken back until the time beside it; after that it is gone.")
        self._list = Scrolling(self.body, PANEL, height=_HEIGHT)
        self._list.grid_columnconfigure(0, weight=1)
        self._list.grid(sticky="ew", pady=(2, 4))
        self._told = note(self.body, wraplength=440)
        self._told.grid(sticky="ew")
        self.button("Close", self.close)
        self._all = self.button("Take all back", lambda: model.take_back(model.images or []), kind="main")
        self._forget = model.on_change(self._show)
        model.look()
        self._show()

    def _left(self) -> None:
        self._forget()
        self._model.leave()

    def _show(self) -> None:
        model = self._model
        self._told.configure(text=model.words)
        self._all.configure(state="normal" if model.images and not model.busy else "disabled")
        if model.images != self._shown:
            self._shown = model.images
            for child in self._list.winfo_children():
                child.destroy()
            for row, image in enumerate((model.images or [])[:_MOST]):
                self._show_row(row, image)
            more = len(model.images or []) - _MOST
            if more > 0:
                note(self._list, f"and {more:,} more; the command below names all").grid(sticky="w", padx=6)

    def _show_row(self, row: int, image: DeletedImage) -> None:
        name = label(self._list, fitting(name_of(image), _NAME, len))
        name.grid(row=row, column=0, sticky="ew", padx=(6, 10), pady=3)
        note(self._list, f"until {image.until_words}").grid(row=row, column=1, padx=(0, 10))
        take_back = Button(self._list, "Take back", lambda: self._model.take_back([image]), width=90)
        take_back.grid(row=row, column=2, padx=(0, 6))
