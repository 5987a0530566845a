"""Recipes, share files, tombstones: what a device keeps."""

from __future__ import annotations

import struct
from typing import Any, Optional

import msgpack
from blake3 import blake3

from tests.vectors.formats.rows import Row, bad, good
from tests.vectors.vault.reference import ENCODING_ID, OTHER_ENCODING_ID, flipped

OBJECT_ID = bytes(range(32, 64))
OWNER = bytes(range(200, 216))
BLOCKS = [bytes([64 + number]) * 32 for number in range(3)]  # of one segment, 2 of 3
_UNKNOWN = "UnknownVersionError"  # what its own digest vouches for, and this worker does not know


def packed(value: object) -> bytes:
    return bytes(msgpack.packb(value))


def recipe(**changed: Any) -> bytes:
    fields: dict[str, Any] = {
        "version": 1, "encoding_id": ENCODING_ID, "k": 2, "n": 3, "block_size": 64, "last_block_size": 32,
        "digests": b"".join(blake3(block).digest() for block in BLOCKS),
    }  # fmt: skip
    return packed(list({**fields, **changed}.values()))


def recipes() -> list[Row]:
    whole = recipe()
    contradicts, shape = "this recipe contradicts itself", "this is no recipe"

    def row(name: str, data: bytes, words: str) -> Row:
        return bad("recipe", name, data, "IntegrityError", words)

    return [
        good("recipe", "as it should be", whole),
        row("empty", b"", shape),
        row("no msgpack", b"\xc1", shape),
        row("cut", whole[:-1], shape),
        row("more behind", whole + b"\0", shape),
        row("a map", packed({"k": 2}), shape),
        row("nested 1000 deep", b"\x91" * 1000, shape),
        row("a length beyond the end", b"\xdd\xff\xff\xff\xff", shape),
        row("a later version", recipe(version=2), contradicts),
        row("k over n", recipe(k=4), contradicts),
        row("no digests", recipe(digests=b""), contradicts),
        row("half a digest", recipe(digests=bytes(3 * 32 + 16)), contradicts),
        row("a last block larger than the others", recipe(last_block_size=65), contradicts),
        row("k of 1", recipe(k=1), shape),
        row("n over 64", recipe(n=65), shape),
        row("encoding id of 15 bytes", recipe(encoding_id=bytes(15)), shape),
        row("blocks over 4 MiB", recipe(block_size=2**22 + 1), shape),
        row("digests as text", recipe(digests="a" * 96), shape),
    ]


def share_file(
    *, trailer: Optional[dict[str, Any]] = None, header: Optional[dict[str, Any]] = None, end: bytes = b"TSHREND1"
) -> bytes:
    """Share 1 of the recipe above."""
    fields: dict[str, Any] = {
        "magic": "tessera-share", "version": 3, "encoding_id": ENCODING_ID, "share": 1, "k": 2, "n": 3, "block_size": 64
    }  # fmt: skip
    head = packed(list({**fields, **(header or {})}.values()))
    block = b"\xc6" + struct.pack(">I", len(BLOCKS[1])) + BLOCKS[1]
    prefix = b"\x93\x00" + packed(blake3(BLOCKS[1]).digest())
    said: dict[str, Any] = {
        "object_id": OBJECT_ID, "owner": OWNER, "recipe": recipe(), "mapping": bytes(100), "nonce": bytes(16),
        "transfers": [], "revision": 1, "grants": [], "generation": 0,
    }  # fmt: skip
    changed = dict(trailer or {})
    offsets = changed.pop("offsets", [len(head) + len(prefix) + 5])
    signature = [bytes(32), bytes(64), 0, []]  # looked at when it is committed, not when it is read
    ending = packed([[list({**said, **changed}.values()), signature], offsets])
    offset = len(head) + len(prefix) + len(block)
    footer = struct.pack(">Q", offset) + blake3(head + ending).digest() + end
    return head + prefix + block + ending + packed(footer)


def share_files() -> list[Row]:
    whole = share_file()
    trailer_at = len(whole) - 300

    def row(name: str, data: bytes, words: str, error: str = "IntegrityError") -> Row:
        return bad("share file", name, data, error, words)

    return [
        good("share file", "as it should be", whole),
        row("empty", b"", "cut short or was never committed"),
        row("footer cut", whole[:-1], "cut short or was never committed"),
        row("more behind", whole + b"\0", "cut short or was never committed"),
        row("another ending", share_file(end=b"TSHREND2"), "cut short or was never committed"),
        row("header changed", flipped(whole, 20), "header or trailer are damaged"),
        row("trailer changed", flipped(whole, trailer_at), "header or trailer are damaged"),
        row("footer's digest changed", flipped(whole, -20), "header or trailer are damaged"),
        row("first byte changed", flipped(whole, 0), "this is no share file"),
        row("another magic", share_file(header={"magic": "tessera-chare"}), "this is no share file"),
        row("the version before", share_file(header={"version": 2}), "of version 2 of its format", _UNKNOWN),
        row("a later version", share_file(header={"version": 4}), "of version 4 of its format", _UNKNOWN),
        row("of another encoding", share_file(header={"encoding_id": OTHER_ENCODING_ID}), "is another encoding's"),
        row("another k", share_file(header={"k": 3}), "the recipe is another encoding's"),
        row("k of 1", share_file(header={"k": 1}), "this is no share file"),
        row("a share that is none", share_file(header={"share": 3}), "the trailer contradicts the recipe"),
        row("no offsets", share_file(trailer={"offsets": []}), "the trailer contradicts the recipe"),
        row("an offset in the header", share_file(trailer={"offsets": [1]}), "points to blocks outside the records"),
        row("an offset beyond", share_file(trailer={"offsets": [2**40]}), "points to blocks outside the records"),
        row(
            "object id of 31 bytes",
            share_file(trailer={"object_id": bytes(31)}),
            "no format that this worker knows",
            _UNKNOWN,
        ),
        row("a recipe that is none", share_file(trailer={"recipe": b"\x90"}), "this is no recipe", _UNKNOWN),
    ]


def tombstone(**changed: Any) -> bytes:
    fields: dict[str, Any] = {
        "encoding_id": ENCODING_ID, "object_id": OBJECT_ID, "owner_key": bytes(32), "generation": 1,
        "trash_seconds": 7 * 24 * 3600, "signature": bytes(64),
    }  # fmt: skip
    magic, version = changed.pop("magic", "tessera-tombstone"), changed.pop("version", 3)
    times = changed.pop("trash_until", 2**31), changed.pop("ends", 2**32)
    body = packed([magic, version, list({**fields, **changed}.values()), *times])
    return body + packed(blake3(body).digest())


def tombstones() -> list[Row]:
    whole = tombstone()

    def row(name: str, data: bytes, words: str, error: str = "IntegrityError") -> Row:
        return bad("tombstone", name, data, error, words)

    return [
        good("tombstone", "as it should be", whole),
        row("empty", b"", "the file is damaged"),
        row("cut", whole[:-1], "the file is damaged"),
        row("a byte changed", flipped(whole, 30), "the file is damaged"),
        row("another magic", tombstone(magic="tessera-tombston"), "this is no tombstone"),
        row("the version before", tombstone(version=2), "of version 2 of its format", _UNKNOWN),
        row("a later version", tombstone(version=4), "of version 4 of its format", _UNKNOWN),
        row("owner key of 31 bytes", tombstone(owner_key=bytes(31)), "no format that this worker knows", _UNKNOWN),
        row("signature of 63 bytes", tombstone(signature=bytes(63)), "no format that this worker knows", _UNKNOWN),
        row("generation 0", tombstone(generation=0), "no format that this worker knows", _UNKNOWN),
        row("trash for over two years", tombstone(trash_seconds=2**31), "no format that this worker knows", _UNKNOWN),
        row("ends before 1970", tombstone(ends=-1), "no format that this worker knows", _UNKNOWN),
    ]


def stored_rows() -> list[Row]:
    return recipes() + share_files() + tombstones()
