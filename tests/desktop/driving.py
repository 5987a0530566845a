"""The app as somebody at its screen has it: what is seen is found by its words, pressed, filled in, and waited for."""

from __future__ import annotations

import time
import tkinter
from collections.abc import Iterator
from typing import Any, Callable

import customtkinter

from desktop.app import App

_PATIENCE = 120.0  # seconds
_PAUSE = 0.02  # seconds between two looks, each of which asks Tk about every widget


class Driven:
    """A window, driven from its own thread."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._open = True

    def close(self) -> None:
        """Close the window, unless that was done."""
        if self._open:
            self._open = False
            self.app.close()

    def until(self, condition: Callable[[], object], what: str, seconds: float = _PATIENCE) -> None:
        """Let the window live until the condition holds; fails where it does not within the deadline."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {seconds:g} s; it shows {self.texts()}"
            self.app.update()
            time.sleep(_PAUSE)

    def texts(self) -> list[str]:
        """All words that are to be seen."""
        kinds = (customtkinter.CTkLabel, customtkinter.CTkButton)
        return [text for widget in self._seen() if isinstance(widget, kinds) and (text := str(widget.cget("text")))]

    def sees(self, words: str) -> bool:
        return any(words in text for text in self.texts())

    def press(self, words: str) -> None:
        """Press the button that says so, once it can be pressed."""
        self.until(lambda: self._button(words), f"a button {words!r} that can be pressed")
        self._button(words)[0].invoke()
        self.app.update()

    def focus(self, widget: Any) -> None:
        """Give something the focus, once the screen lets the window have it: one that has just opened has not yet."""

        def has_it() -> bool:
            self.app.tk.call("focus", "-force", str(widget))
            self.app.update()
            return self.app.focus_get() is not None

        self.until(has_it, f"the focus at {widget}")

    def key(self, name: str) -> None:
        """Press a key, as Tk calls it, where the focus is."""
        focus = self.app.focus_lastfor()
        assert focus is not None
        focus.focus_force()
        focus.event_generate(f"<{name}>")
        self.app.update()

    def can_press(self, words: str) -> bool:
        return bool(self._button(words))

    def fill_in(self, number: int, text: str) -> None:
        """Type into one of the fields that are to be seen, counted from the top."""
        self.until(lambda: len(self._fields()) > number, f"field {number}")
        field = self._fields()[number]
        if isinstance(field, customtkinter.CTkTextbox):
            field.delete("1.0", "end")
            field.insert("1.0", text)
        else:
            field.delete(0, "end")
            field.insert(0, text)
        self.app.update()

    def _button(self, words: str) -> list[Any]:
        buttons = [widget for widget in self._seen() if isinstance(widget, customtkinter.CTkButton)]
        return [each for each in buttons if each.cget("text") == words and each.cget("state") == "normal"]

    def _fields(self) -> list[Any]:
        kinds = (customtkinter.CTkTextbox, customtkinter.CTkEntry)
        fields = [each for each in self._seen() if isinstance(each, kinds) and each.cget("state") == "normal"]
        return sorted(fields, key=lambda field: int(field.winfo_rooty()))

    def _seen(self) -> Iterator[Any]:
        waiting: list[tkinter.Misc] = [self.app]
        while waiting:
            widget = waiting.pop()
            if widget.winfo_viewable():
                yield widget
                waiting += widget.winfo_children()
