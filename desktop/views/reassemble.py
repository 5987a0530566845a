"""Placeholder."""

from __future__ import annotations

import customtkinter

from desktop.model.reassemble import ReassembleModel
from desktop.views.view import View


class ReassembleView(View[ReassembleModel]):
    def build(self) -> None:
        customtkinter.CTkLabel(self, text="Reassemble: not made yet").grid()

    def show(self) -> None:
        pass
