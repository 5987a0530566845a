"""The devices of the store view: which may get shares, and the progress of each."""

from __future__ import annotations

from typing import Any, Callable, Optional

import customtkinter

from common.text import count, format_size
from desktop.model.layout import fitting
from desktop.model.putting import DeviceProgress
from desktop.model.store import Choice
from desktop.model.wording import rate, time_left
from desktop.views.controls import ACCENT, DANGER, GOOD, LINE, PANEL, QUIET, CheckBox, Scrolling, font, label

_BESIDE = 48  # units: the box, and the gap between name and words


class DeviceRow(customtkinter.CTkFrame):
    def __init__(self, parent: Any, choice: Choice, choose: Callable[[str, bool], None]) -> None:
        super().__init__(parent, fg_color="transparent")
        self.grid_columnconfigure(1, weight=1)
        self._box = CheckBox(self, choice.name, font=font(bold=True))
        self._box.configure(command=lambda: choose(choice.name, bool(self._box.get())))
        self._box.grid(row=0, column=0, sticky="w")
        self._text = customtkinter.CTkLabel(self, font=font(12), text_color=QUIET, anchor="e", height=20)
        self._text.grid(row=0, column=1, sticky="e")
        self._bar = customtkinter.CTkProgressBar(self, height=8, progress_color=ACCENT, fg_color=LINE)
        self._lost = label(self, "", 12, colour=DANGER, height=20, wraplength=330)
        self._called = choice.name
        self._beside = True  # whether the words are beside the name
        self._said: tuple[object, ...] = ()
        self.bind("<Configure>", lambda _: self._fit())

    def show(self, choice: Choice, progress: Optional[DeviceProgress], *, busy: bool, known: bool) -> None:
        device = choice.device
        text = f"{format_size(device.free_bytes)} free" if device.alive else "not connected"
        if not known:
            text = "not known now"
        lost, part = "", None
        if progress is not None:
            there, all_ = len(progress.committed), len(progress.placed)
            parts = [f"{there} of {count(all_, 'share')}"]
            if there < all_:
                parts += [rate(progress.speed.per_second()), time_left(progress.seconds_left)]
            text = "  ·  ".join(filter(None, parts))
            part = round(progress.part, 3)
            lost = "; ".join(dict.fromkeys(progress.lost.values()))
        said = (choice.chosen, text, lost, part, busy)
        if said != self._said:
            self._said = said
            self._say(choice.chosen, text, lost, part, busy)

    def _say(self, chosen: bool, text: str, lost: str, part: Optional[float], busy: bool) -> None:
        self._box.configure(state="normal")
        (self._box.select if chosen else self._box.deselect)()
        self._box.configure(state="disabled" if busy else "normal")
        self._text.configure(text=text)
        self._beside = part is None
        if self._beside:
            self._text.grid(row=0, column=1, columnspan=1, sticky="e")
        else:  # below: beside it there would be no room for the name
            self._text.grid(row=1, column=0, columnspan=2, sticky="w")
        self._fit()
        if part is None:
            self._bar.grid_forget()
        else:
            self._bar.configure(progress_color=GOOD if part >= 1.0 and not lost else ACCENT)
            self._bar.set(part)
            self._bar.grid(row=2, column=0, columnspan=2, sticky="ew", pady=(2, 0))
        if lost:
            self._lost.configure(text=lost)
            self._lost.grid(row=3, column=0, columnspan=2, sticky="w")
        else:
            self._lost.grid_forget()

    def _fit(self) -> None:
        """Show as much of the name as fits beside the words."""
        scale = self._get_widget_scaling()
        bold = self._box.cget("font")
        taken = font(12).measure(self._text.cget("text")) if self._beside else 0
        room = int(self.winfo_width() / scale) - taken - _BESIDE
        if room > 0:
            shown = fitting(self._called, room, bold.measure)
            if shown != self._box.cget("text"):
                self._box.configure(text=shown)


class DeviceRows(Scrolling):
    """One row a device, reused by updates."""

    def __init__(self, parent: Any, choose: Callable[[str, bool], None]) -> None:
        super().__init__(parent, PANEL)
        self.grid_columnconfigure(0, weight=1)
        self._choose = choose
        self._rows: dict[str, DeviceRow] = {}

    def show(self, choices: list[Choice], progress: dict[str, DeviceProgress], *, busy: bool, known: bool) -> None:
        """`known`: whether the broker is reached, so that the devices' states are current."""
        names = [choice.name for choice in choices]
        if names != list(self._rows):
            for row in self._rows.values():
                row.destroy()
            self._rows = {choice.name: DeviceRow(self, choice, self._choose) for choice in choices}
            for number, row in enumerate(self._rows.values()):
                row.grid(row=number, column=0, sticky="ew", pady=6, padx=(0, 6))
        for choice in choices:
            self._rows[choice.name].show(choice, progress.get(choice.name), busy=busy, known=known)
