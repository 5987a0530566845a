"""What an owner signed is the owner's word, and nothing else is."""

from __future__ import annotations

import pytest

from common.protocol.signatures import client_statement, is_signed
from common.vault.keys import VaultKey

KEY = VaultKey(b"k" * 32)
CLIENT = bytes(range(32))
PROOF = KEY.owner_proof(CLIENT)


def flipped(content: bytes) -> list[bytes]:
    """The content with one bit of each byte changed."""
    return [content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] for at in range(len(content))]


def test_a_client_that_the_owner_signed_for_is_believed() -> None:
    assert is_signed(KEY.owner_key(), PROOF.signature, client_statement(CLIENT))


@pytest.mark.parametrize("other", [*flipped(PROOF.signature), bytes(64), bytes(63), b""])
def test_another_signature_is_none(other: bytes) -> None:
    assert not is_signed(KEY.owner_key(), other, client_statement(CLIENT))


@pytest.mark.parametrize("other", [*flipped(KEY.owner_key()), VaultKey(b"o" * 32).owner_key(), bytes(31), b""])
def test_under_another_key_it_is_none(other: bytes) -> None:
    assert not is_signed(other, PROOF.signature, client_statement(CLIENT))


@pytest.mark.parametrize("other", [*flipped(client_statement(CLIENT)), CLIENT, b""])
def test_for_another_statement_it_is_none(other: bytes) -> None:
    assert not is_signed(KEY.owner_key(), PROOF.signature, other)
