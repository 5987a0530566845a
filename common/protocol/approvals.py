"""The two-person rule: whom an owner names as approvers, and whether enough of them approved that a trash is emptied.

    part's digest    BLAKE3-256 of its deletions: encoding id (16) ‖ generation (4), one behind the other
    deletions        BLAKE3-256 of the digests of all parts, one behind the other
    list's digest    BLAKE3-256 of owner key (32) ‖ what the owner signed

An approval counts for one list of one owner and for these deletions, each of one generation: what was taken back since,
or deleted again, is none of them. Values only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Optional

from blake3 import blake3

from common.protocol.messages import Approval, ApproverList, DeletionName, EmptiedPart
from common.protocol.signatures import approvers_statement, emptying_statement, is_signed

LEAST_NEEDED = 2  # one person alone approves nothing
_GENERATION = struct.Struct(">I")


def fault_of_list(named: ApproverList) -> Optional[str]:
    """What is wrong with a list of approvers, its signature included; None where it is good."""
    approvers = named.approvers
    if approvers != sorted(set(approvers)):
        return "approvers are named in order, and none twice"
    if named.owner_key in approvers:
        return "nobody approves what they ask for themselves"
    if (named.needed, approvers) != (0, []) and not LEAST_NEEDED <= named.needed <= len(approvers):
        return f"at least {LEAST_NEEDED} of the approvers have to sign, and at most all"
    if not is_signed(named.owner_key, named.signature, _said(named)):
        return "its owner did not sign this list"
    return None


def says_the_same(one: ApproverList, other: ApproverList) -> bool:
    """Whether two lists name the same approvers, and as many of them have to sign."""
    return (one.approvers, one.needed) == (other.approvers, other.needed)


def part_digest(deletions: Sequence[DeletionName]) -> bytes:
    content = b"".join(each.encoding_id + _GENERATION.pack(each.generation) for each in deletions)
    return blake3(content).digest()


def statement(named: ApproverList, parts: Sequence[bytes]) -> bytes:
    """What an approver signs for deletions of which the parts have these digests."""
    list_digest = blake3(named.owner_key + _said(named)).digest()
    return emptying_statement(list_digest, blake3(b"".join(parts)).digest())


def fault_of_approval(named: ApproverList, part: EmptiedPart, approvals: Sequence[Approval]) -> Optional[str]:
    """Why a part of what is to be emptied is not approved by those whom the list in effect names; None where it is."""
    if part_digest(part.deletions) not in part.parts:
        return "these deletions are not among those that were approved"
    signers = [approval.approver for approval in approvals]
    if len(set(signers)) < len(signers):
        return "an approver signed twice"
    said = statement(named, part.parts)
    for approval in approvals:
        if approval.approver not in named.approvers:
            return "who signed this is none of the approvers in effect"
        if not is_signed(approval.approver, approval.signature, said):
            return "an approver's signature is of something else"
    if not named.needed or len(signers) < named.needed:
        return f"{len(signers)} approvers signed, and {max(named.needed, LEAST_NEEDED)} have to"
    return None


def _said(named: ApproverList) -> bytes:
    return approvers_statement(named.generation, named.needed, named.approvers)
