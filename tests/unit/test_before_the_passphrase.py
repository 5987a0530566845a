"""What needs no passphrase to be told is told before anybody is asked for one, and before any key is derived."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from admin.command import commands as admin
from common.discovery.addresses import BrokerAddress
from common.membership.identity import KeyPair, save_brokers, save_key_pair
from common.process.program import exit_code
from common.vault.contact_card import card_of
from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey
from consumer.command import commands as consumer
from producer.command import commands as producer
from tests.support.passphrases import cheap_passphrases

WORDS = "four words for keeping"
HASH = "3a19c5dd8a927a93"
PROGRAMS: dict[str, typer.Typer] = {"admin": admin, "consumer": consumer, "producer": producer}


class Asked(Exception):
    """A person was asked for a passphrase."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client at a terminal, without a vault, in a folder with a file; whoever asks for a passphrase fails."""

    def ask(_: str) -> str:
        raise Asked

    class Stdin:
        @staticmethod
        def isatty() -> bool:
            return True

    stdin: Any = Stdin()
    folder = tmp_path / "home"
    save_key_pair(folder / "client" / "client.key", KeyPair.generate())
    save_brokers(folder / "client" / "brokers.json", [BrokerAddress("127.0.0.1", 1, 2, bytes(32))])
    (tmp_path / "there").write_text("precious")
    for name in ("TESSERA_PASSPHRASE", "TESSERA_NEW_PASSPHRASE", "TESSERA_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TESSERA_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", stdin)
    monkeypatch.setattr("getpass.getpass", ask)
    cheap_passphrases(monkeypatch)
    return folder


@pytest.fixture
def vault(home: Path) -> VaultFolder:
    made = VaultFolder(home)
    made.create(WORDS)
    return made


def run(line: str) -> int:
    program, *arguments = line.split()
    return exit_code(PROGRAMS[program], program, arguments, debug=False)


VAULT_COMMANDS = [
    "producer there",
    "consumer --list",
    f"consumer --hash {HASH}",
    "admin verify --all",
    "admin repair --all",
    "admin strengthen --all",
    f"admin delete --hash {HASH}",
    "admin undelete --list",
    f"admin share --hash {HASH} --with bob",
    f"admin unshare --hash {HASH} --with bob",
    "admin contacts card",
    "admin vault passphrase",
    "admin vault rotate --backup new",
    "admin vault recovery",
    "admin vault keyring store",
]


@pytest.mark.parametrize("line", VAULT_COMMANDS)
def test_where_there_is_no_vault_nobody_is_asked_for_its_passphrase(
    home: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == 3
    assert "there is no vault in" in capsys.readouterr().err


@pytest.mark.parametrize("line", VAULT_COMMANDS)
def test_where_its_key_file_is_damaged_nobody_is_asked_either(
    vault: VaultFolder, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    vault.key_path.write_bytes(vault.key_path.read_bytes()[:-1])
    assert run(line) == 4
    assert "the key file is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("producer missing", 3, "missing: no such file"),
        ("producer missing gone", 3, "gone: no such file"),
        ("producer -k 5 -n 3 there", 2, "k = 5 and n = 3 is not possible"),
        ("producer -k 1 there", 2, "k = 1"),
        ("consumer --hash 12345", 2, "is not a SHA-256"),
        ("consumer --hash nonsense", 2, "is not a SHA-256"),
        (f"consumer --hash {HASH} --output there", 2, "there"),
        (f"consumer --hash {HASH} --hash {HASH}0 --output -", 2, "several images"),
        ("consumer --all --output -", 2, "several images"),
        ("admin verify --hash 12345", 2, "is not a SHA-256"),
        ("admin strengthen --hash 12345", 2, "is not a SHA-256"),
        ("admin strengthen --all -k 5 -n 3", 2, "k = 5 and n = 3 is not possible"),
        ("admin repair --hash 12345", 2, "is not a SHA-256"),
        ("admin delete --hash 12345", 2, "is not a SHA-256"),
        ("admin undelete --hash 12345", 2, "is not a SHA-256"),
        ("admin share --hash 12345 --with bob", 2, "is not a SHA-256"),
        ("admin unshare --hash 12345 --with bob", 2, "is not a SHA-256"),
        ("admin contacts add bob nonsense", 2, "contact card"),
        ("admin vault create", 2, "there is a vault"),
        ("admin vault restore", 2, "there is a vault"),
        ("admin vault import there", 4, "not a vault key file"),
        ("admin vault import missing", 3, "no such file"),
        ("admin vault recovery --need 1", 2, "recovery kit"),
        ("admin vault recovery --file there", 2, "there exists already"),
        ("admin vault rotate", 2, "--backup"),
        ("admin vault rotate --backup there", 2, "there exists already"),
        ("admin vault rotate --backup new --leave 12345", 2, "is not a SHA-256"),
        ("admin vault rotate --backup new --new-passphrase-file missing", 3, "no such file"),
        ("admin vault passphrase --new-passphrase-file missing", 3, "no such file"),
    ],
)
def test_what_an_argument_is_worth_is_told_first(
    vault: VaultFolder, line: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == code
    assert said in capsys.readouterr().err


def test_a_new_passphrase_that_is_refused_is_told_before_the_old_one_is_asked_for(
    vault: VaultFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TESSERA_NEW_PASSPHRASE", "short")
    for line in ("admin vault passphrase", "admin vault rotate --backup new"):
        assert run(line) == 2
        assert "at least 8 characters" in capsys.readouterr().err


def test_nobody_types_codes_for_a_vault_whose_new_passphrase_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TESSERA_PASSPHRASE", "short")
    assert run("admin vault restore") == 2
    assert "at least 8 characters" in capsys.readouterr().err


def test_an_import_over_a_vault_is_refused_unasked(vault: VaultFolder, capsys: pytest.CaptureFixture[str]) -> None:
    (vault.folder.parent.parent / "copy").write_bytes(vault.key_file())
    assert run("admin vault import copy") == 2
    assert "there is a vault" in capsys.readouterr().err


def test_a_contact_that_is_refused_is_told_unasked_where_there_is_a_vault(
    vault: VaultFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    card = card_of(VaultKey.generate(), "bob").encode()
    for arguments in (["add", " bob", card], ["card", "--name", "two\nlines"]):
        assert exit_code(admin, "admin", ["contacts", *arguments], debug=False) == 2
        assert "contact's name" in capsys.readouterr().err


def test_a_keyring_without_its_library_is_told_unasked(
    vault: VaultFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    assert run("admin vault keyring store") == 2
    assert "the library keyring is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["consumer --list", "admin verify --all", "producer there"])
def test_where_all_is_well_the_passphrase_is_asked_for(vault: VaultFolder, line: str) -> None:
    """That the tests above can fail."""
    assert run(line) == 1  # `Asked`, which no program expects
