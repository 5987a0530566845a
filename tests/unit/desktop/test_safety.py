"""Safety: what a proof, a repair, a new passphrase and recovery codes come to, in words and on disk."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pytest
from msgspec.structs import replace

from admin.events import Event, Repaired, Stalled
from admin.health import ImageHealth
from admin.verifying import Found, Proof, Verdict, keep_proof, last_proof
from common.errors import RefusedError
from common.process.events import BytesDone, BytesExpected, BytesLeft, Warned
from common.repository.images import Held, counted
from common.repository.repository import Repository
from common.vault.recovery_codes import read_codes, restore_key
from desktop.background import Background
from desktop.garbage import WindowCollects
from desktop.model.entries import Tone
from desktop.model.report import Counter, Finding, Progress
from desktop.model.safety import SafetyModel, repair_report, verify_report
from desktop.session import Session
from tests.support.desktop_models import PASSPHRASE, deliver_until, reach
from tests.support.memory_cluster import MemoryCluster
from tests.support.sample_images import encode

NOW = 1_800_000_000
IMAGE = encode(b"content")
PROOF = Proof(NOW, 2)
HELD = Held(IMAGE.trusted().mapping, [IMAGE.located()])


def verdict(good: int, *, proven: Optional[bool] = True, troubles: Optional[list[str]] = None) -> Verdict:
    return Verdict(HELD, ImageHealth(4, 6, good, 0, 6 - good, proven), troubles or [])


# --- what was found


def test_where_all_is_well_that_is_all_that_is_said() -> None:
    report = verify_report(Found([verdict(6), verdict(6)], 0, PROOF))
    assert (report.tone, report.findings) == (Tone.GOOD, [])
    assert "All of 2 images are whole" in report.summary
    assert "every share at hand was read" in report.summary
    assert "by what the devices say" in verify_report(Found([verdict(6, proven=None)], 0)).summary


def test_what_is_not_whole_is_named_and_what_cannot_be_restored_is_an_alarm() -> None:
    lacking = verify_report(Found([verdict(6), verdict(5)], 0, PROOF))
    assert (lacking.tone, [finding.words for finding in lacking.findings]) == (Tone.NOTICE, ["1 share missing"])
    lost = verify_report(Found([verdict(6), verdict(3, proven=False, troubles=["attic: share 2: bad"])], 0))
    assert lost.tone is Tone.ALARM
    assert "1 of 2 images cannot be restored" in lost.summary
    assert lost.findings[0].words == "cannot be restored; attic: share 2: bad"
    assert "even be named" in verify_report(Found([verdict(6)], 2)).summary
    missing = verify_report(Found([verdict(6)], 0, missing=[HELD.mapping]))
    assert (missing.tone, missing.findings[0].words) == (Tone.ALARM, "no device tells of it")
    assert "1 of 2 images cannot be restored" in missing.summary


def test_images_trees_and_snapshots_are_counted_apart() -> None:
    tree, snapshot = (Held(replace(HELD.mapping, kind=kind), HELD.encodings) for kind in ("tree", "snapshot"))
    verdicts = [Verdict(held, verdict(6).health) for held in (HELD, HELD, tree, snapshot)]
    assert "All of 2 images, 1 tree and 1 snapshot are whole" in verify_report(Found(verdicts, 0, PROOF)).summary
    assert [each.as_json()["kind"] for each in verdicts] == ["image", "image", "tree", "snapshot"]
    assert counted([]) == "0 images"


def test_damage_is_told_of_though_the_image_can_be_restored() -> None:
    report = verify_report(Found([verdict(6, troubles=["attic: share 2: bad"])], 0, PROOF))
    assert [finding.words for finding in report.findings] == ["whole; attic: share 2: bad"]


def test_a_repair_tells_of_each_image_that_lacked_something() -> None:
    assert "nothing to repair" in repair_report("3 images", []).summary
    outcomes = [Repaired(HELD, True, "  6 of 6 shares, repaired"), Repaired(HELD, False, ": add a device", 5)]
    report = repair_report("3 images", outcomes)
    assert (report.tone, report.summary) == (Tone.ALARM, "1 of 2 images that lacked shares are whole again.")
    assert [finding.words for finding in report.findings] == ["6 of 6 shares, repaired", "add a device"]


# --- what is warned of meanwhile

ASKING = "Asking the devices …"


class Check:
    """A quick check that tells these events and finds all well; `said`: what showed, one after the other."""

    def __init__(
        self, session: Session, background: Background, patch: pytest.MonkeyPatch, events: Sequence[Event]
    ) -> None:
        async def verify(repository: Repository, _: object, *, deep: bool) -> Found:
            for event in events:
                repository.emit(event)
            return Found([verdict(6)], 0, None)

        reach(MemoryCluster(0), session, patch)
        patch.setattr("desktop.model.safety.verify_images", verify)
        model = SafetyModel(session, background)
        said: list[tuple[str, str]] = []
        model.on_change(lambda: said.append((model.doing, model.stalled)))
        model.verify(deep=False)
        deliver_until(background, lambda: model.report or model.error)
        assert model.report is not None, model.error
        self.report = model.report
        self.said = [each for each, _ in itertools.groupby(said)]


def test_a_warning_stands_in_the_report_once_and_not_before_it(
    session: Session, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [Warned("it could not be reported: no\x1banswer")] * 2
    check = Check(session, background, monkeypatch, events)
    words = "it could not be reported: no\N{REPLACEMENT CHARACTER}answer"
    assert check.report.findings == [Finding("Warning", words, Tone.NOTICE)]
    assert check.report.tone is Tone.NOTICE
    assert check.said == [(ASKING, ""), ("", "")]


def test_that_nothing_is_done_is_said_until_something_is_and_not_reported(
    session: Session, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = Stalled("nothing is done for\x1b 1 image")
    shown = "Nothing is done for\N{REPLACEMENT CHARACTER} 1 image"
    check = Check(session, background, monkeypatch, [BytesExpected(10), stalled, BytesExpected(0)])
    assert check.said == [(ASKING, ""), (ASKING, shown), ("", "")], "as much is left as before"
    check = Check(session, background, monkeypatch, [BytesExpected(10), stalled, BytesDone(10)])
    assert check.said == [(ASKING, ""), (ASKING, shown), (ASKING, ""), ("", "")]
    assert (check.report.tone, check.report.findings) == (Tone.GOOD, [])


# --- the model


def test_the_last_proof_is_shown_and_a_new_one_is_kept(session: Session, background: Background) -> None:
    model = SafetyModel(session, background)
    assert model.proof_words(NOW) == "Not proven yet on this machine."
    keep_proof(session.home, Proof(NOW - 3 * 86400, 5))
    model.activate()
    assert "3 days ago: 5 images, every share at hand read" in model.proof_words(NOW)
    model._verified(Found([verdict(6)], 0, Proof(NOW, 1)))
    assert "just now: 1 image" in model.proof_words(NOW + 5)
    deliver_until(background, lambda: last_proof(session.home) == Proof(NOW, 1))


def test_a_proof_that_nobody_answers_ends_with_the_advice_of_its_error(
    session: Session, background: Background
) -> None:
    model = SafetyModel(session, background)
    model.verify(deep=True)
    assert model.doing
    deliver_until(background, lambda: model.error)
    assert model.doing == ""
    assert model.error is not None
    assert model.error.advice is not None
    assert "admin.py join" in model.error.advice


def test_a_new_passphrase_opens_the_vault_from_then_on_and_the_old_one_does_not(
    session: Session, background: Background
) -> None:
    model = SafetyModel(session, background)
    model.change_passphrase(PASSPHRASE, "other words for keeping", "other words for keeping")
    deliver_until(background, lambda: model.told or model.error)
    assert model.error is None
    assert session.vault.unlock("other words for keeping") == session.key
    with pytest.raises(RefusedError):
        session.vault.unlock(PASSPHRASE)


@pytest.mark.parametrize(
    ("old", "new", "again", "said"),
    [
        (PASSPHRASE, "other words for keeping", "other words", "differ"),
        (PASSPHRASE, "short", "short", "at least 8 characters"),
        ("not the passphrase", "other words for keeping", "other words for keeping", "does not open"),
    ],
)
def test_a_passphrase_that_will_not_do_changes_nothing(
    session: Session, background: Background, old: str, new: str, again: str, said: str
) -> None:
    model = SafetyModel(session, background)
    model.change_passphrase(old, new, again)
    deliver_until(background, lambda: model.error)
    assert said in str(model.error)
    assert model.doing == ""
    assert session.vault.unlock(PASSPHRASE) == session.key


def test_recovery_codes_restore_the_vault_and_are_written_into_a_new_file_only(
    session: Session, background: Background, tmp_path: Path
) -> None:
    recovery = SafetyModel(session, background).recovery
    recovery.make(PASSPHRASE, 2, 3)
    deliver_until(background, lambda: recovery.text)
    assert recovery.text is not None
    shown = recovery.text
    recovery.make(PASSPHRASE, 2, 3)
    assert (recovery.doing, recovery.text) == ("", shown), "what nobody has yet is not replaced"
    codes = read_codes(recovery.text)
    assert restore_key(codes[1:]).key == session.key
    assert not any(line in recovery.command for line in codes[0].lines())
    file = tmp_path / "codes.txt"
    recovery.save(file)
    deliver_until(background, lambda: recovery.told)
    assert file.read_text() == recovery.text
    recovery.save(file)
    deliver_until(background, lambda: recovery.error)
    assert "exists already" in str(recovery.error)
    recovery.forget()
    assert recovery.text is None


def test_codes_that_nobody_has_yet_are_not_forgotten_without_a_word(session: Session, background: Background) -> None:
    model = SafetyModel(session, background)
    model.recovery.make(PASSPHRASE, 2, 3)
    deliver_until(background, lambda: model.recovery.text)
    assert "shown only now" in model.unfinished
    model.recovery.written_down()
    assert model.unfinished == ""
    assert session.has_codes
    model.recovery.forget()
    assert session.has_codes


def test_the_key_file_is_copied_into_a_new_file_only(session: Session, background: Background, tmp_path: Path) -> None:
    model = SafetyModel(session, background)
    file = tmp_path / "stick" / "vault.key"
    model.copying.save(file)
    deliver_until(background, lambda: model.copying.told)
    assert file.read_bytes() == session.vault.key_file()
    assert model.command == f"python admin/admin.py vault export {file}"
    assert session.has_copy
    file.write_bytes(b"something else")
    model.copying.save(file)
    deliver_until(background, lambda: model.error)
    assert "exists already" in str(model.error)
    assert file.read_bytes() == b"something else"


def test_recovery_codes_take_the_passphrase_though_the_vault_is_open(session: Session, background: Background) -> None:
    model = SafetyModel(session, background)
    model.recovery.make("not the passphrase", 2, 3)
    deliver_until(background, lambda: model.error)
    assert model.recovery.text is None
    model.dismiss_error()
    assert model.error is None


# --- how far it is


def test_progress_is_told_ten_times_a_second_and_at_the_end() -> None:
    now = 0.0
    told: list[Progress] = []
    counter = Counter(told.append, clock=lambda: now)
    counter.take(BytesExpected(1000))
    for _ in range(100):
        now += 0.05
        counter.take(BytesDone(10))
    assert 30 <= len(told) <= 51
    assert (told[-1].done, told[-1].fraction) == (1000, 1.0)
    assert "200 bytes/s" in told[-1].words
    assert "left" in told[20].words
    assert "/s" not in told[1].words


def test_what_is_left_may_grow() -> None:
    now = 0.0
    told: list[Progress] = []
    counter = Counter(told.append, clock=lambda: now)
    for left in (100, 40, 80, 0):
        now += 1
        counter.take(BytesLeft(left))
    assert [(progress.done, progress.total) for progress in told] == [(0, 100), (60, 100), (60, 140), (140, 140)]


def test_garbage_is_collected_where_it_is_asked_for_and_nowhere_else() -> None:
    collecting = WindowCollects()
    try:
        assert not gc.isenabled()
        while gc.get_count()[0] <= gc.get_threshold()[0]:
            cycle: list[object] = []
            cycle.append(cycle)
            for _ in range(100):
                cycle.append([cycle])
        collecting.step()
        assert gc.get_count()[0] <= gc.get_threshold()[0]
    finally:
        collecting.end()
    assert gc.isenabled()
