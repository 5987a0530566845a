"""The protocol of the viewer and its parent over two pipes: frames of four bytes of length, then msgpack.

    parent → viewer                            viewer → parent
                                               Ready
    Look(size, thumbnail limit)                Read(offset, length), any number of them
    the bytes asked for (fewer at the end)     Seen(media type, width, height, thumbnail, facts)

    Show(size, width, height)                  Read(offset, length), any number of them
    the bytes asked for (fewer at the end)     Shown(width, height), and its pixels in frames of up to 1 MiB

The viewer's frames are untrusted: bounded before they are read, and only one of the four messages. What
follows a Shown is as long as its width and height say, four bytes (RGBA) a pixel, whatever they are.
"""

from __future__ import annotations

import struct
from typing import IO, Annotated, Optional, Union

import msgspec
from msgspec import Meta

from common.errors import TesseraError
from common.facts import Facts

FORMATS = {  # Pillow's names of the formats that are decoded, and their media types
    "JPEG": "image/jpeg",
    "MPO": "image/mpo",  # several JPEGs in one file, read by the JPEG reader
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "PPM": "image/x-portable-anymap",
    "ICO": "image/x-icon",
    "AVIF": "image/avif",
}
TIMEOUT = 10  # seconds for one image; a photograph takes a twentieth of one
MAX_READ = 1 << 20  # bytes of the image in one frame
MAX_LOOK = 32  # bytes of a Look or a Show
MAX_ANSWER = 16 << 10  # bytes of a frame of the viewer's
MAX_EDGE = 2560  # pixels of what is shown, across and down
MAX_PIXELS_FRAME = 1 << 20  # bytes of a frame of pixels
PIXEL_BYTES = 4

_LENGTH = struct.Struct(">I")
_Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Pixels = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Edge = Annotated[int, Meta(ge=1, le=MAX_EDGE)]


class ViewerError(TesseraError):
    """The viewer ended, or broke the protocol."""


class Look(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="look"):
    """Requests format, size and thumbnail of an image of so many bytes; the thumbnail of at most `thumbnail_limit`."""

    size: _Offset
    thumbnail_limit: Annotated[int, Meta(ge=0, le=MAX_ANSWER)]


class Show(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="show"):
    """Requests the pixels of an image of so many bytes, at most so many across and down."""

    size: _Offset
    width: _Edge
    height: _Edge


class Ready(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="ready"):
    """The viewer has loaded its modules and set its limits."""


class Read(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="read"):
    """Requests a piece of the image."""

    offset: _Offset
    length: Annotated[int, Meta(ge=1, le=MAX_READ)]


class Seen(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="seen"):
    """The answer to Look: media type, pixels, an encoded thumbnail, facts; all None if unreadable."""

    media_type: Optional[Annotated[str, Meta(max_length=64)]] = None
    width: Optional[_Pixels] = None
    height: Optional[_Pixels] = None
    thumbnail: Optional[Annotated[bytes, Meta(max_length=MAX_ANSWER)]] = None
    facts: Optional[Facts] = None


class Shown(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="shown"):
    """The answer to Show: so many pixels follow; none for what cannot be read."""

    width: Annotated[int, Meta(ge=0, le=MAX_EDGE)] = 0
    height: Annotated[int, Meta(ge=0, le=MAX_EDGE)] = 0


Request = Union[Look, Show]
Message = Union[Ready, Read, Seen, Shown]
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def decode_message(frame: Union[bytes, bytearray]) -> Message:
    """Decode a message of the viewer; ViewerError where it is none."""
    try:
        return _decoder.decode(frame)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise ViewerError("the viewer said what it must not say") from None


def write_frame(pipe: IO[bytes], content: bytes) -> None:
    """Write a frame; OSError where the other end is gone."""
    for part in (_LENGTH.pack(len(content)), content):
        rest = memoryview(part)
        while rest:
            rest = rest[pipe.write(rest) :]


def read_frame(pipe: IO[bytes], limit: int) -> bytearray:
    """Read a frame of at most `limit` bytes; EOFError where the other end is gone, ViewerError where it is longer."""
    (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size))
    if length > limit:
        raise ViewerError(f"a frame of {length} bytes, where {limit} are allowed")
    return _read(pipe, length)


def _read(pipe: IO[bytes], length: int) -> bytearray:
    content = bytearray(length)
    rest = memoryview(content)
    while rest:
        count = pipe.readinto(rest)  # type: ignore[attr-defined]  # every binary file has it
        if not count:
            raise EOFError
        rest = rest[count:]
    return content
