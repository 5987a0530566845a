"""Files of a version that this worker does not know: refused, left where they are, and never called damage.

An older worker may be started on a store that a newer one wrote. What it cannot read it must not believe, serve, move
or remove: the next newer one reads it again. A file is of another version where it says so in its first two fields, and
where its own digest vouches for bytes that do not read as what this worker knows: rot does not do that.

Small files are records: an array that begins with the name of the format and its version, and behind it, as bin of 32,
the BLAKE3-256 of the array.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgpack
import msgspec
from blake3 import blake3

from common.errors import IntegrityError, ProtocolError
from common.protocol.codec import pack, unpack
from common.protocol.identifiers import DIGEST_SIZE
from common.protocol.messages import Message

_DIGEST_PREFIX = b"\xc4" + bytes([DIGEST_SIZE])  # msgpack bin 8
_ENDING_SIZE = len(_DIGEST_PREFIX) + DIGEST_SIZE
_BEGINNING = 64  # bytes, more than the array's head, the name of a format and its version take


class UnknownVersionError(IntegrityError):
    """Written by another version of Tessera, and whole as far as anybody can tell."""

    advice = "start the worker of the version that wrote it"


class Record(Message):
    magic: Annotated[str, msgspec.Meta(max_length=32)]
    version: int


R = TypeVar("R", bound=Record)


def encode_record(record: Record) -> bytes:
    body = pack(record)
    return body + _DIGEST_PREFIX + blake3(body).digest()


def decode_record(content: bytes, shape: type[R], magic: str, version: int) -> R:
    """A record of this format; IntegrityError where the file is damaged or none."""
    require_version(content, magic, version)
    body, ending = content[:-_ENDING_SIZE], content[-_ENDING_SIZE:]
    if ending != _DIGEST_PREFIX + blake3(body).digest():
        raise IntegrityError("the file is damaged")
    try:
        record = unpack(body, shape)
    except ProtocolError as error:
        raise unknown_format(error) from None
    if record.magic != magic:
        raise IntegrityError(f"this is no {magic.removeprefix('tessera-')}")
    return record


def require_version(content: bytes, magic: str, version: int) -> None:
    """UnknownVersionError where a file of this format is of another version.

    What does not begin as a file of this format is for its reader to refuse.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=_BEGINNING)
    unpacker.feed(content[:_BEGINNING])
    try:
        unpacker.read_array_header()
        said = unpacker.unpack(), unpacker.unpack()
    except (msgpack.UnpackException, ValueError):
        return
    if said[0] == magic and type(said[1]) is int and said[1] != version:
        raise UnknownVersionError(f"it is of version {said[1]} of its format, and this worker knows version {version}")


def unknown_format(error: Exception) -> UnknownVersionError:
    """What is said of bytes that their own digest vouches for, and that do not read."""
    return UnknownVersionError(f"it is whole, but of no format that this worker knows: {error}")
