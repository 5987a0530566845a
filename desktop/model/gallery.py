"""The gallery: all images of the vault or a folder of a snapshot, searching and choosing there, the details of one."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Callable, Optional

from common.errors import TesseraError
from common.link.link import Link
from common.text import count
from consumer.snapshots import KeptSnapshot, Path
from desktop.background import Background, Task
from desktop.model.commands import SHOWN_DIGITS, command_line
from desktop.model.entries import Age, Entry, Search, SharePlace, share_places
from desktop.model.following import Following
from desktop.model.image_work import ImageWorkModel
from desktop.model.images import Images, Look, look, read_kept
from desktop.model.model import Model
from desktop.model.sharing import SharingModel
from desktop.model.snapshots import SnapshotsModel
from desktop.model.thumbnails import EDGE, Thumbnails
from desktop.model.trash import TrashModel
from desktop.session import Session
from viewer.process import Pixels, Viewer

_LOOK_EVERY = 15.0  # seconds

Deliver = Callable[[str, Optional[Pixels]], None]


class GalleryModel(Model):
    """`shown`: what the search finds: of all images the newest first, of a folder by name. `chosen`: the keys of some.

    `selected`: the one of them with the keyboard's focus. What the search does not find any more is not chosen.
    """

    def __init__(
        self, session: Session, background: Background, viewer: Viewer, reassemble: Callable[[str], None]
    ) -> None:
        super().__init__(session, background)
        self.viewer = viewer
        self.images = Images()
        self.search = Search()
        self.shown: list[Entry] = []
        self.selected: Optional[str] = None
        self.chosen: frozenset[str] = frozenset()
        self._anchor: Optional[str] = None  # where a chosen range starts
        self.work = ImageWorkModel(session, background, self._look_again)
        self.sharing = SharingModel(session, background)
        self.trash = TrashModel(session, background, self._look_again)
        self.snapshots = SnapshotsModel(session, background, lambda: self._known.entries, self._moved)
        self._place: tuple[Optional[KeptSnapshot], Path] = (None, ())
        self.include(self.work, self.sharing, self.trash, self.snapshots)
        self._reassemble = reassemble
        self._reading: Optional[Task] = None
        self._read = False
        self._known = self.images.known  # which the loop's thread may read
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

    def _read_kept(self) -> None:
        for batch in read_kept(self.session.vault, self.session.key):
            self.background.post(self._add, batch)

    def _add(self, entries: list[Entry]) -> None:
        self.images.add(entries)
        self._find()

    def _all_read(self, _: None) -> None:
        self._reading, self._read = None, True
        self._known = self.images.known
        self._find()
        self.snapshots.refresh()
        self._following.begin()

    async def _look(self, link: Link) -> None:
        repository = self.session.repository(link)

        def tell(entries: list[Entry]) -> None:
            self.background.post(self._add, entries)

        found = await look(repository, self._known, tell)
        self.background.post(self._take, found)
        await self.snapshots.look(repository, found.snapshots)

    def _take(self, found: Look) -> None:
        if self.images.take(found):
            self._known = self.images.known
            self._find()
            self.snapshots.refresh()

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
        if self.snapshots.chosen is None:
            self.shown = self.images.find(self.search, time.time())
        else:
            self.shown = self.search.find(self.snapshots.entries or [], time.time())
        if self.chosen:
            self.chosen &= {entry.key for entry in self.shown}
            self.selected = self.selected if self.selected in self.chosen else next(iter(self.chosen), None)
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
        return "No image is like that." if len(self.images) and not self.shown else ""

    # --- choosing

    def select(self, key: Optional[str]) -> None:
        """Choose this one and no other, or none."""
        self._anchor = key
        self._choose(key, frozenset() if key is None else frozenset({key}))

    def toggle(self, key: str) -> None:
        """Add this one to the chosen, or remove it."""
        self._anchor = key
        chosen = self.chosen ^ {key}
        self._choose(key if key in chosen else next(iter(chosen), None), chosen)

    def extend(self, key: str) -> None:
        """Choose the range from the anchor to this one."""
        order = [entry.key for entry in self.shown]
        if self._anchor not in order or key not in order:
            self.select(key)
            return
        first, last = sorted((order.index(self._anchor), order.index(key)))
        self._choose(key, frozenset(order[first : last + 1]))

    def select_all(self) -> None:
        """Choose all that the search finds."""
        if self.shown:
            self._choose(self.selected or self.shown[0].key, frozenset(entry.key for entry in self.shown))

    def _choose(self, selected: Optional[str], chosen: frozenset[str]) -> None:
        self.selected, self.chosen = selected, chosen
        self._tell_command()
        self.changed()

    @property
    def chosen_entries(self) -> list[Entry]:
        """The chosen images, each once, in the order of `shown`."""
        if not self.chosen:
            return []
        chosen = [entry for entry in self.shown if entry.key in self.chosen and entry.is_image]
        return list({entry.sha256: entry for entry in chosen}.values())

    @property
    def entry(self) -> Optional[Entry]:
        """The image whose details are shown; None where none or several are chosen."""
        if self.snapshots.chosen is None:
            return self.images.entry(self.selected) if self.selected is not None and len(self.chosen) == 1 else None
        chosen = self.chosen_entries
        return chosen[0] if len(chosen) == 1 else None

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

    def open(self, key: str) -> None:
        """Look into a folder, reassemble an image; nothing else opens."""
        entry = next((entry for entry in self.shown if entry.key == key), None)
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

    def thumbnails(self, deliver: Deliver) -> Thumbnails:
        """A maker of thumbnails by SHA-256, to be closed at the end; `deliver` is called in the window's thread."""
        return Thumbnails(self._thumbnail, lambda sha256, pixels: self.background.post(deliver, sha256, pixels))

    def _thumbnail(self, sha256: str) -> Optional[Pixels]:
        entry = self.images.entry(sha256)
        if entry is None or not entry.has_thumbnail:
            return None
        try:
            mapping = self.session.vault.index(self.session.key).mapping(*entry.mapping)
        except (TesseraError, OSError):  # the vault was locked meanwhile, or the disk refuses
            return None
        thumbnail = None if mapping is None else mapping.thumbnail
        return None if thumbnail is None else self.viewer.show(thumbnail, EDGE, EDGE)
