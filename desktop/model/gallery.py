"""The gallery: all images of the vault or a folder of a snapshot, searching and choosing there, the details of one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Callable, Optional

import numpy as np

from common.errors import TesseraError
from common.link.link import Link
from common.text import count
from common.vault.dates import Numbers
from common.vault.index import VaultIndex
from consumer.snapshots import KeptSnapshot, Path
from desktop.background import Background, Task
from desktop.model.commands import SHOWN_DIGITS, command_line
from desktop.model.entries import Age, Entry, Key, Search, SharePlace, share_places
from desktop.model.following import Following
from desktop.model.image_work import ImageWorkModel
from desktop.model.images import Images, Look, Order, Rows, look, read_kept, read_order
from desktop.model.model import Model
from desktop.model.sharing import SharingModel
from desktop.model.shown import Listed, Pages, Shown
from desktop.model.snapshots import SnapshotsModel
from desktop.model.thumbnails import EDGE, Thumbnails
from desktop.model.trash import TrashModel
from desktop.session import Session
from viewer.process import Pixels, Viewer

_LOOK_EVERY = 15.0  # seconds
MOST_CHOSEN = 10_000  # images that something is done with at once
_GROWS = 2  # times as much is found each time that it is shown, while it is being searched

Deliver = Callable[[str, Optional[Pixels]], None]


class GalleryModel(Model):
    """`shown`: what the search finds: of all images the newest first, of a folder by name. `chosen`: the keys of some.

    `selected`: the one of them with the keyboard's focus. What the search does not find any more is not chosen.
    `chosen_images`: each chosen image once, in the order of `shown`; None while they are read, or are too many.
    """

    def __init__(
        self, session: Session, background: Background, viewer: Viewer, reassemble: Callable[[str], None]
    ) -> None:
        super().__init__(session, background)
        self.viewer = viewer
        self.images = Images()
        self.search = Search()
        self.shown: Shown = Listed()
        self.selected: Optional[Key] = None
        self.chosen: frozenset[Key] = frozenset()
        self.chosen_images: Optional[list[Entry]] = []
        self._anchor: Optional[Key] = None  # where a chosen range starts
        self._searching: Optional[Task] = None
        self._choosing: Optional[Task] = None
        self.work = ImageWorkModel(session, background, self._look_again)
        self.sharing = SharingModel(session, background)
        self.trash = TrashModel(session, background, self._look_again)
        self.snapshots = SnapshotsModel(session, background, self._find_images, self._moved)
        self._place: tuple[Optional[KeptSnapshot], Path] = (None, ())
        self.include(self.work, self.sharing, self.trash, self.snapshots)
        self._reassemble = reassemble
        self._reading: Optional[Task] = None
        self._read = False
        self._state = self.images.state  # which the loop's thread may read
        self._following = Following(self, session.link, self._look, _LOOK_EVERY)
        self._tell_command()

    def activate(self) -> None:
        if self._read:
            self._following.begin()
        elif self._reading is None:
            self._reading = self.background.run(self._read_kept, done=self._all_read, failed=self.fail)

    def deactivate(self) -> None:
        self._following.stop()

    # --- the images

    def _read_kept(self) -> tuple[Order, list[Entry]]:
        order = read_order(self._index)
        return order, [] if len(order.numbers) else read_kept(self._index)

    def _all_read(self, read: tuple[Order, list[Entry]]) -> None:
        self._reading, self._read = None, True
        self.images.order, self.images.kept = read
        self._find()
        self.snapshots.refresh()
        self._following.begin()

    async def _look(self, link: Link) -> None:
        repository = self.session.repository(link)
        found = await look(repository, self._state, lambda order: self.background.post(self._more, order))
        self._state = found.state
        self.background.post(self._take, found)
        await self.snapshots.look(repository, found.snapshots)

    def _more(self, order: Order) -> None:
        """More images are known, of those that there are."""
        self.images.order, self.images.kept = order, []
        self._find()

    def _take(self, found: Look) -> None:
        if self.images.take(found):
            self._find()
            self.snapshots.refresh()

    @property
    def _index(self) -> VaultIndex:
        return self.session.vault.index(self.session.key)

    @property
    def _rows(self) -> Rows:
        return Rows(self._index, self.images.alive)

    def _find_images(self) -> Callable[[Iterable[str]], dict[str, Entry]]:
        """What finds images by SHA-256, in another thread."""
        return self._rows.find

    # --- searching

    def look_for(self, words: str) -> None:
        self._search(replace(self.search, words=words))

    def choose_format(self, format: Optional[str]) -> None:
        self._search(replace(self.search, format=format))

    def choose_age(self, age: Age) -> None:
        self._search(replace(self.search, age=age))

    def choose_unwell(self, unwell: bool) -> None:
        self._search(replace(self.search, unwell=unwell))

    def _search(self, search: Search) -> None:
        if search != self.search:
            self.search = search
            self._find()

    def _find(self) -> None:
        if self._searching is not None:
            self._searching.cancel()
            self._searching = None
        if self.snapshots.chosen is not None:
            self._show(Listed(self.search.find(self.snapshots.entries or [], time.time())))
        elif self.images.kept:
            self._show(Listed(self.search.find(self.images.kept, time.time())))
        elif self.search == Search():
            self._show(self._pages(self.images.order.numbers))
        else:
            search, numbers, rows = self.search, self.images.order.numbers, self._rows
            self._searching = self.background.start(
                lambda: self._search_all(search, numbers, rows), done=self._all_found, failed=self.fail
            )
            self.changed()

    async def _search_all(self, search: Search, numbers: Numbers, rows: Rows) -> Numbers:
        """Look at all images, and show those that match as they are found."""
        found: list[int] = []
        told = 0
        async for some in rows.search(search, numbers, time.time()):
            found += some
            if len(found) > _GROWS * told:
                told = len(found)
                self.background.post(self._some_found, search, numbers, np.array(found, np.int64))
        return np.array(found, np.int64)

    def _some_found(self, search: Search, numbers: Numbers, found: Numbers) -> None:
        if self._searching is not None and search is self.search and numbers is self.images.order.numbers:
            self.shown = self._pages(found)
            self.changed()

    def _all_found(self, found: Numbers) -> None:
        self._searching = None
        self._show(self._pages(found))

    def _pages(self, numbers: Numbers) -> Shown:
        return Pages(numbers, self._rows.read, self.background, self.changed, self.fail, self.shown)

    def _show(self, shown: Shown) -> None:
        """Show what was found, all of it."""
        self.shown = shown
        stay = self.chosen & shown.keys() if self.chosen else self.chosen
        if stay != self.chosen:
            self._choose(self.selected if self.selected in stay else next(iter(stay), None), stay)
        elif stay:
            self._read_chosen()
        self.changed()

    def _moved(self) -> None:
        """Another snapshot or folder is looked at, or more is known of what is in it."""
        self._find()
        place = (self.snapshots.chosen, self.snapshots.path)
        if place != self._place:
            self._place = place
            self._tell_command()
            self.changed()

    @property
    def summary(self) -> str:
        """The number of images, or of what is in the folder, and of those that are shown."""
        entries = self.snapshots.entries
        if self.snapshots.chosen is None:
            total, whole = len(self.images), count(len(self.images), "image")
        elif entries is None:
            return ""
        else:
            total, folders = len(entries), sum(entry.is_folder for entry in entries)
            parts = [count(folders, "folder")] if folders else []
            whole = ", ".join([*parts, count(total - folders, "file")] if total > folders else parts)
        return whole if len(self.shown) == total else f"{len(self.shown):,} of {whole}"

    @property
    def state(self) -> str:
        """What is under way, or missing; empty where all is well."""
        if not self._read:
            return "Opening the vault …"
        if self.notice:
            return self.notice[:1].upper() + self.notice[1:]
        if not self.images.looked:
            return "Asking the devices …"
        if self._searching is not None:
            return "Searching …"
        unreadable = self.images.unreadable
        if unreadable:
            more = f"{unreadable} more image{'s' if unreadable > 1 else ''}"
            return f"{more} cannot be shown: their devices are not connected"
        if self.snapshots.unread:
            return f"{count(self.snapshots.unread, 'snapshot')} cannot be read now: their devices are not connected"
        return ""

    @property
    def notice(self) -> str:
        """How old the images' health is, where it may be outdated; empty where it is current."""
        return self._following.notice

    @property
    def emptiness(self) -> str:
        """The text where nothing is shown."""
        if self.snapshots.chosen is not None and self.snapshots.entries is None:
            return "Reading the folder …"
        if self.snapshots.chosen is not None:
            return "" if self.shown else "Nothing here is like that." if self.snapshots.entries else "Nothing is here."
        if self.images.looked and not len(self.images):
            return "There are no images in this vault yet.\nStore some, and they appear here."
        return "No image is like that." if len(self.images) and not self.shown and self._searching is None else ""

    # --- choosing

    def select(self, key: Optional[Key]) -> None:
        """Choose this one and no other, or none."""
        self._anchor = key
        self._choose(key, frozenset() if key is None else frozenset({key}))

    def toggle(self, key: Key) -> None:
        """Add this one to the chosen, or remove it."""
        self._anchor = key
        chosen = self.chosen ^ {key}
        self._choose(key if key in chosen else next(iter(chosen), None), chosen)

    def extend(self, key: Key) -> None:
        """Choose the range from the anchor to this one."""
        anchor, end = self.shown.place_of(self._anchor), self.shown.place_of(key)
        if anchor is None or end is None:
            self.select(key)
        else:
            self._choose(key, self.shown.keys(min(anchor, end), max(anchor, end) + 1))

    def select_all(self) -> None:
        """Choose all that the search finds."""
        if self.shown:
            self._choose(self.selected or self.shown[0].key, self.shown.keys())

    def _choose(self, selected: Optional[Key], chosen: frozenset[Key]) -> None:
        self.selected, self.chosen, self.chosen_images = selected, chosen, None
        self._read_chosen(self._tell_command)
        self.changed()

    def _read_chosen(self, then: Callable[[], None] = lambda: None) -> None:
        """Have `chosen_images` say what is chosen, unless that is too much; `then` is called."""
        if self._choosing is not None:
            self._choosing.cancel()
            self._choosing = None

        def take(entries: Iterable[Entry]) -> None:
            images = (entry for entry in entries if entry.is_image)
            self._choosing, self.chosen_images = None, list({image.sha256: image for image in images}.values())
            then()

        def taken(entries: list[Entry]) -> None:
            take(entries)
            self.changed()

        if not isinstance(self.shown, Pages):
            take(entry for entry in self.shown if entry.key in self.chosen)
        elif len(self.chosen) > MOST_CHOSEN:
            then()
        else:
            numbers, rows = self.shown.chosen(self.chosen), self._rows
            entries = self.shown.at_hand_of(numbers)
            if entries is not None:
                take(entries)
            else:
                self._choosing = self.background.run(lambda: rows.read(numbers), done=taken, failed=self.fail)

    @property
    def entry(self) -> Optional[Entry]:
        """The image whose details are shown; None where none or several are chosen."""
        images = self.chosen_images or []
        return images[0] if len(images) == 1 else None

    @property
    def unfinished(self) -> str:
        return self.work.unfinished

    def _look_again(self) -> None:
        self._following.look_now()

    @property
    def places(self) -> list[SharePlace]:
        """Where the shares of the image are, of its most complete encoding."""
        entry = self.entry
        return [] if entry is None or not entry.encodings else share_places(entry.encodings[0], self.images.names)

    def reassemble(self, sha256: str) -> None:
        self._reassemble(sha256)

    def open(self, key: Key) -> None:
        """Look into a folder, reassemble an image; nothing else opens."""
        place = self.shown.place_of(key)
        entry = None if place is None else self.shown[place]
        if entry is not None and entry.is_folder:
            self.snapshots.enter(entry)
        elif entry is not None and entry.is_image:
            self._reassemble(entry.sha256)

    def up(self) -> None:
        """Go to the folder that the one in view lies in."""
        self.snapshots.up()

    def restore(self, folder: str) -> None:
        """Restore the folder in view, which is the whole snapshot at its root, into a folder of this computer."""
        if self.snapshots.chosen is not None:
            self.work.restore(self.snapshots.chosen, self.snapshots.path, folder)

    def _tell_command(self) -> None:
        entry = self.entry
        if entry is not None:
            self.command = command_line("consumer", "--hash", entry.sha256[:SHOWN_DIGITS])
        elif self.snapshots.chosen is not None:
            self.command = self.snapshots.listing_command
        else:
            self.command = command_line("consumer", "--list")

    # --- pictures

    def thumbnails(self, deliver: Deliver) -> Thumbnails[Entry]:
        """A maker of thumbnails, to be closed at the end; `deliver` is called in the window's thread."""
        return Thumbnails(self._thumbnail, lambda entry, pixels: self.background.post(deliver, entry.sha256, pixels))

    def _thumbnail(self, entry: Entry) -> Optional[Pixels]:
        try:
            mapping = self._index.mapping(*entry.mapping)
        except (TesseraError, OSError):  # the vault was locked meanwhile, or the disk refuses
            return None
        thumbnail = None if mapping is None else mapping.thumbnail
        return None if thumbnail is None else self.viewer.show(thumbnail, EDGE, EDGE)
