"""Which commitment a steward believes: what the owner signed, whoever and however many say otherwise."""

from __future__ import annotations

from typing import Optional

import pytest
from msgspec.structs import replace

from broker.claims import Claim
from broker.steward.agreement import Agreed, agree, read
from common.coding.commitments import CommitmentVerifier
from common.protocol.codec import pack
from common.protocol.device_messages import Commitment, SignedCommitment
from common.vault.keys import VaultKey
from tests.support.sample_shares import KEY, OWNER, STRANGER, STRANGERS_KEY, sample, sign

ENCODING = sample("agreement", segments=2, k=3, n=6)
COMMITMENT = ENCODING.commitment
PACKED = pack(ENCODING.signed())
NEWER = pack(ENCODING.signed(revision=2))
NEW_KEY, THIEF = VaultKey(b"\x0d" * 32), VaultKey(b"\x0e" * 32)


def claim(owner: bytes = OWNER, object_id: bytes = COMMITMENT.object_id, k: int = 3) -> Claim:
    return Claim(owner, object_id, ENCODING.encoding_id, k, 6, ENCODING.recipe.share_bytes)


def devices(count: int, first: int = 1) -> list[bytes]:
    return [bytes([number]) * 16 for number in range(first, first + count)]


def agreed(commitments: dict[bytes, bytes]) -> Optional[Agreed]:
    verifier = CommitmentVerifier()
    return agree({device: read(packed, ENCODING.encoding_id, verifier) for device, packed in commitments.items()})


def believed(commitments: dict[bytes, bytes], claimed: Claim) -> Agreed:
    found = agreed(commitments)
    assert found is not None
    assert found.is_claimed(claimed)
    return found


def given_to(key: VaultKey, revision: int = 2) -> bytes:
    """By OWNER to another vault, which has signed it."""
    transfer = KEY.signing_key().transfer(ENCODING.encoding_id, key.owner_id())
    given = replace(COMMITMENT, owner=key.owner_id(), transfers=[transfer], revision=revision)
    return pack(sign(given, key))


def test_one_device_with_what_the_owner_signed_is_believed_against_all_others() -> None:
    forged = pack(sign(replace(COMMITMENT, mapping=b"another", revision=2**53 - 1), STRANGERS_KEY))
    found = believed({**dict.fromkeys(devices(5), forged), **dict.fromkeys(devices(1, 8), PACKED)}, claim())
    assert (found.packed, found.devices, found.older) == (PACKED, frozenset(devices(1, 8)), frozenset())


def test_the_newer_of_two_that_the_owner_signed_holds_and_who_has_the_older_is_known() -> None:
    found = believed({**dict.fromkeys(devices(4), PACKED), **dict.fromkeys(devices(1, 8), NEWER)}, claim())
    assert (found.packed, found.devices, found.older) == (
        NEWER,
        frozenset(devices(1, 8)),
        frozenset(devices(4)),
    )


def test_what_was_signed_alone_and_in_a_batch_is_the_same() -> None:
    (_, in_a_batch) = KEY.signing_key().commit([sample("other").commitment, COMMITMENT])
    found = believed({devices(1)[0]: PACKED, devices(1, 8)[0]: pack(in_a_batch)}, claim())
    assert found.devices == frozenset(devices(1) + devices(1, 8))


def test_what_the_new_owner_of_a_replaced_key_signed_holds_against_the_former() -> None:
    found = believed(
        {**dict.fromkeys(devices(4), pack(ENCODING.signed(revision=9))), devices(1, 8)[0]: given_to(NEW_KEY)},
        claim(NEW_KEY.owner_id()),
    )
    assert found.commitment.owner == NEW_KEY.owner_id()
    assert found.older == frozenset(devices(4))


def test_of_two_to_whom_a_stolen_key_gave_it_the_one_with_most_devices_has_it() -> None:
    both = {**dict.fromkeys(devices(3), given_to(NEW_KEY)), **dict.fromkeys(devices(2, 8), given_to(THIEF, 2**53 - 1))}
    found = believed(both, claim(NEW_KEY.owner_id()))
    assert found.devices == frozenset(devices(3))
    assert not found.older


@pytest.mark.parametrize("other", [claim(object_id=b"x" * 32), claim(k=2), claim(STRANGER)])
def test_what_devices_claim_is_compared_with_what_the_owner_signed(other: Claim) -> None:
    assert not believed(dict.fromkeys(devices(4), PACKED), claim()).is_claimed(other)


def no_recipe() -> SignedCommitment:
    return sign(replace(COMMITMENT, recipe=b"no recipe"))


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        pack(no_recipe()),
        pack(sample("other").signed()),
        pack(Commitment(b"o" * 32, OWNER, ENCODING.recipe.encode(), b"", b"n" * 16)),
    ],
)
def test_what_its_owner_did_not_sign_is_not_believed_however_many_have_it(packed: bytes) -> None:
    assert agreed(dict.fromkeys(devices(6), packed)) is None
