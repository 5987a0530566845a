"""The widgets of all views: customtkinter's, with keyboard access, in the app's colours.

Colours are pairs, for light and dark. FOCUS, around what has the focus, has a contrast of 3 or more to its surroundings
(WCAG 2.2, 1.4.11), also to ACCENT; to DANGER it is 2.7 and 2.2.
"""

from __future__ import annotations

import tkinter
from collections.abc import Sequence
from functools import partial
from typing import Any, Callable

import customtkinter

from desktop.model.entries import Tone
from desktop.model.layout import fitting, top_to_show

ACCENT = ("#1f6aa5", "#2f7fbd")
QUIET = ("#5b6168", "#a4abb3")  # text that explains
PANEL = ("#ffffff", "#26292e")
CHOSEN = ("#bcd9f2", "#255a86")
GROUND = ("#eef0f3", "#1b1d21")
LINE = ("#cfd4da", "#3a3f46")
TEXT = ("#16191d", "#e8eaed")
GOOD = ("#1c7c43", "#4cc27d")
WARNING = ("#9a6200", "#e6b04a")
DANGER = ("#b3261e", "#f2766d")
TONES = {Tone.GOOD: GOOD, Tone.NOTICE: WARNING, Tone.ALARM: DANGER, Tone.UNKNOWN: QUIET}
DANGER_PANEL = ("#fbe9e7", "#4a2320")
FOCUS = ("#03173d", "#d6e4ff")

_MARGIN = 8  # pixels above and below what is scrolled to
_FIELDS = (customtkinter.CTkEntry, customtkinter.CTkTextbox)


def font(size: int = 14, *, bold: bool = False) -> Any:
    return customtkinter.CTkFont(size=size, weight="bold" if bold else "normal")


def fixed_font(size: int = 13) -> Any:
    family = next((name for name in ("DejaVu Sans Mono", "Consolas", "Menlo") if name in tkinter_families()), "Courier")
    return customtkinter.CTkFont(family=family, size=size)


def tkinter_families() -> tuple[str, ...]:
    from tkinter import font as fonts

    return fonts.families()


class Button(customtkinter.CTkButton):
    """A button that Tab reaches, and Space and Return press. `kind`: main, plain, or danger."""

    def __init__(
        self, parent: Any, text: str, command: Callable[[], None], kind: str = "plain", **options: Any
    ) -> None:
        kinds: dict[str, dict[str, Any]] = {
            "main": {"fg_color": ACCENT, "hover_color": ("#185a8d", "#3c8fcf"), "text_color": "#ffffff"},
            "plain": {"fg_color": PANEL, "hover_color": LINE, "text_color": TEXT},
            "danger": {"fg_color": DANGER, "hover_color": ("#8f1d17", "#d95b52"), "text_color": ("#ffffff", "#1b1d21")},
        }
        self._resting = ACCENT if kind == "main" else DANGER if kind == "danger" else LINE
        super().__init__(
            parent,
            text=text,
            command=command,
            height=34,
            border_width=2,
            border_color=self._resting,
            font=font(),
            **{**kinds[kind], **options},
        )
        reach_by_keyboard(self, self.invoke)
        tkinter.Misc.bind(self, "<FocusIn>", lambda _: self.configure(border_color=FOCUS))
        tkinter.Misc.bind(self, "<FocusOut>", lambda _: self.configure(border_color=self._resting))


def reach_by_keyboard(widget: Any, press: Callable[[], Any]) -> None:
    """Let Tab reach a widget of customtkinter, and Space and Return do what a click does."""
    widget.tk.call(str(widget), "configure", "-takefocus", 1)
    for key in ("<space>", "<Return>", "<KP_Enter>"):
        tkinter.Misc.bind(widget, key, lambda _: press())


def ring_fields(window: Any) -> None:
    """Show by the border which field or text box of a window has the focus."""

    def ring(event: Any) -> None:
        field = getattr(event.widget, "master", None)
        if isinstance(field, _FIELDS) and field.cget("border_color") != FOCUS:
            field.resting_border = field.cget("border_color")
            field.configure(border_color=FOCUS)

    def rest(event: Any) -> None:
        field = getattr(event.widget, "master", None)
        if isinstance(field, _FIELDS) and hasattr(field, "resting_border"):
            field.configure(border_color=field.resting_border)

    for kind in ("Entry", "Text"):
        window.bind_class(kind, "<FocusIn>", ring, add="+")
        window.bind_class(kind, "<FocusOut>", rest, add="+")


class _Ringed(customtkinter.CTkBaseClass):
    """A widget of customtkinter around which Tk draws a ring while it has the focus."""

    def _draw(self, no_color_updates: bool = False) -> None:
        super()._draw(no_color_updates)
        ground, ring = (self._apply_appearance_mode(colour) for colour in (self._bg_color, FOCUS))
        colours = ("-highlightbackground", ground, "-highlightcolor", ring)
        self.tk.call(str(self), "configure", "-highlightthickness", 2, *colours)


class _Outlined(customtkinter.CTkBaseClass):
    """The same for a widget that is one canvas as large as itself: with Tk's ring it would grow for ever."""

    _outlined = False

    def _draw(self, no_color_updates: bool = False) -> None:
        super()._draw(no_color_updates)
        canvas = self._canvas
        canvas.delete("ring")
        if self._outlined:
            right, below = canvas.winfo_width() - 2, canvas.winfo_height() - 2
            colour = self._apply_appearance_mode(FOCUS)
            canvas.create_rectangle(1, 1, right, below, outline=colour, width=2, tags="ring")

    def _outline_on_focus(self) -> None:
        for event, focused in (("<FocusIn>", True), ("<FocusOut>", False)):
            tkinter.Misc.bind(self, event, lambda _, focused=focused: self._outline(focused))  # type: ignore[misc]

    def _outline(self, focused: bool) -> None:
        if self.winfo_exists():  # a destroyed one loses the focus, too
            self._outlined = focused
            self._draw()


class CheckBox(_Ringed, customtkinter.CTkCheckBox):
    """A box that Tab reaches, and Space and Return tick."""

    def __init__(self, parent: Any, text: str, **options: Any) -> None:
        looks = {"font": font(), "text_color": TEXT, "fg_color": ACCENT, "border_width": 2}
        super().__init__(parent, text=text, checkbox_width=20, checkbox_height=20, **{**looks, **options})
        reach_by_keyboard(self, self.toggle)


class RadioButton(_Ringed, customtkinter.CTkRadioButton):
    """One of several that Tab reaches, and Space and Return choose."""

    def __init__(self, parent: Any, text: str, **options: Any) -> None:
        super().__init__(parent, text=text, font=font(), text_color=TEXT, **options)
        reach_by_keyboard(self, self.invoke)


class Switch(_Ringed, customtkinter.CTkSwitch):
    """A switch that Tab reaches, and Space and Return turn."""

    def __init__(self, parent: Any, text: str, command: Callable[[], None]) -> None:
        super().__init__(parent, text=text, font=font(13), text_color=TEXT, command=command)
        reach_by_keyboard(self, self.toggle)


class Menu(_Outlined, customtkinter.CTkOptionMenu):
    """A menu that Tab reaches, Space and Return open, and Up and Down step through. It lies on `ground`."""

    def __init__(
        self,
        parent: Any,
        values: Sequence[str],
        command: Callable[[str], None],
        ground: tuple[str, str] = PANEL,
        **options: Any,
    ) -> None:
        colours = {"fg_color": ground, "text_color": TEXT, "button_color": LINE, "button_hover_color": QUIET}
        fonts = {"font": font(13), "dropdown_font": font(13)}
        super().__init__(parent, values=list(values), command=command, height=34, **colours, **fonts, **options)
        reach_by_keyboard(self, self._open_dropdown_menu)
        self._outline_on_focus()
        for key, step in (("<Up>", -1), ("<Down>", 1)):
            tkinter.Misc.bind(self, key, partial(self._step, step))

    def _step(self, step: int, _event: object) -> str:
        values = self.cget("values")
        place = values.index(self.get()) + step if self.get() in values else 0
        if 0 <= place < len(values):
            self._dropdown_callback(values[place])
        return "break"


class Choice(customtkinter.CTkSegmentedButton):
    """One of a few, side by side; the words are as readable on the chosen one as on the others."""

    def __init__(self, parent: Any, values: Sequence[str], **options: Any) -> None:
        super().__init__(
            parent,
            values=list(values),
            fg_color=LINE,
            selected_color=CHOSEN,
            selected_hover_color=CHOSEN,
            unselected_color=PANEL,
            unselected_hover_color=LINE,
            text_color=TEXT,
            border_width=3,
            **options,
        )
        self.tk.call(str(self), "configure", "-takefocus", 1)
        for key, step in (("<Left>", -1), ("<Right>", 1)):
            tkinter.Misc.bind(self, key, partial(self._step, step))
        tkinter.Misc.bind(self, "<FocusIn>", lambda _: self.configure(fg_color=FOCUS))
        tkinter.Misc.bind(self, "<FocusOut>", lambda _: self.configure(fg_color=LINE))

    def _step(self, step: int, _event: object) -> str:
        """The value before or after, as a click on it."""
        values = self.cget("values")
        place = values.index(self.get()) + step if self.get() in values else 0
        if 0 <= place < len(values):
            self.set(values[place])
            if self._command is not None:
                self._command(values[place])
        return "break"


def text_box(parent: Any, height: int, size: int = 12, *, wrap: str = "char", **options: Any) -> Any:
    """Several lines of text; Tab leaves it, and is no character of it."""
    options = {"text_color": TEXT, "border_width": 2, "border_color": LINE, **options}
    box = customtkinter.CTkTextbox(parent, height=height, font=fixed_font(size), wrap=wrap, **options)
    box.bind("<Tab>", _leave)
    return box


def _leave(event: Any) -> str:
    event.widget.tk_focusNext().focus()
    return "break"


def heading(parent: Any, text: str, size: int = 22) -> Any:
    return label(parent, text, size, bold=True)


def note(parent: Any, text: str = "", wraplength: int = 0) -> Any:
    """A line or two that explain."""
    return label(parent, text, 13, colour=QUIET, wraplength=wraplength)


def label(
    parent: Any, text: str = "", size: int = 14, *, bold: bool = False, colour: Any = TEXT, **options: Any
) -> Any:
    """Text that begins at the left; `options` are a CTkLabel's."""
    options = {"font": font(size, bold=bold), "text_color": colour, **options}
    return customtkinter.CTkLabel(parent, text=text, anchor="w", justify="left", **options)


class FittingLabel(customtkinter.CTkLabel):
    """A line that shows as much of its text as fits, and requests no width of its own."""

    def __init__(self, parent: Any, height: int, **options: Any) -> None:
        super().__init__(parent, text="", width=1, height=height, anchor="w", **options)
        self.grid_propagate(False)
        self._whole = ""
        tkinter.Misc.bind(self, "<Configure>", lambda _: self._fit(), add=True)

    def say(self, text: str) -> None:
        self._whole = text
        self._fit()

    def _fit(self) -> None:
        room = int(self.winfo_width() / self._get_widget_scaling()) - 2
        shown = fitting(self._whole, room, self.cget("font").measure)
        if shown != self.cget("text"):
            self.configure(text=shown)


def wrap(label: Any, pixels: int) -> None:
    """Wrap a label's text to a width in pixels; for a `<Configure>` of its parent."""
    label.configure(wraplength=max(120, int(pixels / customtkinter.ScalingTracker.get_widget_scaling(label)) - 4))


def panel(parent: Any) -> Any:
    return customtkinter.CTkFrame(parent, fg_color=PANEL, border_color=LINE, border_width=1, corner_radius=8)


class PassphraseField(customtkinter.CTkFrame):
    """A field that shows dots, with a button that shows what is typed."""

    def __init__(self, parent: Any, hint: str, on_return: Callable[[], None]) -> None:
        super().__init__(parent, fg_color="transparent")
        self.grid_columnconfigure(0, weight=1)
        self.entry = customtkinter.CTkEntry(self, show="•", placeholder_text=hint, height=34, font=font())
        self.entry.grid(row=0, column=0, sticky="ew", padx=(0, 10))
        self.entry.bind("<Return>", lambda _: on_return())
        self._button = Button(self, "Show", self._toggle, width=70)
        self._button.grid(row=0, column=1)

    def take(self) -> str:
        """Return what was typed, and clear the field."""
        typed: str = self.entry.get()
        self.entry.delete(0, "end")
        return typed

    def focus_set(self) -> None:
        self.entry.focus_set()

    def _toggle(self) -> None:
        hidden = self.entry.cget("show") != ""
        self.entry.configure(show="" if hidden else "•")
        self._button.configure(text="Hide" if hidden else "Show")


class Slider(_Outlined, customtkinter.CTkSlider):
    """A slider for whole numbers that Tab reaches and the arrow keys move."""

    def __init__(self, parent: Any, chosen: Callable[[int], None]) -> None:
        super().__init__(parent, from_=0, to=1, command=self._moved, height=18, button_color=ACCENT)
        self._chosen = chosen
        self._whole = (0, 1, 0)  # from, to, value
        self.configure(button_hover_color=FOCUS, progress_color=ACCENT, border_width=3)
        self.tk.call(str(self), "configure", "-takefocus", 1)
        self._outline_on_focus()
        for key, step in (("<Left>", -1), ("<Down>", -1), ("<Right>", 1), ("<Up>", 1)):
            tkinter.Misc.bind(self, key, partial(self._step, step))

    def show(self, least: int, most: int, value: int, *, enabled: bool) -> None:
        if (least, most, value) != self._whole:
            self._whole = (least, most, value)
            span = max(1, most - least)
            self.configure(from_=least, to=least + span, number_of_steps=span)
            self.set(value)
        self.configure(state="normal" if enabled and most > least else "disabled")

    def _moved(self, value: float) -> None:
        if round(value) != self._whole[2]:
            self._chosen(round(value))

    def _step(self, step: int, _event: object) -> None:
        least, most, value = self._whole
        if self.cget("state") == "normal" and least <= value + step <= most:
            self._chosen(value + step)


class Scrolling(customtkinter.CTkScrollableFrame):
    """A frame that scrolls: its bar shows only where needed, and what has the focus is scrolled to.

    `ground`: the colours behind it, which hide the bar.
    """

    def __init__(self, parent: Any, ground: tuple[str, str], **options: Any) -> None:
        super().__init__(parent, fg_color="transparent", corner_radius=0, **options)
        self._ground = ground
        self._bar_shown = True
        for widget in (self, self._parent_canvas):
            widget.bind("<Configure>", lambda _: self.after_idle(self._show_bar), add=True)

    def _show_bar(self) -> None:
        if not self.winfo_exists():
            return
        needed = self._parent_canvas.yview() != (0.0, 1.0)
        if needed != self._bar_shown:
            self._bar_shown = needed
            colour, hover = (LINE, QUIET) if needed else (self._ground, self._ground)
            self.configure(scrollbar_button_color=colour, scrollbar_button_hover_color=hover)

    def reveal(self, widget: Any) -> None:
        """Scroll so that a widget in it is visible."""
        canvas, height = self._parent_canvas, max(1, self.winfo_height())
        upper = widget.winfo_rooty() - self.winfo_rooty()
        shown = (upper - _MARGIN, upper + widget.winfo_height() + _MARGIN)
        canvas.yview_moveto(top_to_show(shown, canvas.canvasy(0), canvas.winfo_height()) / height)


def reveal_focus(event: Any) -> None:
    """For a `<FocusIn>` anywhere in a window."""
    frame = event.widget
    while frame is not None and not isinstance(frame, Scrolling):
        frame = getattr(frame, "master", None)
    if frame is not None:
        frame.reveal(event.widget)
