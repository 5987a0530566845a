"""The format of a pack: records one behind the other, in a file that only grows. Bytes only.

    <store>/packs/<number, 8 digits>.<salt, 16 hex digits>.pack1

    record   frame (66) ‖ body
    frame    b"TSR1" ‖ kind (1) ‖ encoding id (16) ‖ share (1) ‖ serial (8) ‖ about (8) ‖ length of the body (4)
             ‖ first 16 bytes of BLAKE3-256 of the body ‖ first 8 bytes of BLAKE3-256 of salt and all of that

    kind 1   a share, as `share_file` has it
    kind 2   what replaces the commitment of the share with the serial `about` (`amendments`)
    kind 3   a tombstone (`tombstones`); `share` is 255
    kind 4   the share with the serial `about` is gone for good; the body is empty
    kind 5   what is needed of the pack with the number `about` was written anew; the body is empty
    kind 6   an owner's approvers (`approver_lists`); `encoding id` is the owner's, `share` is 255

Every record has a serial of its own, which a copy keeps: what a store holds follows from its records in the order of
their serials, wherever they lie. The salt is chance, and in the name, so that no client can make a block that reads as
a record of this pack: behind damage a reader goes on at the next frame, be it inside a block. The file's name carries
the version, and the file has no header that could be damaged for all.
"""

from __future__ import annotations

import enum
import re
import struct
from typing import NamedTuple, Optional

from blake3 import blake3

MARK = b"TSR1"
_FRAME = struct.Struct(">4sB16sBQQI16s8s")
_CHECK_SIZE = 8
FRAME_SIZE = _FRAME.size
MAX_PACK = 64 << 20  # bytes, after which the next one begins
MAX_PACKED = 256 << 10  # bytes of the largest share that lies in a pack
NO_SHARE = 255
_UNKNOWN_DIGEST = bytes(16)

_NAME = re.compile(r"([0-9]{8})\.([0-9a-f]{16})\.pack1")
_OTHER_VERSION = re.compile(r"[0-9]{8}\.[0-9a-f]{16}\.pack[0-9]+")


class Kind(enum.IntEnum):
    SHARE = 1
    AMENDMENT = 2
    TOMBSTONE = 3
    REMOVAL = 4
    REWRITTEN = 5
    APPROVERS = 6


class Frame(NamedTuple):
    """What precedes a record's body. `about`: the serial of the share that it is about, else 0."""

    kind: Kind
    encoding_id: bytes
    share: int
    serial: int
    about: int
    length: int
    digest: bytes


def pack_name(number: int, salt: bytes) -> str:
    return f"{number:08d}.{salt.hex()}.pack1"


def read_pack_name(name: str) -> Optional[tuple[int, bytes]]:
    """Number and salt of a pack of this version; None for other names."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), bytes.fromhex(match[2])) if match else None


def is_of_another_version(name: str) -> bool:
    return read_pack_name(name) is None and _OTHER_VERSION.fullmatch(name) is not None


def body_digest(body: bytes) -> bytes:
    return bytes(blake3(body).digest(length=len(_UNKNOWN_DIGEST)))


def make_frame(kind: Kind, key: tuple[bytes, int], serial: int, about: int, body: bytes, *, good: bool = True) -> Frame:
    """The frame of a body; where that is not `good`, one that no body fits."""
    return Frame(kind, *key, serial, about, len(body), body_digest(body) if good else _UNKNOWN_DIGEST)


def encode_frame(frame: Frame, salt: bytes) -> bytes:
    head = _FRAME.pack(MARK, *frame, bytes(_CHECK_SIZE))[:-_CHECK_SIZE]
    return head + blake3(salt + head).digest(length=_CHECK_SIZE)


def frames_body(frame: bytes, key: tuple[bytes, int], serial: int, body: bytes) -> bool:
    """Whether these bytes frame a share's record with this body; nothing that is damaged does."""
    try:
        _, kind, encoding_id, share, found, _, length, digest, _ = _FRAME.unpack(frame)
    except struct.error:
        return False
    named = (kind, encoding_id, share, found, length) == (Kind.SHARE, *key, serial, len(body))
    return named and body_digest(body) == digest


def decode_frame(frame: bytes, salt: bytes) -> Optional[Frame]:
    """A frame; None where these bytes are none of a pack with this salt."""
    if len(frame) != FRAME_SIZE or not frame.startswith(MARK):
        return None
    if blake3(salt + frame[:-_CHECK_SIZE]).digest(length=_CHECK_SIZE) != frame[-_CHECK_SIZE:]:
        return None
    _, kind, *rest, _ = _FRAME.unpack(frame)
    try:
        return Frame(Kind(kind), *rest)
    except ValueError:
        return None
