"""What goes to approvers and back: read as it was written, or refused."""

from __future__ import annotations

from typing import Callable

import pytest

from admin.approval_files import (
    MAX_APPROVAL,
    EmptyingRequest,
    decode_approval,
    decode_request,
    encode_approval,
    encode_request,
)
from admin.approving import require_approved
from common.errors import IntegrityError, RefusedError
from common.protocol.messages import MAX_EMPTIED, DeletionName
from common.vault.keys import VaultKey
from tests.support.approving import ANNA, BOB, named_by

KEY = VaultKey(b"k" * 32)
NAMED = named_by(KEY, ANNA, BOB)


def request_of(deletions: int) -> EmptyingRequest:
    names = [DeletionName(number.to_bytes(16, "big"), 1) for number in range(deletions)]
    return EmptyingRequest(NAMED, names, deletions, 3600, 1_800_000_000)


@pytest.mark.parametrize("deletions", [1, MAX_EMPTIED, MAX_EMPTIED + 1, 3 * MAX_EMPTIED])
def test_what_is_signed_from_the_file_approves_every_part(deletions: int) -> None:
    request = request_of(deletions)
    read = decode_request(encode_request(request))
    assert read == request
    signed = [decode_approval(encode_approval(each.approval(read.named, read.digests))) for each in (ANNA, BOB)]
    assert sum(len(part.deletions) for part in read.parts) == deletions
    require_approved(request, signed)
    with pytest.raises(RefusedError, match="1 approvers signed"):
        require_approved(request, signed[:1])
    with pytest.raises(RefusedError):
        require_approved(request_of(deletions + 1), signed)


@pytest.mark.parametrize("read", [decode_request, decode_approval])
def test_every_changed_byte_and_each_of_the_other_kind_is_refused(read: Callable[[bytes], object]) -> None:
    files = encode_request(request_of(2)), encode_approval(ANNA.approval(NAMED, [bytes(32)]))
    own, other = files if read is decode_request else files[::-1]
    for at in range(len(own)):
        changed = bytearray(own)
        changed[at] ^= 1
        with pytest.raises(IntegrityError):
            read(bytes(changed))
    for content in (b"", own[:-1], own + b"\0", other, bytes(MAX_APPROVAL + 1)):
        with pytest.raises(IntegrityError):
            read(content)
