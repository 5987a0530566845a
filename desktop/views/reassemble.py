"""Reassembling an image: the mosaic and then the image, beside what each device gave."""

from __future__ import annotations

import tkinter
from tkinter import filedialog
from typing import Any, Optional

import customtkinter

from common.text import format_size
from desktop.model.reassemble import Phase, ReassembleModel
from desktop.model.reassembling import DeviceShare
from desktop.views.controls import (
    ACCENT,
    GOOD,
    LINE,
    PANEL,
    QUIET,
    WARNING,
    Button,
    fixed_font,
    heading,
    label,
    note,
    panel,
    wrap,
)
from desktop.views.pixels import Mosaic, photo
from desktop.views.table import Column, Row, Table
from desktop.views.view import View

_TILES_ACROSS = 16
_COLUMNS = [Column("Device", 100, stretch=True), Column("Came", 66, anchor="e"), Column("What was missing", 122, True)]


class ReassembleView(View[ReassembleModel]):
    def build(self) -> None:
        self.grid_columnconfigure(0, weight=1)
        self.grid_columnconfigure(1, minsize=330)
        self.grid_rowconfigure(2, weight=1)
        heading(self, "Reassemble an image").grid(row=0, column=0, columnspan=2, sticky="w", pady=(0, 10))
        self._build_hash().grid(row=1, column=0, columnspan=2, sticky="ew", pady=(0, 12))
        self._build_picture().grid(row=2, column=0, sticky="nsew", padx=(0, 12))
        self._build_devices().grid(row=2, column=1, sticky="nsew")

    def _build_hash(self) -> Any:
        row = customtkinter.CTkFrame(self, fg_color="transparent")
        row.grid_columnconfigure(0, weight=1)
        self._hash = customtkinter.CTkEntry(
            row,
            font=fixed_font(),
            height=34,
            placeholder_text="SHA-256 of an image, or its first digits",
        )
        self._hash.grid(row=0, column=0, sticky="ew", padx=(0, 10))
        self._hash.bind("<Return>", lambda _: self._begin())
        self._start = Button(row, "Bring it back", self._begin, "main", width=120)
        self._start.grid(row=0, column=1)
        self._cancel = Button(row, "Cancel", self.model.cancel, width=80)
        self._cancel.grid(row=0, column=2, padx=(10, 0))
        return row

    def _build_picture(self) -> Any:
        card = panel(self)
        card.grid_columnconfigure(0, weight=1)
        card.grid_rowconfigure(1, weight=1)
        self._label = label(card, bold=True)
        self._label.grid(row=0, column=0, columnspan=2, sticky="ew", padx=14, pady=(10, 6))
        self._preview = tkinter.Canvas(card, highlightthickness=0, borderwidth=0)
        self._preview.grid(row=1, column=0, columnspan=2, sticky="nsew", padx=14)
        self._preview.bind("<Configure>", lambda _: self._redraw())
        self._bar = customtkinter.CTkProgressBar(card, height=8, progress_color=ACCENT, fg_color=LINE)
        self._bar.grid(row=2, column=0, columnspan=2, sticky="ew", padx=14, pady=(10, 0))
        self._details = note(card)
        self._details.grid(row=3, column=0, sticky="ew", padx=14, pady=10)
        self._save = Button(card, "Save as…", self._save_as, "main", width=110)
        self._save.grid(row=3, column=1, padx=14, pady=10)
        card.bind("<Configure>", lambda event: self._wrap(event.width))
        self._photo: Any = None
        self._drawn: Any = None
        self._mosaic: tuple[Any, Optional[Mosaic]] = (None, None)
        return card

    def _build_devices(self) -> Any:
        card = panel(self)
        card.grid_columnconfigure(0, weight=1)
        card.grid_rowconfigure(2, weight=1)
        heading(card, "What each device gave", 15).grid(row=0, column=0, sticky="w", padx=16, pady=(12, 0))
        self._needed = note(card)
        self._needed.grid(row=1, column=0, sticky="w", padx=16)
        self._devices = Table(card, _COLUMNS)
        self._devices.grid(row=2, column=0, sticky="nsew", padx=10, pady=(4, 6))
        self._missing = note(card, wraplength=290)
        self._missing.grid(row=3, column=0, sticky="w", padx=16)
        self._retry = Button(card, "Retry missing", self.model.retry, width=130)
        self._retry.grid(row=4, column=0, sticky="w", padx=14, pady=12)
        return card

    # --- showing the model

    def show(self) -> None:
        model, reassembly = self.model, self.model.reassembly
        self._cancel.configure(state="normal" if model.phase is Phase.GATHERING else "disabled")
        self._start.configure(state="disabled" if model.busy else "normal")
        self._save.configure(state="normal" if model.phase is Phase.PROVEN and not model.saving else "disabled")
        proven = model.phase is Phase.PROVEN
        self._label.configure(text=model.label, text_color=GOOD if proven else WARNING)
        self._bar.configure(progress_color=GOOD if proven else ACCENT)
        self._bar.set(reassembly.part)
        self._details.configure(text=model.saved or "\n".join(filter(None, (model.name, model.details))))
        needed = f"{reassembly.k} of {reassembly.n} shares bring it back" if reassembly.n else ""
        self._needed.configure(text=needed)
        self._devices.show([_row(device, proven=proven) for device in reassembly.devices.values()])
        lacking = [f"{device.name}: {'; '.join(device.missing)}" for device in reassembly.missing]
        self._missing.configure(text="\n".join(lacking[:4] + (["…"] if len(lacking) > 4 else [])))
        self._retry.configure(state="normal" if model.can_retry else "disabled")
        self._redraw()

    def _redraw(self) -> None:
        """Draw the image where it is proven, else the mosaic, as large as fits; only if something changed."""
        model, canvas = self.model, self._preview
        canvas.configure(background=self._apply_appearance_mode(PANEL))
        width, height = canvas.winfo_width(), canvas.winfo_height()
        if width < 20 or height < 20:
            return
        mapping = model.reassembly.mapping
        tiles = _TILES_ACROSS * self._rows()
        here = int(model.reassembly.part * tiles)
        drawn = (id(model.reassembly), model.pixels, model.reassembly.thumbnail, mapping is None, here, width, height)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        canvas.delete("all")
        if mapping is None:
            text = "It will come together here." if model.phase is not Phase.GATHERING else "Asking who has it…"
            canvas.create_text(
                width // 2, height // 2, text=text, fill=self._apply_appearance_mode(QUIET), font=("Roboto", -15)
            )
            return
        if model.pixels is not None:
            shown = model.pixels
            self._photo = photo(shown, min(width / shown.width, height / shown.height, self._get_widget_scaling()))
        else:
            self._photo = self._mosaic_of(width, height).photo(here)
        canvas.create_image(width // 2, height // 2, image=self._photo)

    def _rows(self) -> int:
        across, down = self._shape()
        return max(1, min(_TILES_ACROSS, round(_TILES_ACROSS * down / across)))

    def _shape(self) -> tuple[int, int]:
        thumbnail = self.model.reassembly.thumbnail
        return (3, 2) if thumbnail is None else (thumbnail.width, thumbnail.height)

    def _mosaic_of(self, width: int, height: int) -> Mosaic:
        thumbnail = self.model.reassembly.thumbnail
        key = (id(self.model.reassembly), thumbnail is None, width, height)
        kept = self._mosaic[1]
        if kept is not None and self._mosaic[0] == key:
            return kept
        across, down = self._shape()
        scale = min(width / across, height / down)
        size_ = (max(_TILES_ACROSS, int(across * scale)), max(self._rows(), int(down * scale)))
        mosaic = Mosaic(thumbnail, *size_, _TILES_ACROSS, self._rows())
        self._mosaic = (key, mosaic)
        return mosaic

    def _wrap(self, width: int) -> None:
        wrap(self._label, width - 40)
        wrap(self._details, width - 190)

    def _set_appearance_mode(self, mode_string: str) -> None:
        super()._set_appearance_mode(mode_string)
        self._drawn = None
        self._redraw()

    # --- clicks

    def _begin(self) -> None:
        if not self.model.busy:
            self.model.begin(self._hash.get())

    def _save_as(self) -> None:
        session = self.model.session
        chosen = filedialog.asksaveasfilename(
            parent=self, title="Save the image", initialfile=self.model.name, initialdir=session.folder
        )
        if chosen:
            session.chose(chosen)
            self.model.save(chosen)


def _row(device: DeviceShare, *, proven: bool) -> Row:
    if device.missing:
        return Row((device.name, format_size(device.came) if device.came else "", device.missing[0]), "danger")
    if device.came:
        return Row((device.name, format_size(device.came), ""), "good")
    return Row((device.name, "", "not needed" if proven else ""), "quiet")
