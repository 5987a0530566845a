"""What is asked of a worker: by clients through the broker, and by the broker's steward.

Headers and payload lists as in `messages`, which has what all messages are made of, and what is asked of the broker.
"""

from __future__ import annotations

import enum
from typing import Annotated, Optional

import msgspec

from common.errors import ProtocolError
from common.protocol.identifiers import owner_id
from common.protocol.messages import (
    MAX_BATCH,
    MAX_GRANTS,
    Answer,
    Count,
    Digest,
    Identifier,
    Message,
    ObjectId,
    PublicKey,
    Redundancy,
    ReplyHeader,
    Revision,
    Seconds,
    ShareIndex,
    Signature,
)

MAX_GRANTED_MAPPING = 32 * 1024  # bytes of one sealed mapping

# --- asked of a worker by a client


class ShareName(Message):
    encoding_id: Identifier
    share: ShareIndex


class Open(Message):
    encoding_id: Identifier
    share: ShareIndex
    k: Redundancy
    n: Redundancy
    block_size: Annotated[int, msgspec.Meta(ge=1, le=2**22)]
    share_bytes: Count  # expected; 0 where the image's length is not known yet


class Append(Message):
    """Payload: the block."""

    encoding_id: Identifier
    share: ShareIndex
    segment: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    digest: Digest


class Commit(Message):
    """Payload: a packed `SignedCommitment`."""

    encoding_id: Identifier
    share: ShareIndex


class Grant(Message):
    """Another owner who may read an encoding: by this object id, with a mapping that was sealed for that owner."""

    owner: Identifier
    object_id: ObjectId
    mapping: Annotated[bytes, msgspec.Meta(max_length=MAX_GRANTED_MAPPING)]


MAX_TRANSFERS = 16  # of one encoding, from owner to owner


class Transfer(Message):
    """An owner's word that an encoding is the next owner's from then on."""

    owner_key: PublicKey  # whose it was
    signature: Signature  # of `signatures.transfer_statement`


class Commitment(Message):
    """What an owner says of an encoding; it lies behind the blocks of every share."""

    object_id: ObjectId
    owner: Identifier
    recipe: bytes
    mapping: bytes
    nonce: Identifier  # from which, with the first owner's key, the encoding id was made
    transfers: Annotated[list[Transfer], msgspec.Meta(max_length=MAX_TRANSFERS)] = msgspec.field(default_factory=list)
    revision: Revision = 1
    # Of two for one owner the first counts.
    grants: Annotated[list[Grant], msgspec.Meta(max_length=MAX_GRANTS)] = msgspec.field(default_factory=list)
    generation: Count = 0  # how often an owner before took the encoding back


class CommitmentSignature(Message):
    """The signature of a batch, and the way from a commitment in it to what was signed (`coding.commitments`)."""

    key: PublicKey
    signature: Signature  # of `signatures.batch_statement`
    position: Annotated[int, msgspec.Meta(ge=0, lt=2**16)] = 0  # in the batch
    path: Annotated[list[Digest], msgspec.Meta(max_length=16)] = msgspec.field(default_factory=list)


class SignedCommitment(Message):
    commitment: Commitment
    signature: CommitmentSignature

    @property
    def depositor(self) -> Optional[bytes]:
        """The id of who left it for its owner, where that one has not signed it yet."""
        signer = owner_id(self.signature.key)
        return None if signer == self.commitment.owner else signer


class WholeShare(Message):
    """One share of an image of one segment, within a STORE."""

    encoding_id: Identifier
    share: ShareIndex
    k: Redundancy
    n: Redundancy
    block_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**22)]
    commitment_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**22)]


class Store(Message):
    """Payload: for each share its block, then its packed `SignedCommitment`."""

    shares: Annotated[list[WholeShare], msgspec.Meta(max_length=MAX_BATCH)]

    def parts(self, payload: memoryview) -> list[tuple[WholeShare, memoryview, memoryview]]:
        """Each share, its block and its packed commitment; ProtocolError where the payload has another length."""
        if sum(share.block_bytes + share.commitment_bytes for share in self.shares) != payload.nbytes:
            raise ProtocolError("the payload has not the length that the header says")
        parts, offset = [], 0
        for share in self.shares:
            end = offset + share.block_bytes + share.commitment_bytes
            parts.append(
                (share, payload[offset : offset + share.block_bytes], payload[end - share.commitment_bytes : end])
            )
            offset = end
        return parts


class Stored(ReplyHeader):
    shares: list[Answer] = msgspec.field(default_factory=list)  # in the order of the request


class BlockName(Message):
    encoding_id: Identifier
    share: ShareIndex
    segment: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]


class Fetch(Message):
    blocks: Annotated[list[BlockName], msgspec.Meta(max_length=MAX_BATCH)]


class Part(Message):
    """How many bytes of the payload answer one item of the request, or why none do."""

    answer: Answer
    length: Annotated[int, msgspec.Meta(ge=0, le=2**22)] = 0


class Fetched(ReplyHeader):
    """Payload: the blocks one after the other."""

    parts: list[Part] = msgspec.field(default_factory=list)


class Wanted(enum.Enum):
    """What is asked for of what lies beside a share."""

    MAPPING = "mapping"  # the one that was sealed for who asks
    RECIPE = "recipe"  # and that mapping
    COMMITMENT = "commitment"  # a packed SignedCommitment, of an encoding of one's own


class Describe(Message):
    shares: Annotated[list[ShareName], msgspec.Meta(max_length=MAX_BATCH)]
    wanted: Wanted = Wanted.RECIPE


class Described(ReplyHeader):
    """Payload: for each share its mapping, then its recipe where it was asked for; or its commitment."""

    parts: list[tuple[Answer, int, int]] = msgspec.field(default_factory=list)  # lengths of the first and the second


class SegmentRange(Message):
    first: Count
    count: Count


class Progress(ReplyHeader):
    """How far a share has come; payload: a list of SegmentRange, in order, of the blocks that a staged one has."""

    committed: bool = False


class Amend(Message):
    """Asks a worker to replace what lies beside its shares of an encoding; payload: a packed `SignedCommitment`.

    The recipe stays: it must be the one that lies there.
    """

    encoding_id: Identifier


class ListSuperseded(Message):
    """Asks for the commitments of one's own that were replaced, and that a device holds."""

    after: Count  # what the answer before said to go on behind; 0 at first


class HeldFor(Message):
    """A commitment that was replaced, and what holds now at that device."""

    encoding_id: Identifier
    share: ShareIndex
    length: Annotated[int, msgspec.Meta(ge=0, le=2**22)]  # of the packed SignedCommitment in the payload
    age: Seconds  # since it was replaced first
    owner: Identifier  # whose it is now, maybe in the trash
    generation: Count
    revision: Revision
    again: bool  # what holds now says the same


class SupersededList(ReplyHeader):
    """Payload: the packed SignedCommitments, one after the other; of each share the oldest first."""

    parts: list[HeldFor] = msgspec.field(default_factory=list)
    after: Optional[Count] = None  # to go on behind; None: that is all


# --- asked of a worker by the broker's steward


class Inspect(Message):
    """Asks for a share's commitment, and a lease to repair its encoding.

    Reply: Acknowledged, with the packed SignedCommitment; CONFLICT where another broker has the lease.
    """

    encoding_id: Identifier
    share: ShareIndex
    lease: Seconds  # its length; every FETCH of this broker renews it
