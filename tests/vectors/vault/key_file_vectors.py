"""Vault key files: format version 1."""

from __future__ import annotations

import unicodedata

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tests.vectors.vault.reference import (
    NONCE,
    PASSPHRASE,
    SALT,
    VAULT_KEY,
    Vector,
    expand,
    flipped,
    vector,
)

LOW_COST = (1, 19 * 1024, 1)
DEFAULT_COST = (3, 64 * 1024, 4)


def key_file(
    passphrase: str = PASSPHRASE,
    cost: tuple[int, int, int] = LOW_COST,
    *,
    magic: bytes = b"TESSKEY\0",
    version: int = 1,
    kek_label: bytes = b"tessera/v1/key-file/kek",
    bind_header: bool = True,
    normalise: bool = True,
) -> bytes:
    passes, memory, lanes = cost
    salt = SALT[:16]
    text = unicodedata.normalize("NFC", passphrase) if normalise else passphrase
    prk = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(text.encode())
    numbers = b"".join(number.to_bytes(4, "big") for number in cost)
    commitment = expand(prk, b"tessera/v1/key-file/commitment")
    header = magic + version.to_bytes(2, "big") + salt + numbers + NONCE + commitment
    kek = expand(prk, kek_label)
    return header + AESGCM(kek).encrypt(NONCE, VAULT_KEY, header if bind_header else b"")


def with_cost(file: bytes, cost: tuple[int, int, int]) -> bytes:
    """The file with other Argon2id parameters written in: what was never derived from them."""
    return file[:26] + b"".join(number.to_bytes(4, "big") for number in cost) + file[38:]


def key_files() -> list[Vector]:
    return key_files_ok() + key_files_of_the_wrong_shape() + key_files_refused() + key_files_damaged()


def opening(name: str, expect: str, file: bytes, passphrase: str = PASSPHRASE) -> Vector:
    outcome = {"vault_key_hex": VAULT_KEY} if expect == "ok" else {}
    return vector(name, expect, passphrase=passphrase, file_hex=file, **outcome)


def key_files_ok() -> list[Vector]:
    composed, decomposed = "Zo\u00eb caf\u00e9", "Zoe\u0308 cafe\u0301"
    return [
        opening("the parameters of a new key file", "ok", key_file(cost=DEFAULT_COST)),
        opening("the lowest parameters", "ok", key_file()),
        opening("the most passes and lanes", "ok", key_file(cost=(10, 19 * 1024, 8))),
        opening("passphrase typed decomposed", "ok", key_file(composed), decomposed),
        opening("passphrase made decomposed", "ok", key_file(decomposed), composed),
        opening("passphrase beyond the basic plane", "ok", key_file("\U0001f600"), "\U0001f600"),
        opening("passphrase of one space", "ok", key_file(" "), " "),
    ]


def key_files_of_the_wrong_shape() -> list[Vector]:
    file = key_file()
    return [
        opening("empty", "IntegrityError", b""),
        opening("magic alone", "IntegrityError", file[:8]),
        opening("another magic", "IntegrityError", key_file(magic=b"TESSMAP\0")),
        opening("version 0", "IntegrityError", key_file(version=0)),
        opening("version 2", "IntegrityError", key_file(version=2)),
        opening("last byte missing", "IntegrityError", file[:-1]),
        opening("header alone", "IntegrityError", file[:82]),
        opening("one byte behind", "IntegrityError", file + b"\0"),
        opening("twice", "IntegrityError", file + file),
    ]


def key_files_refused() -> list[Vector]:
    file = key_file()
    refused = {
        "memory one below the least": (1, 19 * 1024 - 1, 1),
        "memory one above the most": (1, 1024 * 1024 + 1, 1),
        "memory of 4 TiB": (1, 2**32 - 1, 1),
        "no memory": (1, 0, 1),
        "no passes": (0, 19 * 1024, 1),
        "eleven passes": (11, 19 * 1024, 1),
        "four billion passes": (2**32 - 1, 19 * 1024, 1),
        "no lanes": (1, 19 * 1024, 0),
        "nine lanes": (1, 19 * 1024, 9),
    }
    return [
        opening("another passphrase", "RefusedError", file, "Correct horse battery staple"),
        opening("a space behind the passphrase", "RefusedError", file, PASSPHRASE + " "),
        opening("a passphrase that is the same only under NFKC", "RefusedError", key_file("file"), "\ufb01le"),
        opening("made without normalising", "RefusedError", key_file("e\u0301", normalise=False), "e\u0301"),
        opening("empty passphrase", "UsageError", file, ""),
        opening("passphrase with a lone surrogate", "UsageError", file, "\ud800"),
        opening("one pass more than was derived", "RefusedError", with_cost(file, (2, 19 * 1024, 1))),
        *(opening(name, "RefusedError", with_cost(file, cost)) for name, cost in refused.items()),
    ]


def key_files_damaged() -> list[Vector]:
    file = key_file()
    return [
        opening("salt changed", "RefusedError", flipped(file, 10)),
        opening("commitment changed", "RefusedError", flipped(file, 50)),
        opening("nonce changed", "IntegrityError", flipped(file, 38)),
        opening("wrapped key changed", "IntegrityError", flipped(file, 82)),
        opening("tag changed", "IntegrityError", flipped(file, 129)),
        opening("wrapped under another key", "IntegrityError", key_file(kek_label=b"tessera/v1/key-file/other")),
        opening("header not bound", "IntegrityError", key_file(bind_header=False)),
    ]
