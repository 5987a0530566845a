"""Commitments that were signed together, checked one after the other by who remembers what was good."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from common.coding.commitments import CommitmentVerifier
from common.protocol.device_messages import Commitment, SignedCommitment
from common.protocol.identifiers import encoding_id
from common.vault.keys import VaultKey

KEY = VaultKey(b"\x0a" * 32)
NOT_SIGNED = "its owner did not sign it"


def batch(count: int, label: str = "") -> list[SignedCommitment]:
    said = [
        Commitment(bytes(32), KEY.owner_id(), f"recipe {label}".encode(), b"mapping", number.to_bytes(16, "big"))
        for number in range(count)
    ]
    return KEY.signing_key().commit(said)


def fault(verifier: CommitmentVerifier, signed: SignedCommitment) -> object:
    return verifier.fault(signed, encoding_id(KEY.owner_key(), signed.commitment.nonce))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 32, 64])
def test_all_of_a_batch_are_good_in_whatever_order_and_between_others(count: int) -> None:
    verifier, both = CommitmentVerifier(), [*batch(count), *batch(count, "another")]
    for signed in [*both[1::3], *both[::-2], *both]:
        assert fault(verifier, signed) is None


@pytest.mark.parametrize("known", [[], [0], [1], [*range(8)]], ids=["none", "itself", "beside it", "all"])
@pytest.mark.parametrize("height", range(3))
def test_a_way_that_is_wrong_anywhere_is_refused_whatever_is_known(known: list[int], height: int) -> None:
    verifier, signed = CommitmentVerifier(), batch(8)
    for number in known:
        assert fault(verifier, signed[number]) is None
    path = list(signed[0].signature.path)
    path[height] = bytes(32)
    assert fault(verifier, replace(signed[0], signature=replace(signed[0].signature, path=path))) == NOT_SIGNED
    assert fault(verifier, signed[0]) is None


@pytest.mark.parametrize("known", [[], [*range(8)]], ids=["none", "all"])
def test_another_commitment_place_or_length_of_the_way_is_refused(known: list[int]) -> None:
    verifier, signed = CommitmentVerifier(), batch(8)
    for number in known:
        assert fault(verifier, signed[number]) is None
    first, signature = signed[0], signed[0].signature
    other = replace(first.commitment, mapping=b"another")
    for wrong in (
        replace(first, commitment=other),
        replace(first, signature=replace(signature, position=1)),
        replace(first, signature=signed[1].signature),
        replace(first, signature=replace(signature, path=signature.path[:-1])),
        replace(first, signature=replace(signature, path=[*signature.path, bytes(32)])),
        replace(first, signature=replace(signature, signature=bytes(64))),
    ):
        assert fault(verifier, wrong) == NOT_SIGNED
