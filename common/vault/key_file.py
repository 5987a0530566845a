"""The vault key at rest: wrapped under a passphrase, in a file of 130 bytes. Format version 1.

    offset  bytes
         0      8  magic "TESSKEY\\0"
         8      2  version, 1
        10     16  salt, random
        26     12  Argon2id: passes t, memory m in KiB, lanes p; 4 bytes each
        38     12  nonce, random
        50     32  commitment
        82     48  the vault key (32) and its tag (16), AES-256-GCM; everything before is its associated data

Integers are big-endian. Opening: check the shape, refuse parameters out of bounds, derive PRK =
Argon2id(passphrase, salt, t, m, p) (RFC 9106), from it the commitment and the key-encryption key by
HKDF-Expand (RFC 5869, section 2.3), compare the commitment, then unwrap. The commitment is there because GCM
does not commit to its key: one could craft a file that opens under many passphrases, and learn from each
attempt to open it which of them are wrong (Len, Grubbs, Ristenpart 2021).

A byte-order mark before a passphrase and a line end behind it are no part of it: they come from files and shells, and
no keyboard has them. Key files that were made with them open all the same, by a second derivation where the first one
does not fit, which a wrong passphrase costs too.

A new passphrase means: open, then create. Reading, writing and the file's mode are the caller's.
"""

from __future__ import annotations

import logging
import secrets
import struct
import threading
import unicodedata
from dataclasses import dataclass
from typing import Optional

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from common.errors import IntegrityError, RefusedError, UsageError
from common.text import BYTE_ORDER_MARK, as_typed
from common.vault.keys import KEY_SIZE, VaultKey, expand

log = logging.getLogger(__name__)

MAGIC = b"TESSKEY\0"
VERSION = 1
KEK_LABEL = b"tessera/v1/key-file/kek"
COMMITMENT_LABEL = b"tessera/v1/key-file/commitment"

_PREFIX = struct.Struct(">8sH")
_HEADER = struct.Struct(">8sH16sIII12s32s")
_SALT_SIZE = 16
_NONCE_SIZE = 12
_WRAPPED_SIZE = KEY_SIZE + 16
KEY_FILE_SIZE = _HEADER.size + _WRAPPED_SIZE

# OpenSSL's Argon2id with several lanes shares one pool of threads in the process: two derivations at once wait for each
# other forever, or one fails as if memory were short (seen with OpenSSL 4.0.3).
_one_derivation = threading.Lock()


@dataclass(frozen=True)
class PassphraseCost:
    """What one guess at a passphrase costs: t, m (KiB) and p of Argon2id (RFC 9106, section 3.1)."""

    passes: int
    memory_kib: int
    lanes: int

    def check(self) -> None:
        """RefusedError where out of bounds: too little protects nothing, too much stalls the reader."""
        bounds = (
            ("memory", self.memory_kib, 19 * 1024, 1024 * 1024),
            ("passes", self.passes, 1, 10),
            ("lanes", self.lanes, 1, 8),
        )
        for name, value, low, high in bounds:
            if not low <= value <= high:
                raise RefusedError(
                    f"the key file asks for Argon2id with {name} {value}, outside {low} to {high}",
                    advice="restore the key file from a copy, this one was altered",
                )


# The second recommended option of RFC 9106, section 4.
COST = PassphraseCost(passes=3, memory_kib=64 * 1024, lanes=4)


def create_key_file(key: VaultKey, passphrase: str) -> bytes:
    """Wrap the vault key under the passphrase: the content of a key file, different each time.

    UsageError where the passphrase is empty or not Unicode text.
    """
    return _create_at_cost(key, as_typed(passphrase), COST)


def open_key_file(data: bytes, passphrase: str) -> VaultKey:
    """The vault key in the content of a key file.

    RefusedError where the passphrase is wrong, or the file's Argon2id parameters are out of bounds (nothing is
    derived then); IntegrityError where the file is damaged or no key file; UsageError as in creating.
    """
    cost = check_key_file(data)
    header, wrapped = data[: _HEADER.size], data[_HEADER.size :]
    _, _, salt, _, _, _, nonce, commitment = _HEADER.unpack(header)
    for reading in _readings(passphrase):
        kek, expected = _derive(reading, salt, cost)
        if bytes_eq(commitment, expected):
            break
    else:
        raise RefusedError("the passphrase does not open this key file", advice="check the passphrase and try again")
    if reading != as_typed(passphrase):
        log.warning(
            "the vault's passphrase was made with a byte-order mark or a line end; make it anew without: "
            "admin.py vault passphrase"
        )
    try:
        return VaultKey(AESGCM(kek).decrypt(nonce, wrapped, header))
    except InvalidTag:
        # The passphrase was right, or the commitment had not matched.
        raise IntegrityError(
            "the key file is damaged: its vault key does not unwrap",
            advice="restore the key file from a copy",
        ) from None


def _readings(passphrase: str) -> list[str]:
    """What a passphrase may stand for, each once: as it is typed, then as it was taken when key files were made so."""
    typed = as_typed(passphrase)
    return list(dict.fromkeys((typed or passphrase, passphrase, BYTE_ORDER_MARK + typed)))


def _create_at_cost(key: VaultKey, passphrase: str, cost: PassphraseCost) -> bytes:
    salt = secrets.token_bytes(_SALT_SIZE)
    nonce = secrets.token_bytes(_NONCE_SIZE)
    kek, commitment = _derive(passphrase, salt, cost)
    header = _HEADER.pack(MAGIC, VERSION, salt, cost.passes, cost.memory_kib, cost.lanes, nonce, commitment)
    return header + AESGCM(kek).encrypt(nonce, key.reveal(), header)


def check_key_file(data: bytes) -> PassphraseCost:
    """What a guess at its passphrase costs, of what may be a key file; errors as of `open_key_file`, without one."""
    if len(data) < _PREFIX.size or not data.startswith(MAGIC):
        raise IntegrityError("this is not a vault key file")
    _, version = _PREFIX.unpack_from(data)
    # The version comes before the length: another version may have another one.
    if version != VERSION:
        raise IntegrityError(
            f"the key file has format version {version}, this program reads version {VERSION}",
            advice="update Tessera",
        )
    if len(data) != KEY_FILE_SIZE:
        raise IntegrityError(
            f"the key file is damaged: it has {len(data)} bytes, not {KEY_FILE_SIZE}",
            advice="restore the key file from a copy",
        )
    cost = PassphraseCost(*_HEADER.unpack(data[: _HEADER.size])[3:6])
    cost.check()
    return cost


def _derive(passphrase: str, salt: bytes, cost: PassphraseCost) -> tuple[bytes, bytes]:
    """The key-encryption key and the commitment, 32 bytes each."""
    cost.check()
    secret = _passphrase_bytes(passphrase)
    try:
        with _one_derivation:
            prk = Argon2id(
                salt=salt, length=KEY_SIZE, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib
            ).derive(secret)
    except MemoryError:
        raise RefusedError(
            f"this machine has no {cost.memory_kib // 1024} MiB of memory to check the passphrase with",
            advice="close other programs and try again",
        ) from None
    return expand(prk, KEK_LABEL), expand(prk, COMMITMENT_LABEL)


def _passphrase_bytes(passphrase: str) -> bytes:
    # One keyboard sends "é" as one code point, another as two: NFC makes them the same passphrase. Not NFKC,
    # which would also merge characters that look different. Spaces at the ends are part of the passphrase.
    encoded = _encoded(unicodedata.normalize("NFC", passphrase))
    if encoded is None:
        raise UsageError("the passphrase is not valid Unicode text")
    if not encoded:
        raise UsageError("the passphrase is empty")
    return encoded


def _encoded(text: str) -> Optional[bytes]:
    # Nothing is raised in the handler: a UnicodeEncodeError has the whole text, and would be kept as context.
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None
