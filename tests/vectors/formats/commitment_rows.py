"""Signed commitments: whose word an encoding is, worked out here once more from docs/formats.md."""

from __future__ import annotations

import hashlib
from typing import Any

from blake3 import blake3

from tests.vectors.formats.rows import Row, bad, good
from tests.vectors.formats.stored_rows import OBJECT_ID, packed, recipe
from tests.vectors.vault.reference import OTHER_KEY, VAULT_KEY, flipped, owner_key, signing_key

NONCE = bytes(range(50, 66))
FORMER_KEY, THIRD_KEY = bytes(range(2, 34)), bytes(range(3, 35))
Fields = dict[str, Any]


def owner(vault_key: bytes) -> bytes:
    return hashlib.sha256(b"tessera/v1/owner-id" + owner_key(vault_key)).digest()[:16]


def encoding_id(vault_key: bytes, nonce: bytes = NONCE) -> bytes:
    return hashlib.sha256(b"tessera/v1/encoding-id" + owner_key(vault_key) + nonce).digest()[:16]


def transfer(former: bytes, new: bytes, of_encoding: bytes) -> list[bytes]:
    statement = b"tessera/v1/transfer" + of_encoding + owner(new)
    return [owner_key(former), signing_key(former).sign(statement)]


def commitment(vault_key: bytes = VAULT_KEY, first: bytes = VAULT_KEY, **changed: Any) -> Fields:
    fields: Fields = {
        "object_id": OBJECT_ID, "owner": owner(vault_key), "recipe": recipe(encoding_id=encoding_id(first)),
        "mapping": bytes(100), "nonce": NONCE, "transfers": [], "revision": 1,
        "grants": [[bytes(16), bytes(32), b"for another"]], "generation": 0,
    }  # fmt: skip
    return {**fields, **changed}


def leaf(fields: Fields) -> bytes:
    return blake3(b"\0tessera/v1/commitment" + packed(list(fields.values()))).digest()


def signed(fields: Fields, signer: bytes = VAULT_KEY, *, before: bytes = b"", behind: bytes = b"") -> bytes:
    """A commitment, signed alone, or second of two behind the leaf `before`, or first of two before `behind`."""
    root, position, path = leaf(fields), 0, []
    if before:
        root, position, path = blake3(b"\1" + before + root).digest(), 1, [before]
    elif behind:
        root, path = blake3(b"\1" + root + behind).digest(), [behind]
    signature = signing_key(signer).sign(b"tessera/v1/commitments" + root)
    return packed([list(fields.values()), [owner_key(signer), signature, position, path]])


def commitment_rows() -> list[Row]:
    own, its_id, another = commitment(), encoding_id(VAULT_KEY), leaf(commitment(mapping=bytes(99)))
    given = commitment(first=FORMER_KEY, transfers=[transfer(FORMER_KEY, VAULT_KEY, encoding_id(FORMER_KEY))])
    rotated = {**given, "revision": 2}

    def yes(name: str, data: bytes, first: bytes = VAULT_KEY) -> Row:
        return good("commitment", name, data, encoding_id=encoding_id(first))

    def no(name: str, data: bytes, words: str, first: bytes = VAULT_KEY, error: str = "IntegrityError") -> Row:
        return bad("commitment", name, data, error, words, encoding_id=encoding_id(first))

    unsigned, another_id = "its owner did not sign it", "the commitment is of another encoding"
    not_owner, not_given = "it is signed by another than its owner", "an owner before did not sign"
    alone = signed(own)
    changes: Fields = {
        "object_id": bytes(32), "mapping": bytes(101), "revision": 2, "grants": [], "generation": 1,
        "recipe": recipe(encoding_id=its_id, last_block_size=31),
    }  # fmt: skip
    two_owners = [
        transfer(FORMER_KEY, OTHER_KEY, encoding_id(FORMER_KEY)),
        transfer(OTHER_KEY, VAULT_KEY, encoding_id(FORMER_KEY)),
    ]
    return [
        yes("signed alone", alone),
        yes("first of a batch of two", signed(own, behind=another)),
        yes("second of a batch of two", signed(own, before=another)),
        yes("left by a depositor", signed(given, FORMER_KEY), FORMER_KEY),
        yes("signed by whom it was left for", signed(rotated), FORMER_KEY),
        yes("given away twice", signed({**rotated, "transfers": two_owners}), FORMER_KEY),
        yes("taken back", signed({**rotated, "generation": 1}), FORMER_KEY),
        no("of another encoding", alone, another_id, OTHER_KEY),
        no("another nonce", signed({**own, "nonce": bytes(16)}), another_id),
        no("another's signature", signed(own, OTHER_KEY), another_id),
        no("another's encoding in one's own name", signed(commitment(OTHER_KEY), OTHER_KEY), another_id),
        no("another owner", signed({**own, "owner": owner(OTHER_KEY)}), not_owner),
        *(
            no(f"another {name} than was signed", _exchanged(alone, own, name, value), unsigned)
            for name, value in changes.items()
        ),
        *(
            no(f"byte {at} of the signature changed", _flipped_signature(own, at), unsigned)
            for at in range(0, 64, 7)
        ),
        no("another way to the root", _with_path(own, another, [leaf(commitment(revision=5))], 1), unsigned),
        no("the other side of the tree", _with_path(own, another, [another], 0), unsigned),
        no("no way to the root", _with_path(own, another, [], 0), unsigned),
        no("a depositor's second revision", signed(rotated, FORMER_KEY), not_owner, FORMER_KEY),
        no("a deposit for another than it was given to", signed({**given, "owner": owner(OTHER_KEY)}, FORMER_KEY),
           not_given, FORMER_KEY),
        no("given by another", signed({**rotated, "transfers": [[owner_key(FORMER_KEY), bytes(64)]]}), not_given,
           FORMER_KEY),
        no("given of another encoding",
           signed({**rotated, "transfers": [transfer(FORMER_KEY, VAULT_KEY, its_id)]}), not_given, FORMER_KEY),
        no("a transfer left out", signed({**rotated, "transfers": two_owners[:1]}), not_given, FORMER_KEY),
        no("transfers in another order", signed({**rotated, "transfers": two_owners[::-1]}), another_id, FORMER_KEY),
        no("signed by an owner before", signed({**rotated, "transfers": two_owners}, OTHER_KEY), not_owner,
           FORMER_KEY),
        no("no commitment", b"\xc1", "msgpack without the expected shape", error="ProtocolError"),
        no("cut", alone[:-1], "msgpack without the expected shape", error="ProtocolError"),
        no("a first byte changed", flipped(alone, 0), "msgpack without the expected shape", error="ProtocolError"),
    ]  # fmt: skip


def _exchanged(whole: bytes, fields: Fields, name: str, value: Any) -> bytes:
    """With the signature of what was signed, and one field that was not."""
    signature = whole[1 + len(packed(list(fields.values()))) :]
    return whole[:1] + packed(list({**fields, name: value}.values())) + signature


def _flipped_signature(fields: Fields, at: int) -> bytes:
    signature = signing_key(VAULT_KEY).sign(b"tessera/v1/commitments" + leaf(fields))
    return packed([list(fields.values()), [owner_key(VAULT_KEY), flipped(signature, at), 0, []]])


def _with_path(fields: Fields, before: bytes, path: list[bytes], position: int) -> bytes:
    """Second of two, behind the leaf `before`, with another way to the root than that."""
    root = blake3(b"\1" + before + leaf(fields)).digest()
    signature = signing_key(VAULT_KEY).sign(b"tessera/v1/commitments" + root)
    return packed([list(fields.values()), [owner_key(VAULT_KEY), signature, position, path]])
