"""Approvers, and what they sign."""

from __future__ import annotations

from collections.abc import Sequence

from common.protocol.approvals import part_digest
from common.protocol.messages import ApproverList, DeletionName, EmptiedPart, EmptyTrash, Tombstone
from common.vault.keys import VaultKey

ANNA, BOB, CARL = (VaultKey(bytes([number]) * 32) for number in (51, 52, 53))


def named_by(owner: VaultKey, *approvers: VaultKey, generation: int = 1, needed: int = 2) -> ApproverList:
    return owner.approver_list(generation, [each.owner_key() for each in approvers], needed)


def part_of(*deletions: Tombstone) -> EmptiedPart:
    """All that is to be emptied, in one part."""
    names = [DeletionName(each.encoding_id, each.generation) for each in deletions]
    return EmptiedPart([part_digest(names)], names)


def approved(named: ApproverList, part: EmptiedPart, signers: Sequence[VaultKey]) -> EmptyTrash:
    return EmptyTrash([signer.approval(named, part.parts) for signer in signers])
