"""Invites: one line that lets one device, client, admin or broker into the cluster, once, within an hour.

An invite carries the addresses and public keys of the cluster's brokers, the one that made it first, and a one-time
CURVE secret key. The brokers keep only the public half, in their list of members, with an expiry and a role that may
only join. So the CURVE handshake itself proves the invite: the secret is never sent, and no broker's disk holds a
usable invite.

    tessera-worker-<base32 of: version(1) ‖ one-time secret(32) ‖ msgpack list of brokers ‖ checksum(4)>

A line stays below 1 KiB: so it names four brokers at most, fewer where their names are long. A broker with several
addresses, as on two networks, is named once for each.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from common.discovery.addresses import BrokerAddress, as_address
from common.errors import ProtocolError, UsageError
from common.membership.identity import KeyPair
from common.protocol.codec import pack, unpack
from common.protocol.identifiers import CURVE_KEY_SIZE
from common.protocol.messages import KnownBroker
from common.protocol.operations import Role

_VERSION = 2
_CHECKSUM_SIZE = 4
_MAX_TEXT = 1024
MAX_NAMED = 4


_Brokers = Annotated[list[KnownBroker], msgspec.Meta(min_length=1, max_length=MAX_NAMED)]


@dataclass(frozen=True)
class Invite:
    role: Role
    brokers: list[BrokerAddress]  # the one that made it first
    one_time: KeyPair = field(repr=False)

    def encode(self) -> str:
        """The line; it names as many of the brokers as there is room for."""
        for count in range(min(len(self.brokers), MAX_NAMED), 0, -1):
            brokers = [KnownBroker(b.host, b.client_port, b.worker_port, b.public_key) for b in self.brokers[:count]]
            content = bytes([_VERSION]) + self.one_time.secret + pack(brokers)
            text = f"tessera-{self.role.value}-{_base32(content + _checksum(self.role, content))}"
            if len(text) <= _MAX_TEXT:
                return text
        raise UsageError("this broker's address is too long for an invite", advice="choose another with --address")


def decode_invite(text: str) -> Invite:
    """Read an invite as a person pasted it; UsageError (which never repeats it) where it has a fault."""
    refusal = UsageError(
        "this invite is not complete or has a typing error",
        advice="paste the whole line that `broker.py invite` printed",
    )
    head, _, written = text.strip().rpartition("-")
    product, _, role_name = head.partition("-")
    if len(text) > _MAX_TEXT or product != "tessera":
        raise refusal
    try:
        role = Role(role_name)
        padding = "=" * (-len(written) % 8)
        content = base64.b32decode(written + padding, casefold=True)
        body, checksum = content[:-_CHECKSUM_SIZE], content[-_CHECKSUM_SIZE:]
        # The last character has bits to spare, which the checksum does not cover.
        if checksum != _checksum(role, body) or body[0] != _VERSION or _base32(content) != written.lower():
            raise refusal
        one_time = KeyPair.from_secret(body[1 : 1 + CURVE_KEY_SIZE])
        named = unpack(body[1 + CURVE_KEY_SIZE :], _Brokers)
    except (ValueError, IndexError, binascii.Error, ProtocolError):
        raise refusal from None
    return Invite(role, [as_address(broker) for broker in named], one_time)


def same_cluster(known: list[BrokerAddress], named: list[BrokerAddress]) -> bool:
    """Whether two lists have a broker in common."""
    return not {broker.public_key for broker in known}.isdisjoint(broker.public_key for broker in named)


def require_same_cluster(known: list[BrokerAddress], named: list[BrokerAddress], what: str, elsewhere: str) -> None:
    """UsageError, which says `what` stands against it, where somebody who knows brokers is invited by none of theirs.

    `elsewhere`: how to be in both clusters.
    """
    if known and not same_cluster(known, named):
        raise UsageError(
            what,
            advice=f"{elsewhere}; if its brokers are lost for good, or it shall leave them, add --new-cluster: "
            "nothing that is kept here is lost by that",
        )


def _base32(content: bytes) -> str:
    return base64.b32encode(content).decode("ascii").rstrip("=").lower()


def _checksum(role: Role, content: bytes) -> bytes:
    return hashlib.sha256(b"tessera/v1/invite" + role.value.encode() + content).digest()[:_CHECKSUM_SIZE]
