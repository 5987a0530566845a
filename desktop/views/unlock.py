"""Placeholder."""

from __future__ import annotations

import customtkinter

from desktop.model.unlock import UnlockModel
from desktop.views.view import View


class UnlockView(View[UnlockModel]):
    def build(self) -> None:
        customtkinter.CTkLabel(self, text="Unlock: not made yet").grid()

    def show(self) -> None:
        pass
