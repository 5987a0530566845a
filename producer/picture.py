"""What can be said of an image, and what its first bytes alone say of it.

Never more than a remark: what a look at it comes to (`producer.viewing`), or that nothing came of it, the bytes are
stored all the same. Nothing here decodes anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from common.vault.mapping import UNKNOWN_MEDIA_TYPE

SIGNATURE_BYTES = 16
_SIGNATURES = (  # offset, bytes, media type: an image that nobody here can read is an image all the same
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (4, b"ftyphei", "image/heic"),
    (4, b"ftypmif1", "image/heif"),
    (4, b"ftypavif", "image/avif"),
    (0, b"\0\0\0\x0cjP  ", "image/jp2"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
)

_STARTS = (  # of the formats that can be looked at (`viewer_messages.FORMATS`), where these are short
    *(b"BM", b"II", b"MM", b"\0\0\1\0"),
    *(b"P" + bytes([kind]) for kind in b"0123456fy"),
)


@dataclass(frozen=True)
class Picture:
    media_type: str = UNKNOWN_MEDIA_TYPE
    width: Optional[int] = None
    height: Optional[int] = None
    thumbnail: Optional[bytes] = None

    @property
    def is_image(self) -> bool:
        return self.media_type != UNKNOWN_MEDIA_TYPE


def is_worth_a_look(start: bytes) -> bool:
    """Whether a file that begins so may be an image of a format that can be looked at; SIGNATURE_BYTES are enough."""
    return by_signature(start).is_image or start.startswith(_STARTS) or start[4:8] == b"ftyp"


def by_signature(start: bytes) -> Picture:
    """What an image's first bytes say that it is; SIGNATURE_BYTES of them are enough."""
    matches = (media for offset, signature, media in _SIGNATURES if start[offset:].startswith(signature))
    return Picture(next(matches, UNKNOWN_MEDIA_TYPE))
