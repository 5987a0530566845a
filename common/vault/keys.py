"""The vault key and what is derived from it.

    vault key (256 random bits)
    ├── tessera/v1/id        object id = HMAC(id key, image SHA-256): no device can test a guess
    │   └── tessera/v1/snapshot  object id of a snapshot, and what tells it from others (of `lookup` likewise)
    ├── tessera/v1/mapping   seals mappings (`common.vault.mapping`)
    ├── tessera/v1/sign      the Ed25519 key by which the owner signs; the owner id is its public half's hash
    ├── tessera/v1/index     seals the client's own index of files already seen
    ├── tessera/v1/journal   names and seals the client's own journals of puts that are not finished
    ├── tessera/v1/contact   the X25519 key by which others seal mappings to this vault
    ├── tessera/v1/lookup    object id of what others share: HMAC(lookup key, image SHA-256); on the contact card
    ├── tessera/v1/contacts  seals this machine's list of contact cards
    └── tessera/v1/former    seals the former vault key

Each branch is HKDF-Expand with SHA-256 (RFC 5869, section 2.3). The extract step is left out, as section 3.3
allows: the vault key is uniformly random already. HMAC is RFC 2104 with SHA-256.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from typing import NoReturn, Optional, SupportsIndex, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.coding.commitments import leaf_of, tree_of
from common.errors import TesseraError
from common.protocol.approvals import statement
from common.protocol.device_messages import Commitment, CommitmentSignature, SignedCommitment, Transfer
from common.protocol.identifiers import DIGEST_SIZE, IDENTIFIER_SIZE, OBJECT_ID_SIZE, owner_id
from common.protocol.messages import Approval, ApproverList, OwnerProof, Tombstone
from common.protocol.signatures import (
    approvers_statement,
    batch_statement,
    client_statement,
    tombstone_statement,
    transfer_statement,
)

KEY_SIZE = 32
_SNAPSHOT = b"tessera/v1/snapshot"
_PRUNE = b"tessera/v1/prune"

K = TypeVar("K", bound="HiddenKey")


class HiddenKey:
    """A 256-bit key: hidden in repr and str, never pickled, compared in constant time.

    TesseraError where `raw` is not 32 bytes.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        require_size("a key", raw, KEY_SIZE)
        self._raw = bytes(raw)

    @classmethod
    def generate(cls: type[K]) -> K:
        """A new key from the operating system's random source."""
        return cls(secrets.token_bytes(KEY_SIZE))

    def reveal(self) -> bytes:
        """The key's 32 bytes, for what must encrypt with them or wrap them; never for a message or a log."""
        return self._raw

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: hidden>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HiddenKey) or type(other) is not type(self):
            return NotImplemented
        return bytes_eq(self._raw, other._raw)

    # A hash would show whether two keys are equal, and dictionaries compare by it; so keys have none.
    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TesseraError(f"a {type(self).__name__} is neither pickled nor copied")


class SigningKey(HiddenKey):
    """An Ed25519 key (RFC 8032): an owner's, or of who leaves images for one."""

    __slots__ = ("_private", "owner", "public")

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._private = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)  # 32 bytes
        self.owner = owner_id(self.public)  # 16 bytes

    def sign(self, statement: bytes) -> bytes:
        """The signature, 64 bytes, of one of the statements in `protocol.signatures`."""
        return self._private.sign(statement)

    def proof(self, client_key: bytes) -> OwnerProof:
        """What proves to brokers that the client with this CURVE public key (32 bytes) may speak for the owner."""
        require_size("a client's public key", client_key, KEY_SIZE)
        return OwnerProof(self.public, self.sign(client_statement(client_key)))

    def transfer(self, encoding_id: bytes, new_owner: bytes) -> Transfer:
        """This owner's word that an encoding is another's from now on, whose id has 16 bytes."""
        return Transfer(self.public, self.sign(transfer_statement(encoding_id, new_owner)))

    def commit(self, batch: Sequence[Commitment]) -> list[SignedCommitment]:
        """Sign one or more commitments with one signature (`coding.commitments`)."""
        root, paths = tree_of([leaf_of(commitment) for commitment in batch])
        signature = self.sign(batch_statement(root))
        return [
            SignedCommitment(commitment, CommitmentSignature(self.public, signature, position, path))
            for position, (commitment, path) in enumerate(zip(batch, paths))
        ]


class VaultKey(HiddenKey):
    """The 256-bit key that opens one owner's mappings."""

    __slots__ = ("_signing", "_snapshot_keys", "_subkeys")

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._subkeys: dict[bytes, bytes] = {}  # derived before; many images ask for the same
        self._signing: Optional[SigningKey] = None
        self._snapshot_keys: Optional[list[bytes]] = None  # derived before

    def object_id(self, image_sha256: bytes) -> bytes:
        """The 32-byte name under which devices know the image with this SHA-256 (32 bytes)."""
        return object_id_by(self._subkey(b"id"), image_sha256)

    def snapshot_object_id(self, sha256: bytes) -> bytes:
        """The 32-byte name under which devices know the snapshot with this SHA-256 (32 bytes)."""
        return snapshot_id_by(self._subkey(b"id"), sha256)

    def is_snapshot(self, object_id: bytes) -> bool:
        """Whether an object id (32 bytes) is a snapshot's: this vault's own, or shared with it."""
        require_size("an object id", object_id, OBJECT_ID_SIZE)
        half, code = object_id[:IDENTIFIER_SIZE], object_id[IDENTIFIER_SIZE:]
        if self._snapshot_keys is None:
            self._snapshot_keys = [expand(key, _SNAPSHOT) for key in (self._subkey(b"id"), self.lookup_key())]
        return any(bytes_eq(_hmac(key, half)[:IDENTIFIER_SIZE], code) for key in self._snapshot_keys)

    def prune_object_id(self) -> bytes:
        """The 32-byte name of what prunes are about to delete: one for all, so that one question finds it."""
        return _hmac(self._subkey(b"id"), _PRUNE)  # shorter than a SHA-256: no image's

    def signing_key(self) -> SigningKey:
        """The key by which the owner signs."""
        if self._signing is None:
            self._signing = SigningKey(self._subkey(b"sign"))
        return self._signing

    def owner_key(self) -> bytes:
        """The public half, 32 bytes, of the key by which the owner signs."""
        return self.signing_key().public

    def owner_id(self) -> bytes:
        """The 16 bytes by which brokers and devices know the vault."""
        return self.signing_key().owner

    def owner_proof(self, client_key: bytes) -> OwnerProof:
        """What proves to brokers that the client with this CURVE public key (32 bytes) may speak for the vault."""
        return self.signing_key().proof(client_key)

    def tombstone(self, object_id: bytes, encoding_id: bytes, generation: int, trash_seconds: int = 0) -> Tombstone:
        """This owner's word that an encoding is deleted (odd generation), or is so no more."""
        require_ids(object_id, encoding_id)
        statement = tombstone_statement(encoding_id, object_id, generation, trash_seconds)
        signature = self.signing_key().sign(statement)
        return Tombstone(encoding_id, object_id, self.owner_key(), generation, trash_seconds, signature)

    def approver_list(self, generation: int, approvers: Sequence[bytes], needed: int) -> ApproverList:
        """This owner's word on whose approval it wants, by their owner keys (32 bytes), and of how many of them."""
        named = sorted(approvers)
        signature = self.signing_key().sign(approvers_statement(generation, needed, named))
        return ApproverList(self.owner_key(), generation, named, needed, signature)

    def approval(self, named: ApproverList, parts: Sequence[bytes]) -> Approval:
        """This owner's word, as an approver, that deletions whose parts have these digests are emptied early."""
        return Approval(self.owner_key(), self.signing_key().sign(statement(named, parts)))

    def mapping_subkey(self) -> bytes:
        """The 32-byte key from which each mapping's one-time key is derived."""
        return self._subkey(b"mapping")

    def index_subkey(self) -> bytes:
        """The 32-byte key of the client's local index of files already seen."""
        return self._subkey(b"index")

    def journal_subkey(self) -> bytes:
        """The 32-byte key of this machine's journals of puts."""
        return self._subkey(b"journal")

    def contact_private_key(self) -> X25519PrivateKey:
        """The key that opens the mappings that others sealed to this vault's contact card."""
        return X25519PrivateKey.from_private_bytes(self._subkey(b"contact"))

    def lookup_key(self) -> bytes:
        """32 bytes on the contact card, by which others name what they share with this vault."""
        return self._subkey(b"lookup")

    def granted_object_id(self, image_sha256: bytes) -> bytes:
        """The 32-byte name under which an image is found that others share with this vault, or left for it."""
        return object_id_by(self.lookup_key(), image_sha256)

    def granted_snapshot_object_id(self, sha256: bytes) -> bytes:
        """The same for a snapshot."""
        return snapshot_id_by(self.lookup_key(), sha256)

    def contacts_subkey(self) -> bytes:
        """The 32-byte key of this machine's list of contacts."""
        return self._subkey(b"contacts")

    def former_subkey(self) -> bytes:
        """The 32-byte key that seals the former vault key, during a rotation."""
        return self._subkey(b"former")

    def _subkey(self, name: bytes) -> bytes:
        subkey = self._subkeys.get(name)
        if subkey is None:
            subkey = self._subkeys[name] = expand(self._raw, b"tessera/v1/" + name)
        return subkey


def object_id_by(key: bytes, image_sha256: bytes) -> bytes:
    """HMAC-SHA256 of the image's SHA-256 (32 bytes) under an id key, or a card's lookup key, of 32 bytes."""
    require_size("an id key", key, KEY_SIZE)
    require_size("an image's SHA-256", image_sha256, DIGEST_SIZE)
    return _hmac(key, image_sha256)


def snapshot_id_by(key: bytes, sha256: bytes) -> bytes:
    """The object id of a snapshot, under an id key or a card's lookup key: to all others as random as any.

    Its second half is a code of the first, by which whoever has the key knows it for a snapshot without its mapping.
    """
    key = expand(key, _SNAPSHOT)
    half = object_id_by(key, sha256)[:IDENTIFIER_SIZE]
    return half + _hmac(key, half)[:IDENTIFIER_SIZE]


def expand(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869, section 2.3): 32 bytes from a uniformly random 32-byte key."""
    return _hmac(key, info + b"\1")  # the first block of the output is all of it


def require_size(what: str, value: bytes, size: int) -> None:
    """TesseraError unless `value` has `size` bytes: what is concatenated under one HMAC must have fixed widths."""
    if len(value) != size:
        raise TesseraError(f"{what} has {size} bytes, not {len(value)}")


def require_ids(object_id: bytes, encoding_id: bytes) -> None:
    """TesseraError unless the object id has 32 bytes and the encoding id 16."""
    require_size("an object id", object_id, OBJECT_ID_SIZE)
    require_size("an encoding id", encoding_id, IDENTIFIER_SIZE)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
