"""Media type, size, thumbnail and facts of an image, and its media type by its first bytes alone.

Advisory only: the bytes are stored whatever the viewer (`viewer.process`) answers. Nothing here decodes anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from common.facts import Facts
from common.vault.mapping import UNKNOWN_MEDIA_TYPE
from viewer.signatures import media_type_of


@dataclass(frozen=True)
class Picture:
    media_type: str = UNKNOWN_MEDIA_TYPE
    width: Optional[int] = None
    height: Optional[int] = None
    thumbnail: Optional[bytes] = None
    facts: Optional[Facts] = None

    @property
    def is_image(self) -> bool:
        return self.media_type != UNKNOWN_MEDIA_TYPE and not self.media_type.startswith("video/")


def by_signature(start: bytes) -> Picture:
    """An image's media type by its first bytes; SIGNATURE_BYTES of them are enough."""
    return Picture(media_type_of(start) or UNKNOWN_MEDIA_TYPE)
