"""What is asked of a worker: by clients through the broker, and by the broker's steward.

Headers and payload lists as in `messages`, which has what all messages are made of, and what is asked of the broker.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

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
    """Payload: a packed `Commitment`."""

    encoding_id: Identifier
    share: ShareIndex


class Grant(Message):
    """Another owner who may read an encoding: by this object id, with a mapping that was sealed for that owner."""

    owner: Identifier
    object_id: ObjectId
    mapping: Annotated[bytes, msgspec.Meta(max_length=MAX_GRANTED_MAPPING)]


class Commitment(Message):
    """What is written behind the blocks when a share is committed; an AMEND puts one of a higher revision in place."""

    object_id: ObjectId
    recipe: bytes
    mapping: bytes
    revision: Revision = 1
    # Of two for one owner the first counts.
    grants: Annotated[list[Grant], msgspec.Meta(max_length=MAX_GRANTS)] = msgspec.field(default_factory=list)


class WholeShare(Message):
    """One share of an image of one segment, within a STORE."""

    encoding_id: Identifier
    share: ShareIndex
    k: Redundancy
    n: Redundancy
    block_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**22)]
    commitment_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**22)]


class Store(Message):
    """Payload: for each share its block, then its packed `Commitment`."""

    shares: Annotated[list[WholeShare], msgspec.Meta(max_length=MAX_BATCH)]


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


class Describe(Message):
    shares: Annotated[list[ShareName], msgspec.Meta(max_length=MAX_BATCH)]
    with_recipe: bool = True


class Described(ReplyHeader):
    """Payload: for each share its mapping, then its recipe where it was asked for."""

    parts: list[tuple[Answer, int, int]] = msgspec.field(default_factory=list)  # lengths of mapping and recipe


class SegmentRange(Message):
    first: Count
    count: Count


class Progress(ReplyHeader):
    """How far a share has come; payload: a list of SegmentRange, in order, of the blocks that a staged one has."""

    committed: bool = False


class Amend(Message):
    """Asks a worker to replace what lies beside its shares of an encoding; payload: a packed `Commitment`.

    Its owner is the session's from then on. The recipe stays: it must be the one that lies there.
    """

    encoding_id: Identifier
    revision: Revision  # the commitment's: higher than the one that lies there
    owner_key: PublicKey  # of whom it was before
    signature: Signature  # theirs, of `signatures.amendment_statement`


# --- asked of a worker by the broker's steward


class Inspect(Message):
    """Asks for a share's commitment, and a lease to repair its encoding.

    Reply: Acknowledged, with the packed Commitment; CONFLICT where another broker has the lease.
    """

    encoding_id: Identifier
    share: ShareIndex
    lease: Seconds  # its length; every FETCH of this broker renews it
