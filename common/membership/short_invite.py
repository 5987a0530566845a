"""The short form of an invite: 48 characters to be typed by hand on a machine of the same LAN.

It names no address and no key of the broker, which the joiner finds by mDNS (`common.discovery`), but what that key
must satisfy. Both forms of one invite have the same one-time key, so they are the same member of the broker's list.

    base32 (RFC 4648), in groups of four, of:
    version and role(1) ‖ seed(16) ‖ check of the broker's key(10) ‖ checksum(3)

    one-time secret = HKDF-SHA256(seed, info = "tessera/v1/short-invite/secret" ‖ broker's public key), 32 bytes
    check           = HKDF-SHA256(seed, info = "tessera/v1/short-invite/broker" ‖ broker's public key), 10 bytes
    checksum        = first 3 bytes of SHA-256("tessera/v1/short-invite" ‖ all before)

The check needs the seed: without it nobody can search for a key that satisfies it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from common.errors import UsageError
from common.membership.identity import KeyPair
from common.process.libraries import require_openssl
from common.protocol.identifiers import CURVE_KEY_SIZE
from common.protocol.operations import Role

SEED_SIZE = 16
_VERSION = 1
_CHECK_SIZE = 10
_CHECKSUM_SIZE = 3
_SIZE = 1 + SEED_SIZE + _CHECK_SIZE + _CHECKSUM_SIZE
_CHARACTERS = 48
_MAX_TYPED = 200  # characters, blanks and dashes included
_GROUP = 4
_ROLES = (Role.WORKER, Role.CLIENT, Role.ADMIN, Role.BROKER, Role.ADD_ONLY)  # by number, from 1
_MISREAD = str.maketrans({"0": "O", "1": "I", "8": "B", "-": "", " ": "", "\t": "", "\r": "", "\n": ""})


@dataclass(frozen=True)
class ShortInvite:
    """`seed`: the secret of it; `check`: what the broker's public key must satisfy."""

    role: Role
    seed: bytes = field(repr=False)
    check: bytes

    @classmethod
    def generate(cls, role: Role, broker_key: bytes) -> ShortInvite:
        """A new one, of the broker with this public key (32 bytes)."""
        seed = secrets.token_bytes(SEED_SIZE)
        return cls(role, seed, _derived(seed, b"broker", broker_key, _CHECK_SIZE))

    def is_of(self, broker_key: bytes) -> bool:
        """Whether it was made by the broker with this public key."""
        return hmac.compare_digest(_derived(self.seed, b"broker", broker_key, _CHECK_SIZE), self.check)

    def one_time(self, broker_key: bytes) -> KeyPair:
        """The key pair that the broker admits, once."""
        return KeyPair.from_secret(_derived(self.seed, b"secret", broker_key, CURVE_KEY_SIZE))

    def encode(self) -> str:
        """As it is typed: twelve groups of four characters."""
        body = bytes([_VERSION << 4 | _ROLES.index(self.role) + 1]) + self.seed + self.check
        text = base64.b32encode(body + _checksum(body)).decode("ascii")
        return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def decode_short_invite(text: str) -> ShortInvite:
    """Read a code as a person typed it, in any groups; UsageError (which never repeats it) where it has a fault."""
    typed = text.translate(_MISREAD).upper().translate(_MISREAD) if len(text) <= _MAX_TYPED else ""
    refusal = UsageError(
        f"this is no invite: {_fault(typed)}",
        advice="compare it with what `broker.py invite` printed: its whole line, or the code of 12 groups below it",
    )
    if len(typed) != _CHARACTERS:
        raise refusal
    try:
        content = base64.b32decode(typed)
    except (ValueError, binascii.Error):
        raise refusal from None
    body, checksum = content[:-_CHECKSUM_SIZE], content[-_CHECKSUM_SIZE:]
    number = (body[0] & 0x0F) - 1
    if checksum != _checksum(body) or body[0] >> 4 != _VERSION or not 0 <= number < len(_ROLES):
        raise refusal
    return ShortInvite(_ROLES[number], body[1 : 1 + SEED_SIZE], body[1 + SEED_SIZE :])


def _fault(typed: str) -> str:
    if len(typed) != _CHARACTERS:
        return f"a code has {_CHARACTERS} characters, this one {len(typed)}" if typed else "nothing that could be one"
    return "it has a typing error"


def _derived(seed: bytes, purpose: bytes, broker_key: bytes, size: int) -> bytes:
    require_openssl()
    # Here, since broker and worker have no other use for it, and start sooner without.
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = b"tessera/v1/short-invite/" + purpose + broker_key
    return HKDF(algorithm=SHA256(), length=size, salt=None, info=info).derive(seed)


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(b"tessera/v1/short-invite" + body).digest()[:_CHECKSUM_SIZE]
