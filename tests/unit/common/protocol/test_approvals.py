"""Who approves that a trash is emptied early: enough of those whom the owner named, and these deletions only."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from common.protocol.approvals import fault_of_approval, fault_of_list, part_digest
from common.protocol.messages import Approval, ApproverList, DeletionName, EmptiedPart
from common.vault.keys import VaultKey
from tests.support.approving import ANNA, BOB, CARL, approved, named_by, part_of

KEY, OTHER = VaultKey(b"k" * 32), VaultKey(b"o" * 32)
DELETED = KEY.tombstone(b"o" * 32, b"e" * 16, 1)
NAMED = named_by(KEY, ANNA, BOB, CARL)
PART = part_of(DELETED)


def faults(named: ApproverList, *signers: VaultKey, part: EmptiedPart = PART) -> bool:
    return fault_of_approval(NAMED, PART, approved(named, part, signers).approvals) is not None


@pytest.mark.parametrize("signers", [(ANNA, BOB), (BOB, CARL), (CARL, ANNA), (ANNA, BOB, CARL)])
def test_as_many_as_are_needed_approve(signers: tuple[VaultKey, ...]) -> None:
    assert fault_of_list(NAMED) is None
    assert not faults(NAMED, *signers)


@pytest.mark.parametrize(
    "signers",
    [(), (ANNA,), (ANNA, ANNA), (ANNA, OTHER), (ANNA, KEY), (ANNA, BOB, OTHER), (ANNA, BOB, ANNA)],
    ids=["none", "one", "one twice", "a stranger", "the owner", "a stranger beside", "one twice beside another"],
)
def test_others_and_one_alone_approve_nothing(signers: tuple[VaultKey, ...]) -> None:
    assert faults(NAMED, *signers)


def test_a_signature_counts_for_its_list_and_its_deletions_only() -> None:
    later = named_by(KEY, ANNA, BOB, CARL, generation=2)
    another_owners = named_by(OTHER, ANNA, BOB, CARL)
    for named in (later, another_owners, named_by(KEY, ANNA, BOB), named_by(KEY, ANNA, BOB, CARL, needed=3)):
        assert faults(named, ANNA, BOB)
    for deletion in (replace(DELETED, generation=3), replace(DELETED, encoding_id=b"f" * 16)):
        assert faults(NAMED, ANNA, BOB, part=part_of(deletion))


def test_of_several_parts_each_counts_as_it_was_approved() -> None:
    parts = [[DeletionName(bytes([number]) * 16, 1)] for number in range(3)]
    digests = [part_digest(part) for part in parts]
    approvals = [each.approval(NAMED, digests) for each in (ANNA, BOB)]
    for part in parts:
        assert fault_of_approval(NAMED, EmptiedPart(digests, part), approvals) is None
    another = EmptiedPart(digests, [DeletionName(b"x" * 16, 1)])
    assert fault_of_approval(NAMED, another, approvals) is not None
    fewer = EmptiedPart(digests[:2], parts[0])
    assert fault_of_approval(NAMED, fewer, approvals) is not None


def test_a_changed_signature_is_none() -> None:
    approvals = approved(NAMED, PART, [ANNA, BOB]).approvals
    for at in (0, 31, 63):
        signature = bytearray(approvals[1].signature)
        signature[at] ^= 1
        changed = Approval(approvals[1].approver, bytes(signature))
        assert fault_of_approval(NAMED, PART, [approvals[0], changed]) is not None


def test_where_there_are_no_approvers_nobody_approves() -> None:
    none = named_by(KEY, needed=0)
    assert fault_of_list(none) is None
    for signers in ((), (ANNA, BOB)):
        assert fault_of_approval(none, PART, approved(none, PART, signers).approvals) is not None


@pytest.mark.parametrize(
    "named",
    [
        named_by(KEY, ANNA, BOB, needed=1),
        named_by(KEY, ANNA, BOB, needed=3),
        named_by(KEY, ANNA, BOB, needed=0),
        named_by(KEY, ANNA, needed=1),
        named_by(KEY, needed=2),
        named_by(KEY, ANNA, ANNA),
        named_by(KEY, ANNA, KEY),
        replace(NAMED, generation=2),
        replace(NAMED, needed=3),
        replace(NAMED, approvers=NAMED.approvers[:2]),
        replace(NAMED, owner_key=OTHER.owner_key()),
        replace(NAMED, approvers=NAMED.approvers[::-1]),
    ],
    ids=[
        "one is enough", "more than there are", "none is needed", "one alone", "of none", "one twice", "the owner",
        "another generation", "another number", "fewer", "another owner", "in another order",
    ],
)  # fmt: skip
def test_a_list_that_would_let_one_alone_or_that_its_owner_did_not_sign_is_none(named: ApproverList) -> None:
    assert fault_of_list(named) is not None
