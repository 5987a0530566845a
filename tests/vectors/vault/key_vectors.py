"""What follows from a vault key."""

from __future__ import annotations

import struct

from blake3 import blake3

from tests.vectors.vault.reference import (
    ENCODING_ID,
    IMAGE_SHA256,
    OTHER_ENCODING_ID,
    OTHER_KEY,
    VAULT_KEY,
    Vector,
    expand,
    object_id,
    owner_key,
    prune_object_id,
    signing_key,
    snapshot_object_id,
    vector,
)


def keys() -> list[Vector]:
    return [
        derived("counting bytes", VAULT_KEY, IMAGE_SHA256, ENCODING_ID),
        derived("all zeros", bytes(32), bytes(32), bytes(16)),
        derived("all ones", b"\xff" * 32, b"\xff" * 32, b"\xff" * 16),
        derived("another vault, same image", OTHER_KEY, IMAGE_SHA256, ENCODING_ID),
        derived("same vault, another encoding", VAULT_KEY, IMAGE_SHA256, OTHER_ENCODING_ID),
    ]


def derived(name: str, vault_key: bytes, image_sha256: bytes, encoding_id: bytes) -> Vector:
    image = object_id(vault_key, image_sha256)
    tombstone = b"tessera/v1/tombstone" + encoding_id + image + struct.pack(">II", 1, 7 * 24 * 3600)
    # array of 9: object id, owner, recipe, mapping, nonce, transfers, revision, grants of 3 each, generation
    grant = b"\x93\xc4\x10" + bytes(16) + b"\xc4\x20" + bytes(32) + b"\xc4\x0bfor another"
    ids = b"\xc4\x20" + bytes(32) + b"\xc4\x10" + bytes(16)
    commitment = b"\x99" + ids + b"\xc4\x06recipe\xc4\x07mapping\xc4\x10" + bytes(16) + b"\x90\x02\x91" + grant + b"\0"
    leaf = blake3(b"\0tessera/v1/commitment" + commitment).digest()
    root = blake3(b"\1" + blake3(b"\1" + leaf + leaf).digest() + blake3(b"\1" + leaf + bytes(32)).digest()).digest()
    return vector(
        name,
        "ok",
        vault_key_hex=vault_key,
        image_sha256_hex=image_sha256,
        encoding_id_hex=encoding_id,
        object_id_hex=image,
        snapshot_object_id_hex=snapshot_object_id(vault_key, image_sha256),
        prune_object_id_hex=prune_object_id(vault_key),
        owner_key_hex=owner_key(vault_key),
        client_signature_hex=signing_key(vault_key).sign(b"tessera/v1/client" + bytes(range(32))),
        tombstone_signature_hex=signing_key(vault_key).sign(tombstone),
        transfer_signature_hex=signing_key(vault_key).sign(b"tessera/v1/transfer" + encoding_id + bytes(range(16))),
        three_commitments_signature_hex=signing_key(vault_key).sign(b"tessera/v1/commitments" + root),
        mapping_subkey_hex=expand(vault_key, b"tessera/v1/mapping"),
        index_subkey_hex=expand(vault_key, b"tessera/v1/index"),
    )
