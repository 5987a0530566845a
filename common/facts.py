"""What a photograph tells of itself, by which people search: a remark of whoever made the file, and never more.

It is read by the viewer's process, checked here by its parent, and kept in the mapping, sealed as that is.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Optional

import msgspec
from msgspec import Meta

MAX_CAMERA = 64  # characters
DEGREE = 1_000_000  # parts: a tenth of a metre

_EPOCH = datetime(1970, 1, 1)
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([+-][0-9]{2}:[0-9]{2})?$"


class Facts(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """taken_at: by the clock where it was taken, `2019-07-14T18:03:22+02:00`, without an offset where none is told.
    camera: its make and model. orientation: 1 to 8, as Exif has it. latitude, longitude: millionths of a degree, both
    or none.
    """

    taken_at: Optional[Annotated[str, Meta(pattern=_MOMENT)]] = None
    camera: Optional[Annotated[str, Meta(min_length=1, max_length=MAX_CAMERA)]] = None
    orientation: Optional[Annotated[int, Meta(ge=1, le=8)]] = None
    latitude: Optional[Annotated[int, Meta(ge=-90 * DEGREE, le=90 * DEGREE)]] = None
    longitude: Optional[Annotated[int, Meta(ge=-180 * DEGREE, le=180 * DEGREE)]] = None

    @property
    def moment(self) -> Optional[datetime]:
        """When it was taken; where no offset is told, without a time zone."""
        return None if self.taken_at is None else datetime.fromisoformat(self.taken_at)

    @property
    def seconds(self) -> Optional[int]:
        """When it was taken, in seconds since 1970 by the clock where it was taken."""
        moment = self.moment
        return None if moment is None else int((moment.replace(tzinfo=None) - _EPOCH).total_seconds())

    @property
    def position(self) -> Optional[tuple[float, float]]:
        """Latitude and longitude in degrees."""
        if self.latitude is None or self.longitude is None:
            return None
        return self.latitude / DEGREE, self.longitude / DEGREE


def fault_of(facts: Facts) -> Optional[str]:
    """How fields contradict each other that are each valid, or say nothing."""
    if facts == Facts():
        return "there are facts, but none is told"
    if (facts.latitude is None) != (facts.longitude is None):
        return "a latitude has no longitude, or a longitude no latitude"
    try:
        (facts.camera or "").encode()
    except UnicodeEncodeError:
        return "the camera is not valid Unicode"
    return None if _is_moment(facts) else "there is no such moment as the one when it was taken"


def _is_moment(facts: Facts) -> bool:
    """Written in the one way: newer Pythons take 24:00 for a time, and -00:00 is no offset."""
    try:
        return facts.moment is None or facts.moment.isoformat() == facts.taken_at
    except ValueError:
        return False
