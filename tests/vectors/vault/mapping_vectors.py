"""Sealed mappings: format version 1."""

from __future__ import annotations

import hashlib
from typing import Any

import msgpack
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors.vault.reference import (
    DATA_KEY,
    ENCODING_ID,
    IMAGE,
    IMAGE_SHA256,
    OTHER_ENCODING_ID,
    OTHER_KEY,
    SALT,
    VAULT_KEY,
    Vector,
    expand,
    flipped,
    object_id,
    prune_object_id,
    snapshot_object_id,
    vector,
)

FIELDS: Vector = {
    "data_key": DATA_KEY,
    "image_sha256": IMAGE_SHA256,
    "image_size": len(IMAGE),
    "segment_count": 1,
    "segment_size": 4 * 1024 * 1024,
    "k": 4,
    "n": 6,
    "recipe_digest": bytes(range(128, 160)),
    "name": "mosaic.png",
    "media_type": "image/png",
    "width": 640,
    "height": 480,
    "thumbnail": b"\x89PNG",
    "stored_at": 1_700_000_000,
}
FACTS: Vector = {
    "taken_at": "2019-07-14T18:03:22+02:00",
    "camera": "Pentax K-1",
    "orientation": 6,
    "latitude": 48_858_222,
    "longitude": -2_294_500,
}


def padded(body: bytes) -> bytes:
    framed = len(body).to_bytes(4, "big") + body
    size = 1024
    while size < len(framed):
        size *= 2
    return framed + bytes(size - len(framed))


def plaintext_of(**changed: Any) -> bytes:
    return padded(bytes(msgpack.packb({**FIELDS, **changed})))


def sealed_mapping(
    plaintext: bytes,
    *,
    object_id: bytes,
    magic: bytes = b"TESSMAP\0",
    version: int = 1,
    key_label: bytes = b"tessera/v1/mapping/key",
) -> bytes:
    subkey = expand(VAULT_KEY, b"tessera/v1/mapping")
    prefix = magic + version.to_bytes(2, "big")
    commitment = expand(subkey, b"tessera/v1/mapping/commitment" + SALT)
    cipher = AESGCM(expand(subkey, key_label + SALT))
    return prefix + SALT + commitment + cipher.encrypt(bytes(12), plaintext, prefix + object_id + ENCODING_ID)


def mapping(name: str, expect: str, sealed: bytes, **changed: Any) -> Vector:
    inputs: Vector = {
        "vault_key_hex": VAULT_KEY,
        "object_id_hex": object_id(),
        "encoding_id_hex": ENCODING_ID,
        "sealed_hex": sealed,
    }
    return vector(name, expect, **{**inputs, **changed})


def holding(name: str, expect: str, plaintext: bytes, **changed: Any) -> Vector:
    """A mapping sealed as it should be, around this plaintext."""
    return mapping(name, expect, sealed_mapping(plaintext, object_id=object_id()), **changed)


def mappings() -> list[Vector]:
    return (
        mappings_ok()
        + mappings_of_the_wrong_shape()
        + mappings_out_of_place()
        + mappings_with_wrong_fields()
        + mappings_with_wrong_facts()
        + mappings_written_otherwise()
    )


def mapping_ok(name: str, /, **changed: Any) -> Vector:
    fields = {**FIELDS, **changed}
    expected = {key: value.hex() if isinstance(value, bytes) else value for key, value in fields.items()}
    name_of = {"snapshot": snapshot_object_id, "prune": prune_object_id}.get(fields.get("kind") or "", object_id)
    image = name_of(VAULT_KEY, fields["image_sha256"])
    sealed = sealed_mapping(plaintext_of(**changed), object_id=image)
    return mapping(name, "ok", sealed, object_id_hex=image, fields=expected)


def mappings_ok() -> list[Vector]:
    empty = hashlib.sha256(b"").digest()
    nothing_known: Vector = {"media_type": "application/octet-stream", "width": None, "height": None}
    return [
        mapping_ok("all fields"),
        mapping_ok("nothing known of the image", name="", thumbnail=None, **nothing_known),
        mapping_ok("empty image", image_sha256=empty, image_size=0),
        mapping_ok("segments all full", image_size=3 * 4096, segment_size=4096, segment_count=3),
        mapping_ok("one byte in the last segment", image_size=2 * 4096 + 1, segment_size=4096, segment_count=3),
        mapping_ok("name in several scripts", name="M\u00fcnchen \u6771\u4eac \U0001f600.png"),
        mapping_ok("name that climbs", name="../../etc/passwd"),
        mapping_ok("padded to 2048", thumbnail=bytes(1000)),
        mapping_ok("the highest k and n", k=64, n=64),
        mapping_ok("all facts", facts=FACTS),
        mapping_ok("one fact, of no offset", facts={"taken_at": "0001-01-01T00:00:00"}),
        mapping_ok("of a tree", kind="tree"),
        mapping_ok("of a snapshot", kind="snapshot"),
        mapping_ok("of what a prune is about to delete", kind="prune"),
        mapping_ok("stored without a snapshot", kept=True),
    ]


def mappings_of_the_wrong_shape() -> list[Vector]:
    error = "IntegrityError"
    plaintext, image = plaintext_of(), object_id()
    sealed = sealed_mapping(plaintext, object_id=image)
    return [
        mapping("empty", error, b""),
        mapping("header alone", error, sealed[:74]),
        mapping("another magic", error, sealed_mapping(plaintext, object_id=image, magic=b"TESSKEY\0")),
        mapping("version 0", error, sealed_mapping(plaintext, object_id=image, version=0)),
        mapping("version 2", error, sealed_mapping(plaintext, object_id=image, version=2)),
        mapping("last byte missing", error, sealed[:-1]),
        mapping("one byte behind", error, sealed + b"\0"),
        mapping("1024 bytes behind", error, sealed + bytes(1024)),
        holding("padded to 512", error, plaintext[:512]),
        holding("no plaintext", error, b""),
        holding("plaintext of 2 bytes", error, plaintext[:2]),
        holding("not padded to a power of two", error, plaintext + bytes(512)),
    ]


def mappings_out_of_place() -> list[Vector]:
    plaintext, image = plaintext_of(), object_id()
    sealed = sealed_mapping(plaintext, object_id=image)
    otherwise_keyed = sealed_mapping(plaintext, object_id=image, key_label=b"tessera/v1/mapping/other")
    other_image = hashlib.sha256(b"another").digest()
    return [
        mapping("another vault key", "RefusedError", sealed, vault_key_hex=OTHER_KEY),
        mapping("salt changed", "RefusedError", flipped(sealed, 10)),
        mapping("commitment changed", "RefusedError", flipped(sealed, 42)),
        mapping("ciphertext changed", "IntegrityError", flipped(sealed, 74)),
        mapping("tag changed", "IntegrityError", flipped(sealed, -1)),
        mapping("under another one-time key", "IntegrityError", otherwise_keyed),
        mapping("another object", "IntegrityError", sealed, object_id_hex=object_id(image_sha256=other_image)),
        mapping("another encoding", "IntegrityError", sealed, encoding_id_hex=OTHER_ENCODING_ID),
        holding("of another image", "IntegrityError", plaintext_of(image_sha256=other_image)),
    ]


def mappings_with_wrong_fields() -> list[Vector]:
    wrong: dict[str, Vector] = {
        "data key of 31 bytes": {"data_key": bytes(31)},
        "data key of 33 bytes": {"data_key": bytes(33)},
        "data key as base64 text": {"data_key": "A" * 43 + "="},
        "recipe digest missing its end": {"recipe_digest": bytes(16)},
        "negative size": {"image_size": -1},
        "size as text": {"image_size": "18"},
        "size as a float": {"image_size": 18.0},
        "no segment": {"segment_count": 0},
        "empty image without a segment": {"image_size": 0, "segment_count": 0},
        "a segment too many": {"segment_count": 2},
        "an empty segment behind full ones": {"image_size": 8192, "segment_size": 4096, "segment_count": 3},
        "a segment too few": {"image_size": 8193, "segment_size": 4096, "segment_count": 2},
        "segments of no bytes": {"segment_size": 0},
        "segments over 1 GiB": {"segment_size": 2**30 + 1},
        "k of 0": {"k": 0},
        "k of 1": {"k": 1},
        "k as true": {"k": True},
        "k over n": {"k": 7},
        "n over 64": {"n": 65},
        "name over 1024 characters": {"name": "n" * 1025},
        "name as bytes": {"name": b"mosaic.png"},
        "thumbnail over 8 KiB": {"thumbnail": bytes(8193)},
        "width of 0": {"width": 0},
        "stored before 1970": {"stored_at": -1},
        "media type over 100 characters": {"media_type": "t" * 101},
        "a field too many": {"note": "hello"},
        "a list in a field": {"name": ["mosaic.png"]},
    }
    return [holding(name, "IntegrityError", plaintext_of(**changed)) for name, changed in wrong.items()]


def mappings_with_wrong_facts() -> list[Vector]:
    wrong: Vector = {
        "facts that tell nothing": {},
        "facts as nil": None,
        "facts as a list": list(FACTS.values()),
        "a fact as nil": {**FACTS, "camera": None},
        "a fact too many": {**FACTS, "owner": "Anna"},
        "facts in another order": dict(reversed(list(FACTS.items()))),
        "taken as a number": {**FACTS, "taken_at": 1_563_120_202},
        "taken on the 31st of June": {**FACTS, "taken_at": "2019-06-31T18:03:22"},
        "taken with an offset of a day": {**FACTS, "taken_at": "2019-07-14T18:03:22+24:00"},
        "taken at 24:00": {**FACTS, "taken_at": "2019-07-14T24:00:00"},
        "taken with an offset of minus nothing": {**FACTS, "taken_at": "2019-07-14T18:03:22-00:00"},
        "taken in parts of a second": {**FACTS, "taken_at": "2019-07-14T18:03:22.5"},
        "camera without a name": {**FACTS, "camera": ""},
        "camera over 64 characters": {**FACTS, "camera": "c" * 65},
        "orientation of 0": {**FACTS, "orientation": 0},
        "orientation of 9": {**FACTS, "orientation": 9},
        "latitude alone": {"latitude": 48_858_222},
        "longitude alone": {"longitude": 2_294_500},
        "north of the pole": {**FACTS, "latitude": 90_000_001},
        "south of the pole": {**FACTS, "latitude": -90_000_001},
        "east of the date line": {**FACTS, "longitude": 180_000_001},
        "west of the date line": {**FACTS, "longitude": -180_000_001},
        "a place as a float": {**FACTS, "latitude": 48.858222},
    }
    return [holding(name, "IntegrityError", plaintext_of(facts=facts)) for name, facts in wrong.items()]


def mappings_written_otherwise() -> list[Vector]:
    body = bytes(msgpack.packb(FIELDS))
    without_end = {name: value for name, value in FIELDS.items() if name != "stored_at"}
    reversed_fields = dict(reversed(list(FIELDS.items())))
    # Without the height, which may be left out, it has no more fields than a mapping.
    repeated = body.replace(b"\xa6height\xcd\x01\xe0", b"") + b"\xa1k\x04"
    wide = body.replace(b"\xa1k\x04", b"\xa1k\xcc\x04")
    plaintexts = {
        "a field missing": padded(bytes(msgpack.packb(without_end))),
        "fields in another order": padded(bytes(msgpack.packb(reversed_fields))),
        "a field twice": padded(repeated),
        "an integer wider than it needs": padded(wide),
        "values without names": padded(bytes(msgpack.packb(list(FIELDS.values())))),
        "padding that is not zero": padded(body)[:-1] + b"\x01",
        "padded further than needed": padded(body) + bytes(1024),
        "msgpack cut": padded(body[:-1]),
        "msgpack with more behind": padded(body + b"\xc0"),
        "length beyond the plaintext": b"\xff\xff\xff\xff" + padded(body)[4:],
        "length of 0": bytes(1024),
        "name that is not UTF-8": padded(body.replace(b"mosaic.png", b"mosaic\xff\xff\xff\xff")),
        "an extension type": padded(b"\xd4\x05\x00"),
        "nested 300 deep": padded(b"\x81\xa1k" * 300),
    }
    return [holding(name, "IntegrityError", plaintext) for name, plaintext in plaintexts.items()]
