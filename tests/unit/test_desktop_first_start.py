"""The way in without a window: each step, and what is said where it cannot be taken."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from common.errors import NotFoundError, RefusedError, TesseraError, UsageError
from common.vault.folder import VaultFolder
from desktop.background import Background
from desktop.model.first_start import FirstStartModel
from desktop.model.model import Model
from desktop.model.unlock import UnlockModel
from desktop.session import Session, Stage
from tests.unit.desktop_models import PASSPHRASE, cheap_passphrases, deliver_until


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
    deliver_until(background, lambda: went)
    assert (stage_of(session), error_of(model)) == (Stage.OPEN, None)


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
    assert session.key.owner_token() == key.owner_token()


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
