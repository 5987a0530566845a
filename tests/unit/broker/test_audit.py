"""The audit log: lines that are durable before anybody learns of what they say, in files that stay small."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from broker.audit import AuditLog, Coalesced, record_now, verify
from broker.strikes import Refusals
from common.errors import IntegrityError, NotFoundError
from common.protocol.operations import Role
from tests.support.running_broker import RunningBroker

MOMENT = 1_800_000_000.0


def lines(folder: Path, name: str = "audit.jsonl") -> list[dict[str, Any]]:
    """What the lines say, without their chain."""
    said = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    for line in said:
        del line["previous"]
    return said


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def recorded(audit: AuditLog, event: str, **facts: Any) -> None:
    audit.record(event, **facts)
    audit.flush()


def test_an_event_is_one_line_with_its_time_and_its_facts(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path, lambda: MOMENT)
    recorded(audit, "joined", name="line\nbreak", role="worker")
    recorded(audit, "revoked", name="nas")
    first, second = lines(tmp_path)
    time = "2027-01-15T08:00:00+00:00"
    assert first == {"time": time, "event": "joined", "name": "line\nbreak", "role": "worker"}
    assert second == {"time": time, "event": "revoked", "name": "nas"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    recorded(AuditLog(tmp_path), "joined")
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600


def test_five_files_of_a_bounded_size_are_kept_and_the_newest_lines_are_in_them(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path, max_bytes=1000)
    for number in range(1000):
        recorded(audit, "refused", number=number)
    names = ["audit.4.jsonl", "audit.3.jsonl", "audit.2.jsonl", "audit.1.jsonl", "audit.jsonl"]
    assert sorted(path.name for path in tmp_path.glob("audit*jsonl")) == sorted(names)
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)
    kept = [line["number"] for name in names for line in lines(tmp_path, name)]
    assert kept == list(range(kept[0], 1000))
    assert verify(tmp_path).lines == len(kept)


def test_many_lines_wait_for_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("broker.audit.sync_file", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    audit = AuditLog(tmp_path)
    for number in range(100):
        audit.record("put", number=number)
    assert audit.due and not (tmp_path / "audit.jsonl").exists()
    audit.flush()
    assert not audit.due
    assert synced == [(tmp_path / "audit.jsonl").stat().st_size]
    assert [line["number"] for line in lines(tmp_path)] == list(range(100))


def test_a_disk_that_refuses_stops_nobody_is_said_and_gets_the_lines_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    clock = Clock()
    audit = AuditLog(tmp_path, lambda: MOMENT, clock)
    for clock.now in range(130):
        recorded(audit, "refused", second=int(clock.now))
        assert not audit.due
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    (tmp_path / "audit.jsonl").rmdir()
    clock.now = 135.0
    audit.tick()
    assert [line["second"] for line in lines(tmp_path)] == list(range(130))
    assert "written again" in caplog.text
    assert verify(tmp_path).lines == 130


def test_of_lines_that_are_too_many_to_wait_the_number_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    clock = Clock()
    audit = AuditLog(tmp_path, lambda: MOMENT, clock)
    for number in range(10_010):
        audit.record("refused", number=number)
    audit.flush()
    (tmp_path / "audit.jsonl").rmdir()
    clock.now = 10.0
    audit.tick()
    *kept, last = lines(tmp_path)
    assert len(kept) == 10_000
    assert (last["event"], last["count"]) == ("not recorded", 10)


def test_a_file_whose_fsync_failed_gets_nothing_more_and_what_was_in_it_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    audit = AuditLog(tmp_path, lambda: MOMENT, clock)
    recorded(audit, "joined", name="a")
    with monkeypatch.context() as broken:

        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        broken.setattr("broker.audit.sync_file", fail)
        for clock.now in range(10, 60, 10):
            recorded(audit, "joined", name=f"at {int(clock.now)}")
    clock.now = 100.0
    audit.tick()
    assert [line["name"] for line in lines(tmp_path, "audit.1.jsonl")] == ["a"]
    assert [line["name"] for line in lines(tmp_path)] == [f"at {second}" for second in range(10, 60, 10)]
    assert not (tmp_path / "audit.2.jsonl").exists()
    assert verify(tmp_path).lines == 6


@pytest.mark.parametrize("torn", [b'{"previous": "00', b"\0" * 100_000, b"\n\n\0\n", b'[1, 2]\n"a"\n'])
def test_what_a_power_cut_tore_is_cut_off_and_told_of(torn: bytes, tmp_path: Path) -> None:
    recorded(AuditLog(tmp_path), "joined", name="a")
    path = tmp_path / "audit.jsonl"
    path.write_bytes(path.read_bytes() + torn)
    with pytest.raises(IntegrityError):
        verify(tmp_path)
    recorded(AuditLog(tmp_path), "joined", name="b")
    first, told, second = lines(tmp_path)
    assert (first["name"], second["name"]) == ("a", "b")
    assert (told["event"], told["bytes"]) == ("torn", len(torn))
    assert verify(tmp_path).lines == 3


def test_the_commands_lines_are_of_the_same_chain_and_say_by_which_account(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path)
    recorded(audit, "joined")
    record_now(tmp_path, "revoked", name="nas")
    recorded(audit, "joined")
    assert [line["event"] for line in lines(tmp_path)] == ["joined", "revoked", "joined"]
    assert "@" in lines(tmp_path)[1]["by"]
    assert verify(tmp_path).lines == 3


def test_a_log_that_never_began_is_not_called_whole(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        verify(tmp_path)


def test_every_line_is_forwarded_once_as_in_the_file_also_those_of_commands(tmp_path: Path) -> None:
    record_now(tmp_path, "invited")  # before the broker began
    forwarded: list[bytes] = []
    audit = AuditLog(tmp_path, max_bytes=300, forward=forwarded.append)
    recorded(audit, "joined", name="a")
    record_now(tmp_path, "revoked", name="b")
    audit.tick()
    record_now(tmp_path, "revoked", name="c")
    recorded(audit, "joined", name="d")
    audit.tick()
    assert [json.loads(line)["name"] for line in forwarded] == ["a", "b", "c", "d"]
    files = sorted(tmp_path.glob("audit*.jsonl"), key=lambda path: (len(path.name), path.name), reverse=True)
    assert len(files) > 1
    assert b"".join(path.read_bytes() for path in files).splitlines()[1:] == forwarded


def test_what_the_disk_refuses_is_forwarded_at_once(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    forwarded: list[bytes] = []
    audit = AuditLog(tmp_path, forward=forwarded.append)
    for name in ("a", "b"):
        recorded(audit, "joined", name=name)
    assert [(json.loads(line)["name"], json.loads(line)["unwritten"]) for line in forwarded] == [("a", 1), ("b", 1)]


def test_of_a_flood_of_refusals_a_few_are_said_and_the_number_of_the_others() -> None:
    refusals = Refusals()
    assert sum(refusals.note(number / 1000) for number in range(10_000)) == 20
    assert refusals.unsaid(59.0) == 0
    assert refusals.unsaid(61.0) == 9_980
    assert refusals.unsaid(62.0) == 0
    assert refusals.note(63.0)


def test_what_many_devices_tell_is_one_record_with_their_number() -> None:
    coalesced: Coalesced[str] = Coalesced()
    assert coalesced.tell("deletion", b"a" * 16, 0.0)
    assert not coalesced.tell("deletion", b"b" * 16, 1.0, opens=False)
    assert not coalesced.tell("deletion", b"b" * 16, 1.5, opens=False)
    assert coalesced.take(2.0) == []
    assert coalesced.take(6.0) == [("deletion", 2)]
    assert not coalesced.tell("deletion", b"c" * 16, 7.0, opens=False)  # a device that was away
    assert coalesced.take(100.0) == []


def test_admissions_and_refusals_are_recorded_without_the_invites_secret(tmp_path: Path) -> None:
    from common.link.joining import join
    from common.membership.identity import KeyPair

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
