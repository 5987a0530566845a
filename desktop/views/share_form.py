"""Asks whom to share images with, and shows whom they can be unshared with."""

from __future__ import annotations

import tkinter
from collections.abc import Sequence
from typing import Any, Optional

import customtkinter

from common.text import count
from desktop.model.entries import Entry
from desktop.model.image_work import ImageWorkModel
from desktop.model.layout import fitting
from desktop.model.sharing import Recipient, SharingModel
from desktop.views.controls import GROUND, Button, Menu, font, note
from desktop.views.overlay import Overlay, readonly

_NEW = "somebody new"
_NAME = 24  # characters


class ShareForm(Overlay):
    def __init__(self, view: Any, work: ImageWorkModel, sharing: SharingModel, images: Sequence[Entry]) -> None:
        super().__init__(view, f"Share {count(len(images), 'image')}", self._left)
        self._work, self._sharing, self._images = work, sharing, images
        self._known: list[str] = []
        self._listed: Optional[list[Recipient]] = None
        self._by_text: dict[str, Recipient] = {}
        self.say(
            "They bring them back with their own vault. Taking back is for the future: what they copied they keep."
        )
        self._build_shared()
        self._whom = Menu(self.body, [_NEW], lambda _: self._fit(), GROUND)
        self._whom.grid(sticky="ew", pady=(4, 6))
        self._build_new()
        note(self.body, "Your own card, for who is to share with you:").grid(sticky="ew", pady=(4, 0))
        readonly(self.body, sharing.own_card).grid(sticky="ew", pady=(2, 4))
        self.button("Close", self.close)
        self.button("Share", self._share, kind="main")
        self._forget = sharing.on_change(self._show)
        sharing.read(images)
        self._show()
        tkinter.Misc.focus_set(self._whom)  # a field that has the focus does not say what it is for

    def _build_shared(self) -> None:
        """One row: whom it is shared with now, and the button that unshares."""
        row = customtkinter.CTkFrame(self.body, fg_color="transparent")
        row.grid(sticky="ew", pady=(0, 4))
        row.grid_columnconfigure(1, weight=1)
        self._told = note(row, wraplength=440)
        self._told.grid(row=0, column=0, sticky="w", padx=(0, 10))
        self._from = Menu(row, [], lambda _: None, GROUND)
        self._take_back = Button(row, "Take back", self._unshare, width=100)

    def _build_new(self) -> None:
        self._new = customtkinter.CTkFrame(self.body, fg_color="transparent")
        self._new.grid(sticky="ew")
        self._new.grid_columnconfigure(0, weight=1)
        self._called, self._card = (
            customtkinter.CTkEntry(self._new, placeholder_text=hint, height=34, font=font())
            for hint in ("What to call them here", "Their contact card, as they sent it")
        )
        for field in (self._called, self._card):
            field.grid(sticky="ew", pady=(0, 6))

    def _left(self) -> None:
        self._forget()
        self._sharing.leave()

    def _show(self) -> None:
        sharing = self._sharing
        if sharing.contacts != self._known:
            self._known = list(sharing.contacts)
            self._whom.configure(values=[*self._known, _NEW])
            self._whom.set(self._known[0] if self._known else _NEW)
            self._fit()
        shared = "Shared with" if sharing.recipients else "Shared with nobody."
        asking = "Asking with whom it is shared now …"
        self._told.configure(text=sharing.told or (asking if sharing.recipients is None else shared))
        if sharing.recipients != self._listed:
            self._listed = sharing.recipients
            self._list(sharing.recipients or [])

    def _list(self, recipients: list[Recipient]) -> None:
        self._by_text = {self._text(recipient): recipient for recipient in recipients}
        if recipients:
            self._from.configure(values=list(self._by_text))
            self._from.set(next(iter(self._by_text)))
            self._from.grid(row=0, column=1, sticky="ew", padx=(0, 10))
            self._take_back.grid(row=0, column=2)

    def _text(self, recipient: Recipient) -> str:
        """The recipient, distinguished from others of the same name, and which of the images they have."""
        of = f" ({len(recipient.images)} of {len(self._images)})" if len(recipient.images) < len(self._images) else ""
        stranger = "" if recipient.contact else f", {recipient.owner.hex()[:8]}"
        return f"{fitting(recipient.name, _NAME, len)}{stranger}{of}"

    def _fit(self) -> None:
        if self._whom.get() == _NEW:
            self._new.grid()
        else:
            self._new.grid_remove()

    def _share(self) -> None:
        whom = self._whom.get()
        if whom == _NEW:
            self._work.share_with_new(self._images, self._called.get(), self._card.get(), self._close)
        else:
            self.close()
            self._work.share(self._images, whom)

    def _unshare(self) -> None:
        recipient = self._by_text[self._from.get()]
        self.close()
        self._work.unshare(self._images, recipient)

    def _close(self) -> None:
        """The card is added now; sharing goes on where the form was closed meanwhile."""
        if self.winfo_exists():
            self.close()
