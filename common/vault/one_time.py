"""Sealing under keys that are used once: AES-256-GCM (NIST SP 800-38D), a key for each thing that is sealed.

    sealed       salt (32, random) ‖ ciphertext ‖ tag (16)         key = HKDF-Expand(subkey, label ‖ salt)
    committed    salt ‖ commitment (32) ‖ ciphertext ‖ tag         both HKDF-Expand: label/key, label/commitment
    row          u32 length ‖ sealed                               the row's number (8) before the associated data

HKDF-Expand is that of RFC 5869, section 2.3. Each key seals once, so that its nonce is zero.
The commitment is there because GCM does not commit to its key: with it, what is sealed opens under one subkey only, and
another subkey is told from damage. Integers are big-endian.
"""

from __future__ import annotations

import secrets
from typing import Union

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.constant_time import bytes_eq

from common.errors import IntegrityError, RefusedError
from common.vault.keys import KEY_SIZE, expand

_SALT_SIZE = 32
_COMMITMENT_END = _SALT_SIZE + KEY_SIZE
COMMITTED_OVERHEAD = _COMMITMENT_END + 16  # bytes
_NONCE = bytes(12)


def seal(subkey: bytes, label: bytes, plaintext: bytes, associated: bytes = b"") -> bytes:
    """Seal under a subkey of the vault key (32 bytes); different each time."""
    salt = secrets.token_bytes(_SALT_SIZE)
    return salt + _cipher(subkey, label, salt).encrypt(_NONCE, plaintext, associated)


def open_sealed(subkey: bytes, label: bytes, sealed: bytes, associated: bytes = b"") -> bytes:
    """The plaintext; IntegrityError where it was sealed otherwise, or is damaged."""
    salt, ciphertext = sealed[:_SALT_SIZE], sealed[_SALT_SIZE:]
    try:
        return _cipher(subkey, label, salt).decrypt(_NONCE, ciphertext, associated)
    except InvalidTag:
        raise IntegrityError("what was sealed is damaged, or belongs elsewhere") from None


def seal_committed(subkey: bytes, label: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """As `seal`, with a commitment to the subkey."""
    salt = secrets.token_bytes(_SALT_SIZE)
    ciphertext = _cipher(subkey, label + b"/key", salt).encrypt(_NONCE, plaintext, associated)
    return salt + _commitment(subkey, label, salt) + ciphertext


def open_committed(subkey: bytes, label: bytes, sealed: bytes, associated: bytes) -> bytes:
    """The plaintext; RefusedError where it was sealed under another subkey, IntegrityError where it is damaged."""
    salt = sealed[:_SALT_SIZE]
    if not bytes_eq(sealed[_SALT_SIZE:_COMMITMENT_END], _commitment(subkey, label, salt)):
        raise RefusedError("it was sealed under another key")
    try:
        return _cipher(subkey, label + b"/key", salt).decrypt(_NONCE, sealed[_COMMITMENT_END:], associated)
    except InvalidTag:
        raise IntegrityError("what was sealed is damaged, or belongs elsewhere") from None


class SealedRows:
    """Rows that are appended to a file, each bound to its number; a torn or damaged row ends what can be read."""

    def __init__(self, subkey: bytes, label: bytes, limit: int) -> None:
        """`limit`: the most bytes of a sealed row."""
        self._subkey = subkey
        self._label = label
        self._limit = limit

    def seal(self, number: int, plaintext: bytes, associated: bytes = b"") -> bytes:
        """The row of this number, counted from 0, as it is written."""
        sealed = seal(self._subkey, self._label, plaintext, number.to_bytes(8, "big") + associated)
        return len(sealed).to_bytes(4, "big") + sealed

    def open(
        self, number: int, content: Union[bytes, memoryview], offset: int, associated: bytes = b""
    ) -> tuple[bytes, int]:
        """The plaintext of the row that begins at an offset of a file's content, and where it ends.

        IntegrityError where no whole row of this number is there.
        """
        start = offset + 4
        length = int.from_bytes(content[offset:start], "big")
        sealed = bytes(content[start : start + min(length, self._limit)])
        if not _SALT_SIZE < length == len(sealed):
            raise IntegrityError("no whole row is there")
        plaintext = open_sealed(self._subkey, self._label, sealed, number.to_bytes(8, "big") + associated)
        return plaintext, start + length


def _cipher(subkey: bytes, label: bytes, salt: bytes) -> AESGCM:
    return AESGCM(expand(subkey, label + salt))


def _commitment(subkey: bytes, label: bytes, salt: bytes) -> bytes:
    return expand(subkey, label + b"/commitment" + salt)
