"""A tree: what one folder held. Format version 1.

A tree is stored like an image: coded, sealed, and known by the SHA-256 of its bytes, so that an unchanged folder is not
stored again. It is msgpack: an array of the version and the entries, each entry an array of its fields in the order
below, sorted by name. One tree has one encoding; any other is refused.

Names are bytes as the file system has them (on Windows UTF-8, where lone surrogates are coded as others), and never to
be trusted as paths: what is read here has been checked to be one name, and no more.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Annotated, Optional

import msgspec
from msgspec import Meta

from common.errors import IntegrityError, ProtocolError
from common.protocol.codec import Buffer, unpack

VERSION = 1
MAX_TREE = 256 << 20  # bytes
MAX_ENTRY_NAME = 1024  # bytes: 255 characters in any encoding
MAX_TARGET = 32 << 10  # bytes
MAX_ATTRIBUTES = 64 << 10  # bytes of extended attributes of one entry, names and values

_Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Word = Annotated[int, Meta(ge=0)]  # msgpack has none above 2^64 - 1


class EntryType(enum.IntEnum):
    FILE = 1
    FOLDER = 2
    LINK = 3  # symbolic
    PIPE = 4  # this and what follows is noted and not kept
    SOCKET = 5
    DEVICE = 6


KEPT = (EntryType.FILE, EntryType.FOLDER, EntryType.LINK)


class Attribute(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An extended attribute, as `xattr(7)` has them."""

    name: Annotated[bytes, Meta(min_length=1, max_length=255)]
    value: Annotated[bytes, Meta(max_length=MAX_ATTRIBUTES)]


class HardLink(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The file behind an entry that has other names too: entries with the same one are links to one file."""

    device: _Word
    inode: _Word


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One name in a folder.

    mode: permission bits. modified: whole seconds since 1970, which may be negative, and nanoseconds beyond them. size:
    bytes of a file. content: SHA-256 of the file, or of the tree of the folder. target: of a symbolic link.
    """

    name: Annotated[bytes, Meta(min_length=1, max_length=MAX_ENTRY_NAME)]
    type: EntryType
    mode: Annotated[int, Meta(ge=0, le=0o7777)]
    modified: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    nanoseconds: Annotated[int, Meta(ge=0, le=999_999_999)]
    size: Optional[Annotated[int, Meta(ge=0, le=2**63 - 1)]] = None
    content: Optional[_Digest] = None
    target: Optional[Annotated[bytes, Meta(min_length=1, max_length=MAX_TARGET)]] = None
    attributes: tuple[Attribute, ...] = ()
    hard_link: Optional[HardLink] = None

    @property
    def modified_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self.modified * 1_000_000_000 + self.nanoseconds


class _Tree(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    entries: list[Entry]


def encode_tree(entries: Iterable[Entry]) -> bytes:
    """The tree of these entries, in any order; IntegrityError where they make none, as with two of one name."""
    ordered = sorted(entries, key=lambda entry: entry.name)
    _check(ordered)
    return msgspec.msgpack.encode(_Tree(VERSION, ordered))  # `pack` would take thirty times as long


def decode_tree(content: Buffer) -> list[Entry]:
    """The entries, sorted by name; IntegrityError where this is not what `encode_tree` makes."""
    try:
        tree = unpack(content, _Tree, limit=MAX_TREE)
    except ProtocolError as error:
        raise IntegrityError(f"a tree is not sound: {error}") from None
    if tree.version != VERSION:
        raise IntegrityError(
            f"a tree has format version {tree.version}, this program reads version {VERSION}", advice="update Tessera"
        )
    _check(tree.entries)
    if msgspec.msgpack.encode(tree) != content:
        raise IntegrityError("a tree is not sound: it is written in another way than it should be")
    return tree.entries


def _check(entries: list[Entry]) -> None:
    before = b""
    for entry in entries:
        fault = _fault(entry)
        if fault is None and entry.name <= before:
            fault = "is not after the one before it"
        if fault is not None:
            raise IntegrityError(f"a tree is not sound: the entry {entry.name!r} {fault}")
        before = entry.name


def _fault(entry: Entry) -> Optional[str]:
    """What no one of its fields shows."""
    if entry.name in (b".", b"..") or b"/" in entry.name or b"\0" in entry.name:
        return "has a name that no entry of a folder has"
    is_file = entry.type is EntryType.FILE
    if (entry.size is not None) != is_file or (entry.content is not None) != (
        is_file or entry.type is EntryType.FOLDER
    ):
        return "has another type than its size and content say"
    if (entry.target is not None) != (entry.type is EntryType.LINK) or b"\0" in (entry.target or b""):
        return "has a target that its type does not have"
    if entry.hard_link is not None and not is_file:
        return "is no file and has hard links"
    if not entry.attributes:
        return None
    names = [attribute.name for attribute in entry.attributes]
    if names != sorted(set(names)) or any(b"\0" in name for name in names):
        return "has extended attributes out of order"
    if sum(len(attribute.name) + len(attribute.value) for attribute in entry.attributes) > MAX_ATTRIBUTES:
        return "has too many extended attributes"
    return None
