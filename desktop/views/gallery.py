"""Placeholder."""

from __future__ import annotations

import customtkinter

from desktop.model.gallery import GalleryModel
from desktop.views.view import View


class GalleryView(View[GalleryModel]):
    def build(self) -> None:
        customtkinter.CTkLabel(self, text="Gallery: not made yet").grid()

    def show(self) -> None:
        pass
