"""The gallery: all images of the vault, searching and choosing among them, and the details of one."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Callable, Optional

from common.errors import TesseraError
from common.link.link import Link
from desktop.background import Background, Task
from desktop.model.commands import SHOWN_DIGITS, command_line
from desktop.model.entries import Age, Entry, Search, SharePlace, share_places
from desktop.model.following import Following
from desktop.model.image_work import ImageWorkModel
from desktop.model.images import Images, Look, look, read_kept
from desktop.model.model import Model
from desktop.model.sharing import SharingModel
from desktop.model.thumbnails import EDGE, Thumbnails
from desktop.model.trash import TrashModel
from desktop.session import Session
from viewer.process import Pixels, Viewer

_LOOK_EVERY = 15.0  # seconds

Deliver = Callable[[str, Optional[Pixels]], None]


class GalleryModel(Model):
    """`shown`: what the search finds, the newest first. `chosen`: the SHA-256 of the chosen images.

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
        self.include(self.work, self.sharing, self.trash)
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
        self._following.begin()

    async def _look(self, link: Link) -> None:
        repository = self.session.repository(link)

        def tell(entries: list[Entry]) -> None:
            self.background.post(self._add, entries)

        self.background.post(self._take, await look(repository, self._known, tell))

    def _take(self, found: Look) -> None:
        if self.images.take(found):
            self._known = self.images.known
            self._find()

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
        self.shown = self.images.find(self.search, time.time())
        if self.chosen:
            self.chosen &= {entry.sha256 for entry in self.shown}
            self.selected = self.selected if self.selected in self.chosen else next(iter(self.chosen), None)
        self.changed()

    @property
    def summary(self) -> str:
        """The number of images, and of those that are shown."""
        total = f"{len(self.images):,} image{'' if len(self.images) == 1 else 's'}"
        return total if len(self.shown) == len(self.images) else f"{len(self.shown):,} of {total}"

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
        return ""

    @property
    def notice(self) -> str:
        """How old the images' health is, where it may be outdated; empty where it is current."""
        return self._following.notice

    @property
    def emptiness(self) -> str:
        """The text where nothing is shown."""
        if self.images.looked and not len(self.images):
            return "There are no images in this vault yet.\nStore some, and they appear here."
        return "No image is like that." if len(self.images) and not self.shown else ""

    # --- choosing

    def select(self, sha256: Optional[str]) -> None:
        """Choose this image and no other, or none."""
        self._anchor = sha256
        self._choose(sha256, frozenset() if sha256 is None else frozenset({sha256}))

    def toggle(self, sha256: str) -> None:
        """Add this one to the chosen, or remove it."""
        self._anchor = sha256
        chosen = self.chosen ^ {sha256}
        self._choose(sha256 if sha256 in chosen else next(iter(chosen), None), chosen)

    def extend(self, sha256: str) -> None:
        """Choose the range from the anchor to this one."""
        order = [entry.sha256 for entry in self.shown]
        if self._anchor not in order or sha256 not in order:
            self.select(sha256)
            return
        first, last = sorted((order.index(self._anchor), order.index(sha256)))
        self._choose(sha256, frozenset(order[first : last + 1]))

    def select_all(self) -> None:
        """Choose all that the search finds."""
        if self.shown:
            self._choose(self.selected or self.shown[0].sha256, frozenset(entry.sha256 for entry in self.shown))

    def _choose(self, selected: Optional[str], chosen: frozenset[str]) -> None:
        self.selected, self.chosen = selected, chosen
        self._tell_command()
        self.changed()

    @property
    def chosen_entries(self) -> list[Entry]:
        """The chosen images, in the order of `shown`."""
        return [entry for entry in self.shown if entry.sha256 in self.chosen]

    @property
    def entry(self) -> Optional[Entry]:
        """The image whose details are shown; None where none or several are chosen."""
        return self.images.entry(self.selected) if self.selected is not None and len(self.chosen) == 1 else None

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

    def _tell_command(self) -> None:
        chosen = ("--list",) if self.selected is None else ("--hash", self.selected[:SHOWN_DIGITS])
        self.command = command_line("consumer", *chosen)

    # --- pictures

    def thumbnails(self, deliver: Deliver) -> Thumbnails:
        """A maker of thumbnails by SHA-256, to be closed at the end; `deliver` is called in the window's thread."""
        return Thumbnails(self._thumbnail, lambda sha256, pixels: self.background.post(deliver, sha256, pixels))

    def _thumbnail(self, sha256: str) -> Optional[Pixels]:
        entry = self.images.entry(sha256)
        if entry is None or not entry.has_thumbnail:
            return None
        try:
            mapping = self.session.vault.mapping(self.session.key, *entry.mapping)
        except (TesseraError, OSError):  # the vault was locked meanwhile, or the disk refuses
            return None
        thumbnail = None if mapping is None else mapping.thumbnail
        return None if thumbnail is None else self.viewer.show(thumbnail, EDGE, EDGE)
