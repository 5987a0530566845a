"""Placeholder."""

from __future__ import annotations

import customtkinter

from desktop.model.devices import DevicesModel
from desktop.views.view import View


class DevicesView(View[DevicesModel]):
    def build(self) -> None:
        customtkinter.CTkLabel(self, text="Devices: not made yet").grid()

    def show(self) -> None:
        pass
