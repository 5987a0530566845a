"""A table of any length: Tk's own, which draws only what is visible, in the app's colours."""

from __future__ import annotations

from tkinter import font as fonts
from tkinter import ttk
from typing import Any, Callable, NamedTuple

import customtkinter

from desktop.model.layout import column_widths, fitting
from desktop.views.controls import ACCENT, DANGER, FOCUS, GOOD, LINE, PANEL, QUIET, TEXT, WARNING

_ROW = 28  # units of a row of one line
_LINE = 18  # units that each other line adds
_LEAST = 60  # units to which a column that stretches also shrinks
_PADDING = 10  # pixels of a cell beside its words
_COLOURS = {"good": GOOD, "warning": WARNING, "danger": DANGER, "quiet": QUIET, "plain": TEXT}


class Column(NamedTuple):
    title: str
    width: int  # units
    stretch: bool = False
    anchor: str = "w"


class Row(NamedTuple):
    values: tuple[str, ...]
    colour: str = "plain"  # one of _COLOURS


class Table(customtkinter.CTkFrame):
    """A click, Up and Down choose a row."""

    def __init__(
        self,
        parent: Any,
        columns: list[Column],
        *,
        lines: int = 1,
        titles: bool = True,
        chosen: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`lines`: of a row's texts. `titles`: whether the columns' are shown. `chosen` gets the number of a row."""
        super().__init__(parent, fg_color=PANEL, border_color=PANEL, border_width=2, corner_radius=0, width=1, height=1)
        self.grid_propagate(False)  # fixed: columns as wide as the table would make it grow for ever
        self.grid_columnconfigure(0, weight=1)
        self.grid_rowconfigure(0, weight=1)
        self._columns = columns
        names = [str(number) for number in range(len(columns))]
        self._style = f"{id(self)}.Treeview"
        self._tree = ttk.Treeview(self, columns=names, show="headings", selectmode="browse", style=self._style)
        if not titles:
            self._tree.configure(show="")
        self._lines, self._chosen = lines, chosen
        self._tree.bind("<<TreeviewSelect>>", lambda _: self._choose())
        self._bar = customtkinter.CTkScrollbar(self, command=self._tree.yview)
        self._tree.configure(yscrollcommand=self._scrolled)
        self._tree.grid(row=0, column=0, sticky="nsew", padx=2, pady=2)
        for event, colour in (("<FocusIn>", FOCUS), ("<FocusOut>", PANEL)):
            self._tree.bind(event, lambda _, colour=colour: self.configure(border_color=colour))  # type: ignore[misc]
        self._shown: list[Row] = []
        self._font = fonts.Font(self, family="Roboto", size=-13)
        self._tree.bind("<Configure>", lambda _: self.after_idle(self._fit))
        self._dress()

    def show(self, rows: list[Row]) -> None:
        """Show these rows, updating only what changed."""
        tree = self._tree
        for index, row in enumerate(rows[: len(self._shown)]):
            if row != self._shown[index]:
                tree.item(str(index), values=self._fitting(row), tags=(row.colour,))
        for index in range(len(self._shown), len(rows)):
            tree.insert("", "end", str(index), values=self._fitting(rows[index]), tags=(rows[index].colour,))
        tree.delete(*(str(index) for index in range(len(rows), len(self._shown))))
        self._shown = list(rows)

    def mark(self, number: int) -> None:
        """Show that this row is chosen."""
        name = str(number)
        if self._tree.selection() != (name,) and self._tree.exists(name):
            self._tree.selection_set(name)
            self._tree.focus(name)
            self._tree.see(name)

    def _choose(self) -> None:
        for name in self._tree.selection():
            self._chosen(int(name))

    def _fitting(self, row: Row) -> tuple[str, ...]:
        """The texts of a row, cut to their columns' widths."""
        rooms = [int(self._tree.column(str(number), "width")) - _PADDING for number in range(len(self._columns))]
        return tuple(
            "\n".join(fitting(line, room, self._font.measure) for line in text.split("\n"))
            for text, room in zip(row.values, rooms)
        )

    def _fit(self) -> None:
        """Set the columns' widths anew, and cut their texts."""
        if self.winfo_exists():
            scale = self._get_widget_scaling()
            wanted = [round(column.width * scale) for column in self._columns]
            stretching = [column.stretch for column in self._columns]
            for number, width in enumerate(column_widths(wanted, stretching, self._tree.winfo_width())):
                self._tree.column(str(number), width=width)
            for index, row in enumerate(self._shown):
                self._tree.item(str(index), values=self._fitting(row))

    def _scrolled(self, first: float, last: float) -> None:
        self._bar.set(float(first), float(last))
        if float(first) <= 0.0 and float(last) >= 1.0:
            self._bar.grid_forget()
        else:
            self._bar.grid(row=0, column=1, sticky="ns")

    def _dress(self) -> None:
        scale = self._get_widget_scaling()
        pick = self._apply_appearance_mode
        style = ttk.Style(self)
        style.theme_use("clam")  # the one that takes all colours on every platform
        size = -round(13 * scale)
        self._font.configure(size=size)
        ground, line = pick(PANEL), pick(LINE)
        plain = {"background": ground, "fieldbackground": ground, "bordercolor": ground, "lightcolor": ground}
        height = _ROW + (self._lines - 1) * _LINE
        style.configure(self._style, foreground=pick(TEXT), rowheight=round(height * scale), borderwidth=0, **plain)
        style.configure(self._style, font=("Roboto", size), darkcolor=ground)
        style.map(self._style, background=[("selected", pick(ACCENT))], foreground=[("selected", "#ffffff")])
        heading = f"{self._style}.Heading"
        style.configure(heading, background=ground, foreground=pick(QUIET), relief="flat", font=("Roboto", size))
        style.configure(heading, bordercolor=line, lightcolor=ground, darkcolor=ground, padding=(4, 4))
        style.map(heading, background=[("active", ground)])
        for name, colour in _COLOURS.items():
            self._tree.tag_configure(name, foreground=pick(colour))
        for number, column in enumerate(self._columns):
            anchor: Any = column.anchor
            self._tree.heading(str(number), text=column.title, anchor=anchor)
            width = round(column.width * scale)
            least = round(min(column.width, _LEAST) * scale) if column.stretch else width
            self._tree.column(str(number), width=width, minwidth=least, stretch=column.stretch, anchor=anchor)

    def _set_appearance_mode(self, mode_string: str) -> None:
        super()._set_appearance_mode(mode_string)
        self._dress()

    def _set_scaling(self, *scaling: float) -> None:
        super()._set_scaling(*scaling)
        self._dress()
