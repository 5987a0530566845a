"""Invites: one line that lets one device or one client into the cluster, once, within an hour.

An invite carries the broker's addresses and public key, and a one-time CURVE secret key. The broker keeps only the
public half, in its list of members, with a role that may do nothing but join and with an end. So the joiner proves the
invite by the CURVE handshake itself, nothing that proves it ever travels, and the broker's disk holds no usable invite.

    tessera-worker-<base32 of: version(1) ‖ one-time secret(32) ‖ broker public key(32) ‖ msgpack address ‖ checksum(4)>
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
from dataclasses import dataclass, field

import msgspec

from common.errors import ProtocolError, UsageError
from common.identity import KEY_SIZE, KeyPair
from common.protocol.codec import pack, unpack

_VERSION = 1
_CHECKSUM_SIZE = 4
_MAX_TEXT = 1024
INVITE_LIFETIME = 3600  # seconds


class Role(enum.Enum):
    WORKER = "worker"
    CLIENT = "client"


class BrokerAddress(msgspec.Struct, frozen=True):
    """Where a broker is and how to know it: host name or address, its two ports, its CURVE public key (32 bytes)."""

    host: str
    client_port: int
    worker_port: int
    public_key: bytes

    def endpoint(self, role: Role) -> str:
        port = self.worker_port if role is Role.WORKER else self.client_port
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{port}"


class _Place(msgspec.Struct, array_like=True):
    host: str
    client_port: int
    worker_port: int


@dataclass(frozen=True)
class Invite:
    role: Role
    broker: BrokerAddress
    one_time: KeyPair = field(repr=False)

    def encode(self) -> str:
        broker = self.broker
        place = pack(_Place(broker.host, broker.client_port, broker.worker_port))
        content = bytes([_VERSION]) + self.one_time.secret + broker.public_key + place
        return f"tessera-{self.role.value}-{_base32(content + _checksum(self.role, content))}"


def decode_invite(text: str) -> Invite:
    """Read an invite as a person pasted it; UsageError (which never repeats it) where it has a fault."""
    refusal = UsageError(
        "this invite is not complete or has a typing error",
        advice="paste the whole line that `broker.py invite` printed",
    )
    parts = text.strip().split("-")
    if len(text) > _MAX_TEXT or len(parts) != 3 or parts[0] != "tessera":
        raise refusal
    try:
        role = Role(parts[1])
        padding = "=" * (-len(parts[2]) % 8)
        content = base64.b32decode(parts[2] + padding, casefold=True)
        body, checksum = content[:-_CHECKSUM_SIZE], content[-_CHECKSUM_SIZE:]
        # The last character has bits to spare, which the checksum does not cover.
        if checksum != _checksum(role, body) or body[0] != _VERSION or _base32(content) != parts[2].lower():
            raise refusal
        place = unpack(body[1 + 2 * KEY_SIZE :], _Place)
        one_time = KeyPair.from_secret(body[1 : 1 + KEY_SIZE])
        public_key = body[1 + KEY_SIZE : 1 + 2 * KEY_SIZE]
    except (ValueError, IndexError, binascii.Error, ProtocolError):
        raise refusal from None
    return Invite(role, BrokerAddress(place.host, place.client_port, place.worker_port, public_key), one_time)


def _base32(content: bytes) -> str:
    return base64.b32encode(content).decode("ascii").rstrip("=").lower()


def _checksum(role: Role, content: bytes) -> bytes:
    return hashlib.sha256(b"tessera/v1/invite" + role.value.encode() + content).digest()[:_CHECKSUM_SIZE]
