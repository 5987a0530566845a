"""The clients and admins, and revoking one; away from the broker, the commands for it."""

from __future__ import annotations

from typing import Any, Callable, Optional

import customtkinter

from common.text import count
from desktop.model.devices import DevicesModel
from desktop.model.operator import MachineRow, operator_command
from desktop.views.controls import DANGER, GROUND, LINE, PANEL, TEXT, Button, FittingLabel, Scrolling, font, note, wrap
from desktop.views.overlay import readonly


class MachineList(Scrolling):
    def __init__(self, parent: Any, model: DevicesModel, revoke: Callable[[MachineRow], None]) -> None:
        super().__init__(parent, GROUND)
        self._model = model
        self._revoke = revoke
        self._shown: Optional[list[MachineRow]] = []
        self.grid_columnconfigure(0, weight=1)

    @property
    def summary(self) -> str:
        if not self._model.operator.is_here:
            return "The broker has the list of them."
        machines = self._model.machines
        return "Asking the broker …" if machines is None else f"{count(len(machines), 'machine')} may store."

    def show(self) -> None:
        machines = self._model.machines
        if machines == self._shown:
            return
        self._shown = machines
        for child in self.winfo_children():
            child.destroy()
        if machines is not None:
            for place, machine in enumerate(machines):
                row = _Machine(self, machine, self._revoke)
                row.grid(row=place, column=0, sticky="ew", pady=(0, 8), padx=(0, 8))
        elif not self._model.operator.is_here:
            self._show_commands()

    def _show_commands(self) -> None:
        """Show the commands to run at the broker."""
        told = note(self, "Run this on the broker's machine to see which machines may store and bring back images:")
        told.grid(row=0, column=0, sticky="ew", padx=4)
        readonly(self, operator_command("members")).grid(row=1, column=0, sticky="ew", padx=(4, 12), pady=(4, 14))
        cut = note(
            self,
            "And this to cut one off. It then stores, sees and brings back nothing any more; the images that it stored "
            "stay. If it was stolen, give the vault a new key as well (admin.py vault rotate).",
        )
        cut.grid(row=2, column=0, sticky="ew", padx=4)
        readonly(self, operator_command("revoke", "NAME")).grid(row=3, column=0, sticky="ew", padx=(4, 12), pady=4)
        self.bind("<Configure>", lambda event: wrap(cut, event.width - 16), add=True)


class _Machine(customtkinter.CTkFrame):
    def __init__(self, parent: Any, row: MachineRow, revoke: Callable[[MachineRow], None]) -> None:
        super().__init__(parent, fg_color=PANEL, border_color=LINE, border_width=1, corner_radius=8)
        self.grid_columnconfigure(0, weight=3, uniform="wide")
        self.grid_columnconfigure(1, weight=2, uniform="wide")
        called = FittingLabel(self, 28, font=font(15, bold=True), text_color=TEXT)
        called.say(row.name)
        called.grid(row=0, column=0, sticky="ew", padx=16, pady=(10, 0))
        role = note(self, row.role + (" (this machine)" if row.is_this else ""))
        role.grid(row=1, column=0, sticky="ew", padx=16, pady=(0, 10))
        self.bind("<Configure>", lambda event: wrap(role, (event.width - 140) * 3 // 5), add=True)
        since = note(self, f"joined {row.since}")
        since.grid(row=0, column=1, sticky="ew", pady=(10, 0))
        note(self, f"key {row.key}").grid(row=1, column=1, sticky="ew", pady=(0, 10))
        Button(self, "Revoke", lambda: revoke(row), text_color=DANGER, width=84).grid(
            row=0, column=2, rowspan=2, padx=(3, 14)
        )
