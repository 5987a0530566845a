"""Sealed segments: format version 1."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors.vault.reference import (
    DATA_KEY,
    ENCODING_ID,
    IMAGE,
    OTHER_ENCODING_ID,
    OTHER_KEY,
    Vector,
    flipped,
    vector,
)


def sealed_segment(
    number: int,
    plaintext: bytes,
    last: int,
    shares: tuple[int, int] = (4, 6),
    *,
    label: bytes = b"tessera/v1/segment",
    nonce_number: int = -1,
) -> bytes:
    k, n = shares
    fields = ((number, 8), (last, 1), (k, 2), (n, 2))
    associated = label + ENCODING_ID + b"".join(value.to_bytes(size, "big") for value, size in fields)
    counter = number if nonce_number < 0 else nonce_number
    return AESGCM(DATA_KEY).encrypt(counter.to_bytes(12, "big"), plaintext, associated)


def segment(name: str, expect: str, sealed: bytes, number: int, last: bool, **changed: Any) -> Vector:
    inputs: Vector = {
        "data_key_hex": DATA_KEY,
        "encoding_id_hex": ENCODING_ID,
        "segment_number": number,
        "is_last": last,
        "k": 4,
        "n": 6,
        "sealed_hex": sealed,
    }
    return vector(name, expect, **{**inputs, **changed})


def segments() -> list[Vector]:
    return segments_ok() + segments_out_of_place() + segments_damaged()


def segments_ok() -> list[Vector]:
    long = bytes(range(256)) * 4
    most = sealed_segment(0, IMAGE, 1, (64, 64))
    least = sealed_segment(0, IMAGE, 1, (2, 2))
    far = sealed_segment(2**40 + 1, IMAGE, 0)
    return [
        segment("first of several", "ok", sealed_segment(0, IMAGE, 0), 0, False, plaintext_hex=IMAGE),
        segment("last of several", "ok", sealed_segment(7, b"\0", 1), 7, True, plaintext_hex=b"\0"),
        segment("the one segment of an empty image", "ok", sealed_segment(0, b"", 1), 0, True, plaintext_hex=b""),
        segment("longer than a cipher block", "ok", sealed_segment(1, long, 0), 1, False, plaintext_hex=long),
        segment("number beyond 32 bits", "ok", far, 2**40 + 1, False, plaintext_hex=IMAGE),
        segment("the highest k and n", "ok", most, 0, True, k=64, n=64, plaintext_hex=IMAGE),
        segment("the lowest k and n", "ok", least, 0, True, k=2, n=2, plaintext_hex=IMAGE),
    ]


def segments_out_of_place() -> list[Vector]:
    sealed = sealed_segment(3, IMAGE, 0)
    error = "IntegrityError"
    return [
        segment("as the segment before", error, sealed, 2, False),
        segment("as the segment after", error, sealed, 4, False),
        segment("as a segment 2^32 later", error, sealed, 3 + 2**32, False),
        segment("as the last", error, sealed, 3, True),
        segment("the last, as one of many", error, sealed_segment(3, IMAGE, 1), 3, False),
        segment("another k", error, sealed, 3, False, k=3),
        segment("another n", error, sealed, 3, False, n=7),
        segment("another encoding", error, sealed, 3, False, encoding_id_hex=OTHER_ENCODING_ID),
        segment("another data key", error, sealed, 3, False, data_key_hex=OTHER_KEY),
        segment("nonce of another number", error, sealed_segment(3, IMAGE, 0, nonce_number=4), 3, False),
        segment("another label", error, sealed_segment(3, IMAGE, 0, label=b"tessera/v2/segment"), 3, False),
        segment("a flag of 2", error, sealed_segment(3, IMAGE, 2), 3, True),
    ]


def segments_damaged() -> list[Vector]:
    sealed = sealed_segment(3, IMAGE, 0)
    return [
        segment("first byte changed", "IntegrityError", flipped(sealed, 0), 3, False),
        segment("tag changed", "IntegrityError", flipped(sealed, -1), 3, False),
        segment("last byte missing", "IntegrityError", sealed[:-1], 3, False),
        segment("one byte behind", "IntegrityError", sealed + b"\0", 3, False),
        segment("tag missing", "IntegrityError", sealed[:-16], 3, False),
        segment("shorter than a tag", "IntegrityError", sealed[:15], 3, False),
        segment("empty", "IntegrityError", b"", 3, False),
    ]
