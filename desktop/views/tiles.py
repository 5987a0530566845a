"""A grid of thousands of tiles on a canvas: only visible ones exist, and are reused by scrolling."""

from __future__ import annotations

import sys
import tkinter
from collections import OrderedDict
from tkinter import font as fonts
from typing import Any, Callable, NamedTuple, Optional

import customtkinter

from desktop.model.entries import Badge, Entry, Key, Tone
from desktop.model.gallery import GalleryModel
from desktop.model.layout import Grid
from desktop.model.shown import Listed, Shown
from desktop.model.thumbnails import EDGE
from desktop.views.controls import ACCENT, CHOSEN, FOCUS, GROUND, LINE, PANEL, QUIET, TEXT, TONES
from desktop.views.pixels import folder, photo, rounded
from viewer.process import Pixels

_PADDING, _GAP = 8, 12  # units, scaled to pixels
_WIDTH = EDGE + 2 * _PADDING
_HEIGHT = EDGE + 2 * _PADDING + 44
_RING = 2  # pixels around all, which show that it has the focus
_FOLDER = 84  # units across its drawing
_KEPT = 500  # pictures
_WHEEL = 72  # units that a turn of the wheel moves
_AHEAD = 1  # screens above and below for which thumbnails are made too

Chosen = Callable[[Key], None]


class _Tile(NamedTuple):
    """The items on the canvas that make one tile."""

    card: int
    picture: int
    standing_in: int  # the format's name, where there is no picture
    name: int
    dot: int
    words: int


class TileGrid(customtkinter.CTkFrame):
    """Shows a gallery's entries; a click selects one, with Control one more, with Shift a range; a double click or
    Return opens it."""

    def __init__(self, parent: Any, model: GalleryModel, open_: Chosen) -> None:
        super().__init__(parent, fg_color="transparent", corner_radius=0)
        self._model, self._open = model, open_
        self._chosen: frozenset[Key] = frozenset()
        self._entries: Shown = Listed()
        self._selected: Optional[Key] = None
        self._former = False
        self._hovered: Optional[int] = None
        self._tiles: dict[int, _Tile] = {}  # by place
        self._on_tiles: dict[int, Entry] = {}  # what each shows
        self._hidden: list[_Tile] = []
        self._photos: OrderedDict[str, Any] = OrderedDict()  # by SHA-256; None for one without a picture
        self._cut: dict[str, str] = {}  # names as they fit
        self.grid_columnconfigure(0, weight=1)
        self.grid_rowconfigure(0, weight=1)
        self._surface = tkinter.Canvas(self, highlightthickness=_RING, borderwidth=0, takefocus=1)
        self._surface.grid(row=0, column=0, sticky="nsew")
        self._bar = customtkinter.CTkScrollbar(self, command=self._surface.yview)
        self._bar.grid(row=0, column=1, sticky="ns", padx=(4, 0))
        self._surface.configure(yscrollcommand=self._scrolled)
        self._prepare()
        self._thumbnails = model.thumbnails(self._take)
        self._listen()

    # --- what is shown

    def show(
        self,
        entries: Shown,
        selected: Optional[Key],
        chosen: frozenset[Key] = frozenset(),
        *,
        former: bool = False,
    ) -> None:
        """Show these, in this order, at the present scroll position; `former`: their health may be outdated."""
        if entries is not self._entries or former is not self._former:
            self._entries, self._former = entries, former
            self._lay_out()
        self._renew()
        if (selected, chosen) != (self._selected, self._chosen):
            self._selected, self._chosen = selected, chosen
            for place in self._tiles:
                self._mark(place)

    def _renew(self) -> None:
        """Show what was read since of the entries on visible tiles."""
        new = [place for place in self._tiles if self._entries[place] != self._on_tiles[place]]
        for place in new:
            self._placed(self._tiles[place], place)
        if new:
            self._ask_for_thumbnails(self._in_sight())

    def to_top(self) -> None:
        self._surface.yview_moveto(0)

    @property
    def painted(self) -> bool:
        """Whether a tile is visible."""
        return bool(self._tiles)

    @property
    def words(self) -> set[str]:
        """The texts below the visible tiles."""
        return {self._badge(self._entries[place]).words for place in self._tiles}

    @property
    def waiting(self) -> int:
        """The number of visible tiles whose picture has not come yet."""
        in_sight = [self._entries[place] for place in self._in_sight()]
        return sum(not entry.is_read or self._lacks_picture(entry) for entry in in_sight)

    def _lacks_picture(self, entry: Entry) -> bool:
        return entry.has_thumbnail and entry.sha256 not in self._photos

    @property
    def canvas(self) -> tkinter.Canvas:
        return self._surface

    def _prepare(self) -> None:
        """Compute what depends on the appearance and the scaling."""
        self._scale = float(self._get_widget_scaling())
        unit = self._unit
        self._cards: dict[str, Any] = {}
        dot = unit(9)
        self._dots = {
            tone: rounded(dot, dot, dot // 2, self._colour(TONES[tone]), self._colour(TONES[tone]), 0) for tone in Tone
        }
        self._folder = folder(unit(_FOLDER), self._colour(CHOSEN), self._colour(ACCENT))
        family = customtkinter.CTkFont().actual("family")
        self._name_font = fonts.Font(family=family, size=-unit(13))
        self._small_font = fonts.Font(family=family, size=-unit(12))
        ground = self._colour(GROUND)
        self._surface.configure(background=ground, yscrollincrement=1)
        self._surface.configure(highlightbackground=ground, highlightcolor=self._colour(FOCUS))
        self._cut.clear()

    def _unit(self, units: float) -> int:
        return max(1, round(units * self._scale))

    def _colour(self, pair: tuple[str, str]) -> str:
        return str(self._apply_appearance_mode(pair))

    def _set_appearance_mode(self, mode_string: str) -> None:
        super()._set_appearance_mode(mode_string)
        self._begin_anew()

    def _set_scaling(self, *arguments: Any, **named: Any) -> None:
        super()._set_scaling(*arguments, **named)
        self._photos.clear()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._surface.delete("all")
        self._tiles.clear()
        self._hidden.clear()
        self._prepare()
        self._lay_out()

    # --- layout

    def _lay_out(self) -> None:
        """Place everything anew: the entries or the width changed."""
        width = max(1, self._surface.winfo_width() - 2 * _RING)
        unit = self._unit
        self._grid_of_tiles = Grid(len(self._entries), width, unit(_WIDTH), unit(_HEIGHT), unit(_GAP))
        self._surface.configure(scrollregion=(0, 0, width, max(self._grid_of_tiles.height, 1)))
        for tile in self._tiles.values():
            self._hide(tile)
        self._tiles.clear()
        self._hovered = None
        self._make_cards()
        self._fill()

    def _make_cards(self) -> None:
        """Make the tiles' backgrounds, in the present width."""
        width, unit = self._grid_of_tiles.tile_width, self._unit
        if self._cards and self._cards["plain"].width() == width:
            return
        size, panel = (width, unit(_HEIGHT), unit(10)), self._colour(PANEL)
        self._cards = {
            "plain": rounded(*size, panel, self._colour(LINE), 1),
            "hovered": rounded(*size, panel, self._colour(ACCENT), unit(1)),
            "chosen": rounded(*size, self._colour(CHOSEN), self._colour(ACCENT), unit(1)),
            "selected": rounded(*size, self._colour(CHOSEN), self._colour(FOCUS), unit(3)),
        }

    def _scrolled(self, first: float, last: float) -> None:
        self._bar.set(float(first), float(last))  # Tk gives text
        self._fill()

    def _in_sight(self, screens: int = 0) -> range:
        top, height = self._surface.canvasy(0), self._surface.winfo_height()
        return self._grid_of_tiles.in_sight(top - screens * height, height * (1 + 2 * screens))

    def _fill(self) -> None:
        """Give every visible place a tile, reusing those that are no longer visible."""
        if not hasattr(self, "_grid_of_tiles"):
            return
        in_sight = self._in_sight()
        free = [self._tiles.pop(place) for place in list(self._tiles) if place not in in_sight]
        for place in in_sight:
            if place not in self._tiles:
                tile = free.pop() if free else self._hidden.pop() if self._hidden else self._new_tile()
                self._tiles[place] = self._placed(tile, place)
        self._on_tiles = {place: self._on_tiles[place] for place in self._tiles}
        for tile in free:
            self._hide(tile)
        self._ask_for_thumbnails(in_sight)

    def _ask_for_thumbnails(self, in_sight: range) -> None:
        ahead = self._in_sight(_AHEAD)
        order = [*in_sight, *range(in_sight.stop, ahead.stop), *range(ahead.start, in_sight.start)]
        entries = [self._entries[place] for place in order]
        self._thumbnails.want([entry for entry in entries if self._lacks_picture(entry)])

    def _hide(self, tile: _Tile) -> None:
        """Hide it, without pictures: Tk raises an error for an item whose picture is gone."""
        for item in (tile.card, tile.picture, tile.dot):
            self._surface.itemconfigure(item, image="", state="hidden")
        for item in (tile.standing_in, tile.name, tile.words):
            self._surface.itemconfigure(item, state="hidden")
        self._hidden.append(tile)

    def _new_tile(self) -> _Tile:
        canvas, quiet, text = self._surface, self._colour(QUIET), self._colour(TEXT)
        return _Tile(
            canvas.create_image(0, 0, anchor="nw"),
            canvas.create_image(0, 0, anchor="center"),
            canvas.create_text(0, 0, anchor="center", font=self._name_font, fill=quiet),
            canvas.create_text(0, 0, anchor="w", font=self._name_font, fill=text),
            canvas.create_image(0, 0, anchor="w"),
            canvas.create_text(0, 0, anchor="w", font=self._small_font, fill=quiet),
        )

    def _placed(self, tile: _Tile, place: int) -> _Tile:
        """Move a tile to a place and show its entry."""
        canvas, entry, unit = self._surface, self._entries[place], self._unit
        self._on_tiles[place] = entry
        x, y = self._grid_of_tiles.position(place)
        middle, below = x + self._grid_of_tiles.tile_width // 2, y + unit(_PADDING + EDGE)
        canvas.coords(tile.card, x, y)
        canvas.coords(tile.picture, middle, y + unit(_PADDING + EDGE / 2))
        canvas.coords(tile.standing_in, middle, y + unit(_PADDING + EDGE / 2))
        canvas.coords(tile.name, x + unit(_PADDING + 3), below + unit(16))
        canvas.coords(tile.dot, x + unit(_PADDING + 3), below + unit(36))
        canvas.coords(tile.words, x + unit(_PADDING + 17), below + unit(36))
        badge = self._badge(entry)
        canvas.itemconfigure(tile.card, image=self._card(place), state="normal")
        canvas.itemconfigure(tile.name, text=self._fitting(entry.name), state="normal")
        canvas.itemconfigure(tile.dot, image=self._dots[badge.tone], state="normal")
        canvas.itemconfigure(tile.words, text=badge.words, state="normal")
        self._show_picture(tile, entry)
        return tile

    def _badge(self, entry: Entry) -> Badge:
        return entry.former_badge if self._former else entry.badge

    def _show_picture(self, tile: _Tile, entry: Entry) -> None:
        picture = self._folder if entry.is_folder else self._photos.get(entry.sha256)
        if picture is not None:
            if not entry.is_folder:
                self._photos.move_to_end(entry.sha256)
            self._surface.itemconfigure(tile.picture, image=picture, state="normal")
            self._surface.itemconfigure(tile.standing_in, state="hidden")
        else:
            words = "" if self._lacks_picture(entry) else entry.format
            self._surface.itemconfigure(tile.picture, image="", state="hidden")
            self._surface.itemconfigure(tile.standing_in, text=words, state="normal")

    def _fitting(self, name: str) -> str:
        """As much of a name as fits, with its end, which has the format."""
        cut = self._cut.get(name)
        if cut is None:
            width, shown = self._unit(_WIDTH - 2 * _PADDING - 4), name
            while self._name_font.measure(shown) > width and len(name) > 8:
                name_end = name[-6:]
                keep = min(len(shown) - 1, int(len(shown) * width / self._name_font.measure(shown))) - 7
                shown = f"{name[: max(1, keep)]}…{name_end}"
                if keep <= 1:
                    break
            cut = self._cut[name] = shown
        return cut

    def _take(self, sha256: str, pixels: Optional[Pixels]) -> None:
        """A picture came, or there is none."""
        if not self.winfo_exists():
            return
        self._photos[sha256] = None if pixels is None else photo(pixels, self._scale)
        while len(self._photos) > _KEPT:
            self._photos.popitem(last=False)
        for place, tile in self._tiles.items():
            if self._entries[place].sha256 == sha256:
                self._show_picture(tile, self._entries[place])

    # --- input

    def _card(self, place: int) -> Any:
        if self._entries[place].key == self._selected:
            return self._cards["selected"]
        if self._entries[place].key in self._chosen:
            return self._cards["chosen"]
        return self._cards["hovered" if place == self._hovered else "plain"]

    def _mark(self, place: int) -> None:
        tile = self._tiles.get(place)
        if tile is not None:
            self._surface.itemconfigure(tile.card, image=self._card(place))

    def _listen(self) -> None:
        canvas = self._surface
        canvas.bind("<Configure>", lambda _: self._lay_out())
        canvas.bind("<Motion>", lambda event: self._hover(self._at(event)))
        canvas.bind("<Leave>", lambda _: self._hover(None))
        canvas.bind("<Button-1>", self._clicked)
        canvas.bind("<Control-Button-1>", lambda event: self._clicked(event, self._model.toggle))
        canvas.bind("<Shift-Button-1>", lambda event: self._clicked(event, self._model.extend))
        canvas.bind("<Double-Button-1>", self._double_clicked)
        if sys.platform.startswith("linux"):
            canvas.bind("<Button-4>", lambda _: self._turn(-1))
            canvas.bind("<Button-5>", lambda _: self._turn(1))
        else:
            canvas.bind("<MouseWheel>", lambda event: self._turn(-event.delta / 120))
        steps: dict[str, Callable[[], int]] = {
            "<Left>": lambda: -1,
            "<Right>": lambda: 1,
            "<Up>": lambda: -self._grid_of_tiles.columns,
            "<Down>": lambda: self._grid_of_tiles.columns,
            "<Prior>": lambda: -max(1, len(self._in_sight()) - self._grid_of_tiles.columns),
            "<Next>": lambda: max(1, len(self._in_sight()) - self._grid_of_tiles.columns),
            "<Home>": lambda: -len(self._entries),
            "<End>": lambda: len(self._entries),
        }
        for key, step in steps.items():
            canvas.bind(key, lambda _, step=step: self._go(step()))  # type: ignore[misc]
            with_shift = f"<Shift-{key[1:]}"
            canvas.bind(with_shift, lambda _, step=step: self._go(step(), self._model.extend))  # type: ignore[misc]
        for all_ in ("<Control-a>", "<Control-A>"):
            canvas.bind(all_, lambda _: self._model.select_all())
        canvas.bind("<Return>", lambda _: self._open(self._selected) if self._selected else None)
        canvas.bind("<Escape>", lambda _: self._model.select(None))
        for up in ("<BackSpace>", "<Alt-Up>"):
            canvas.bind(up, lambda _: self._model.up())

    def _at(self, event: Any) -> Optional[int]:
        return self._grid_of_tiles.place_at(self._surface.canvasx(event.x), self._surface.canvasy(event.y))

    def _hover(self, place: Optional[int]) -> None:
        if place != self._hovered:
            before, self._hovered = self._hovered, place
            for each in (before, place):
                if each is not None:
                    self._mark(each)

    def _clicked(self, event: Any, choose: Optional[Chosen] = None) -> None:
        self._surface.focus_set()
        place = self._at(event)
        if place is None:
            self._model.select(None)
        else:
            (choose or self._model.select)(self._entries[place].key)

    def _double_clicked(self, event: Any) -> None:
        place = self._at(event)
        if place is not None:
            self._open(self._entries[place].key)

    def _turn(self, steps: float) -> None:
        self._surface.yview_scroll(round(steps * self._unit(_WHEEL)), "units")

    def _go(self, step: int, choose: Optional[Chosen] = None) -> str:
        """Select the image so many places on, and scroll to it."""
        here = self._entries.place_of(self._selected)
        place = self._grid_of_tiles.moved(here, step)
        if place is not None:
            top, height = self._surface.canvasy(0), self._surface.winfo_height()
            self._surface.yview_moveto(
                self._grid_of_tiles.top_to_show(place, top, height) / max(1, self._grid_of_tiles.height)
            )
            (choose or self._model.select)(self._entries[place].key)
        return "break"

    def destroy(self) -> None:
        self._thumbnails.close()
        super().destroy()
