"""What makes a commitment its owner's word, and which of two holds.

    leaf       BLAKE3(0x00 ‖ "tessera/v1/commitment" ‖ packed Commitment)
    node       BLAKE3(0x01 ‖ left ‖ right); leaves without a commitment are 32 zero bytes
    signed     "tessera/v1/commitments" ‖ root

A signature is of a batch: the root of a binary hash tree (domain-separated as in RFC 9162, section 2.1.1), padded to a
power of two. Each commitment carries its position and the siblings on its way to the root, so that it proves itself
alone, and many small images cost one signature.

An encoding id is a hash of its first owner's key and a nonce, so no other can make commitments for it. The transfers in
a commitment lead from the first owner to the present one, each signed by whose it was. An owner before can take an
encoding back for as long as devices hold it for them; the generation says how often that was done. Only a *deposit* is
signed by another than its owner: by who left it, the last one before, and only in its first revision.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Optional

import msgspec
from blake3 import blake3

from common.protocol.codec import pack
from common.protocol.device_messages import Commitment, CommitmentSignature, SignedCommitment
from common.protocol.identifiers import DIGEST_SIZE, encoding_id, owner_id
from common.protocol.signatures import batch_statement, is_signed, transfer_statement

_LEAF = b"\0tessera/v1/commitment"
_NODE = b"\1"
_NOTHING = bytes(DIGEST_SIZE)
_REMEMBERED = 1024  # signatures


def leaf_of(commitment: Commitment) -> bytes:
    """The 32-byte digest by which two commitments are the same, whatever batch they were signed in."""
    return blake3(_LEAF + pack(commitment)).digest()


def content_of(commitment: Commitment) -> bytes:
    """A 32-byte digest of what a commitment says, of whichever revision and generation, with whichever recipe."""
    return blake3(pack(msgspec.structs.replace(commitment, recipe=b"", revision=1, generation=0))).digest()


def tree_of(leaves: Sequence[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """The root over one or more leaves, and for each leaf the siblings on its way there."""
    paths: list[list[bytes]] = [[] for _ in leaves]
    level, width = list(leaves), 1
    while len(level) > 1:
        if len(level) % 2:
            level.append(_NOTHING)
        for position, path in enumerate(paths):
            path.append(level[position // width ^ 1])
        level = [_node(left, right) for left, right in zip(level[::2], level[1::2])]
        width *= 2
    return level[0], paths


def _way(leaf: bytes, position: int, path: Sequence[bytes]) -> list[bytes]:
    """The nodes from a leaf to the root, with both."""
    nodes = [leaf]
    for height, sibling in enumerate(path):
        nodes.append(_node(sibling, nodes[-1]) if position >> height & 1 else _node(nodes[-1], sibling))
    return nodes


def _node(left: bytes, right: bytes) -> bytes:
    return blake3(_NODE + left + right).digest()


class _KnownTree:
    """What is known of the tree under a good signature, so that of commitments of one batch few hashes are made."""

    def __init__(self, key: bytes, signature: bytes, height: int) -> None:
        self.name = key, signature, height
        self._known: dict[tuple[int, int], tuple[bytes, list[bytes]]] = {}  # height, place in it → node, path from it

    def add(self, signature: CommitmentSignature, way: Sequence[bytes]) -> None:
        """Add the nodes on a way that leads to the signed root, or to a node that is known, and those beside them."""
        position, path = signature.position, signature.path
        for height, node in enumerate(way):
            self._known[height, position >> height] = node, path[height:]
            if height + 1 < len(way):
                self._known[height, position >> height ^ 1] = path[height], [node, *path[height + 1 :]]

    def has(self, signature: CommitmentSignature, leaf: bytes) -> bool:
        """Whether a leaf is under the signature, by the very path that it says; adds what is news."""
        if _name(signature) != self.name:
            return False
        position, path, way = signature.position, signature.path, [leaf]
        for height, sibling in enumerate(path):
            if (height, position >> height) in self._known:
                break
            way.append(_node(sibling, way[-1]) if position >> height & 1 else _node(way[-1], sibling))
        joined = len(way) - 1
        if self._known.get((joined, position >> joined)) != (way[-1], path[joined:]):
            return False
        if joined:
            self.add(signature, way)
        return True


def _name(signature: CommitmentSignature) -> tuple[bytes, bytes, int]:
    """What commitments of one batch have alike."""
    return signature.key, signature.signature, len(signature.path)


class CommitmentVerifier:
    """Checks commitments, and remembers the signatures that it found good, and the tree under the last one."""

    def __init__(self) -> None:
        self._good: OrderedDict[tuple[bytes, bytes, bytes], None] = OrderedDict()  # key, signature, statement
        self._tree = _KnownTree(b"", b"", 0)
        self._signer = b"", b""  # the last one's key, and its id

    def fault(self, signed: SignedCommitment, wanted_id: bytes) -> Optional[str]:
        """Why this is no word of the owner's about the encoding with this id; None where it is."""
        commitment, signature = signed.commitment, signed.signature
        keys = [transfer.owner_key for transfer in commitment.transfers]
        if encoding_id(keys[0] if keys else signature.key, commitment.nonce) != wanted_id:
            return "the commitment is of another encoding"
        if keys:
            owners = [owner_id(key) for key in keys[1:]] + [commitment.owner]
            for transfer, owner in zip(commitment.transfers, owners):
                if not self._is_signed(transfer.owner_key, transfer.signature, transfer_statement(wanted_id, owner)):
                    return "an owner before did not sign that it is the next one's"
        if signature.key != self._signer[0]:
            self._signer = signature.key, owner_id(signature.key)
        is_deposit = self._signer[1] != commitment.owner
        if is_deposit and (keys[-1:] != [signature.key] or commitment.revision != 1):
            return "it is signed by another than its owner"
        leaf = leaf_of(commitment)
        if self._tree.has(signature, leaf):
            return None
        way = _way(leaf, signature.position, signature.path)
        if not self._is_signed(signature.key, signature.signature, batch_statement(way[-1])):
            return "its owner did not sign it"
        if self._tree.name != _name(signature):
            self._tree = _KnownTree(*_name(signature))
        self._tree.add(signature, way)
        return None

    def _is_signed(self, key: bytes, signature: bytes, statement: bytes) -> bool:
        name = (key, signature, statement)
        if name in self._good:
            self._good.move_to_end(name)
            return True
        if not is_signed(key, signature, statement):
            return False
        self._good[name] = None
        if len(self._good) > _REMEMBERED:
            self._good.popitem(last=False)
        return True


def rank(commitment: Commitment) -> tuple[int, int, int]:
    """By which of two commitments for one encoding, both signed, the higher one holds.

    First who took it back last, then who has it by more transfers: what an owner before says later does not count any
    more.
    """
    return commitment.generation, len(commitment.transfers), commitment.revision


def supersedes(new: Commitment, old: Commitment) -> bool:
    """Whether a commitment takes the place of another for the same encoding, both signed.

    It ranks higher, and whose the old one is did give it away, or has it still. Of two that rank alike, as of machines
    that amend at once, neither does: each device keeps what came first, so that at most one has most devices.
    """
    line, before = owners_of(new), owners_of(old)
    return line[: len(before)] == before and rank(new) > rank(old)


def takes_back(new: Commitment, old: Commitment) -> bool:
    """Whether an owner before takes an encoding back from whose the old commitment is, both signed.

    Devices let them only as long as they hold what that owner signed before it was given away (decision 32).
    """
    return new.generation > old.generation and not supersedes(new, old)


def owners_of(commitment: Commitment) -> list[bytes]:
    """Its owners in turn."""
    return [owner_id(transfer.owner_key) for transfer in commitment.transfers] + [commitment.owner]
