"""The vault key: what is derived from it, and that it shows itself to nobody."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import TesseraError
from common.protocol.device_messages import Commitment, Grant
from common.vault.keys import HiddenKey, VaultKey
from common.vault.sealing import DataKey
from tests.vectors.vault import FOLDER, read_vectors
from tests.vectors.vault.generate import contents

raw_keys = st.binary(min_size=32, max_size=32)
digests = st.binary(min_size=32, max_size=32)
COMMITMENT = Commitment(
    bytes(32), bytes(16), b"recipe", b"mapping", bytes(16), [], 2, [Grant(bytes(16), bytes(32), b"for another")]
)


@pytest.mark.parametrize("vector", read_vectors("keys"), ids=lambda vector: str(vector["name"]))
def test_known_keys_give_known_results(vector: dict[str, Any]) -> None:
    key = VaultKey(vector["vault_key_hex"])
    object_id = key.object_id(vector["image_sha256_hex"])
    assert object_id == vector["object_id_hex"]
    snapshot_id = key.snapshot_object_id(vector["image_sha256_hex"])
    assert snapshot_id == vector["snapshot_object_id_hex"]
    assert key.prune_object_id() == vector["prune_object_id_hex"]
    assert (key.is_snapshot(snapshot_id), key.is_snapshot(object_id)) == (True, False)
    tombstone = key.tombstone(object_id, vector["encoding_id_hex"], 1, 7 * 24 * 3600)
    assert tombstone.signature == vector["tombstone_signature_hex"]
    transfer = key.signing_key().transfer(vector["encoding_id_hex"], bytes(range(16)))
    assert transfer.signature == vector["transfer_signature_hex"]
    for signed in key.signing_key().commit([COMMITMENT] * 3):
        assert signed.signature.signature == vector["three_commitments_signature_hex"]
    assert key.owner_key() == vector["owner_key_hex"]
    assert key.owner_proof(bytes(range(32))).signature == vector["client_signature_hex"]
    assert key.mapping_subkey() == vector["mapping_subkey_hex"]
    assert key.index_subkey() == vector["index_subkey_hex"]


def test_the_vectors_are_what_the_second_implementation_makes() -> None:
    checked_in = {path.name: path.read_text(encoding="ascii") for path in FOLDER.glob("*.json")}
    assert checked_in == contents()


def test_generated_keys_differ() -> None:
    assert len({VaultKey.generate().reveal() for _ in range(100)}) == 100
    assert len({DataKey.generate().reveal() for _ in range(100)}) == 100


@given(raw_keys, digests)
def test_no_two_branches_of_a_vault_key_are_the_same(raw: bytes, digest: bytes) -> None:
    key = VaultKey(raw)
    object_id = key.object_id(digest)
    branches = {
        raw,
        object_id,
        key.owner_key(),
        key.mapping_subkey(),
        key.index_subkey(),
    }
    assert len(branches) == 5
    assert {len(branch) for branch in branches} == {32}


@given(raw_keys, raw_keys, digests)
def test_another_vault_gives_another_of_everything(raw: bytes, other_raw: bytes, digest: bytes) -> None:
    key, other = VaultKey(raw), VaultKey(other_raw)
    same = raw == other_raw
    assert (key == other) is same
    assert (key.object_id(digest) == other.object_id(digest)) is same
    assert (key.owner_id() == other.owner_id()) is same


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_key_of_another_size_is_an_error(size: int) -> None:
    for kind in (VaultKey, DataKey):
        with pytest.raises(TesseraError, match="32 bytes"):
            kind(bytes(size))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_ids_of_another_size_are_an_error(size: int) -> None:
    # Of free widths, object id and encoding id could be cut elsewhere and still join to the same bytes.
    key = VaultKey(bytes(32))
    with pytest.raises(TesseraError):
        key.object_id(bytes(size))
    with pytest.raises(TesseraError):
        key.tombstone(bytes(size), bytes(48 - size), 1)


@pytest.mark.parametrize("kind", [VaultKey, DataKey])
def test_a_key_does_not_show_itself(kind: type[HiddenKey]) -> None:
    raw = b"0123456789abcdef" * 2
    key = kind(raw)
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr({"key": key})):
        assert shown.count("hidden") == 1
        assert "0123" not in shown
        assert raw.hex() not in shown


@pytest.mark.parametrize("kind", [VaultKey, DataKey])
def test_a_key_is_not_pickled_copied_or_hashed(kind: type[HiddenKey]) -> None:
    key = kind.generate()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TesseraError):
            pickle.dumps(key, protocol)
    with pytest.raises(TesseraError):
        copy.deepcopy(key)
    with pytest.raises(TypeError):
        hash(key)


def test_keys_of_two_kinds_are_never_equal() -> None:
    assert VaultKey(bytes(32)) == VaultKey(bytes(32))
    assert VaultKey(bytes(32)) != DataKey(bytes(32))
    assert VaultKey(bytes(32)) != bytes(32)
