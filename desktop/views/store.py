"""Storing: files at the left, devices at the right, and below what k of n means, and the button."""

from __future__ import annotations

import tkinter
from tkinter import filedialog
from typing import Any, Callable

import customtkinter

from common.text import count, format_size
from desktop.model.putting import Item, State, outcome_words, shown_names, snapshot_words, unwell_items
from desktop.model.store import FOR_ALL, Phase, StoreModel
from desktop.model.wording import rate, time_left
from desktop.views.controls import (
    ACCENT,
    GOOD,
    LINE,
    WARNING,
    Button,
    CheckBox,
    Slider,
    Switch,
    font,
    heading,
    label,
    note,
    panel,
    wrap,
)
from desktop.views.device_rows import DeviceRows
from desktop.views.table import Column, Row, Table
from desktop.views.view import View

_COLOURS = {State.STORED: "good", State.DEGRADED: "warning", State.FAILED: "danger", State.SENDING: "plain"}
_COLUMNS = [Column("File", 190, stretch=True), Column("Size", 80, anchor="e"), Column("What became of it", 210, True)]


class StoreView(View[StoreModel]):
    def build(self) -> None:
        self.grid_columnconfigure(0, weight=3, uniform="half")
        self.grid_columnconfigure(1, weight=2, uniform="half")
        self.grid_rowconfigure(1, weight=1)
        top = customtkinter.CTkFrame(self, fg_color="transparent")
        top.grid(row=0, column=0, columnspan=2, sticky="w", pady=(0, 10))
        heading(top, "Store images").grid(row=0, column=0)
        self._summary = note(top)
        self._summary.grid(row=0, column=1, padx=12, pady=(6, 0))
        self._build_files().grid(row=1, column=0, sticky="nsew", padx=(0, 12))
        self._build_devices().grid(row=1, column=1, sticky="nsew")
        self._build_actions().grid(row=2, column=0, columnspan=2, sticky="ew", pady=(12, 0))

    def _build_files(self) -> Any:
        card = panel(self)
        card.grid_columnconfigure(3, weight=1)
        card.grid_rowconfigure(1, weight=1)
        self._add_files = Button(card, "Add files…", self._choose_files, width=100)
        self._add_files.grid(row=0, column=0, padx=(14, 6), pady=12)
        self._add_folder = Button(card, "Add a folder…", self._choose_folder, width=120)
        self._add_folder.grid(row=0, column=1, padx=6)
        self._clear = Button(card, "Clear", self.model.clear, width=70)
        self._clear.grid(row=0, column=2, padx=6)
        self._table = Table(card, _COLUMNS)
        self._empty = note(card)
        can_drop = accept_files(self, self.model.add)
        self._invitation = "Choose images, or a folder with them" + (", or drop them here." if can_drop else ".")
        self._warning = note(card)
        self._warning.configure(text_color=WARNING)
        self._trouble = note(card)
        self._resend = Button(card, "", self.model.resend)
        card.bind("<Configure>", lambda event: self._wrap(event.width - 40, self._warning, self._trouble))
        return card

    def _build_devices(self) -> Any:
        card = panel(self)
        card.grid_columnconfigure(0, weight=1)
        card.grid_rowconfigure(1, weight=1)
        heading(card, "Devices that get a share", 15).grid(row=0, column=0, sticky="w", padx=16, pady=(12, 2))
        self._devices = DeviceRows(card, self.model.choose_device)
        self._devices.grid(row=1, column=0, sticky="nsew", padx=(14, 4))
        spare = customtkinter.CTkFrame(card, fg_color="transparent")
        spare.grid(row=2, column=0, sticky="ew", padx=16, pady=(6, 12))
        spare.grid_columnconfigure(1, weight=1)
        self._words = label(spare, bold=True, wraplength=360)
        self._words.grid(row=0, column=0, columnspan=3, sticky="w")
        spare.bind("<Configure>", lambda event: self._wrap(event.width, self._words, self._offer))
        self._automatic = Switch(spare, "Leave it to Tessera", self._toggle_automatic)
        self._automatic.grid(row=1, column=0, columnspan=3, sticky="w", pady=(2, 4))
        self._for_all: Any = CheckBox(
            spare, FOR_ALL, font=font(13), command=lambda: self.model.accept_degraded(bool(self._for_all.get()))
        )
        self._offer: Any = note(spare)
        note(spare, "Shares, one a device").grid(row=4, column=0, sticky="w", padx=(0, 10))
        self._shares = Slider(spare, self._choose_shares)
        self._shares.grid(row=4, column=1, sticky="ew")
        self._shares_number = note(spare)
        self._shares_number.grid(row=4, column=2, padx=(8, 0))
        note(spare, "Devices that may be lost").grid(row=5, column=0, sticky="w", padx=(0, 10))
        self._spare = Slider(spare, self._choose_spare)
        self._spare.grid(row=5, column=1, sticky="ew")
        self._spare_number = note(spare)
        self._spare_number.grid(row=5, column=2, padx=(8, 0))
        return card

    def _build_actions(self) -> Any:
        row = customtkinter.CTkFrame(self, fg_color="transparent")
        row.grid_columnconfigure(2, weight=1)
        self._start = Button(row, "Store now", self.model.start, "main", width=130)
        self._start.grid(row=0, column=0, padx=(0, 10))
        self._cancel = Button(row, "Cancel", self.model.cancel, width=90)
        self._cancel.grid(row=0, column=1, padx=(0, 16))
        self._progress = customtkinter.CTkProgressBar(row, height=10, progress_color=ACCENT, fg_color=LINE)
        self._how_far = note(row)
        self._how_far.grid(row=0, column=3, padx=(14, 0))
        return row

    def _wrap(self, width: int, *labels: Any) -> None:
        for each in labels:
            wrap(each, width)

    # --- showing the model

    def show(self) -> None:
        model = self.model
        busy = model.busy
        for button in (self._add_files, self._add_folder, self._clear):
            button.configure(state="disabled" if busy else "normal")
        self._show_files()
        progress = {} if model.put is None else model.put.devices
        self._devices.show(model.devices, progress, busy=busy, known=not model.notice)
        self._words.configure(text=model.words[:1].upper() + model.words[1:])
        (self._automatic.select if model.automatic else self._automatic.deselect)()
        self._automatic.configure(state="disabled" if busy else "normal")
        self._show_offer()
        self._shares.show(2, max(2, model.most), model.n, enabled=not busy)
        self._spare.show(0, max(0, model.n - 2), model.n - model.k, enabled=not busy)
        self._shares_number.configure(text=str(model.n))
        self._spare_number.configure(text=str(model.n - model.k))
        self._show_actions()

    def _show_offer(self) -> None:
        """Show the offer to store for devices that are away, where some are."""
        model = self.model
        if not model.offer:
            self._for_all.grid_forget()
            self._offer.grid_forget()
            return
        self._for_all.configure(state="normal")
        (self._for_all.select if model.for_all else self._for_all.deselect)()
        self._for_all.configure(state="disabled" if model.busy else "normal")
        self._offer.configure(text=model.offer)
        self._for_all.grid(row=2, column=0, columnspan=3, sticky="w")
        self._offer.grid(row=3, column=0, columnspan=3, sticky="w", pady=(0, 4))

    def _show_files(self) -> None:
        model = self.model
        total = sum(item.source.size or 0 for item in model.items)
        looking = "looking for files…" if model.looking else ""
        found = f"{count(len(model.items), 'file')}, {format_size(total)}" if total else ""
        self._summary.configure(text=looking or found)
        if model.items:
            self._empty.grid_forget()
            self._table.grid(row=1, column=0, columnspan=4, sticky="nsew", padx=10, pady=(0, 10))
        else:
            self._table.grid_forget()
            self._empty.configure(text=self._invitation)
            self._empty.grid(row=1, column=0, columnspan=4)
        self._table.show([_row(item, name) for item, name in zip(model.items, shown_names(model.items))])
        warning = "" if model.put is None else model.put.warning
        for row, (part, text) in enumerate([(self._warning, warning), (self._trouble, _trouble(model.items))], 2):
            part.configure(text=text)
            if text:
                part.grid(row=row, column=0, columnspan=4, sticky="w", padx=14, pady=(0, 8))
            else:
                part.grid_forget()
        if model.resendable and not model.busy:
            self._resend.configure(text=f"Resend {count(len(model.resendable), 'image')}")
            self._resend.grid(row=4, column=0, columnspan=4, sticky="w", padx=14, pady=(0, 12))
        else:
            self._resend.grid_forget()

    def _show_actions(self) -> None:
        model, put = self.model, self.model.put
        self._start.configure(
            text="Resume" if model.phase is Phase.STOPPED else "Store now",
            state="normal" if model.waiting and not model.busy else "disabled",
        )
        self._cancel.configure(state="normal" if model.phase is Phase.STORING else "disabled")
        if put is None or model.resending:
            self._progress.grid_forget()
        else:
            done, unwell = model.phase is Phase.DONE, bool(unwell_items(model.items))
            self._progress.set(1.0 if done else put.part)
            self._progress.configure(progress_color=ACCENT if not done else WARNING if unwell else GOOD)
            self._progress.grid(row=0, column=2, sticky="ew")
        self._how_far.configure(text=self._how_far_text())

    def _how_far_text(self) -> str:
        model, put = self.model, self.model.put
        if model.resending:
            return "Sending missing shares…"
        if model.phase is Phase.STORING and put is not None and put.waits_for:
            return f"{put.waits_for[:1].upper()}{put.waits_for[1:]} …"
        if model.phase is Phase.STORING and put is not None:
            parts = [
                f"{format_size(put.sent)} of {format_size(put.total)}",
                rate(put.speed.per_second()),
                time_left(put.seconds_left),
            ]
            return "  ·  ".join(filter(None, parts))
        if model.phase is Phase.STOPPING:
            return "Stopping…"
        if model.phase is Phase.STOPPED:
            return "Stopped. What is stored stays stored; Resume sends the rest."
        if model.phase is Phase.DONE:
            recorded = "" if model.put is None else snapshot_words(model.put.recorded)
            return ". ".join(part for part in (outcome_words(model.items), recorded) if part)
        return ""

    # --- clicks

    def _choose_files(self) -> None:
        session = self.model.session
        chosen = filedialog.askopenfilenames(parent=self, title="Images to store", initialdir=session.folder)
        if chosen:
            session.chose(chosen[0])
            self.model.add(chosen)

    def _choose_folder(self) -> None:
        session = self.model.session
        chosen = filedialog.askdirectory(
            parent=self, title="A folder with images", mustexist=True, initialdir=session.folder
        )
        if chosen:
            session.chose(chosen)
            self.model.add([chosen])

    def _toggle_automatic(self) -> None:
        if self._automatic.get():
            self.model.leave_to_app()
        else:
            self.model.choose_shares(self.model.k, self.model.n)

    def _choose_shares(self, n: int) -> None:
        spare = self.model.n - self.model.k
        self.model.choose_shares(n - min(spare, max(0, n - 2)), n)

    def _choose_spare(self, spare: int) -> None:
        self.model.choose_shares(self.model.n - spare, self.model.n)


def _row(item: Item, name: str) -> Row:
    length = "" if item.source.size is None else format_size(item.source.size)
    return Row((name, length, item.text), _COLOURS.get(item.state, "quiet"))


def _trouble(items: list[Item]) -> str:
    """The first error in full, which may not fit into the table, and its advice."""
    unwell = unwell_items(items)
    if not unwell:
        return ""
    first = unwell[0]
    text = f"{first.source.name}: {first.text}"
    more = f"  (and {count(len(unwell) - 1, 'other')})" if len(unwell) > 1 else ""
    return "\n".join(filter(None, (text + more, first.advice)))


def accept_files(widget: Any, dropped: Callable[[list[str]], None]) -> bool:
    """Have files that are dropped on the widget handed over; False without tkinterdnd2 and its library."""
    try:
        from tkinterdnd2 import COPY, DND_FILES, TkinterDnD
    except ImportError:
        return False
    window = widget.winfo_toplevel()
    try:
        TkinterDnD._require(window)  # what TkinterDnD.Tk does for a window of its own
        window.tk.call("tkdnd::drop_target", "register", str(widget), (DND_FILES,))
    except (tkinter.TclError, RuntimeError):
        return False

    def take(data: str) -> str:
        dropped([str(path) for path in window.tk.splitlist(data)])
        return str(COPY)

    window.tk.call("bind", str(widget), "<<Drop:DND_Files>>", f"{window.register(take)} %D")
    return True
