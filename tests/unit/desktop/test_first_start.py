"""The way in without a window: each step, and what is said where it cannot be taken."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Callable, Optional

import pytest

from admin.joining import Admission
from cluster.local import CHECKOUT
from common.discovery.addresses import BrokerAddress
from common.errors import NotEnoughError, NotFoundError, RefusedError, TesseraError, UnreachableError, UsageError
from common.protocol.operations import Role
from common.vault.folder import VaultFolder
from common.vault.recovery_codes import kit_text, make_codes, read_codes, restore_key
from desktop.background import Background
from desktop.model import first_start
from desktop.model.first_start import FirstStartModel, Nearby, VaultFrom
from desktop.model.model import Model
from desktop.model.unlock import UnlockModel
from desktop.session import Session, Stage
from tests.support.desktop_models import PASSPHRASE, deliver_until, keep
from tests.support.passphrases import cheap_passphrases
from tests.support.sample_images import encode


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("TESSERA_HOME", str(tmp_path / "home"))
    cheap_passphrases(monkeypatch)
    return Session()


def joined(session: Session) -> None:
    """As if this machine had joined a cluster."""
    (session.home / "client").mkdir(parents=True)
    (session.home / "client" / "brokers.json").write_text("[]")


def stage_of(session: Session) -> Stage:
    """Asked anew each time: it follows from what is on the disk."""
    return session.stage


def error_of(model: Model) -> Optional[TesseraError]:
    return model.error


def test_what_is_next_is_to_join_then_the_vault_then_its_passphrase(session: Session) -> None:
    assert stage_of(session) is Stage.JOIN
    joined(session)
    assert stage_of(session) is Stage.VAULT
    key = session.vault.create(PASSPHRASE)
    assert stage_of(session) is Stage.UNLOCK
    session.open(key)
    assert stage_of(session) is Stage.OPEN


def test_an_invite_with_a_fault_is_refused_with_advice_and_never_shown(
    session: Session, background: Background
) -> None:
    model = FirstStartModel(session, background, lambda: None)
    model.join("   ", "desk")
    assert isinstance(model.error, UsageError)
    model.join("tessera-client-secret", "desk")
    assert model.doing
    deliver_until(background, lambda: not model.doing)
    assert isinstance(model.error, UsageError)
    assert "secret" not in f"{model.error} {model.error.advice} {model.command}"
    assert model.stage is Stage.JOIN


class Lan:
    """In place of a search: gives what the test says, when it says so, and knows whether it runs."""

    def __init__(self) -> None:
        self.running = 0
        self.found: Optional[Callable[[BrokerAddress], None]] = None
        self.fault: Optional[UnreachableError] = None

    async def browse(self, found: Callable[[BrokerAddress], None]) -> None:
        if self.fault is not None:
            raise self.fault
        self.found = found
        self.running += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1


@pytest.fixture
def lan(monkeypatch: pytest.MonkeyPatch) -> Lan:
    made = Lan()
    monkeypatch.setattr(first_start, "browse", made.browse)
    return made


def at(number: int) -> BrokerAddress:
    return BrokerAddress(f"192.0.2.{number}", 5570, 5571, bytes([number]) * 32)


def test_brokers_appear_as_they_are_found_until_the_step_is_left(
    session: Session, background: Background, lan: Lan
) -> None:
    model = FirstStartModel(session, background, lambda: None)
    model.activate()
    model.activate()
    assert "Looking for brokers" in model.nearby_text
    deliver_until(background, lambda: lan.found)
    assert lan.found is not None
    assert lan.running == 1
    for number in (7, 7, 8, 9, 10, 11):
        lan.found(at(number))
    deliver_until(background, lambda: len(model.nearby) == 5)
    assert model.nearby[0] == Nearby("192.0.2.7", "07" * 8)
    assert "broker at 192.0.2.7, key 0707070707070707" in model.nearby_text
    assert model.nearby_text.splitlines()[3:] == ["and 2 more"]
    model.deactivate()
    lan.found(at(12))
    deliver_until(background, lambda: not lan.running)
    background.deliver()
    assert len(model.nearby) == 5


def test_where_no_broker_is_found_that_is_said(
    session: Session, background: Background, lan: Lan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_start, "_NOBODY_AFTER", 0.01)
    model = FirstStartModel(session, background, lambda: None)
    model.activate()
    deliver_until(background, lambda: "No broker announces itself" in model.nearby_text)
    assert "whole line works all the same" in model.nearby_text
    model.deactivate()


def test_where_this_machine_cannot_look_that_is_said_and_no_error(
    session: Session, background: Background, lan: Lan
) -> None:
    lan.fault = UnreachableError("this machine cannot look: no mDNS")
    model = FirstStartModel(session, background, lambda: None)
    model.activate()
    deliver_until(background, lambda: "this machine cannot look: no mDNS." in model.nearby_text)
    assert model.error is None


def test_who_has_joined_looks_for_no_broker(
    session: Session, background: Background, lan: Lan, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FirstStartModel(session, background, lambda: None)
    model.activate()
    deliver_until(background, lambda: lan.running)
    monkeypatch.setattr(first_start, "join_cluster", lambda *_: Admission("192.0.2.7", "desk", Role.CLIENT))
    joined(session)
    model.join("CODE", "desk")
    deliver_until(background, lambda: model.stage is Stage.VAULT and not lan.running)
    model.activate()
    deliver_until(background, lambda: True)
    assert not lan.running


def test_a_code_with_a_typing_error_is_refused_with_advice(session: Session, background: Background) -> None:
    model = FirstStartModel(session, background, lambda: None)
    model.join("ABCD-EFGH", "desk")
    deliver_until(background, lambda: not model.doing)
    assert isinstance(model.error, UsageError)
    assert "code of 12 groups" in str(model.error.advice)


def test_a_new_vault_needs_the_same_passphrase_twice_and_no_weak_one(session: Session, background: Background) -> None:
    joined(session)
    went: list[bool] = []
    model = FirstStartModel(session, background, lambda: went.append(True))
    model.create_vault(PASSPHRASE, PASSPHRASE + "s")
    assert "differ" in str(model.error)
    model.create_vault("short", "short")
    assert isinstance(model.error, UsageError)
    assert not session.vault.key_path.exists()
    model.create_vault(PASSPHRASE, PASSPHRASE)
    deliver_until(background, lambda: model.stage is Stage.OPEN)
    assert (stage_of(session), error_of(model)) == (Stage.OPEN, None)
    assert not went, "first it is said what becomes of the images when this computer breaks"


def test_before_a_new_vault_is_used_codes_and_a_copy_of_its_key_are_offered(
    session: Session, background: Background, tmp_path: Path
) -> None:
    joined(session)
    went: list[bool] = []
    model = FirstStartModel(session, background, lambda: went.append(True))
    model.create_vault(PASSPHRASE, PASSPHRASE)
    deliver_until(background, lambda: model.stage is Stage.OPEN)
    assert not session.has_codes
    assert not session.has_copy
    model.recovery.make_at_once()
    deliver_until(background, lambda: model.recovery.text)
    assert "neither saved nor printed" in model.unfinished
    assert "vault recovery" in model.command
    assert not session.has_codes, "nobody has them yet"
    assert model.recovery.text is not None
    assert restore_key(read_codes(model.recovery.text)).key == session.key
    model.recovery.save(tmp_path / "codes.txt")
    deliver_until(background, lambda: session.has_codes)
    assert model.unfinished == ""
    model.copying.save(tmp_path / "vault.key")
    deliver_until(background, lambda: session.has_copy)
    assert (tmp_path / "vault.key").read_bytes() == session.vault.key_file()
    assert Session().settings == session.settings, "the next start knows it, too"
    model.go_on()
    assert went


def test_a_vault_comes_back_from_its_recovery_codes_on_a_new_machine(
    session: Session, background: Background, tmp_path: Path
) -> None:
    joined(session)
    key = VaultFolder(tmp_path / "other").create(PASSPHRASE)
    codes = [code for code in kit_text(make_codes(key, 2, 3)).split("\n\n") if code]
    went: list[bool] = []
    model = FirstStartModel(session, background, lambda: went.append(True))
    model.show_command(VaultFrom.CODES)
    assert model.command == "python admin/admin.py vault restore"
    for text, new, again, kind in (
        ("\n".join(codes), "new words for keeping", "newer words", UsageError),
        (codes[0], "new words for keeping", "new words for keeping", NotEnoughError),
        ("nothing like a code", "new words for keeping", "new words for keeping", UsageError),
    ):
        model.restore_vault(text, new, again)
        deliver_until(background, lambda: not model.doing)
        assert isinstance(model.error, kind)
        assert stage_of(session) is Stage.VAULT
    model.restore_vault("\n".join(codes[1:]), "new words for keeping", "new words for keeping")
    deliver_until(background, lambda: went)
    assert session.key == key
    assert session.vault.unlock("new words for keeping") == key
    assert session.has_codes


def test_codes_replace_a_forgotten_passphrase_and_the_key_file_before_is_kept(
    session: Session, background: Background
) -> None:
    joined(session)
    key = session.vault.create(PASSPHRASE)
    before = session.vault.key_file()
    went: list[bool] = []
    model = UnlockModel(session, background, lambda: went.append(True))
    model.restore(kit_text(make_codes(key, 2, 3)), "new words for keeping", "new words for keeping")
    deliver_until(background, lambda: went)
    assert session.vault.unlock("new words for keeping") == key
    assert (session.vault.folder / "vault.key.old-1").read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="there the command is for cmd.exe")
def test_replacing_a_forgotten_passphrase_makes_room_for_the_restored_key_file(
    session: Session, background: Background, tmp_path: Path
) -> None:
    joined(session)
    key = session.vault.create(PASSPHRASE)
    (session.vault.folder / "vault.key.old-1").write_bytes(b"from another time")
    model = UnlockModel(session, background, lambda: None)
    unlocking = model.command
    model.show_command(by_codes=True)
    (tmp_path / "codes").write_text(kit_text(make_codes(key, 2, 3)), encoding="utf-8")
    (tmp_path / "words").write_text("new words for keeping\n", encoding="utf-8")
    command = f"{model.command} {tmp_path / 'codes'} --passphrase-file {tmp_path / 'words'}"
    command = command.replace("&& python ", f"&& {sys.executable} ")
    ended = subprocess.run(
        ["/bin/sh", "-c", command], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert session.vault.unlock("new words for keeping") == key
    assert (session.vault.folder / "vault.key.old-1").read_bytes() == b"from another time"
    assert (session.vault.folder / "vault.key.old-2").exists()
    model.show_command(by_codes=False)
    assert model.command == unlocking


def test_codes_of_another_vault_change_nothing_at_a_locked_one(
    session: Session, background: Background, tmp_path: Path
) -> None:
    joined(session)
    key = session.vault.create(PASSPHRASE)
    keep(session, encode(b"content", key=key), key)
    other = VaultFolder(tmp_path / "other").create(PASSPHRASE)
    model = UnlockModel(session, background, lambda: None)
    model.restore(kit_text(make_codes(other, 2, 3)), "new words for keeping", "new words for keeping")
    deliver_until(background, lambda: not model.doing)
    assert isinstance(model.error, RefusedError)
    assert session.vault.unlock(PASSPHRASE) == key


def test_a_vault_from_another_machine_is_taken_over_by_its_passphrase_only(
    session: Session, background: Background, tmp_path: Path
) -> None:
    joined(session)
    other = VaultFolder(tmp_path / "other")
    key = other.create(PASSPHRASE)
    went: list[bool] = []
    model = FirstStartModel(session, background, lambda: went.append(True))
    for file, passphrase, kind in (
        ("", PASSPHRASE, UsageError),
        (str(tmp_path / "nowhere"), PASSPHRASE, NotFoundError),
        (str(other.key_path), "another one entirely", RefusedError),
    ):
        model.import_vault(file, passphrase)
        deliver_until(background, lambda: not model.doing)
        assert isinstance(model.error, kind)
        assert stage_of(session) is Stage.VAULT
    model.import_vault(str(other.key_path), PASSPHRASE)
    deliver_until(background, lambda: went)
    assert session.key == key


def test_a_wrong_passphrase_unlocks_nothing_and_the_right_one_does(session: Session, background: Background) -> None:
    joined(session)
    session.vault.create(PASSPHRASE)
    went: list[bool] = []
    model = UnlockModel(session, background, lambda: went.append(True))
    model.unlock("another one entirely")
    deliver_until(background, lambda: model.error)
    assert isinstance(model.error, RefusedError)
    assert (stage_of(session), model.doing, went) == (Stage.UNLOCK, "", [])
    model.unlock(PASSPHRASE)
    deliver_until(background, lambda: went)
    assert (stage_of(session), error_of(model)) == (Stage.OPEN, None)
