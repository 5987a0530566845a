"""Placeholder."""

from __future__ import annotations

import customtkinter

from desktop.model.safety import SafetyModel
from desktop.views.view import View


class SafetyView(View[SafetyModel]):
    def build(self) -> None:
        customtkinter.CTkLabel(self, text="Safety: not made yet").grid()

    def show(self) -> None:
        pass
