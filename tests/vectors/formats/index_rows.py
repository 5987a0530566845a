"""Rows of the vault's index, sealed by a second implementation."""

from __future__ import annotations

import msgpack
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors.formats.rows import Row, bad, good
from tests.vectors.vault.reference import IMAGE_SHA256, NONCE, OTHER_KEY, SALT, VAULT_KEY, expand, flipped

_SEEN = b"s"
_PATH = b"/home/photos/tile.jpg"
_VALUES = [18, 1_700_000_000_000_000_000, None, 4711, IMAGE_SHA256]


def _name(table: bytes = _SEEN) -> bytes:
    key = expand(expand(VAULT_KEY, b"tessera/v1/index"), b"tessera/v1/index/names" + SALT)
    return blake3(table + _PATH, key=key).digest(16)


def _sealed(content: object, *, framed: bool = True) -> bytes:
    key = expand(expand(VAULT_KEY, b"tessera/v1/index"), b"tessera/v1/index/rows" + SALT)
    packed = msgpack.packb(content)
    plaintext = (len(packed).to_bytes(4, "big") + packed if framed else packed).ljust(256, b"\0")
    return NONCE + AESGCM(key).encrypt(NONCE, plaintext, _SEEN + _name())


def index_rows() -> list[Row]:
    sealed = _sealed(_VALUES)
    inputs = {"vault_key": VAULT_KEY, "salt": SALT, "table": _SEEN, "value": _PATH, "named": _name()}

    def row(name: str, data: bytes, **changed: bytes) -> Row:
        return bad("row of the index", name, data, "IntegrityError", "is damaged, or belongs", **{**inputs, **changed})

    return [
        good("row of the index", "as it should be", sealed, **inputs),
        row("empty", b""),
        row("nonce changed", flipped(sealed, 0)),
        row("ciphertext changed", flipped(sealed, 12)),
        row("tag changed", flipped(sealed, -1)),
        row("last byte missing", sealed[:-1]),
        row("another vault key", sealed, vault_key=OTHER_KEY, named=b""),
        row("another file's salt", sealed, salt=bytes(32), named=b""),
        row("of another table", sealed, table=b"o", named=_name(b"o")),
        row("of another path", sealed, value=b"/home", named=b""),
        row("a field missing", _sealed(_VALUES[:-1])),
        row("text for a size", _sealed(["18", *_VALUES[1:]])),
        row("without its length", _sealed(_VALUES, framed=False)),
    ]
