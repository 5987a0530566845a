"""The gallery: snapshots at the side, a search, a grid of what it finds, and beside it the details of one image."""

from __future__ import annotations

from tkinter import filedialog
from typing import Any, Optional

import customtkinter

from common.text import count, format_size
from desktop.model.entries import Age, health_sentence
from desktop.model.gallery import MOST_CHOSEN, GalleryModel
from desktop.model.image_work import ImageWorkModel
from desktop.views.controls import (
    DANGER,
    GOOD,
    LINE,
    PANEL,
    QUIET,
    TEXT,
    TONES,
    WARNING,
    Button,
    CheckBox,
    Menu,
    Scrolling,
    fixed_font,
    font,
    heading,
    label,
    note,
    wrap,
)
from desktop.views.overlay import Findings, ask
from desktop.views.share_form import ShareForm
from desktop.views.snapshots import FolderBar, SnapshotList
from desktop.views.tiles import TileGrid
from desktop.views.trash_sheet import TrashSheet
from desktop.views.view import View

_ALL_FORMATS = "all formats"
_DETAILS = 262  # units across
_SEARCH_AFTER = 120  # milliseconds without a key
_STATES = {"here": GOOD, "away": WARNING, "damaged": DANGER}


class GalleryView(View[GalleryModel]):
    def build(self) -> None:
        self.grid_columnconfigure(1, weight=1)
        self.grid_rowconfigure(3, weight=1)
        top = customtkinter.CTkFrame(self, fg_color="transparent")
        top.grid(row=0, column=0, columnspan=3, sticky="ew")
        top.grid_columnconfigure(1, weight=1)
        heading(top, "Gallery").grid(row=0, column=0, sticky="w")
        self._summary = note(top)
        self._summary.grid(row=0, column=1, sticky="w", padx=12, pady=(6, 0))
        Button(top, "Trash …", self._open_trash, width=80).grid(row=0, column=2, sticky="e")
        self._state = note(top)
        self._build_search()
        self._list = SnapshotList(self, self.model.snapshots)
        self._bar = FolderBar(self, self.model, lambda: self._tiles.canvas.focus_set())
        self._tiles = TileGrid(self, self.model, self.model.open)
        self._tiles.grid(row=3, column=1, sticky="nsew")
        self._place: Any = None  # what the tiles show
        self._empty = customtkinter.CTkLabel(self, text="", font=font(15), text_color=QUIET, justify="center")
        self._details = _Details(self, self.model)
        self._outcome = _Outcome(self, self.model.work)

    def _build_search(self) -> None:
        row = customtkinter.CTkFrame(self, fg_color="transparent")
        row.grid(row=1, column=0, columnspan=3, sticky="ew", pady=(10, 10))
        row.grid_columnconfigure(0, weight=1)
        self._words = customtkinter.CTkEntry(
            row, placeholder_text="Name, date (2026-11) or format", height=34, font=font(), border_color=LINE
        )
        self._words.grid(row=0, column=0, sticky="ew", padx=(0, 10))
        self._searching: Optional[str] = None
        self._words.bind("<KeyRelease>", lambda _: self._search_soon())
        self._words.bind("<Escape>", lambda _: self._clear())
        self._words.bind("<Down>", lambda _: self._tiles.canvas.focus_set())
        self._format = Menu(row, [_ALL_FORMATS], self._choose_format, width=130)
        self._format.grid(row=0, column=1, padx=(0, 10))
        self._age = Menu(row, [age.value for age in Age], lambda text: self.model.choose_age(Age(text)), width=140)
        self._age.grid(row=0, column=2, padx=(0, 10))
        self._unwell: Any = CheckBox(
            row,
            "not whole",
            font=font(13),
            width=100,
            command=lambda: self.model.choose_unwell(bool(self._unwell.get())),
        )
        self._unwell.grid(row=0, column=3)

    # --- searching and choosing

    def _search_soon(self) -> None:
        if self._searching is not None:
            self.after_cancel(self._searching)
        self._searching = self.after(_SEARCH_AFTER, self._search)

    def _search(self) -> None:
        self._searching = None
        self.model.look_for(self._words.get())

    def _clear(self) -> None:
        self._words.delete(0, "end")
        self._search_soon()

    def _choose_format(self, text: str) -> None:
        self.model.choose_format(None if text == _ALL_FORMATS else text)

    def _open_trash(self) -> None:
        TrashSheet(self, self.model.trash)

    # --- what is shown

    @property
    def tiles(self) -> TileGrid:
        return self._tiles

    def show(self) -> None:
        model = self.model
        self._summary.configure(text=model.summary)
        self._state.configure(text=model.state, text_color=WARNING if model.notice else QUIET)
        if model.state:
            self._state.grid(row=1, column=0, columnspan=3, sticky="w")
        else:
            self._state.grid_forget()
        self._format.configure(values=[_ALL_FORMATS, *model.images.formats])
        self._list.show(len(model.images))
        self._bar.show()
        self._tiles.show(model.shown, model.selected, model.chosen, former=bool(model.notice))
        place = (model.snapshots.chosen, model.snapshots.path)
        if place != self._place:
            self._place = place
            self._tiles.to_top()
        if model.emptiness:
            self._empty.configure(text=model.emptiness)
            self._empty.grid(row=3, column=1)
            self._empty.lift()
        else:
            self._empty.grid_forget()
        self._details.show()
        self._outcome.show()
        if model.chosen_images == []:  # None is chosen; of what is read still it is not known
            self._details.grid_forget()
        else:
            self._details.grid(row=3, column=2, sticky="nsew", padx=(8, 0))


class _Details(customtkinter.CTkFrame):
    """One image: its facts, its health, and where its shares are."""

    def __init__(self, parent: Any, model: GalleryModel) -> None:
        super().__init__(parent, fg_color=PANEL, border_color=LINE, border_width=1, corner_radius=8, width=_DETAILS)
        self.grid_propagate(False)
        self.grid_columnconfigure(0, weight=1)
        self.grid_rowconfigure(0, weight=1)
        self._model = model
        self._shown: Any = None
        room = _DETAILS - 36
        told = Scrolling(self, PANEL, width=room)
        told.grid(row=0, column=0, sticky="nsew", padx=(10, 2), pady=(8, 4))
        told.grid_columnconfigure(0, weight=1)
        self._called = label(told, size=15, bold=True, wraplength=room)
        self._facts = note(told, wraplength=room)
        self._hash = customtkinter.CTkLabel(
            told, font=fixed_font(11), text_color=QUIET, anchor="w", justify="left", wraplength=room
        )
        self._badge = label(told, bold=True)
        self._health = note(told, wraplength=room)
        self._places = customtkinter.CTkFrame(told, fg_color="transparent", height=0)
        self._places.grid_columnconfigure(1, weight=1)
        rows = (self._called, self._facts, self._hash, self._badge, self._health)
        for row, (part, above) in enumerate(zip(rows, (4, 2, 4, 10, 0))):
            part.grid(row=row, column=0, sticky="ew", padx=(4, 0), pady=(above, 0))
        self._places.grid(row=5, column=0, sticky="ew", pady=(8, 0))
        self._bring = Button(self, "Reassemble", self._reassemble, kind="main")
        self._bring.grid(row=1, column=0, sticky="ew", padx=16, pady=(4, 6))
        row = customtkinter.CTkFrame(self, fg_color="transparent")
        row.grid(row=2, column=0, sticky="ew", padx=14, pady=(0, 14))
        row.grid_columnconfigure((0, 1, 2), weight=1, uniform="third")
        self._actions = [
            Button(row, "Save …", self._save, width=70),
            Button(row, "Share …", self._share, width=70),
            Button(row, "Delete …", self._delete, width=70, text_color=DANGER),
        ]
        for column, button in enumerate(self._actions):
            button.grid(row=0, column=column, sticky="ew", padx=2)

    def _save(self) -> None:
        images = self._model.chosen_images
        session = self._model.session
        folder = filedialog.askdirectory(parent=self, title="A folder for the images", initialdir=session.folder)
        if folder and images:
            session.chose(folder)
            self._model.work.save(images, folder)

    def _share(self) -> None:
        if self._model.chosen_images:
            ShareForm(self.master, self._model.work, self._model.sharing, self._model.chosen_images)

    def _delete(self) -> None:
        if self._model.chosen_images:
            ask(self.master, self._model.work.deleting(self._model.chosen_images))

    def _show_many(self) -> None:
        images = self._model.chosen_images
        self._shown = None
        self._called.configure(text=count(len(self._model.chosen if images is None else images), "image"))
        if images is not None:
            self._facts.configure(text=f"{format_size(sum(entry.size for entry in images))} together")
        elif len(self._model.chosen) > MOST_CHOSEN:
            self._facts.configure(text=f"At most {MOST_CHOSEN:,} can be saved, shared or deleted at once.")
        else:
            self._facts.configure(text="…")
        for part in (self._hash, self._badge, self._health):
            part.configure(text="")
        for child in self._places.winfo_children():
            child.destroy()
        self._bring.grid_remove()

    def _reassemble(self) -> None:
        if self._model.entry is not None:
            self._model.reassemble(self._model.entry.sha256)

    def show(self) -> None:
        images = self._model.chosen_images
        for button in self._actions:
            button.configure(state="disabled" if self._model.work.doing or not images else "normal")
        if len(self._model.chosen if images is None else images) > 1:
            self._show_many()
            return
        entry = self._model.entry
        notice, names = self._model.notice, self._model.images.names
        if entry is None or (entry, names, notice) == self._shown:
            return
        self._shown = (entry, names, notice)
        self._bring.grid()
        self._called.configure(text=entry.name if len(entry.name) < 80 else f"{entry.name[:76]}…")
        self._facts.configure(text=f"{entry.facts}\n{entry.dates}")
        digits = entry.sha256
        self._hash.configure(text="\n".join(digits[at : at + 32] for at in range(0, len(digits), 32)))
        badge = entry.former_badge if notice else entry.badge
        self._badge.configure(text=badge.words, text_color=TONES[badge.tone])
        sentence = health_sentence(entry.health)
        self._health.configure(text=f"{notice[:1].upper()}{notice[1:]}. Then: {sentence}" if notice else sentence)
        for child in self._places.winfo_children():
            child.destroy()
        for row, place in enumerate(self._model.places):
            share = label(self._places, f"share {place.share}", 13, colour=QUIET, height=22)
            share.grid(row=row, column=0, sticky="w", padx=(4, 10))
            device = place.device if len(place.device) <= 18 else f"{place.device[:17]}…"
            name = label(self._places, device, 13, height=22)
            name.grid(row=row, column=1, sticky="ew")
            state = customtkinter.CTkLabel(
                self._places,
                text=f"was {place.state}" if notice else place.state,
                font=font(13),
                text_color=QUIET if notice else _STATES[place.state],
                height=22,
            )
            state.grid(row=row, column=2, sticky="e", padx=(6, 4))


class _Outcome(customtkinter.CTkFrame):
    """The action on chosen images that is under way, and its outcome."""

    _MOST = 4  # images that are named

    def __init__(self, parent: Any, model: ImageWorkModel) -> None:
        super().__init__(parent, fg_color=PANEL, border_color=LINE, border_width=1, corner_radius=8)
        self._model = model
        self.grid_columnconfigure(0, weight=1)
        self._words = label(self, bold=True)
        self._words.grid(row=0, column=0, sticky="ew", padx=14, pady=(8, 0))
        self._named = note(self)
        self._named.grid(row=1, column=0, sticky="ew", padx=14, pady=(0, 8))
        self._all = Button(self, "Show all …", self._show_all, width=100)
        self._back = Button(self, "Take back", model.take_back, width=100)
        self._end = Button(self, "Cancel", self._cancel_or_close, width=90)
        self._end.grid(row=0, column=3, rowspan=2, padx=(6, 12), pady=8)
        self.bind("<Configure>", lambda _: self._wrap())

    def _wrap(self) -> None:
        buttons = sum(bool(button.winfo_manager()) for button in (self._all, self._back, self._end))
        for part in (self._words, self._named):
            wrap(part, self.winfo_width() - round(self._get_widget_scaling() * (40 + 115 * buttons)))

    def _cancel_or_close(self) -> None:
        (self._model.cancel if self._model.doing else self._model.dismiss)()

    def show(self) -> None:
        model, report = self._model, self._model.report
        if not model.doing and report is None:
            self.grid_forget()
            return
        progress = f"  {model.progress.words}" if model.progress is not None else ""
        tone = TEXT if report is None else TONES[report.tone]
        self._words.configure(text=model.doing + progress if report is None else report.summary, text_color=tone)
        findings = [] if report is None else report.findings
        named = [f"{finding.name}: {finding.words}" for finding in findings[: self._MOST]]
        more = len(findings) - self._MOST
        self._named.configure(text="\n".join([*named, *([f"and {more} more"] if more > 0 else [])]))
        self._end.configure(text="Cancel" if model.doing else "Close")
        if model.deleted and not model.doing:
            self._back.grid(row=0, column=2, rowspan=2, padx=6, pady=8)
        else:
            self._back.grid_forget()
        if len(findings) > self._MOST:
            self._all.grid(row=0, column=1, rowspan=2, padx=6, pady=8)
        else:
            self._all.grid_forget()
        self._wrap()
        self.grid(row=4, column=0, columnspan=3, sticky="ew", pady=(10, 0))

    def _show_all(self) -> None:
        if self._model.report is not None:
            Findings(self.master, self._model.report)
