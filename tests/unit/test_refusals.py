"""Each parser refuses what it must, with the failure that was promised: the vectors of tests/vectors/formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from admin.approval_files import decode_approval, decode_request
from broker.members import MembersFile
from common.coding.commitments import CommitmentVerifier
from common.coding.recipe import decode_recipe
from common.errors import IntegrityError, TesseraError
from common.membership.identity import load_brokers, load_key_pair
from common.membership.invite import decode_invite
from common.membership.short_invite import decode_short_invite
from common.protocol import device_messages
from common.protocol.approvals import fault_of_approval, fault_of_list
from common.protocol.codec import unpack, unpack_header
from common.protocol.device_messages import SignedCommitment
from common.protocol.envelope import decode_envelope
from common.protocol.messages import Approval, ApproverList, EmptiedPart, Message
from common.vault.contact_card import decode_card
from common.vault.former_key import open_former_key
from common.vault.granting import open_any
from common.vault.index_rows import RowSealer, SeenRow
from common.vault.key_file import open_key_file
from common.vault.keys import VaultKey
from common.vault.mapping import open_mapping
from common.vault.prune_plan import decode_prune_plan
from common.vault.recovery_codes import read_codes, restore_key
from common.vault.sealing import DataKey, SegmentOpener
from common.vault.snapshot import decode_snapshot
from common.vault.tree import decode_tree
from tests.support.store_folder import RecordContent
from tests.vectors.formats import FILE, read_vectors
from tests.vectors.formats.generate import content
from tests.vectors.vault.reference import ENCODING_ID
from worker.approver_lists import decode_approvers
from worker.reading import OpenShare
from worker.tombstones import decode_tombstone

VECTORS = read_vectors()
Inputs = dict[str, Any]


def key_file(data: bytes, inputs: Inputs, _folder: Path) -> object:
    return open_key_file(data, inputs["passphrase"])


def mapping(data: bytes, inputs: Inputs, _folder: Path) -> object:
    key, object_id, encoding_id = (bytes.fromhex(inputs[name]) for name in ("vault_key", "object_id", "encoding_id"))
    return open_mapping(VaultKey(key), data, object_id, encoding_id)


def segment(data: bytes, inputs: Inputs, _folder: Path) -> object:
    key, encoding_id = bytes.fromhex(inputs["data_key"]), bytes.fromhex(inputs["encoding_id"])
    opener = SegmentOpener(DataKey(key), encoding_id, inputs["k"], inputs["n"])
    out = np.zeros(max(len(data), 16), np.uint8)
    return opener.open(inputs["number"], np.frombuffer(data, np.uint8), inputs["is_last"], out)


def recovery_codes(data: bytes, _inputs: Inputs, _folder: Path) -> object:
    return restore_key(read_codes(data.decode("utf-8"))).key


def short_invite(data: bytes, inputs: Inputs, _folder: Path) -> object:
    short, broker_key = decode_short_invite(data.decode("ascii")), bytes.fromhex(inputs["broker_key"])
    assert short.is_of(broker_key)
    assert short.one_time(broker_key).secret.hex() == inputs["secret"]
    return short


def share_file(data: bytes, _inputs: Inputs, _folder: Path) -> object:
    return OpenShare(RecordContent(data), (ENCODING_ID, 1)).information


def member_list(data: bytes, _inputs: Inputs, folder: Path) -> object:
    (folder / "members.json").write_bytes(data)
    return MembersFile(folder)


def from_file(load: Callable[[Path], object]) -> Callable[[bytes, Inputs, Path], object]:
    def read(data: bytes, _inputs: Inputs, folder: Path) -> object:
        (folder / "file").write_bytes(data)
        return load(folder / "file")

    return read


def mapping_for_a_card(data: bytes, inputs: Inputs, _folder: Path) -> object:
    key, object_id, encoding_id = (bytes.fromhex(inputs[name]) for name in ("vault_key", "object_id", "encoding_id"))
    return open_any(VaultKey(key), data, object_id, encoding_id)


def former_vault_key(data: bytes, inputs: Inputs, _folder: Path) -> object:
    former = open_former_key(VaultKey(bytes.fromhex(inputs["vault_key"])), data)
    assert (None if former is None else former.reveal().hex()) == inputs.get("former_key")
    return "read"


def signed_commitment(data: bytes, inputs: Inputs, _folder: Path) -> object:
    signed = unpack(data, SignedCommitment)
    fault = CommitmentVerifier().fault(signed, bytes.fromhex(inputs["encoding_id"]))
    if fault is not None:
        raise IntegrityError(fault)
    return signed


class Approved(Message):
    named: ApproverList
    approvals: list[Approval]
    part: EmptiedPart


def approved_emptying(data: bytes, _inputs: Inputs, _folder: Path) -> object:
    approved = unpack(data, Approved)
    fault = fault_of_list(approved.named) or fault_of_approval(approved.named, approved.part, approved.approvals)
    if fault is not None:
        raise IntegrityError(fault)
    return approved


def row_of_the_index(data: bytes, inputs: Inputs, _folder: Path) -> object:
    key, salt, table, value = (bytes.fromhex(inputs[name]) for name in ("vault_key", "salt", "table", "value"))
    sealer = RowSealer(VaultKey(key).index_subkey(), salt)
    name = sealer.name(table, value)
    assert inputs["named"] in ("", name.hex())
    return sealer.open(table, name, data, SeenRow)


READERS: dict[str, Callable[[bytes, Inputs, Path], object]] = {
    "key file": key_file,
    "mapping": mapping,
    "segment": segment,
    "recovery codes": recovery_codes,
    "recipe": lambda data, _inputs, _folder: decode_recipe(data),
    "share file": share_file,
    "tombstone": lambda data, _inputs, _folder: decode_tombstone(data),
    "approvers": lambda data, _inputs, _folder: decode_approvers(data),
    "approved emptying": approved_emptying,
    "request to empty a trash": lambda data, _inputs, _folder: decode_request(data),
    "approval": lambda data, _inputs, _folder: decode_approval(data),
    "commitment": signed_commitment,
    "envelope": lambda data, _inputs, _folder: decode_envelope(data),
    "header": lambda data, inputs, _folder: unpack_header(data, getattr(device_messages, inputs["header"])),
    "short invite": short_invite,
    "invite": lambda data, _inputs, _folder: decode_invite(data.decode("utf-8")),
    "list of members": member_list,
    "CURVE key": from_file(load_key_pair),
    "list of brokers": from_file(load_brokers),
    "contact card": lambda data, _inputs, _folder: decode_card(data.decode("utf-8")),
    "mapping sealed to a card": mapping_for_a_card,
    "former vault key": former_vault_key,
    "tree": lambda data, _inputs, _folder: decode_tree(data),
    "snapshot": lambda data, _inputs, _folder: decode_snapshot(data),
    "row of the index": row_of_the_index,
    "prune-plan": lambda data, _inputs, _folder: decode_prune_plan(data),
}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['kind']}: {vector['name']}")
def test_a_parser_passes_or_refuses_as_it_must(vector: dict[str, Any], tmp_path: Path) -> None:
    data, inputs, expected = bytes.fromhex(vector["bytes_hex"]), vector["inputs"], vector["expect"]
    if expected == "ok":
        read = READERS[vector["kind"]](data, inputs, tmp_path)
        assert read is not None
        if isinstance(read, VaultKey) and "vault_key" in inputs:
            assert read.reveal().hex() == inputs["vault_key"]
        return
    with pytest.raises(TesseraError) as raised:
        READERS[vector["kind"]](data, inputs, tmp_path)
    assert raised.type.__name__ == expected["error"]
    assert issubclass(raised.type, TesseraError)
    assert raised.value.exit_code == expected["exit_code"]
    assert expected["words"] in str(raised.value)


def test_there_are_at_least_a_hundred_and_three_quarters_must_fail() -> None:
    refused = [vector for vector in VECTORS if vector["expect"] != "ok"]
    assert len(VECTORS) >= 100
    assert len(refused) >= 75
    assert {vector["kind"] for vector in VECTORS} == set(READERS)
    names = [(vector["kind"], vector["name"]) for vector in VECTORS]
    assert len(set(names)) == len(names)


def test_the_vectors_are_what_their_generator_writes() -> None:
    assert FILE.read_text(encoding="ascii") == content()
