"""A panel over a view: a question before an action, or a form."""

from __future__ import annotations

import contextlib
import tkinter
from typing import Any, Callable

import customtkinter

from desktop.model.model import Question
from desktop.model.report import Report
from desktop.views.controls import (
    ACCENT,
    GROUND,
    LINE,
    PANEL,
    TEXT,
    Button,
    fixed_font,
    font,
    heading,
    label,
    note,
    text_box,
)

_WIDTH = 520  # units
_WRAP = _WIDTH - 56
_COPIED_FOR = 60_000  # ms that a secret stays on the clipboard


class Overlay(customtkinter.CTkFrame):
    """A panel over a view: a title, what subclasses put into `body`, and buttons. Escape closes it."""

    def __init__(self, view: Any, title: str, closed: Callable[[], None] = lambda: None) -> None:
        super().__init__(view, fg_color=PANEL, border_color=ACCENT, border_width=2, corner_radius=10)
        self._closed = closed
        self.grid_columnconfigure(0, weight=1)
        title_label = heading(self, title, size=18)
        title_label.configure(wraplength=_WRAP, justify="left")
        title_label.grid(row=0, column=0, sticky="ew", padx=28, pady=(22, 4))
        self.body = customtkinter.CTkFrame(self, fg_color="transparent", width=_WRAP)
        self.body.grid(row=1, column=0, sticky="ew", padx=28)
        self.body.grid_columnconfigure(0, weight=1)
        customtkinter.CTkFrame(self.body, fg_color="transparent", width=_WRAP, height=0).grid()  # so wide at least
        self._buttons = customtkinter.CTkFrame(self, fg_color="transparent")
        self._buttons.grid(row=2, column=0, sticky="e", padx=22, pady=(16, 20))
        self._count = 0
        self.winfo_toplevel().overlays.append(self)
        self.place(relx=0.5, rely=0.5, anchor="center")
        self.lift()

    def say(self, text: str) -> None:
        """A paragraph in the body."""
        label(self.body, text, wraplength=_WRAP).grid(sticky="ew", pady=(4, 6))

    def say_command(self, command: str) -> None:
        """The command that does the same."""
        note(self.body, "The same in a terminal:").grid(sticky="ew", pady=(4, 0))
        readonly(self.body, command).grid(sticky="ew", pady=(2, 4))

    def button(self, text: str, command: Callable[[], None], kind: str = "plain") -> Button:
        button = Button(self._buttons, text, command, kind=kind, width=110)
        button.grid(row=0, column=self._count, padx=6)
        self._count += 1
        return button

    def escape(self) -> None:
        """Called on Escape, wherever the focus is."""
        self.close()

    def clear_buttons(self) -> None:
        """Remove the buttons."""
        for button in self._buttons.winfo_children():
            button.destroy()
        self._count = 0

    def close(self) -> None:
        self.place_forget()
        self.destroy()
        self._closed()

    def destroy(self) -> None:
        overlays = self.winfo_toplevel().overlays
        if self in overlays:
            overlays.remove(self)
        super().destroy()


def readonly(parent: Any, text: str) -> Any:
    """A line that can be selected and copied, and not changed."""
    entry = customtkinter.CTkEntry(
        parent, font=fixed_font(12), fg_color=GROUND, border_color=LINE, border_width=2, text_color=TEXT
    )
    entry.insert(0, text)
    entry.configure(state="readonly")
    return entry


def copy(widget: Any, text: str) -> None:
    widget.clipboard_clear()
    widget.clipboard_append(text)


def copy_for_a_minute(widget: Any, text: str) -> None:
    """Copy a secret; after a minute, or when the window closes, it is taken off, unless something else is there."""
    window = widget.winfo_toplevel()
    copy(window, text)

    def clear() -> None:
        with contextlib.suppress(tkinter.TclError):  # nothing is there, or nobody says what
            if window.clipboard_get() == text:
                window.clipboard_clear()

    window.after(_COPIED_FOR, clear)
    window.closing.append(clear)


def ask(view: Any, question: Question, closed: Callable[[], None] = lambda: None) -> Overlay:
    """Ask, and act on a yes; where it can only be done at the broker, show the command."""
    overlay = Overlay(view, question.title, closed)
    overlay.say(question.text)
    act = question.act
    if act is None:
        overlay.say("Only the broker's operator may do this. Run the command below on the broker's machine.")
    if question.command:
        overlay.say_command(question.command)

    def yes() -> None:
        overlay.close()
        if act is not None:
            act()

    cancel = overlay.button("Close" if act is None else question.no, overlay.close)
    if act is None:
        overlay.button("Copy", lambda: copy(overlay, question.command), kind="main")
    else:
        overlay.button(question.yes, yes, kind="main" if question.harmless else "danger")
    tkinter.Misc.focus_set(cancel)
    return overlay


class Findings(Overlay):
    """All that an action had to say, one line each."""

    def __init__(self, view: Any, report: Report) -> None:
        super().__init__(view, f"{len(report.findings):,} remarks")
        self.say(report.summary)
        box = text_box(self.body, 250, wrap="word")
        box.insert("1.0", "\n".join(f"{finding.name}: {finding.words}" for finding in report.findings))
        box.configure(state="disabled")
        box.grid(sticky="ew", pady=(4, 4))
        tkinter.Misc.focus_set(self.button("Close", self.close))


class NameForm(Overlay):
    """Asks for a device's new name."""

    def __init__(
        self, view: Any, name: str, command: Callable[[str], str], done: Callable[[str], None], can_act: bool
    ) -> None:
        super().__init__(view, f"Rename {name}")
        self.say("The new name is shown to everybody in the cluster. Nothing else changes.")
        if not can_act:
            self.say("Only the broker's operator may do this. Run the command below on the broker's machine.")
        self._entry = customtkinter.CTkEntry(self.body, font=font(), height=34)
        self._entry.insert(0, name)
        self._entry.grid(sticky="ew", pady=(4, 6))
        self._command = command
        note(self.body, "The same in a terminal:").grid(sticky="ew", pady=(4, 0))
        self._line = readonly(self.body, command(name))
        self._line.grid(sticky="ew", pady=(2, 4))
        self._entry.bind("<KeyRelease>", lambda _: self._tell())
        self.button("Cancel", self.close)

        def rename() -> None:
            chosen = self.name
            self.close()
            done(chosen)

        if can_act:
            self._entry.bind("<Return>", lambda _: rename())
            self.button("Rename", rename, kind="main")
        else:
            self.button("Copy", lambda: copy(self, command(self.name)), kind="main")
        self._entry.focus_set()
        self._entry.select_range(0, "end")

    @property
    def name(self) -> str:
        return str(self._entry.get()).strip()

    def _tell(self) -> None:
        self._line.configure(state="normal")
        self._line.delete(0, "end")
        self._line.insert(0, self._command(self.name))
        self._line.configure(state="readonly")
