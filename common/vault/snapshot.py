"""A snapshot: one run of the producer, with the tree of what it stored. Format version 1.

It is stored like an image, under an object id by which whoever has the vault key, and nobody else, knows it for a
snapshot (`VaultKey.snapshot_object_id`). It is msgpack: a map of the fields below, in their order. A snapshot is known
by the SHA-256 of its bytes, of which people use the first digits, as in restic.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from common.errors import IntegrityError, ProtocolError, UsageError
from common.protocol.codec import Buffer, pack, unpack
from common.text import valid_unicode

VERSION = 1
MAX_SNAPSHOT = 1 << 20  # bytes
MAX_LABEL = 4096  # characters
MAX_PATHS = 4096  # more are counted, and not named

_Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Shares = Annotated[int, Meta(ge=2, le=64)]
_Line = Annotated[str, Meta(max_length=255)]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run of the producer recorded.

    taken_at: nanoseconds since 1970, UTC, when it began. label: snapshots of one label are the history of one source.
    paths: as the user gave them. root: SHA-256 of the tree whose entries are what was given. k, n: of what was new.
    files, folders: how many are in the tree; size: bytes of the files. failed: what could not be stored and is not in
    it. skipped: what was left out on purpose. nonce: 16 random bytes, so that no two are alike.
    """

    version: int = VERSION
    taken_at: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    host: _Line
    user: _Line
    label: Annotated[str, Meta(min_length=1, max_length=MAX_LABEL)]
    paths: Annotated[list[Annotated[bytes, Meta(max_length=32 << 10)]], Meta(max_length=MAX_PATHS)]
    root: _Digest
    k: _Shares
    n: _Shares
    files: _Count
    folders: _Count
    size: _Count
    failed: _Count
    skipped: _Count
    nonce: Annotated[bytes, Meta(min_length=16, max_length=16)]

    @property
    def complete(self) -> bool:
        """Whether all that was asked for is in it."""
        return self.failed == 0


def check_label(label: str) -> None:
    """UsageError where no snapshot can have this label."""
    if not 0 < len(label) <= MAX_LABEL or valid_unicode(label) != label:
        raise UsageError(f"a label has 1 to {MAX_LABEL:,} characters, all of them Unicode")


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """IntegrityError where a field is out of its limits, so that it could not be read again."""
    content = pack(snapshot)
    decode_snapshot(content)
    return content


def decode_snapshot(content: Buffer) -> Snapshot:
    """IntegrityError where this is not what `encode_snapshot` makes."""
    try:
        snapshot = unpack(content, Snapshot, limit=MAX_SNAPSHOT)
    except ProtocolError as error:
        raise IntegrityError(f"a snapshot is not sound: {error}") from None
    if snapshot.version != VERSION:
        raise IntegrityError(
            f"a snapshot has format version {snapshot.version}, this program reads version {VERSION}",
            advice="update Tessera",
        )
    if snapshot.k > snapshot.n:
        raise IntegrityError(f"a snapshot is not sound: k = {snapshot.k} is more than n = {snapshot.n}")
    if pack(snapshot) != content:
        raise IntegrityError("a snapshot is not sound: it is written in another way than it should be")
    return snapshot
