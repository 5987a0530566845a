"""The snapshots beside the gallery, and above it the way to the folder in view."""

from __future__ import annotations

from collections.abc import Sequence
from tkinter import filedialog
from typing import Any, Callable

import customtkinter

from common.text import count
from consumer.snapshots import KeptSnapshot
from desktop.model.gallery import GalleryModel
from desktop.model.layout import fitting
from desktop.model.snapshots import SnapshotsModel, Step, places, snapshot_lines
from desktop.views.controls import QUIET, WARNING, Button, font, label
from desktop.views.table import Column, Row, Table
from desktop.views.view import View

_WIDTH = 176  # units across the list
_LINES = 3
_LAST = 2  # folders on the way whose names are shown, beside the snapshot's
_NAME = 18  # characters of them


class SnapshotList(customtkinter.CTkFrame):
    """All pictures, and below them the snapshots, the newest first; it is there once there is a snapshot."""

    def __init__(self, parent: View[Any], model: SnapshotsModel) -> None:
        super().__init__(parent, fg_color="transparent", width=_WIDTH)
        self._model = model
        self._shown: Sequence[KeptSnapshot] = ()
        self._images = 0
        self.grid_rowconfigure(0, weight=1)
        self.table = Table(self, [Column("", _WIDTH, stretch=True)], lines=_LINES, titles=False, chosen=self._choose)
        self.table.configure(width=_WIDTH)
        self.table.grid(row=0, column=0, sticky="ns")

    def _choose(self, row: int) -> None:
        kept = self._model.kept
        if row <= len(kept):
            self._model.choose(None if row == 0 else kept[row - 1].sha256)

    def show(self, images: int) -> None:
        model = self._model
        if not model.kept:
            self.grid_forget()
            return
        if model.kept is not self._shown or images != self._images:
            self._shown, self._images = model.kept, images
            rows = [Row((f"All pictures\n{count(images, 'image')}",))]
            for kept in model.kept:
                rows.append(Row(("\n".join(snapshot_lines(kept)),), "plain" if kept.snapshot.complete else "warning"))
            self.table.show(rows)
        self.table.mark(places(model.kept, model.chosen))
        self.grid(row=2, column=0, rowspan=2, sticky="ns", padx=(0, 10))


class FolderBar(customtkinter.CTkFrame):
    """A button for each folder on the way to the one in view, and one that restores it."""

    def __init__(self, parent: View[Any], model: GalleryModel, went: Callable[[], None]) -> None:
        """`went`: called when a button led to another folder, and is gone."""
        super().__init__(parent, fg_color="transparent")
        self._model, self._went = model, went
        self._shown: Any = None
        self.grid_columnconfigure(0, weight=1)
        self._way = customtkinter.CTkFrame(self, fg_color="transparent", height=34)
        self._way.grid(row=0, column=0, sticky="w")
        self._restore = Button(self, "Restore folder…", self._ask, kind="main", width=130)
        self._restore.grid(row=0, column=1, sticky="e", padx=(8, 0))

    def show(self) -> None:
        snapshots = self._model.snapshots
        if snapshots.chosen is None:
            self._shown = None
            self.grid_forget()
            return
        self._restore.configure(state="disabled" if self._model.work.doing else "normal")
        if snapshots.trail is not self._shown:
            self._shown = snapshots.trail
            self._lay(snapshots.trail, snapshots.chosen.snapshot.complete)
        self.grid(row=2, column=1, columnspan=2, sticky="ew", pady=(0, 8))

    def _lay(self, trail: list[Step], complete: bool) -> None:
        for child in self._way.winfo_children():
            child.destroy()
        skipped = len(trail) - 1 - _LAST
        depths = [0, *range(max(1, 1 + skipped), len(trail))]
        for column, depth in enumerate(depths):
            if column:
                between = "› … ›" if column == 1 and skipped > 0 else "›"
                label(self._way, between, 13, colour=QUIET).grid(row=0, column=2 * column - 1, padx=4)
            name = "Snapshot" if depth == 0 else fitting(trail[depth].name, _NAME, len)
            button = Button(self._way, name, lambda depth=depth: self._go(depth), width=20)  # type: ignore[misc]
            button.configure(font=font(13, bold=depth == len(trail) - 1))
            button.grid(row=0, column=2 * column)
        if not complete and len(trail) == 1:
            label(self._way, "incomplete", 13, colour=WARNING).grid(row=0, column=2 * len(depths), padx=8)

    def _go(self, depth: int) -> None:
        self._model.snapshots.back_to(depth)
        self._went()

    def _ask(self) -> None:
        session = self._model.session
        title = "A folder to restore into"
        folder = filedialog.askdirectory(parent=self, title=title, initialdir=session.folder, mustexist=False)
        if folder:
            session.chose(folder)
            self._model.restore(folder)
