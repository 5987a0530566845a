"""The last time that everything was proven restorable is kept, and a record that is damaged tells nothing."""

from __future__ import annotations

from pathlib import Path

from admin.verifying import Proof, keep_proof, last_proof


def test_the_last_proof_is_what_was_kept_last(tmp_path: Path) -> None:
    assert last_proof(tmp_path) is None
    for proof in (Proof(1_800_000_000, 3), Proof(1_800_000_500, 4)):
        keep_proof(tmp_path, proof)
        assert last_proof(tmp_path) == proof


def test_a_damaged_record_is_no_proof(tmp_path: Path) -> None:
    keep_proof(tmp_path, Proof(1_800_000_000, 3))
    for damage in (b"", b"{", b'{"at": -1, "images": 3}', b"x" * 5000):
        (tmp_path / "vault" / "proven.json").write_bytes(damage)
        assert last_proof(tmp_path) is None
