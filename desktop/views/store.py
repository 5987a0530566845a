"""Placeholder."""

from __future__ import annotations

import customtkinter

from desktop.model.store import StoreModel
from desktop.views.view import View


class StoreView(View[StoreModel]):
    def build(self) -> None:
        customtkinter.CTkLabel(self, text="Store: not made yet").grid()

    def show(self) -> None:
        pass
