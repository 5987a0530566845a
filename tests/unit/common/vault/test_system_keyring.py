"""The passphrase in the system's keyring: only where it was put there, and no run fails for want of a keyring."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Optional

import pytest

from admin.command import commands
from common.errors import RefusedError, UsageError
from common.process.program import exit_code
from common.vault import system_keyring
from common.vault.folder import VaultFolder
from common.vault.passphrase import read_new_passphrase, read_passphrase
from tests.support.passphrases import cheap_passphrases

WORDS = "four words for keeping"


class MemoryKeyring:
    """What of the library `keyring` is used, with its entries in memory; `fault` is raised by every call."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}
        self.fault: Optional[Exception] = None
        self.asked = 0

    def get_password(self, service: str, name: str) -> Optional[str]:
        self._call()
        return self.entries.get((service, name))

    def set_password(self, service: str, name: str, passphrase: str) -> None:
        self._call()
        self.entries[service, name] = passphrase

    def delete_password(self, service: str, name: str) -> None:
        self._call()
        del self.entries[service, name]

    def _call(self) -> None:
        self.asked += 1
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> MemoryKeyring:
    backend = MemoryKeyring()
    library: Any = ModuleType("keyring")
    for name in ("get_password", "set_password", "delete_password"):
        setattr(library, name, getattr(backend, name))
    monkeypatch.setitem(sys.modules, "keyring", library)
    return backend


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setitem(sys.modules, "keyring", None)  # so that importing it fails


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cheap_passphrases(monkeypatch)
    monkeypatch.setenv("TESSERA_HOME", str(tmp_path))
    monkeypatch.delenv("TESSERA_PASSPHRASE", raising=False)
    stdin: Any = type("Stdin", (), {"isatty": staticmethod(lambda: False)})()
    monkeypatch.setattr("sys.stdin", stdin)
    return tmp_path


def vault(*arguments: str) -> int:
    return exit_code(commands, "admin", ["vault", *arguments], debug=False)


def test_what_was_stored_is_what_a_run_gets_without_asking(home: Path, keyring: MemoryKeyring) -> None:
    system_keyring.store(home, WORDS)
    assert read_passphrase(None) == WORDS


def test_file_and_environment_go_before_the_keyring(
    home: Path, keyring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    system_keyring.store(home, WORDS)
    keyring.asked = 0
    (home / "words").write_text("from the file")
    monkeypatch.setenv("TESSERA_PASSPHRASE", "from the environment")
    assert read_passphrase(home / "words") == "from the file"
    assert read_passphrase(None) == "from the environment"
    assert keyring.asked == 0


def test_a_keyring_that_nothing_was_put_into_is_never_asked_nor_its_library_loaded(
    keyring: MemoryKeyring, without_library: Callable[[], None]
) -> None:
    without_library()
    with pytest.raises(RefusedError, match="no passphrase given"):
        read_passphrase(None)
    assert keyring.asked == 0


def test_a_new_passphrase_never_comes_from_the_keyring(home: Path, keyring: MemoryKeyring) -> None:
    system_keyring.store(home, WORDS)
    with pytest.raises(RefusedError):
        read_new_passphrase(None, prompt="")


def test_two_vaults_have_an_entry_each(home: Path, keyring: MemoryKeyring) -> None:
    system_keyring.store(home / "one", "first")
    system_keyring.store(home / "two", "second")
    assert system_keyring.remembered(home / "one") == "first"
    assert system_keyring.remembered(home / "two") == "second"
    assert len(keyring.entries) == 2


def test_storing_again_replaces_and_forgetting_leaves_nothing(home: Path, keyring: MemoryKeyring) -> None:
    system_keyring.store(home, "first")
    system_keyring.store(home, "second")
    assert list(keyring.entries.values()) == ["second"]
    assert system_keyring.forget(home)
    assert keyring.entries == {}
    assert system_keyring.remembered(home) is None
    assert not system_keyring.forget(home)


def test_where_the_library_is_gone_a_run_says_so_and_goes_on(
    home: Path, keyring: MemoryKeyring, without_library: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    system_keyring.store(home, WORDS)
    without_library()
    assert system_keyring.remembered(home) is None
    assert "not installed" in caplog.text


@pytest.mark.parametrize("fault", [RuntimeError(WORDS), OSError(WORDS), KeyError(WORDS)])
def test_where_the_keyring_is_locked_or_broken_a_run_goes_on_and_says_it_once(
    home: Path, keyring: MemoryKeyring, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    system_keyring.store(home, WORDS)
    keyring.fault = fault
    assert system_keyring.remembered(home) is None
    assert type(fault).__name__ in caplog.text
    for action in (lambda: system_keyring.store(home, WORDS), lambda: system_keyring.forget(home)):
        with pytest.raises(RefusedError) as raised:
            action()
        assert WORDS not in f"{raised.value} {raised.value.advice} {caplog.text}"
        assert raised.value.__suppress_context__


def test_an_entry_that_was_removed_elsewhere_is_asked_for_again(
    home: Path, keyring: MemoryKeyring, caplog: pytest.LogCaptureFixture
) -> None:
    system_keyring.store(home, WORDS)
    keyring.entries.clear()
    assert system_keyring.remembered(home) is None
    assert "no passphrase of this vault any more" in caplog.text
    assert system_keyring.forget(home)


def test_without_the_library_storing_says_how_to_get_it(home: Path, without_library: Callable[[], None]) -> None:
    without_library()
    with pytest.raises(UsageError, match="not installed") as raised:
        system_keyring.store(home, WORDS)
    assert "requirements-keyring.txt" in (raised.value.advice or "")
    assert not system_keyring.is_stored(home)


def test_nothing_of_the_passphrase_is_on_disk(home: Path, keyring: MemoryKeyring) -> None:
    system_keyring.store(home, WORDS)
    for path in home.rglob("*"):
        assert path.is_dir() or WORDS.encode() not in path.read_bytes()


# --- the commands


def test_the_commands_store_and_forget(home: Path, keyring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch) -> None:
    VaultFolder(home).create(WORDS)
    with monkeypatch.context() as patch:
        patch.setenv("TESSERA_PASSPHRASE", WORDS)
        assert vault("keyring", "store") == 0
    assert read_passphrase(None) == WORDS
    assert vault("keyring", "forget") == 0
    with pytest.raises(RefusedError):
        read_passphrase(None)


def test_a_passphrase_that_does_not_open_the_vault_is_not_stored(
    home: Path, keyring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    VaultFolder(home).create(WORDS)
    monkeypatch.setenv("TESSERA_PASSPHRASE", "a guess at it")
    assert vault("keyring", "store") == 6
    assert keyring.entries == {}


def test_a_changed_passphrase_is_changed_in_the_keyring_too(
    home: Path, keyring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = VaultFolder(home).create(WORDS)
    system_keyring.store(home, WORDS)
    monkeypatch.setenv("TESSERA_NEW_PASSPHRASE", "five other words for it")
    assert vault("passphrase") == 0
    assert VaultFolder(home).unlock(read_passphrase(None)) == key
    assert list(keyring.entries.values()) == ["five other words for it"]


def test_a_vault_that_takes_the_place_of_another_has_its_passphrase_in_the_keyring(
    home: Path, keyring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    system_keyring.store(home, "of a vault that was moved away")
    monkeypatch.setenv("TESSERA_PASSPHRASE", WORDS)
    assert vault("create") == 0
    monkeypatch.delenv("TESSERA_PASSPHRASE")
    assert read_passphrase(None) == WORDS


def test_a_changed_passphrase_puts_nothing_into_a_keyring_that_had_nothing(
    home: Path, keyring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    VaultFolder(home).create(WORDS)
    monkeypatch.setenv("TESSERA_PASSPHRASE", WORDS)
    monkeypatch.setenv("TESSERA_NEW_PASSPHRASE", "five other words for it")
    assert vault("passphrase") == 0
    assert keyring.asked == 0


def test_with_the_real_library_and_a_backend_of_ours(home: Path) -> None:
    library = pytest.importorskip("keyring")
    entries = MemoryKeyring()
    methods: dict[str, Any] = {
        "get_password": lambda _self, *entry: entries.get_password(*entry),
        "set_password": lambda _self, *entry: entries.set_password(*entry),
        "delete_password": lambda _self, *entry: entries.delete_password(*entry),
    }
    base = importlib.import_module("keyring.backend").KeyringBackend
    former = library.get_keyring()
    library.set_keyring(type("Backend", (base,), {"priority": 1, **methods})())
    try:
        system_keyring.store(home, WORDS)
        assert read_passphrase(None) == WORDS
        assert system_keyring.forget(home)
        assert entries.entries == {}
    finally:
        library.set_keyring(former)
