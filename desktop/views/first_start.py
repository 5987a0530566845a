"""Placeholder."""

from __future__ import annotations

import customtkinter

from desktop.model.first_start import FirstStartModel
from desktop.views.view import View


class FirstStartView(View[FirstStartModel]):
    def build(self) -> None:
        customtkinter.CTkLabel(self, text="FirstStart: not made yet").grid()

    def show(self) -> None:
        pass
