"""The audit log: who came, was refused or put out and what was deleted, in files that stay small, without secrets."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from broker.audit import AuditLog
from broker.burial_record import BurialRecord
from broker.refusals import Refusals
from common.invite import Role
from common.protocol.messages import Tombstone
from tests.unit.running_broker import RunningBroker

MOMENT = 1_800_000_000.0
STONE = Tombstone(b"e" * 16, b"o" * 32, b"w" * 16, b"c" * 32, 1, 2**40, 2**41)


def lines(folder: Path, name: str = "audit.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_an_event_is_one_line_with_its_time_and_its_facts(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path, lambda: MOMENT)
    audit.record("joined", name="line\nbreak", role="worker")
    audit.record("revoked", name="nas")
    first, second = lines(tmp_path)
    time = "2027-01-15T08:00:00+00:00"
    assert first == {"time": time, "event": "joined", "name": "line\nbreak", "role": "worker"}
    assert second == {"time": time, "event": "revoked", "name": "nas"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    AuditLog(tmp_path).record("joined")
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600


def test_five_files_of_a_bounded_size_are_kept_and_the_newest_lines_are_in_them(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path, max_bytes=1000)
    for number in range(1000):
        audit.record("refused", number=number)
    names = ["audit.4.jsonl", "audit.3.jsonl", "audit.2.jsonl", "audit.1.jsonl", "audit.jsonl"]
    assert sorted(path.name for path in tmp_path.glob("audit*jsonl")) == sorted(names)
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)
    kept = [line["number"] for name in names for line in lines(tmp_path, name)]
    assert kept == list(range(kept[0], 1000))


def test_a_disk_that_refuses_is_nobodys_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    audit = AuditLog(tmp_path)
    for _ in range(3):
        audit.record("joined")
    assert len(caplog.records) == 1


def test_of_a_flood_of_refusals_a_few_are_said_and_the_number_of_the_others() -> None:
    refusals = Refusals()
    assert sum(refusals.note(number / 1000) for number in range(10_000)) == 20
    assert refusals.unsaid(59.0) == 0
    assert refusals.unsaid(61.0) == 9_980
    assert refusals.unsaid(62.0) == 0
    assert refusals.note(63.0)


def test_a_deletion_is_one_record_with_the_number_of_devices() -> None:
    record = BurialRecord()
    record.tell(b"a" * 16, STONE, 0.0, new=True)
    record.tell(b"b" * 16, STONE, 1.0, new=False)
    record.tell(b"b" * 16, STONE, 1.5, new=False)
    assert record.take(2.0) == []
    assert record.take(6.0) == [(STONE, 2)]
    record.tell(b"c" * 16, STONE, 7.0, new=False)  # a device that was away
    assert record.take(100.0) == []


def test_admissions_and_refusals_are_recorded_without_the_invites_secret(tmp_path: Path) -> None:
    from common.identity import KeyPair
    from common.joining import join

    folder = tmp_path / "broker"
    broker = RunningBroker(folder, audit=AuditLog(folder))
    try:
        invite, permanent = broker.invite(Role.CLIENT), KeyPair.generate()
        join(invite, Role.CLIENT, "laptop", permanent)
        with pytest.raises(Exception, match="does not accept"):
            join(invite, Role.CLIENT, "thief", KeyPair.generate())
        stranger = broker.invite(Role.CLIENT, age=7200)
        with pytest.raises(Exception, match="does not accept"):
            join(stranger, Role.CLIENT, "late", KeyPair.generate())
    finally:
        broker.stop()
    joined, used, refused = lines(folder)[:3]
    assert (joined["event"], joined["name"], joined["role"]) == ("joined", "laptop", "client")
    assert joined["key"] == permanent.public.hex()[:16]
    assert (used["event"], used["invite"]) == ("join refused", invite.one_time.public.hex()[:16])
    assert (refused["event"], refused["port"]) == ("refused", "clients")
    text = (folder / "audit.jsonl").read_text()
    for secret in (invite.one_time.secret, permanent.secret, stranger.one_time.secret):
        assert secret.hex()[:16] not in text
