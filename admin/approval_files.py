"""The files by which an owner asks approvers to have a trash emptied early, and approvers answer. Bytes only.

    request     array of 7: "tessera-emptying", 1, list of approvers (`messages.ApproverList`), deletions (list of
                [encoding id, generation]), how many images these are, seconds since the oldest, made (Unix seconds)
    approval    array of 3: "tessera-approval", 1, [approver's owner key, signature]

Either is msgpack, and behind it 32 bytes, BLAKE3-256 of it. What a request says of images and times is the owner's
word; signed are the deletions (`protocol.approvals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypeVar

import msgspec
from blake3 import blake3

from common.chunks import chunks
from common.errors import IntegrityError, ProtocolError
from common.protocol.approvals import fault_of_list, part_digest
from common.protocol.codec import pack, unpack
from common.protocol.messages import (
    MAX_EMPTIED,
    MAX_EMPTIED_PARTS,
    Approval,
    ApproverList,
    Count,
    DeletionName,
    EmptiedPart,
    Message,
    Seconds,
)

MAX_DELETIONS = MAX_EMPTIED * MAX_EMPTIED_PARTS
MAX_REQUEST = 32 * MAX_DELETIONS  # bytes of a file
MAX_APPROVAL = 1024
_VERSION = 1
_EMPTYING, _APPROVAL = "tessera-emptying", "tessera-approval"
_DIGEST_SIZE = 32


class _File(Message):
    magic: Annotated[str, msgspec.Meta(max_length=32)]
    version: int


class _RequestFile(_File):
    named: ApproverList
    deletions: Annotated[list[DeletionName], msgspec.Meta(max_length=MAX_DELETIONS)]
    images: Count
    oldest: Seconds
    made: Seconds


class _ApprovalFile(_File):
    approval: Approval


F = TypeVar("F", bound=_File)


class EmptyingRequest(NamedTuple):
    """What an owner asks the approvers of a list for."""

    named: ApproverList
    deletions: Sequence[DeletionName]
    images: int
    oldest: int  # seconds since the first of the deletions
    made: int  # Unix seconds

    @property
    def parts(self) -> list[EmptiedPart]:
        """What is sent to devices, piece by piece."""
        pieces = list(chunks(self.deletions, MAX_EMPTIED))
        digests = [part_digest(piece) for piece in pieces]
        return [EmptiedPart(digests, list(piece)) for piece in pieces]

    @property
    def digests(self) -> list[bytes]:
        """What approvers sign."""
        return [part_digest(piece) for piece in chunks(self.deletions, MAX_EMPTIED)]


def encode_request(request: EmptyingRequest) -> bytes:
    named, deletions, *rest = request
    return _encode(_RequestFile(_EMPTYING, _VERSION, named, list(deletions), *rest))


def decode_request(content: bytes) -> EmptyingRequest:
    """Read a request; IntegrityError where it is damaged, none, or names approvers that its owner did not sign."""
    file = _decode(content, _RequestFile, _EMPTYING, MAX_REQUEST)
    fault = fault_of_list(file.named)
    if fault is not None:
        raise IntegrityError(f"the request's list of approvers is not to be believed: {fault}")
    return EmptyingRequest(file.named, file.deletions, file.images, file.oldest, file.made)


def encode_approval(approval: Approval) -> bytes:
    return _encode(_ApprovalFile(_APPROVAL, _VERSION, approval))


def decode_approval(content: bytes) -> Approval:
    """Read an approval; IntegrityError where it is damaged or none."""
    return _decode(content, _ApprovalFile, _APPROVAL, MAX_APPROVAL).approval


def _encode(file: _File) -> bytes:
    body = pack(file)
    return body + blake3(body).digest()


def _decode(content: bytes, shape: type[F], magic: str, limit: int) -> F:
    what = "request to empty a trash" if shape is _RequestFile else "approval"
    body, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
    if len(content) > limit or digest != blake3(body).digest():
        raise IntegrityError(f"this is no {what}, or it is damaged")
    try:
        file = unpack(body, shape, limit=limit)
    except ProtocolError:
        raise IntegrityError(f"this is no {what} of a version that is known here") from None
    if (file.magic, file.version) != (magic, _VERSION):
        raise IntegrityError(f"this is no {what} of a version that is known here")
    return file
