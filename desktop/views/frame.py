"""What surrounds the views: the sidebar, the error bar, and the line with the equivalent command."""

from __future__ import annotations

from typing import Any, Callable

import customtkinter

from common.errors import TesseraError
from desktop.session import APPEARANCES
from desktop.views.controls import (
    ACCENT,
    DANGER,
    DANGER_PANEL,
    LINE,
    PANEL,
    TEXT,
    WARNING,
    Button,
    Choice,
    fixed_font,
    font,
    heading,
    label,
    note,
)


class Sidebar(customtkinter.CTkFrame):
    def __init__(self, parent: Any, titles: dict[str, str], go: Callable[[str], None]) -> None:
        super().__init__(parent, fg_color=PANEL, corner_radius=0, width=190)
        self.grid_rowconfigure(len(titles) + 1, weight=1)
        heading(self, "Tessera").grid(row=0, column=0, padx=20, pady=(22, 18), sticky="w")
        self._buttons: dict[str, Button] = {}
        for row, (name, title) in enumerate(titles.items(), 1):
            button = Button(self, title, lambda name=name: go(name), anchor="w", width=150)  # type: ignore[misc]
            button.grid(row=row, column=0, padx=14, pady=3, sticky="ew")
            self._buttons[name] = button
        note(self, "Appearance").grid(row=len(titles) + 2, column=0, padx=20, sticky="w")
        self._appearance = Choice(
            self, [name.capitalize() for name in APPEARANCES], font=font(12), dynamic_resizing=False, width=162
        )
        self._appearance.grid(row=len(titles) + 3, column=0, padx=14, pady=(2, 16), sticky="ew")
        self._reminder = Button(self, "", lambda: None, width=150, text_color=WARNING)
        self._reminder_row = len(titles) + 1

    def on_appearance(self, now: str, choose: Callable[[str], None]) -> None:
        self._appearance.set(now.capitalize())
        self._appearance.configure(command=lambda chosen: choose(chosen.lower()))

    def remind(self, text: str, go: Callable[[], None]) -> None:
        """Show a reminder until it is done; none where empty."""
        if text:
            self._reminder.configure(text=text, command=go)
            self._reminder.grid(row=self._reminder_row, column=0, padx=14, pady=12, sticky="sew")
        else:
            self._reminder.grid_forget()

    def mark(self, name: str) -> None:
        """Show which view is in front."""
        for each, button in self._buttons.items():
            front = each == name
            button.configure(fg_color=ACCENT if front else PANEL, text_color="#ffffff" if front else TEXT)


class ErrorBar(customtkinter.CTkFrame):
    """What happened, and what to do about it."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent, fg_color=DANGER_PANEL, border_color=DANGER, border_width=1, corner_radius=8)
        self.grid_columnconfigure(0, weight=1)
        self._what = label(self, bold=True)
        self._what.grid(row=0, column=0, sticky="ew", padx=14, pady=(8, 0))
        self._advice = label(self, size=13)
        self._advice.grid(row=1, column=0, sticky="ew", padx=14, pady=(0, 8))
        self._dismiss: Callable[[], None] = lambda: None
        Button(self, "Dismiss", lambda: self._dismiss(), width=90).grid(row=0, column=1, rowspan=2, padx=12, pady=8)
        self.bind("<Configure>", self._wrap)

    def show(self, error: TesseraError, dismiss: Callable[[], None]) -> None:
        self._what.configure(text=str(error))
        self._advice.configure(text=error.advice or "")
        self._dismiss = dismiss

    def _wrap(self, event: Any) -> None:
        width = int(event.width / self._get_widget_scaling()) - 150
        for part in (self._what, self._advice):
            part.configure(wraplength=max(200, width))


class CommandLine(customtkinter.CTkFrame):
    """The equivalent command, to be copied."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent, fg_color=PANEL, corner_radius=0, border_color=LINE, border_width=1)
        self.grid_columnconfigure(1, weight=1)
        note(self, "The same in a terminal:").grid(row=0, column=0, padx=(16, 8), pady=6)
        self._text = customtkinter.CTkEntry(
            self, font=fixed_font(), border_color=PANEL, fg_color="transparent", text_color=TEXT, state="readonly"
        )
        self._text.grid(row=0, column=1, sticky="ew", pady=6)
        self._copy = Button(self, "Copy", self._copied, width=70)
        self._copy.grid(row=0, column=2, padx=12, pady=6)
        self._command = ""

    def show(self, command: str) -> None:
        if command == self._command:
            return
        self._command = command
        self._text.configure(state="normal")
        self._text.delete(0, "end")
        self._text.insert(0, command)
        self._text.configure(state="readonly")

    def _copied(self) -> None:
        self.clipboard_clear()
        self.clipboard_append(self._command)
