"""Asks with whom images are to be shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import customtkinter

from desktop.model.entries import Entry
from desktop.model.image_work import ImageWorkModel
from desktop.model.wording import count
from desktop.views.controls import Menu, font, note
from desktop.views.overlay import Overlay, readonly

_NEW = "somebody new"


class ShareForm(Overlay):
    def __init__(self, view: Any, model: ImageWorkModel, images: Sequence[Entry]) -> None:
        super().__init__(view, f"Share {count(len(images), 'image')}")
        self._model, self._images = model, images
        self.say(
            "They bring the images back with their own vault, in this cluster. It can be taken back for the future "
            "(admin.py unshare); what they copied they keep."
        )
        self._whom = Menu(self.body, [_NEW], lambda _: self._fit())
        self._whom.grid(sticky="ew", pady=(4, 6))
        self._new = customtkinter.CTkFrame(self.body, fg_color="transparent")
        self._new.grid(sticky="ew")
        self._new.grid_columnconfigure(0, weight=1)
        self._name = customtkinter.CTkEntry(
            self._new, placeholder_text="What to call them here", height=34, font=font()
        )
        self._name.grid(sticky="ew", pady=(0, 6))
        self._card = customtkinter.CTkEntry(
            self._new, placeholder_text="Their contact card, as they sent it", height=34, font=font()
        )
        self._card.grid(sticky="ew", pady=(0, 6))
        note(self.body, "Your own card, for who is to share with you:").grid(sticky="ew", pady=(4, 0))
        readonly(self.body, model.own_card).grid(sticky="ew", pady=(2, 4))
        self.button("Cancel", self.close)
        self.button("Share", self._share, kind="main")
        self._known: list[str] = []
        forget = model.on_change(self._show)
        self._closed = forget
        model.read_contacts()
        self._name.focus_set()

    def _show(self) -> None:
        if self._model.contacts and self._model.contacts != self._known and self.winfo_exists():
            self._known = list(self._model.contacts)
            self._whom.configure(values=[*self._known, _NEW])
            self._whom.set(self._known[0])
            self._fit()

    def _fit(self) -> None:
        if self._whom.get() == _NEW:
            self._new.grid()
        else:
            self._new.grid_remove()

    def _share(self) -> None:
        whom, name, card = self._whom.get(), self._name.get(), self._card.get()
        model, images = self._model, self._images
        self.close()
        if whom == _NEW:
            model.share_with_new(images, name, card)
        else:
            model.share(images, whom)
