"""The entries of the gallery: what is shown of each image, its health, and searching.

Thumbnails are not kept here but opened when they are shown (`thumbnails`), so that thousands of images take the memory
of their names only.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Optional, Union

from admin.health import HealthStatus, ImageHealth, assess
from common.protocol.messages import EncodingAt
from common.text import format_size, printable
from common.vault.index_rows import Described
from common.vault.mapping import UNKNOWN_MEDIA_TYPE, Mapping

_UNREAD = "…"
_DAY = 24 * 3600
_EPOCH = datetime(1970, 1, 1)

MappingName = tuple[bytes, bytes]  # object id, encoding id: names a mapping in the vault's folder
Key = Union[int, str]  # of an entry among all that are shown with it


@dataclass(frozen=True)
class Entry:
    """One image of the vault, or what is in a folder of a snapshot.

    `health` and `encodings` are known once the cluster was asked. `number`: of its row in the vault's index. `place`:
    its path in the snapshot that is looked at, empty among all images. `remark`: what it is, in place of a health,
    where it is no image that is at hand.
    """

    sha256: str
    name: str
    media_type: str
    width: Optional[int]
    height: Optional[int]
    size: int  # bytes
    stored_at: int  # Unix seconds
    mapping: MappingName
    has_thumbnail: bool
    taken: Optional[int] = None  # seconds since 1970 by the clock where it was taken
    camera: str = ""
    is_image: bool = True  # no tree or snapshot, nor what else is in folders
    is_folder: bool = False
    number: int = 0
    place: str = ""
    remark: str = ""
    health: Optional[ImageHealth] = None
    encodings: tuple[EncodingAt, ...] = ()

    @property
    def key(self) -> Key:
        """Tells it from all others that are shown with it: equal files of a folder are one image."""
        return self.place or self.number or self.sha256

    @property
    def is_read(self) -> bool:
        """Whether this is what it is, and not `nothing_read` in its place."""
        return self.remark != _UNREAD

    @property
    def text(self) -> str:
        """What words are looked for in."""
        if not self.is_image:
            return self.name.casefold()
        searched = (self.name, self.taken_when, self.when, self.camera, self.format, self.sha256)
        return " ".join(searched).casefold()

    @property
    def format(self) -> str:
        """JPEG, PNG, …; `file` where it is of no known image format."""
        return format_of(self.media_type)

    @property
    def when(self) -> str:
        """The local day and time when it was stored."""
        return datetime.fromtimestamp(self.stored_at).strftime("%Y-%m-%d %H:%M")

    @property
    def dates(self) -> str:
        """When and by what it was taken, where it tells, and when it was stored, each on a line."""
        taken = " · ".join(part for part in (self.taken_when, self.camera) if part)
        return "\n".join(part for part in (taken, f"stored {self.when}") if part)

    @property
    def taken_when(self) -> str:
        """The day and time when it was taken, by the clock there."""
        return "" if self.taken is None else f"taken {_EPOCH + timedelta(seconds=self.taken):%Y-%m-%d %H:%M}"

    @property
    def facts(self) -> str:
        """Format, size in pixels and in bytes, on one line."""
        pixels = f"{self.width} × {self.height}" if self.width and self.height else None
        return " · ".join(part for part in (self.format, pixels, format_size(self.size)) if part)

    @property
    def badge(self) -> Badge:
        return Badge(self.remark, Tone.UNKNOWN) if self.remark else badge_of(self.health)

    @property
    def former_badge(self) -> Badge:
        """The badge while the cluster is not reached: its last known health."""
        return self.badge if self.remark else former_badge_of(self.health)

    def known_at(self, encodings: Sequence[EncodingAt]) -> Entry:
        """The same image with the health of these encodings; none where there are none."""
        return replace(self, health=assess(encodings) if encodings else None, encodings=tuple(encodings))


def entry_of(mapping: Union[Mapping, Described], name: MappingName, number: int = 0) -> Entry:
    """The entry of an image, from its mapping, whose name in the vault's folder is `name`."""
    return Entry(
        sha256=mapping.image_sha256.hex(),
        name=printable(mapping.name) or "(no name)",
        media_type=mapping.media_type,
        width=mapping.width,
        height=mapping.height,
        size=mapping.image_size,
        stored_at=mapping.stored_at,
        mapping=name,
        has_thumbnail=mapping.has_thumbnail,
        taken=None if mapping.facts is None else mapping.facts.seconds,
        camera=printable(mapping.facts.camera or "") if mapping.facts is not None else "",
        is_image=mapping.kind is None,
        number=number,
    )


def nothing_read(number: int, remark: str = _UNREAD) -> Entry:
    """In the place of an image whose row was not read, or is gone."""
    return Entry(
        sha256="",
        name="",
        media_type="",
        width=None,
        height=None,
        size=0,
        stored_at=0,
        mapping=(b"", b""),
        has_thumbnail=False,
        is_image=False,
        number=number,
        remark=remark,
    )


def format_of(media_type: str) -> str:
    if media_type == UNKNOWN_MEDIA_TYPE:
        return "file"
    return printable(media_type.rpartition("/")[2]).upper()


# --- health


class Tone(enum.Enum):
    """How a badge is coloured; the words beside it say the same."""

    GOOD = "good"
    NOTICE = "notice"
    ALARM = "alarm"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Badge:
    words: str
    tone: Tone


def badge_of(health: Optional[ImageHealth]) -> Badge:
    """An image's health in two or three words."""
    if health is None:
        return Badge("not known yet", Tone.UNKNOWN)
    tones = {HealthStatus.WHOLE: Tone.GOOD, HealthStatus.LACKING: Tone.NOTICE}
    return Badge(health.words, tones.get(health.status, Tone.ALARM))


def former_badge_of(health: Optional[ImageHealth]) -> Badge:
    """The last known badge, in a neutral colour."""
    if health is None:
        return badge_of(None)
    missing = health.n - health.good
    words = {
        HealthStatus.WHOLE: "was whole",
        HealthStatus.LACKING: f"{missing} share{'s were' if missing > 1 else ' was'} missing",
        HealthStatus.IN_DANGER: "was in danger",
        HealthStatus.LOST: "could not be restored",
    }[health.status]
    return Badge(words, Tone.UNKNOWN)


def health_sentence(health: Optional[ImageHealth]) -> str:
    """The health as a sentence, with what it means for the owner."""
    if health is None:
        return "The devices have not been asked yet."
    shares = f"{health.good} of {health.n} shares are at hand, any {health.k} restore it"
    if health.proven is False and health.good >= health.k:
        return f"{health.good} of {health.n} shares are at hand, but what they give was read and is not the image."
    if not health.restorable:
        return f"{shares}: more devices have to come back before it can be restored."
    if health.spare == 0:
        return f"{shares}: the loss of one more device would lose it."
    return f"{shares}: {health.spare} more device{'s' if health.spare > 1 else ''} may be lost."


@dataclass(frozen=True)
class SharePlace:
    """Where one share of an image is."""

    share: int
    device: str
    state: str  # "here", "away", "damaged"


def share_places(encoding: EncodingAt, names: dict[bytes, str]) -> list[SharePlace]:
    """Where each share of an encoding is, in order; `names`: device id → name."""
    return [
        SharePlace(
            at.share,
            printable(names.get(at.device_id, at.device_id.hex()[:8])),
            "away" if not at.alive else "here" if at.sound else "damaged",
        )
        for at in sorted(encoding.shares, key=lambda at: (at.share, at.device_id))
    ]


# --- searching


class Age(enum.Enum):
    """How long ago an image was stored."""

    ANY = "any time"
    DAY = "last 24 hours"
    WEEK = "last 7 days"
    MONTH = "last 30 days"
    YEAR = "last 365 days"

    @property
    def seconds(self) -> Optional[int]:
        days = {Age.DAY: 1, Age.WEEK: 7, Age.MONTH: 30, Age.YEAR: 365}
        return days[self] * _DAY if self in days else None


@dataclass(frozen=True)
class Search:
    """A search. `words`: each must be in the name, a date (2026-11), the camera, the format or the SHA-256."""

    words: str = ""
    format: Optional[str] = None  # None for all
    age: Age = Age.ANY
    unwell: bool = False  # only those that are not whole

    def find(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Those that match, in the order in which they are given; `now`: Unix seconds."""
        words = self.words.casefold().split()
        since = 0 if self.age.seconds is None else now - self.age.seconds
        return [
            entry
            for entry in entries
            if entry.stored_at >= since
            and (self.format is None or entry.format == self.format)
            and not (self.unwell and entry.badge.tone in (Tone.GOOD, Tone.UNKNOWN))
            and (not words or _has(entry, words))
        ]


def _has(entry: Entry, words: Sequence[str]) -> bool:
    text = entry.text
    return all(word in text for word in words)


def newest_first(entries: Iterable[Entry]) -> list[Entry]:
    """By when they were taken; those that do not tell, by when they were stored."""
    return sorted(entries, key=lambda entry: (-_date_of(entry), entry.name, entry.sha256))


def _date_of(entry: Entry) -> int:
    return entry.stored_at if entry.taken is None else entry.taken
